"""What a member says of itself in a configuration request (controller §7.3, vl2 §2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from ztpipe.wire import dictionary

MAX_METADATA: Final = 1023
_MAX_TOKEN: Final = 511
_TOKEN_PREFIX: Final = b"token:"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The keys of the request's dictionary that a controller reads; missing numbers are 0."""

    rules_revision: int
    version: tuple[int, int, int, int]  # major, minor, revision, protocol
    token: str | None

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a dictionary; what is beyond its size limit counts as missing."""
        fields = dictionary.decode(data[:MAX_METADATA])
        numbers = [dictionary.u64(fields, key, 0) for key in ("majv", "minv", "revv", "pv")]
        return cls(
            rules_revision=dictionary.u64(fields, "revr", 0),
            version=(numbers[0], numbers[1], numbers[2], numbers[3]),
            token=_token(fields.get("a", b"")),
        )


def _token(value: bytes) -> str | None:
    """The token of `a=token:<text>`; None if there is none."""
    value = value[:_MAX_TOKEN]
    if not value.startswith(_TOKEN_PREFIX) or len(value) == len(_TOKEN_PREFIX):
        return None
    return value[len(_TOKEN_PREFIX) :].decode(errors="replace")
