"""The member object: defaults, and what a POST does to it (controller §5)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from ztpipe.controller import coerce
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.errors import bad_value
from ztpipe.controller.network import MAX_ELEMENTS, trace_target
from ztpipe.wire.address import format_address, format_nwid
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity

VERSION_FIELDS: Final = ("vMajor", "vMinor", "vRev", "vProto")

#: In the record of a member that was never granted anything: its capabilities were chosen by an administrator, so
#: that it does not get the defaults.  Fields with a leading underscore are not shown.
CAPABILITIES_CHOSEN: Final = "_capabilitiesChosen"

#: Fields never stored (controller §5).
_TRANSIENT: Final = (
    "clock",
    "physicalAddr",
    "recentLog",
    "lastModified",
    "lastRequestMetaData",
    "authenticationURL",
    "authenticationClientID",
)


def defaults(now: int) -> JsonObject:
    """The value of every field that a member always has, `id`, `address`, `nwid` and `revision` aside."""
    return {
        "activeBridge": False,
        "authenticationExpiryTime": 0,
        "authorized": False,
        "capabilities": [],
        "creationTime": now,
        "ipAssignments": [],
        "lastAuthorizedCredential": None,
        "lastAuthorizedCredentialType": None,
        "lastAuthorizedTime": 0,
        "lastDeauthorizedTime": 0,
        "noAutoAssignIps": False,
        "objtype": "member",
        "remoteTraceLevel": 0,
        "remoteTraceTarget": None,
        "ssoExempt": False,
        "tags": [],
        **dict.fromkeys(VERSION_FIELDS, -1),
    }


def filled(record: JsonObject | None, nwid: int, address: int, now: int) -> JsonObject:
    """A copy of `record` (None = new member) with defaults filled in and its identifiers rewritten."""
    result = deepcopy(record) if record is not None else {}
    for field, value in defaults(now).items():
        result.setdefault(field, value)
    result["id"] = result["address"] = format_address(address)
    result["nwid"] = format_nwid(nwid)
    result["objtype"] = "member"
    for field in _TRANSIENT:
        result.pop(field, None)
    return result


def updated(record: JsonObject | None, body: Any, nwid: int, address: int, now: int) -> JsonObject:
    """`filled`, with the fields of `body` applied.  The revision is left as it was.  Raises ControllerError only."""
    result = filled(record, nwid, address, now)
    if not isinstance(body, dict):
        return result
    for field, coercion in _SIMPLE.items():
        if field in body:
            result[field] = coercion(body[field])
    for field, normalise in _LISTS.items():
        value = body.get(field)
        if isinstance(value, list):
            result[field] = normalise(value)
            if field == "capabilities" and not was_granted(result):
                result[CAPABILITIES_CHOSEN] = True
    if "authorized" in body:
        if "expiresAt" not in body and expired(result, now) and coerce.boolean(body["authorized"], False):
            result["expiresAt"] = 0  # else it would be taken back at once
        _set_authorized(result, coerce.boolean(body["authorized"], False), now)
    return result


def identity(record: JsonObject) -> Identity | None:
    """The identity that the member first asked with; None if it never did."""
    try:
        return Identity.parse(record["identity"])
    except (KeyError, TypeError, AttributeError, WireError):
        return None


def is_authorized(record: JsonObject) -> bool:
    """Whether the record says that the member may take part."""
    return coerce.boolean(record.get("authorized"), False)


def expiry(record: JsonObject) -> int:
    """When the member is deauthorised, ms; 0 = never."""
    return coerce.integer(record.get("expiresAt"), 0)


def expired(record: JsonObject, now: int) -> bool:
    """Whether the member's time is over."""
    return 0 < expiry(record) <= now


def was_granted(record: JsonObject) -> bool:
    """Whether the member ever got a configuration: only then is its version known."""
    return bool(record.get("vMajor", -1) != -1)


def authorize(record: JsonObject, now: int, credential_type: str, credential: str | None) -> None:
    """Mark the member as authorised, and by what (controller §5, §7.2 step 6)."""
    record["authorized"] = True
    record["lastAuthorizedTime"] = now
    record["lastAuthorizedCredentialType"] = credential_type
    record["lastAuthorizedCredential"] = credential


def assignments(record: JsonObject) -> list[bytes]:
    """The addresses of `ipAssignments` as packed bytes, in stored order; what is no address is left out."""
    stored = record.get("ipAssignments")
    parsed = map(coerce.address, stored if isinstance(stored, list) else [])
    return [address.ip for address in parsed if address is not None]


def _set_authorized(record: JsonObject, authorized: bool, now: int) -> None:
    """Only a change of the value does anything."""
    if authorized == is_authorized(record):
        return
    if authorized:
        authorize(record, now, "api", None)
    else:
        record["authorized"] = False
        record["lastDeauthorizedTime"] = now


def _ip_assignments(value: list[Any]) -> list[str]:
    result: list[str] = []
    for element in value:
        if not isinstance(element, str):
            raise bad_value("ipAssignments", "an array of texts")
        address = coerce.address(element)
        if address is not None:
            result.append(coerce.ip_text(address.ip))
    return result[:MAX_ELEMENTS]


def _tags(value: list[Any]) -> list[list[int]]:
    tags: dict[int, int] = {}
    for element in value:
        if isinstance(element, list) and len(element) == 2:
            tags[coerce.integer(element[0], 0) & coerce.U32] = coerce.integer(element[1], 0) & coerce.U32
    return [[ident, tags[ident]] for ident in sorted(tags)][:MAX_ELEMENTS]


def _capabilities(value: list[Any]) -> list[int]:
    return sorted({coerce.integer(element, 0) for element in value})[:MAX_ELEMENTS]


_SIMPLE: Final[dict[str, Callable[[Any], Any]]] = {
    "name": lambda value: coerce.text(value, ""),
    "notes": lambda value: coerce.text(value, ""),
    "expiresAt": lambda value: coerce.integer(value, 0),
    "activeBridge": lambda value: coerce.boolean(value, False),
    "noAutoAssignIps": lambda value: coerce.boolean(value, False),
    "remoteTraceTarget": trace_target,
    "remoteTraceLevel": lambda value: coerce.integer(value, 0),
    "authenticationExpiryTime": lambda value: coerce.integer(value, 0),
}
_LISTS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "ipAssignments": _ip_assignments,
    "tags": _tags,
    "capabilities": _capabilities,
}
