"""How loosely typed JSON values become numbers, booleans, texts and addresses (controller §3).

None of these functions raises: whatever JSON value comes in, a value of the promised type and range goes out.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import Any

from ztpipe.wire.inetaddress import InetAddress

#: A JSON object as `json.loads` makes it.
JsonObject = dict[str, Any]

U32 = 0xFFFFFFFF
U64 = 0xFFFFFFFFFFFFFFFF

_DECIMAL = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)")
_HEX = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]+)")
_MAX_ADDRESS_TEXT = 64
_MAX_DIGITS = 4000  # below the interpreter's limit on the length of integer literals


def _leading_number(text: str, pattern: re.Pattern[str], base: int) -> int:
    """The number `text` starts with as an unsigned 64-bit value: too large saturates, a minus sign wraps."""
    found = pattern.match(text)
    if found is None:
        return 0
    value = min(int(found[2][:_MAX_DIGITS], base), U64)
    return -value & U64 if found[1] == "-" else value


def _wrapped(number: float) -> int:
    """A JSON number, cut towards zero, modulo 2^64."""
    if isinstance(number, float) and not math.isfinite(number):
        return 0
    return int(number) & U64


def integer(value: Any, default: int) -> int:
    """INT(default): an unsigned 64-bit number."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return _wrapped(value)
    if isinstance(value, str):
        return _leading_number(value, _DECIMAL, 10)
    return default


def boolean(value: Any, default: bool) -> bool:
    """BOOL(default)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _wrapped(value) > 0
    if isinstance(value, str):
        return value[:1] in ("t", "T", "1")
    return default


def text(value: Any, default: str) -> str:
    """STR(default); what cannot be written as UTF-8 (lone surrogates) is replaced."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return str(_wrapped(value))
    return default


def hexadecimal(value: Any) -> int:
    """The number a text starts with in base 16, 0 if there is none; numbers are read by their decimal text."""
    return _leading_number(text(value, "0"), _HEX, 16)


def printable(value: str) -> str:
    """`value` with everything that has no UTF-8 form replaced by U+FFFD."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def storable(value: Any, depth: int = 32) -> Any:
    """A deep copy of any JSON value that can be written again; nesting beyond `depth` becomes null."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return None
    if isinstance(value, list):
        return [storable(element, depth - 1) for element in value]
    return {printable(str(key)): storable(element, depth - 1) for key, element in value.items()}


def address(value: Any) -> InetAddress | None:
    """IP(s): the address and, in `port`, the prefix length after the slash; None for nil.

    A text that is recognisably IPv4 or IPv6 but not valid becomes the zero address of that family, as in the
    reference; the recorded API answers depend on it.
    """
    if not isinstance(value, str) or len(printable(value).encode()) >= _MAX_ADDRESS_TEXT:
        return None
    host, _, suffix = value.partition("/")
    bits = _leading_number(suffix, _DECIMAL, 10) & 0xFFFF
    if ":" in host:
        return InetAddress(_packed_v6(host), bits)
    if "." in host:
        return InetAddress(_packed_v4(host), bits)
    return None


def _packed_v4(host: str) -> bytes:
    try:
        return ipaddress.IPv4Address(host).packed
    except ValueError:
        return bytes(4)


def _packed_v6(host: str) -> bytes:
    if "%" in host:
        return bytes(16)
    try:
        return ipaddress.IPv6Address(host).packed
    except ValueError:
        return bytes(16)


def ip_text(ip: bytes) -> str:
    """The standard shortest form, with a dotted tail for IPv4-mapped addresses as inet_ntop writes it."""
    if len(ip) == 4:
        return str(ipaddress.IPv4Address(ip))
    if ip[:12] == bytes(10) + b"\xff\xff":
        return "::ffff:" + str(ipaddress.IPv4Address(ip[12:]))
    if ip[:12] == bytes(12) and ip[12:14] != b"\0\0":
        return "::" + str(ipaddress.IPv4Address(ip[12:]))
    return str(ipaddress.IPv6Address(ip))
