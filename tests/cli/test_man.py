"""The manual pages speak of all that there is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from ztpipe.__main__ import _COMMANDS
from ztpipe.cli import idtool, one, zerotier_cli

ROOT = Path(__file__).parents[2]
MAN = ROOT / "man"


def plain(name: str) -> str:
    """A page without its macros."""
    return re.sub(r"^\.[A-Z][a-z] ?|\b(Ns|Ar|Op|Cm|Fl|Pa|Ev) ?", "", (MAN / name).read_text(), flags=re.MULTILINE)


def words_of(usage: str, heading: str) -> list[str]:
    """The first word of each line under a heading of a usage text."""
    lines = usage.partition(heading)[2].split("\n\n")[0].splitlines()
    return [line.split()[0] for line in lines if line.startswith("  ")]


@pytest.mark.parametrize(
    ("page", "usage"),
    [
        ("zerotier-cli.1", zerotier_cli.USAGE),
        ("zerotier-idtool.1", idtool.USAGE),
        ("zerotier-one.8", one.USAGE),
    ],
)
def test_commands_and_switches_of_the_usage_text(page: str, usage: str) -> None:
    text = plain(page)
    named = words_of(usage, "Commands:") + words_of(usage, "Switches:")
    assert len(named) > 4
    for word in named:
        bare = word.lstrip("-").partition("<")[0]
        assert re.search(rf"^{re.escape(bare)}\b", text, re.MULTILINE), word


def test_commands_of_ztpipe() -> None:
    text = plain("ztpipe.1")
    for command in _COMMANDS:
        assert re.search(rf"^It {command}\b|^{command}\b", text, re.MULTILINE), command


def test_settings_are_those_of_the_program() -> None:
    """If not: python scripts/man_settings.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "man_settings.py"))
    assert script["page"]() == (MAN / "ztpipe.1").read_text()
