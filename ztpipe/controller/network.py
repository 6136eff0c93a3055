"""The network object: defaults, and what a POST does to it (controller §4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from ztpipe.controller import coerce
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.rules_json import normalise_rules
from ztpipe.controller.rules_source import COMPILED_FIELDS, compiled_fields, source_of
from ztpipe.wire.address import format_nwid

MAX_ELEMENTS: Final = 16384
MTU_DEFAULT: Final = 2800
MTU_RANGE: Final = (1280, 10000)
MULTICAST_LIMIT_DEFAULT: Final = 32
TRACE_TARGET_LENGTH: Final = 10
V6_MODES: Final = ("6plane", "rfc4193", "zt")

DEFAULT_RULES: Final = ({"not": False, "or": False, "type": "ACTION_ACCEPT"},)

#: Fields never stored (controller §4).
_TRANSIENT: Final = ("clock", "authorizedMemberCount", "activeMemberCount", "totalMemberCount", "lastModified")


def defaults(now: int) -> JsonObject:
    """The value of every field that a network always has, `id`, `nwid` and `revision` aside."""
    return {
        # An array holding null is what the reference shows for "no tokens"; interfaces have seen it for years.
        "authTokens": [None],
        "authorizationEndpoint": "",
        "capabilities": [],
        "clientId": "",
        "creationTime": now,
        "dns": [],
        "enableBroadcast": True,
        "ipAssignmentPools": [],
        "mtu": MTU_DEFAULT,
        "multicastLimit": MULTICAST_LIMIT_DEFAULT,
        "name": "",
        "objtype": "network",
        "private": True,
        "remoteTraceLevel": 0,
        "remoteTraceTarget": None,
        "routes": [],
        "rules": [dict(rule) for rule in DEFAULT_RULES],
        "rulesSource": "",
        "ssoEnabled": False,
        "tags": [],
        "v4AssignMode": {"zt": False},
        "v6AssignMode": dict.fromkeys(V6_MODES, False),
    }


def updated(record: JsonObject | None, body: Any, nwid: int, now: int) -> JsonObject:
    """A new record: `record` (None = new network) with the fields of `body` applied and defaults filled in.

    `body` may be any JSON value; anything but an object has no fields (controller §3).  The revision is left as it
    was.  Raises ControllerError only.

    A new `rulesSource` decides `rules`, `capabilities` and `tags`, unless the body brings other rules than the stored:
    interfaces that compile in the browser send any source along.  The stored one is kept for as long as the three are
    what it says, and emptied by a change of them without it.
    """
    result = deepcopy(record) if record is not None else {}
    fields = body if isinstance(body, dict) else {}
    source = source_of(fields.get("rulesSource"))
    if source is not None and source != result.get("rulesSource", "") and not _brings_rules(result, fields):
        compiled = compiled_fields(source)
        _apply(result, {**fields, **compiled})
        result["rulesSource"] = source if compiled else ""
    else:
        before = [result.get(field) for field in COMPILED_FIELDS]
        _apply(result, fields)
        if result.get("rulesSource") and before != [result.get(field) for field in COMPILED_FIELDS]:
            result["rulesSource"] = ""
    for field, value in defaults(now).items():
        result.setdefault(field, value)
    result["id"] = result["nwid"] = format_nwid(nwid)
    result["objtype"] = "network"
    for field in _TRANSIENT:
        result.pop(field, None)
    return result


def _apply(record: JsonObject, fields: JsonObject) -> None:
    for field, value in fields.items():
        setter = _SETTERS.get(field)
        if setter is not None:
            setter(record, value)


def _brings_rules(record: JsonObject, fields: JsonObject) -> bool:
    """Whether a body has rules of its own, others than those in the record."""
    return "rules" in fields and normalise_rules(fields["rules"], MAX_ELEMENTS) != normalise_rules(
        record.get("rules", list(DEFAULT_RULES)), MAX_ELEMENTS
    )


def clamp_mtu(value: int) -> int:
    """The MTU a network may have (controller §4)."""
    low, high = MTU_RANGE
    return min(max(value & coerce.U32, low), high)


def trace_target(value: Any) -> str | None:
    """A remote trace target: text of exactly ten characters, its content not checked, else null."""
    target = coerce.text(value, "")
    return target if len(target.encode()) == TRACE_TARGET_LENGTH else None


def _objects(value: list[Any]) -> list[JsonObject]:
    """The elements that are objects."""
    return [element for element in value if isinstance(element, dict)]


def _set_v4_mode(record: JsonObject, value: Any) -> None:
    if isinstance(value, dict):
        zt = coerce.boolean(value.get("zt"), False)
    else:
        zt = value == "zt"
    record["v4AssignMode"] = {"zt": zt}


def _set_v6_mode(record: JsonObject, value: Any) -> None:
    if isinstance(value, dict):
        modes = {mode: coerce.boolean(value[mode], False) for mode in V6_MODES if mode in value}
    else:
        words = value.split(",") if isinstance(value, str) else []
        modes = {mode: mode in words for mode in V6_MODES}
    record["v6AssignMode"] = modes


def _set_routes(record: JsonObject, value: Any) -> None:
    if not isinstance(value, list):
        return
    routes = [route for route in map(_route, _objects(value)) if route is not None]
    record["routes"] = routes[:MAX_ELEMENTS]


def _route(element: JsonObject) -> JsonObject | None:
    target = coerce.address(element.get("target"))
    if target is None or target.port > len(target.ip) * 8:
        return None
    via = coerce.address(element.get("via"))
    if via is not None and len(via.ip) != len(target.ip):
        via = None
    return {
        "target": f"{coerce.ip_text(target.ip)}/{target.port}",
        "via": None if via is None else coerce.ip_text(via.ip),
    }


def _set_pools(record: JsonObject, value: Any) -> None:
    if not isinstance(value, list):
        return
    pools: list[JsonObject] = []
    for element in _objects(value):
        start = coerce.address(element.get("ipRangeStart"))
        end = coerce.address(element.get("ipRangeEnd"))
        if start is not None and end is not None and len(start.ip) == len(end.ip):
            pools.append({"ipRangeEnd": coerce.ip_text(end.ip), "ipRangeStart": coerce.ip_text(start.ip)})
    record["ipAssignmentPools"] = pools[:MAX_ELEMENTS]


def _set_tags(record: JsonObject, value: Any) -> None:
    if not isinstance(value, list):
        return
    tags: dict[int, JsonObject] = {}
    for element in _objects(value):
        ident = coerce.integer(element.get("id"), 0)
        default = element.get("default")
        tags[ident] = {"default": None if default is None else coerce.integer(default, 0), "id": ident}
    record["tags"] = [tags[ident] for ident in sorted(tags)][:MAX_ELEMENTS]


def _set_capabilities(record: JsonObject, value: Any) -> None:
    if not isinstance(value, list):
        return
    capabilities: dict[int, JsonObject] = {}
    for element in _objects(value):
        ident = coerce.integer(element.get("id"), 0)
        capabilities[ident] = {
            "default": coerce.boolean(element.get("default"), False),
            "id": ident,
            "rules": normalise_rules(element.get("rules"), MAX_ELEMENTS),
        }
    record["capabilities"] = [capabilities[ident] for ident in sorted(capabilities)][:MAX_ELEMENTS]


def _set_dns(record: JsonObject, value: Any) -> None:
    if not isinstance(value, dict):
        return
    dns: JsonObject = {"domain": coerce.storable(value.get("domain"))}
    servers = value.get("servers")
    if isinstance(servers, list):
        dns["servers"] = coerce.storable(servers[:MAX_ELEMENTS])
    record["dns"] = dns


def _set_auth_tokens(record: JsonObject, value: Any) -> None:
    if not isinstance(value, dict):
        record["authTokens"] = [None]
        return
    tokens = {coerce.printable(token): expiry for token, expiry in value.items() if _is_expiry(expiry)}
    record["authTokens"] = tokens or None


def _is_expiry(value: Any) -> bool:
    """True for a JSON number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not (isinstance(value, float) and not math.isfinite(value)) and value >= 0


def _setter(field: str, coercion: Callable[[Any], Any]) -> Callable[[JsonObject, Any], None]:
    def apply(record: JsonObject, value: Any) -> None:
        record[field] = coercion(value)

    return apply


_SETTERS: Final[dict[str, Callable[[JsonObject, Any], None]]] = {
    "name": _setter("name", lambda value: coerce.text(value, "")),
    "private": _setter("private", lambda value: coerce.boolean(value, True)),
    "enableBroadcast": _setter("enableBroadcast", lambda value: coerce.boolean(value, False)),
    "multicastLimit": _setter("multicastLimit", lambda value: coerce.integer(value, MULTICAST_LIMIT_DEFAULT)),
    "mtu": _setter("mtu", lambda value: clamp_mtu(coerce.integer(value, MTU_DEFAULT))),
    "remoteTraceTarget": _setter("remoteTraceTarget", trace_target),
    "remoteTraceLevel": _setter("remoteTraceLevel", lambda value: coerce.integer(value, 0)),
    "v4AssignMode": _set_v4_mode,
    "v6AssignMode": _set_v6_mode,
    "routes": _set_routes,
    "ipAssignmentPools": _set_pools,
    "rules": _setter("rules", lambda value: normalise_rules(value, MAX_ELEMENTS)),
    "tags": _set_tags,
    "capabilities": _set_capabilities,
    "dns": _set_dns,
    "authTokens": _set_auth_tokens,
}
