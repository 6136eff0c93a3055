"""What types cannot say of a request to `/v1`: addresses, ranges, rules.  Every refusal names the field."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec
from msgspec import UnsetType

from ztpipe.api import schemas, shapes
from ztpipe.controller.errors import bad_value
from ztpipe.controller.rules_check import check_rules
from ztpipe.wire.rule import MAX_CAPABILITY_RULES, MAX_RULES


def network(patch: schemas.NetworkPatch) -> dict[str, Any]:
    """The body for the controller; raises the 400."""
    if not isinstance(patch.routes, UnsetType):
        for at, route in enumerate(patch.routes):
            _route(f"routes[{at}]", route)
    if not isinstance(patch.ipAssignmentPools, UnsetType):
        field, pools = "ipAssignmentPools", patch.ipAssignmentPools
        shapes.apart(
            field,
            [shapes.pool(f"{field}[{at}]", pool.ipRangeStart, pool.ipRangeEnd, at) for at, pool in enumerate(pools)],
        )
    if not isinstance(patch.rules, UnsetType):
        check_rules("rules", patch.rules, MAX_RULES)
    if not isinstance(patch.capabilities, UnsetType):
        for at, capability in enumerate(patch.capabilities):
            check_rules(f"capabilities[{at}].rules", capability.rules, MAX_CAPABILITY_RULES)
        shapes.unique("capabilities", [capability.id for capability in patch.capabilities])
    if not isinstance(patch.tags, UnsetType):
        shapes.unique("tags", [tag.id for tag in patch.tags])
    if not isinstance(patch.dns, UnsetType):
        for at, server in enumerate(patch.dns.servers):
            shapes.address(f"dns.servers[{at}]", server)
    return _body(patch)


def member(patch: schemas.MemberPatch, where: str = "") -> dict[str, Any]:
    """The body for the controller; raises the 400, whose field begins with `where`."""
    if not isinstance(patch.ipAssignments, UnsetType):
        for at, address in enumerate(patch.ipAssignments):
            shapes.address(f"{where}ipAssignments[{at}]", address)
    if not isinstance(patch.tags, UnsetType):
        shapes.unique(f"{where}tags", [ident for ident, _ in patch.tags])
    return _body(patch)


def _body(patch: schemas.In) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(patch))  # tuples become arrays
    return body


def _route(field: str, route: schemas.Route) -> None:
    try:
        target = ipaddress.ip_network(route.target)
    except ValueError:
        raise bad_value(f"{field}.target", "IP/bits of a network, without host bits, e.g. 10.1.0.0/16") from None
    if "/" not in route.target or "%" in route.target:
        raise bad_value(f"{field}.target", "IP/bits of a network, e.g. 10.1.0.0/16")
    if route.via is not None:
        shapes.via(f"{field}.via", route.via, target.version)
