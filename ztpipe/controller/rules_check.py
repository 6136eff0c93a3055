"""Whether a rule in a request means what would be made of it.

The controller reads rules as loosely as the reference does: numbers are cut to their width, texts that are no address
count as zero, unknown types are left out.  Each of these makes a filter that lets through what it should stop, so both
APIs refuse it: a field must come out of the normalisation with the value that it went in with.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final

from ztpipe.controller.errors import ControllerError, bad_value
from ztpipe.controller.rules_json import json_of, rule_of

_MAC: Final = re.compile(r"[0-9a-fA-F]{12}")
_HEX: Final = re.compile(r"(?:0[xX])?0*([0-9a-fA-F]{1,16})")
_DIGITS: Final = re.compile(r"0*([0-9]{1,20})")
_FLAGS: Final = frozenset({"not", "or", "little"})


def check_rules(field: str, rules: list[Any], limit: int) -> None:
    """Raise the 400 that names the element of `rules`, or its field, that cannot be taken."""
    if len(rules) > limit:
        raise bad_value(field, f"at most {limit} rules, not {len(rules)}")
    for at, rule in enumerate(rules):
        check_rule(f"{field}[{at}]", rule)


def check_rule(field: str, rule: Any) -> None:
    """Raise the 400 for one rule."""
    if not isinstance(rule, dict):
        raise bad_value(field, "a rule: an object with a type")
    try:
        known = rule_of(rule)
    except ControllerError as error:
        raise bad_value(f"{field}.mask", "a number, or text of hex digits") from error
    stored = json_of(known) if known is not None else None
    if stored is None:
        raise bad_value(f"{field}.type", "the name of an action or match, e.g. ACTION_ACCEPT")
    for name in ("not", "or"):
        _flag(f"{field}.{name}", rule.get(name, False))
    for name, value in stored.items():
        if name in rule and name not in ("type", "not", "or"):
            _same(f"{field}.{name}", name, rule[name], value)


def _flag(field: str, value: Any) -> None:
    if not isinstance(value, bool) and value not in (0, 1):
        raise bad_value(field, "true or false")


def _same(field: str, name: str, given: Any, stored: Any) -> None:
    expected, read = _READERS.get(name, (f"a number that fits, e.g. {stored}", _number))
    if name in _FLAGS:
        _flag(field, given)
    elif (name == "icmpCode" and given is None) or _cut(name, given, stored):
        return
    elif isinstance(stored, str) and name not in _READERS:
        if _hex(given) != int(stored, 16):
            raise bad_value(field, "a number, or text of hex digits, that fits")
    elif read(given) is None or read(given) != read(stored):
        raise bad_value(field, expected)


def _cut(name: str, given: Any, stored: int) -> bool:
    """Whether a negative number is how compilers write this one: -1 for a whole frame, 32 bits with a sign."""
    number = _number(given)
    if number is None or number >= 0:
        return False
    return (name, number) == ("length", -1) or (name in ("id", "value") and number + (1 << 32) == stored)


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        found = _DIGITS.fullmatch(value.strip())
        return int(found[1]) if found else None
    return int(value) if isinstance(value, int | float) and value == value // 1 and abs(value) < 1 << 65 else None


def _hex(value: Any) -> int | None:
    """Texts are hexadecimal, numbers are what they are."""
    if not isinstance(value, str):
        return _number(value)
    found = _HEX.fullmatch(value.strip())
    return int(found[1], 16) if found else None


def _node(value: Any) -> int | None:
    number = _hex(value) if isinstance(value, str) else None
    return number if number is None or number < 1 << 40 else None


def _mac(value: Any) -> str | None:
    digits = value.replace(":", "").replace("-", "").lower() if isinstance(value, str) else ""
    return digits if _MAC.fullmatch(digits) else None


def _prefix(value: Any) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F.:]+/[0-9]{1,3}", value):
        return None
    try:
        return ipaddress.ip_interface(value)
    except ValueError:
        return None


_READERS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "zt": ("the ten hex digits of a node", _node),
    "address": ("the ten hex digits of a node", _node),
    "mac": ("the twelve hex digits of a MAC address", _mac),
    "ip": ("IP/bits of the family that the type says", _prefix),
}
