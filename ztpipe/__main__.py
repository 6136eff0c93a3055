"""The command ``ztpipe``; also ``python -m ztpipe``."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Final

import click

from ztpipe import __version__

#: Name -> module with a click command `command`. Nothing of it is imported before it is asked for.
_COMMANDS: Final = {
    "run": "ztpipe.cli.run",
    "demo": "ztpipe.cli.demo",
    "bench": "ztpipe.cli.bench",
    "planet": "ztpipe.cli.planet",
    "rules": "ztpipe.cli.rules",
    "controller": "ztpipe.cli.controller",
    "completion": "ztpipe.cli.completion",
    "doctor": "ztpipe.cli.doctor",
    "monitor": "ztpipe.cli.monitor",
    "tcp-relay": "ztpipe.cli.tcp_relay",
}


class _Commands(click.Group):
    """Finds the subcommands that this installation has."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, module in _COMMANDS.items() if find_spec(module) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(_COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ztpipe")
def main() -> None:
    """A wire-compatible ZeroTier gateway made of small processes and shared memory.

    A running node is controlled with zerotier-cli.
    """


if __name__ == "__main__":
    main()
