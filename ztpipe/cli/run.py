"""``ztpipe run``: a node with all settings of our own as switches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ztpipe import config
from ztpipe.cli.errors import guarded


def _with_knobs(function: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each knob; values are checked by `config.load`, which names the source of a bad one."""
    for knob in reversed(config.KNOBS):
        text = f"{knob.help} {knob.expected}; environment {knob.variable}, local.conf ztpipe.{knob.key}."
        function = click.option(knob.flag, knob.name, default=None, metavar="VALUE", help=text)(function)
    return function


@click.command(name="run")
@click.argument("home", required=False, type=click.Path(path_type=Path))
@click.option("-p", "--port", default=None, metavar="PORT", help="UDP and TCP port, 0: random. Wins over local.conf.")
@_with_knobs
def command(home: Path | None, **flags: str | None) -> None:
    """Run a node in HOME (ZEROTIER_HOME, else /var/lib/zerotier-one) until SIGTERM.

    Switches win over the environment, which wins over the section "ztpipe" of HOME/local.conf.
    """
    chosen = home or Path(os.environ.get("ZEROTIER_HOME") or config.DEFAULT_HOME)
    sys.exit(guarded("ztpipe", lambda: start(chosen, flags)))


def start(home: Path, flags: dict[str, str | None]) -> int:
    """Run the node; raises what `ztpipe.cli.errors` explains."""
    from ztpipe import control
    from ztpipe.store import Home

    Home.open(home)  # first, so that a directory which cannot be used is named before anything in it
    return control.main(config.load(home, flags=flags, environment=os.environ))
