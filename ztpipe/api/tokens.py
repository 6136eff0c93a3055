"""Named tokens of the controller's API, each with a role, in one file of the home directory that only its owner reads.

The file holds hashes: tokens are long and random, so that a plain SHA-256 gives nothing away.  It is read again when it
has changed; a change takes effect with the next request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from ztpipe import files
from ztpipe.log import get_logger

log = get_logger("api")

TOKEN_FILE: Final = "controller-tokens.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_CONTROLLER: Final = re.compile(r"(/unstable)?/controller(/.*)?|/v1/.*|/openapi\.json|/status")
_MEMBER_PATH: Final = re.compile(r"(/unstable)?/controller/network/[^/]+/member/.*|/v1/networks/[^/]+/members(/.*)?")


class TokenError(ValueError):
    """A token that cannot be made, or a file that cannot be used; the text is for people."""


class Role(Enum):
    """What a token may do with the controller; nothing else of the node is open to it."""

    READ = "read"
    MEMBERS = "members"
    ALL = "all"

    @staticmethod
    def covers(path: str) -> bool:
        """Whether named tokens are of any use for a path."""
        return _CONTROLLER.fullmatch(path) is not None

    def permits(self, method: str, path: str) -> bool:
        """Whether the role includes a request for a covered path."""
        if method in ("GET", "HEAD") or self is Role.ALL:
            return True
        return self is Role.MEMBERS and _MEMBER_PATH.fullmatch(path) is not None


class Grant(msgspec.Struct, frozen=True):
    """An entry of the file."""

    name: str
    role: Role
    sha256: str


class _Content(msgspec.Struct):
    tokens: list[Grant]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A state of the file."""

    modified: int
    size: int
    inode: int


class TokenFile:
    """The file at `path`; no file means no tokens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: _Seen | None = None
        self._grants: list[Grant] = []

    def find(self, token: str) -> Grant | None:
        """Who has this token.  A file that cannot be used opens nothing."""
        self._refresh()
        digest = _hash(token)
        found = [grant for grant in self._grants if hmac.compare_digest(grant.sha256, digest)]
        return found[0] if found else None

    def grants(self) -> list[Grant]:
        """All entries; raises TokenError."""
        data = files.read(self._path)
        if data is None:
            return []
        try:
            return msgspec.json.decode(data, type=_Content).tokens
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TokenError(f"{self._path}: expected {{'tokens': [{{'name', 'role', 'sha256'}}]}}: {error}") from error

    def add(self, name: str, role: Role) -> str:
        """Make a token, which is not kept anywhere; raises TokenError."""
        grants = self.grants()
        if not _NAME.fullmatch(name):
            raise TokenError(f"name {name!r}: expected 1 to 63 letters, digits, dots, - and _")
        if any(grant.name == name for grant in grants):
            raise TokenError(f"there is a token named {name} already")
        token = secrets.token_urlsafe(32)
        self._write([*grants, Grant(name, role, _hash(token))])
        return token

    def remove(self, name: str) -> None:
        """Forget a token; raises TokenError."""
        grants = self.grants()
        left = [grant for grant in grants if grant.name != name]
        if len(left) == len(grants):
            raise TokenError(f"there is no token named {name}")
        self._write(left)

    def _write(self, grants: list[Grant]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_Content(grants)), indent=1)
        files.write(self._path, data + b"\n", mode=files.SECRET)

    def _refresh(self) -> None:
        seen = self._state()
        if seen == self._seen:
            return
        self._seen, self._grants = seen, []
        try:
            if seen is not None and self._path.stat().st_mode & 0o077:
                self._path.chmod(files.SECRET)
                self._seen = self._state()
            self._grants = self.grants()
        except (TokenError, OSError) as error:
            log.error("named tokens are not accepted", reason=str(error))

    def _state(self) -> _Seen | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return _Seen(status.st_mtime_ns, status.st_size, status.st_ino)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
