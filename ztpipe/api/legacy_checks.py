"""What the old API refuses of the body of a POST.

It reads values as loosely as the reference: "true", "12" and 1 are what they look like, null is the default, unknown
fields are ignored, a lone number is clamped to its range.  The reference goes on to make something of values that mean
nothing: it leaves out elements of lists, takes a bad address for 0.0.0.0, a route without bits for /0, -5 for 2^64-5.
These are a 400 that names the field, before anything is changed.  What is stored already may always be sent back.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from ztpipe.api import shapes
from ztpipe.controller.errors import ControllerError, bad_value
from ztpipe.controller.rules_check import check_rules
from ztpipe.wire.netconf import MAX_CAPABILITIES, MAX_ROUTES, MAX_STATIC_IPS, MAX_TAGS
from ztpipe.wire.rule import MAX_CAPABILITY_RULES, MAX_RULES

JsonObject = dict[str, Any]
Check = Callable[[str, Any, Any], None]  # name of the field, its value, the stored one

_MAX_TEXT: Final = 10_000
_MAX_POOLS: Final = 1024
_U32: Final = 0xFFFFFFFF
_TIME: Final = 0x7FFFFFFFFFFFFFFF
_BOOLEAN: Final = frozenset({"true", "false", "t", "f", "1", "0", ""})
_DECIMAL: Final = re.compile(r"\s*[0-9]{1,20}\s*")
_NODE: Final = re.compile(r"[0-9a-fA-F]{10}")


def network(body: Any, stored: JsonObject | None) -> None:
    """Raise the 400 of a network's body; `stored` is the network as shown, None = a new one."""
    _object(body, stored or {}, _NETWORK)


def member(body: Any, stored: JsonObject | None) -> None:
    """Raise the 400 of a member's body; `stored` is the member as shown, None = a new one."""
    _object(body, stored or {}, _MEMBER)


def _object(body: Any, stored: JsonObject, checks: dict[str, Check]) -> None:
    if body is None:
        return
    if not isinstance(body, dict):
        raise bad_value("body", "a JSON object")
    for field, check in checks.items():
        try:
            if field in body and body[field] != stored.get(field, ...):
                check(field, body[field], stored.get(field))
        except RecursionError:
            raise bad_value(field, "a value that is not nested as deep") from None


# --- single values -------------------------------------------------------------------------------------------------


def _boolean(field: str, value: Any, _: Any = None) -> None:
    text = isinstance(value, str) and value.lower() in _BOOLEAN
    number = isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= _U32
    if not (text or number or isinstance(value, bool)):
        raise bad_value(field, "true or false")


def _number(highest: int, *, null: bool) -> Check:
    def check(field: str, value: Any, _: Any = None) -> None:
        if value is None and null:
            return
        number = int(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= highest:
            raise bad_value(field, f"a number from 0 to {highest}")

    return check


def _text(field: str, value: Any, _: Any = None) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise bad_value(field, "text")
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise bad_value(field, f"at most {_MAX_TEXT} characters, not {len(value)}")


def _trace_target(field: str, value: Any, _: Any = None) -> None:
    if value not in (None, "") and not (isinstance(value, str) and _NODE.fullmatch(value)):
        raise bad_value(field, "the ten hex digits of a node, or null")


def _source(field: str, value: Any, _: Any = None) -> None:
    if value is not None and not isinstance(value, str):
        raise bad_value(field, "text in the rule language")


def _modes(*names: str) -> Check:
    """An object of booleans, or words as in former versions of the API."""

    def check(field: str, value: Any, _: Any = None) -> None:
        if not isinstance(value, dict | str):
            raise bad_value(field, f"an object with {', '.join(names)}")
        for name in names:
            if isinstance(value, dict) and name in value:
                _boolean(f"{field}.{name}", value[name])

    return check


# --- lists and objects ---------------------------------------------------------------------------------------------


def _list(element: Check, limit: int) -> Check:
    """An array whose elements `element` accepts."""

    def check(field: str, value: Any, stored: Any) -> None:
        for at, item in _new(field, value, stored, limit):
            element(f"{field}[{at}]", item, None)

    return check


def _new(field: str, value: Any, stored: Any, limit: int) -> list[tuple[int, Any]]:
    """The elements of an array, with their places, that are not stored already."""
    _array(field, value)
    known = {json.dumps(item, sort_keys=True) for item in stored} if isinstance(stored, list) else set()
    if len(value) > limit and len(value) > len(known):
        raise bad_value(field, f"at most {limit} elements, not {len(value)}")
    return [(at, item) for at, item in enumerate(value) if json.dumps(item, sort_keys=True) not in known]


def _bare(value: Any) -> Any:
    """An address without the bits behind it, which the reference ignores."""
    return value.partition("/")[0] if isinstance(value, str) else value


def _route(field: str, value: Any, _: Any) -> None:
    if not isinstance(value, dict):
        raise bad_value(field, "an object with target and via")
    expected = "IP/bits of a network, e.g. 10.1.0.0/16"
    host, _, bits = str(value.get("target")).partition("/")
    target = shapes.address(f"{field}.target", host, expected)
    if not (bits.isascii() and bits.isdigit() and len(bits) <= 3 and int(bits) <= target.max_prefixlen):
        raise bad_value(f"{field}.target", expected)
    if value.get("via") not in (None, ""):
        shapes.via(f"{field}.via", value["via"], target.version)


def _pool(field: str, value: Any, place: int) -> shapes.Range:
    if not isinstance(value, dict):
        raise bad_value(field, "an object with ipRangeStart and ipRangeEnd")
    return shapes.pool(field, _bare(value.get("ipRangeStart")), _bare(value.get("ipRangeEnd")), place)


def _pools(field: str, value: Any, stored: Any) -> None:
    """Ranges in order; none of the new ones overlaps another."""
    new = dict(_new(field, value, stored, _MAX_POOLS))
    ranges = [_pool(f"{field}[{at}]", item, at) for at, item in new.items()]
    for item in (item for at, item in enumerate(value) if at not in new):
        with suppress(ControllerError):  # what is stored may be anything
            ranges.append(_pool(field, item, -1))
    shapes.apart(field, ranges)


def _tag_definition(field: str, value: Any, _: Any) -> None:
    if not isinstance(value, dict):
        raise bad_value(field, "an object with id and default")
    _number(_U32, null=False)(f"{field}.id", value.get("id"), None)
    default = value.get("default")
    if not (type(default) is int and -(1 << 31) <= default < 0):  # compilers write 32 bits with a sign
        _number(_U32, null=True)(f"{field}.default", default, None)


def _capability(field: str, value: Any, _: Any) -> None:
    if not isinstance(value, dict):
        raise bad_value(field, "an object with id, default and rules")
    _number(_U32, null=False)(f"{field}.id", value.get("id"), None)
    _boolean(f"{field}.default", value.get("default", False))
    _array(f"{field}.rules", value.get("rules", []))
    check_rules(f"{field}.rules", value.get("rules", []), MAX_CAPABILITY_RULES)


def _unique(check: Check) -> Check:
    """`check`, and no two elements with one ID."""

    def unique(field: str, value: Any, stored: Any) -> None:
        check(field, value, stored)
        shapes.unique(field, (_ident(item, ~at) for at, item in enumerate(value)))

    return unique


def _ident(value: Any, default: int) -> int:
    """An element's ID; what is stored may lack one."""
    return int(value["id"]) if isinstance(value, dict) and "id" in value else default


def _rules(field: str, value: Any, stored: Any) -> None:
    _array(field, value)
    check_rules(field, value, MAX_RULES)


def _array(field: str, value: Any) -> None:
    if not isinstance(value, list):
        raise bad_value(field, "an array")


def _dns(field: str, value: Any, _: Any) -> None:
    if value is None or value == []:  # what is shown where nothing is set
        return
    if not isinstance(value, dict):
        raise bad_value(field, "an object with domain and servers")
    _text(f"{field}.domain", value.get("domain"))
    servers = value.get("servers", [])
    _array(f"{field}.servers", servers)
    for at, server in enumerate(servers):
        if server != "":
            _address(f"{field}.servers[{at}]", server)


def _auth_tokens(field: str, value: Any, _: Any) -> None:
    if value in (None, [], [None]):  # what is shown where there are none
        return
    if not isinstance(value, dict):
        raise bad_value(field, "an object: token to the time in ms at which it ends, 0 = never")
    for token, end in value.items():
        if isinstance(end, bool) or not isinstance(end, int | float) or not 0 <= end <= _TIME:
            raise bad_value(f"{field}.{token[:40]}", "the time in ms at which it ends, 0 = never")


def _address(field: str, value: Any, _: Any = None) -> None:
    shapes.address(field, _bare(value))


def _member_tag(field: str, value: Any, _: Any) -> None:
    if not isinstance(value, list) or len(value) != 2:
        raise bad_value(field, "a pair of ID and value")
    for at in (0, 1):
        _number(_U32, null=False)(f"{field}[{at}]", value[at], None)


_NETWORK: Final[dict[str, Check]] = {
    "name": _text,
    "private": _boolean,
    "enableBroadcast": _boolean,
    "multicastLimit": _number(_U32, null=True),
    "mtu": _number(_U32, null=True),
    "remoteTraceTarget": _trace_target,
    "remoteTraceLevel": _number(_U32, null=True),
    "v4AssignMode": _modes("zt"),
    "v6AssignMode": _modes("6plane", "rfc4193", "zt"),
    "routes": _list(_route, MAX_ROUTES),
    "ipAssignmentPools": _pools,
    "rules": _rules,
    "rulesSource": _source,
    "tags": _unique(_list(_tag_definition, MAX_TAGS)),
    "capabilities": _unique(_list(_capability, MAX_CAPABILITIES)),
    "dns": _dns,
    "authTokens": _auth_tokens,
}

_MEMBER: Final[dict[str, Check]] = {
    "name": _text,
    "notes": _text,
    "authorized": _boolean,
    "activeBridge": _boolean,
    "noAutoAssignIps": _boolean,
    "expiresAt": _number(_TIME, null=True),
    "authenticationExpiryTime": _number(_TIME, null=True),
    "remoteTraceTarget": _trace_target,
    "remoteTraceLevel": _number(_U32, null=True),
    "ipAssignments": _list(_address, MAX_STATIC_IPS),
    "tags": _list(_member_tag, MAX_TAGS),
    "capabilities": _list(_number(_U32, null=False), MAX_CAPABILITIES),
}

#: All fields that are looked at, for tests.
FIELDS: Final[Sequence[tuple[str, str]]] = [
    *(("network", name) for name in _NETWORK),
    *(("member", name) for name in _MEMBER),
]
