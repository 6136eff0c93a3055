"""The text map of configurations, request metadata, SSO data and traces (vl1-wire §12, vl2 §2.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ztpipe.wire.errors import WireError

_ESCAPES: Final = ((b"\\", b"\\\\"), (b"\0", b"\\0"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"=", b"\\e"))
_UNESCAPED: Final = {b"0": b"\0", b"n": b"\n", b"r": b"\r", b"e": b"="}
_SEPARATORS: Final = re.compile(rb"[\r\n]+")
_ESCAPED: Final = re.compile(rb"\\(.?)", re.DOTALL)
_HEX_NUMBER: Final = re.compile(rb"[ \t\v\f]*([+-]?)(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]*)")
_BAD_IN_KEY: Final = frozenset("\0\r\n=")

Value = bytes | str | int | bool


def decode(data: bytes) -> dict[str, bytes]:
    """Entries by key, values unescaped; the first of equal keys wins. Never fails: a line without `=` is a bare key."""
    result: dict[str, bytes] = {}
    for line in _SEPARATORS.split(data.partition(b"\0")[0]):
        if not line:
            continue
        key, _, value = line.partition(b"=")
        result.setdefault(key.decode("latin-1"), _unescape(value))
    return result


def _unescape(value: bytes) -> bytes:
    if b"\\" not in value:
        return value
    return _ESCAPED.sub(lambda match: _UNESCAPED.get(match[1], match[1]), value)


def escape(value: bytes) -> bytes:
    """A value as it stands in a dictionary."""
    for byte, written in _ESCAPES:
        value = value.replace(byte, written)
    return value


def encode(items: Mapping[str, Value] | Iterable[tuple[str, Value]]) -> bytes:
    """Entries in order. Integers become 16 hex digits (mod 2^64), booleans `1` or `0`, text UTF-8, bytes are escaped.

    ValueError for a key that cannot be written.
    """
    pairs = items.items() if isinstance(items, Mapping) else items
    return b"\n".join(_encode_key(key) + b"=" + escape(_encode_value(value)) for key, value in pairs)


def _encode_key(key: str) -> bytes:
    if not key or not _BAD_IN_KEY.isdisjoint(key):
        raise ValueError(f"bad dictionary key {key!r}")
    return key.encode("latin-1")


def _encode_value(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, int):
        return b"%016x" % (value & 0xFFFFFFFFFFFFFFFF)
    return value.encode()


def i64(entries: Mapping[str, bytes], key: str, default: int = 0) -> int:
    """A signed integer: base-16 digits up to the first other character; default if the value is missing or empty."""
    value = entries.get(key)
    if not value:
        return default
    match = _HEX_NUMBER.match(value)
    digits = match[2][:64] if match else b""
    number = int(digits, 16) if digits else 0
    if match and match[1] == b"-":
        number = -number
    return max(-(1 << 63), min(number, (1 << 63) - 1))


def u64(entries: Mapping[str, bytes], key: str, default: int = 0) -> int:
    """An unsigned integer, saturated at 64 bits; a leading minus wraps as C's strtoull does."""
    value = entries.get(key)
    if not value:
        return default
    match = _HEX_NUMBER.match(value)
    digits = match[2].lstrip(b"0") if match else b""
    if not digits:
        return 0
    number = min(int(digits[:17], 16), 0xFFFFFFFFFFFFFFFF)
    return -number & 0xFFFFFFFFFFFFFFFF if match and match[1] == b"-" else number


def boolean(entries: Mapping[str, bytes], key: str, default: bool = False) -> bool:
    """True if the value begins with `1`, `t` or `T`; default if it is missing or empty."""
    value = entries.get(key)
    return value[:1] in (b"1", b"t", b"T") if value else default


def text(entries: Mapping[str, bytes], key: str, limit: int, default: str = "") -> str:
    """Text of at most `limit` bytes; it ends at a zero byte, and what is not UTF-8 is replaced."""
    value = entries.get(key)
    if not value:
        return default
    return value.partition(b"\0")[0][:limit].decode("utf-8", "replace")


def require(entries: Mapping[str, bytes], key: str, reason: str) -> bytes:
    """The value of a key that must be there."""
    value = entries.get(key)
    if value is None:
        raise WireError(reason)
    return value
