"""Controller records as the objects of `/v1`: whatever an imported file holds, the promised types come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ztpipe.api import schemas
from ztpipe.controller import coerce, member, network
from ztpipe.controller.errors import ControllerError


def network_view(record: Mapping[str, Any]) -> schemas.Network:
    """A network object as the controller answers it, with or without `meta`."""
    nwid = int(str(record["id"]), 16)
    source = coerce.text(record.get("rulesSource"), "")
    created = coerce.integer(record.get("creationTime"), 0)
    try:
        clean = network.updated({"creationTime": created}, {**record, "rulesSource": None}, nwid, created)
    except ControllerError:  # a stored rule that cannot be read
        clean = network.updated({"creationTime": created}, {}, nwid, created) | {"rules": []}
    dns, tokens = clean["dns"], clean["authTokens"]
    clean |= {
        "rulesSource": source,
        "revision": coerce.integer(record.get("revision"), 0),
        "dns": _dns(dns) if isinstance(dns, dict) else None,
        "authTokens": {key: int(value) for key, value in tokens.items()} if isinstance(tokens, dict) else {},
        "meta": record.get("meta"),
    }
    return msgspec.convert(clean, schemas.Network)


def _dns(dns: Mapping[str, Any]) -> dict[str, Any]:
    servers = dns.get("servers")
    addresses = [coerce.text(server, "") for server in servers] if isinstance(servers, list) else []
    domain = coerce.text(dns.get("domain"), "")
    return {"domain": domain[:127], "servers": addresses[:4]}


def member_view(record: Mapping[str, Any]) -> schemas.Member:
    """A member object as the controller answers it, with or without `meta`."""
    nwid, address = int(str(record["nwid"]), 16), int(str(record["id"]), 16)
    settable = {**record, "ipAssignments": _texts(record.get("ipAssignments"))}
    settable.pop("authorized", None)
    clean = member.updated({}, settable, nwid, address, 0)
    clean |= {
        field: coerce.integer(record.get(field), 0)
        for field in ("creationTime", "revision", "lastAuthorizedTime", "lastDeauthorizedTime", "expiresAt")
    }
    clean |= {field: _version(record.get(field)) for field in member.VERSION_FIELDS}
    kind, identity = record.get("lastAuthorizedCredentialType"), record.get("identity")
    clean |= {
        "authorized": member.is_authorized(dict(record)),
        "name": coerce.text(record.get("name"), ""),
        "notes": coerce.text(record.get("notes"), ""),
        "identity": identity if isinstance(identity, str) else None,
        "lastAuthorizedCredentialType": kind if isinstance(kind, str) else None,
        "meta": record.get("meta"),
    }
    return msgspec.convert(clean, schemas.Member)


def _texts(value: object) -> list[str]:
    return [element for element in value if isinstance(element, str)] if isinstance(value, list) else []


def _version(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
