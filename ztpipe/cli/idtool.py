"""``zerotier-idtool``: identities, signatures and moons on the command line (service §3)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Final

from ztpipe import files
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity

USAGE: Final = """\
zerotier-idtool: identities of nodes (ztpipe, compatible with ZeroTier One)
Usage: {program} <command> [arguments]

Commands:
  generate [<secret file> [<public file> [<hex prefix of the address>]]]
  validate <identity>
  getpublic <identity>
  sign <secret identity> <file>
  verify <identity> <file> <signature>
  initmoon <public identity of the first root>
  genmoon <JSON file made by initmoon>

<identity> is a file, or the identity itself.
"""


class Failure(Exception):
    """The text is for stderr; the status is 1."""


class TooFew(Exception):
    """Arguments are missing: the usage text, and this status."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


def generate(words: list[str]) -> None:
    """A new identity, on stdout or into files; with a prefix, one after another until the address fits."""
    identity = _vanity(words[2]) if len(words) > 2 else Identity.generate(os.urandom)
    if not words:
        sys.stdout.write(identity.text(private=True))
        return
    _write(words[0], identity.text(private=True), mode=files.SECRET)
    if len(words) > 1:
        _write(words[1], identity.text())


def _vanity(prefix: str) -> Identity:
    wanted = prefix.lower()[:10]
    if not wanted or not set(wanted) <= set("0123456789abcdef"):
        raise Failure(f"{prefix} is not a prefix of hex digits")
    while True:
        identity = Identity.generate(os.urandom)
        address = f"{identity.address:010x}"
        if address.startswith(wanted):
            print(f"vanity address: found {address} !", file=sys.stderr)
            return identity
        bits = 4 * len(wanted)
        print(
            f"vanity address: tried {address} looking for first {bits} bits of {wanted.ljust(10, '0')}", file=sys.stderr
        )


def validate(words: list[str]) -> None:
    """Check the proof of work of an identity."""
    argument = _need(words, 1)[0]
    if not _identity(argument).validate():
        raise Failure(f"{argument} FAILED validation.")
    print(f"{argument} is a valid identity")


def getpublic(words: list[str]) -> None:
    """The public form."""
    sys.stdout.write(_identity(_need(words, 1)[0]).text())


def sign(words: list[str]) -> None:
    """Sign a file; 192 hex digits."""
    argument, name = _need(words, 2)
    identity = _identity(argument)
    if identity.private is None:
        raise Failure(f"{argument} does not contain a private key (must use private to sign)")
    sys.stdout.write(identity.sign(_content(name)).hex())


def verify(words: list[str]) -> None:
    """Check a signature, given as hex or as the name of a file with it."""
    argument, name, given = _need(words, 3)
    identity = _identity(argument)
    data = _content(name)
    signature = _unhex(given)
    if len(signature) != 96:
        try:
            signature = _unhex(Path(given).read_text("ascii", "replace").strip())
        except OSError:
            signature = b""
    if len(signature) != 96 or not identity.verify(data, signature):
        raise Failure(f"{name} signature check FAILED")
    print(f"{name} signature valid")


def initmoon(words: list[str]) -> None:
    """A template for `genmoon` with a new signing key."""
    from ztpipe.cli import moonfile

    argument = _need(words, 1, status=0)[0]
    try:
        identity = _identity(argument)
    except Failure:
        raise Failure(f"{argument} is not a valid identity") from None
    print(moonfile.template(identity, os.urandom(64)))


def genmoon(words: list[str]) -> None:
    """Sign the world that a template describes."""
    from ztpipe.cli import moonfile

    name = _need(words, 1, status=0)[0]
    try:
        text = Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise Failure(f"cannot read {name}") from None
    try:
        world = moonfile.world(text, name, time.time_ns() // 1_000_000)
    except moonfile.MoonError as error:
        raise Failure(str(error)) from None
    target = f"{world.id:016x}.moon"
    try:
        Path(target).write_bytes(world.encode())
    except OSError:
        raise Failure(f"Error writing to {target}") from None
    print(f"wrote {target} (signed world with timestamp {world.timestamp})")


_COMMANDS: Final[dict[str, Callable[[list[str]], None]]] = {
    "generate": generate,
    "validate": validate,
    "getpublic": getpublic,
    "sign": sign,
    "verify": verify,
    "initmoon": initmoon,
    "genmoon": genmoon,
}


def _need(words: list[str], count: int, *, status: int = 1) -> list[str]:
    if len(words) < count:
        raise TooFew(status)
    return words[:count]


def _identity(argument: str) -> Identity:
    """The identity itself if it looks like one, else the content of the file of that name."""
    try:
        text = argument if len(argument) > 32 and argument[10] == ":" else Path(argument).read_text("ascii")
        return Identity.parse(text.strip(" \t\r\n\0"))
    except (OSError, ValueError, WireError):
        raise Failure(f"Identity argument invalid or file unreadable: {argument}") from None


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError:
        raise Failure(f"{name} is not readable") from None


def _write(name: str, text: str, *, mode: int | None = None) -> None:
    try:
        files.write(Path(name), text.encode(), mode=mode)
    except OSError:
        raise Failure(f"Error writing to {name}") from None
    print(f"{name} written")


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def run(words: list[str], program: str) -> int:
    """Carry out the words behind the program name; returns the exit status."""
    command = _COMMANDS.get(words[0]) if words else None
    try:
        if command is None:
            raise TooFew(1)
        command(words[1:])
    except TooFew as missing:
        print(USAGE.format(program=program), end="")
        return missing.status
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Entry point of ``zerotier-idtool``."""
    try:
        return run(sys.argv[1:], PurePath(sys.argv[0]).name)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
