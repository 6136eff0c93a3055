"""What types cannot say of a request to `/v1`: addresses, ranges, rules.  Every refusal names the field."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import UnsetType

from ztpipe.api import schemas
from ztpipe.controller.errors import bad_value
from ztpipe.controller.rules_check import check_rules
from ztpipe.wire.rule import MAX_CAPABILITY_RULES, MAX_RULES

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def network(patch: schemas.NetworkPatch) -> dict[str, Any]:
    """The body for the controller; raises the 400."""
    if not isinstance(patch.routes, UnsetType):
        for at, route in enumerate(patch.routes):
            _route(f"routes[{at}]", route)
    if not isinstance(patch.ipAssignmentPools, UnsetType):
        _pools(patch.ipAssignmentPools)
    if not isinstance(patch.rules, UnsetType):
        check_rules("rules", patch.rules, MAX_RULES)
    if not isinstance(patch.capabilities, UnsetType):
        for at, capability in enumerate(patch.capabilities):
            check_rules(f"capabilities[{at}].rules", capability.rules, MAX_CAPABILITY_RULES)
        _unique("capabilities", [capability.id for capability in patch.capabilities])
    if not isinstance(patch.tags, UnsetType):
        _unique("tags", [tag.id for tag in patch.tags])
    if not isinstance(patch.dns, UnsetType):
        for at, server in enumerate(patch.dns.servers):
            _address(f"dns.servers[{at}]", server)
    return _body(patch)


def member(patch: schemas.MemberPatch, where: str = "") -> dict[str, Any]:
    """The body for the controller; raises the 400, whose field begins with `where`."""
    if not isinstance(patch.ipAssignments, UnsetType):
        for at, address in enumerate(patch.ipAssignments):
            _address(f"{where}ipAssignments[{at}]", address)
    if not isinstance(patch.tags, UnsetType):
        _unique(f"{where}tags", [ident for ident, _ in patch.tags])
    return _body(patch)


def _body(patch: schemas.In) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(patch))  # tuples become arrays
    return body


def _address(field: str, text: str) -> _Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise bad_value(field, "an IPv4 or IPv6 address") from None
    if "%" in text:
        raise bad_value(field, "an address without a zone")
    return address


def _route(field: str, route: schemas.Route) -> None:
    try:
        target = ipaddress.ip_network(route.target)
    except ValueError:
        raise bad_value(f"{field}.target", "IP/bits of a network, without host bits, e.g. 10.1.0.0/16") from None
    if "/" not in route.target or "%" in route.target:
        raise bad_value(f"{field}.target", "IP/bits of a network, e.g. 10.1.0.0/16")
    if route.via is not None and _address(f"{field}.via", route.via).version != target.version:
        raise bad_value(f"{field}.via", f"an IPv{target.version} address, as the target is")


def _pools(pools: Sequence[schemas.Pool]) -> None:
    """Each in order and of one family; no two may overlap."""
    ranges = []
    for at, pool in enumerate(pools):
        start = _address(f"ipAssignmentPools[{at}].ipRangeStart", pool.ipRangeStart)
        end = _address(f"ipAssignmentPools[{at}].ipRangeEnd", pool.ipRangeEnd)
        if start.version != end.version or int(start) > int(end):
            raise bad_value(f"ipAssignmentPools[{at}].ipRangeEnd", f"an address of the same family from {start} on")
        ranges.append((start.version, int(start), int(end), at))
    ranges.sort()
    for (version, _, end_before, _), (other, begin, _, at) in pairwise(ranges):
        if version == other and begin <= end_before:
            raise bad_value(f"ipAssignmentPools[{at}]", "a range that overlaps no other")


def _unique(field: str, idents: Sequence[int]) -> None:
    for at in _repeated(idents):
        raise bad_value(f"{field}[{at}]", "an ID that no other has")


def _repeated(idents: Sequence[int]) -> Iterator[int]:
    seen: set[int] = set()
    for at, ident in enumerate(idents):
        if ident in seen:
            yield at
        seen.add(ident)
