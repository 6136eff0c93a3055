"""``zerotier-one``: the service with the reference's options, and the way to its other personalities (service §1.1)."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from ztpipe import __version__
from ztpipe.cli.client import find_home
from ztpipe.cli.version import REFERENCE_VERSION

USAGE: Final = """\
ztpipe {own}, compatible with ZeroTier One version {version}
Usage: {program} [switches] [home directory]

Switches:
  -p<port>    port for UDP and TCP (default 9993, 0 for a random one)
  -d          run in the background
  -U          do not require root, and stay who you are
  -v          print the version
  -h          print this text
  -q ...      be zerotier-cli: {program} -q <command>
  -i ...      be zerotier-idtool: {program} -i <command>

The home directory is {home} unless named here or in ZEROTIER_HOME.
Settings are read from local.conf there; "ztpipe run --help" lists those of ztpipe.
"""


class Usage(Exception):
    """Print the usage text and leave with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@dataclass(slots=True)
class Arguments:
    """The service's command line. `port` None: not given. `personality` "": the service itself."""

    port: int | None = None
    background: bool = False
    unprivileged: bool = False
    show_version: bool = False
    home: str = ""
    personality: str = ""


def parse(words: list[str]) -> Arguments:
    """Read the words behind the program name, left to right; some switches act at once. Raises `Usage`."""
    parsed = Arguments()
    for word in words:
        if not word.startswith("-"):
            if parsed.home:
                raise Usage(0)
            parsed.home = word
        elif word in ("-q", "-i"):
            parsed.personality = {"-q": "cli", "-i": "idtool"}[word]
            break
        elif word == "-v":
            parsed.show_version = True
            break
        elif word == "-U":
            parsed.unprivileged = True
        elif word == "-d":
            parsed.background = True
        elif word.startswith("-p"):
            parsed.port = _port(word[2:])
        else:
            raise Usage(0)
    return parsed


def _port(text: str) -> int:
    """0 means random, and so does everything that is not a number, as in the reference."""
    port = int(text) if text.isascii() and text.isdigit() else 0
    if port > 65535:
        raise Usage(1)
    return port


def main() -> int:
    """Entry point of ``zerotier-one``; through a link named otherwise it is what the name says."""
    path = sys.argv[0]
    if "zerotier-idtool" in path or "ZEROTIER-IDTOOL" in path:
        return _idtool(sys.argv[1:], PurePath(path).name)
    if "zerotier-cli" in path or "ZEROTIER-CLI" in path:
        from ztpipe.cli import zerotier_cli

        return zerotier_cli.main()
    return run(sys.argv[1:], PurePath(path).name)


def run(words: list[str], program: str) -> int:
    """Carry out the words behind the program name; returns the exit status."""
    try:
        parsed = parse(words)
    except Usage as usage:
        print(USAGE.format(own=__version__, version=REFERENCE_VERSION, program=program, home=find_home("")), end="")
        return usage.status
    if parsed.show_version:
        print(REFERENCE_VERSION)
        return 0
    if parsed.personality == "cli":
        from ztpipe.cli import zerotier_cli

        return zerotier_cli.main()
    if parsed.personality == "idtool":
        return _idtool(words[words.index("-i") + 1 :], "-i")
    return _serve(parsed, program)


def _idtool(words: list[str], program: str) -> int:
    from ztpipe.cli import idtool

    return idtool.run(words, program)


def _serve(parsed: Arguments, program: str) -> int:
    if not parsed.unprivileged and os.geteuid() != 0:
        print(f"{program}: must be run as root (uid 0)", file=sys.stderr)
        return 1
    if parsed.background and os.fork() != 0:
        return 0
    from ztpipe.cli.errors import guarded

    return guarded(program, lambda: start(Path(find_home(parsed.home)), parsed))


def start(home: Path, parsed: Arguments) -> int:
    """Run a node in `home` until it is told to stop. Raises what `ztpipe.cli.errors` explains."""
    from ztpipe import config, control
    from ztpipe.store import Home

    Home.open(home)  # first, so that a directory which cannot be used is named before anything in it
    default_port = config.DEFAULT_PORT if parsed.port is None else parsed.port
    flags = {"user": "root"} if parsed.unprivileged and os.geteuid() == 0 else {}
    return control.main(config.load(home, flags=flags, environment=os.environ, default_port=default_port))


if __name__ == "__main__":
    sys.exit(main())
