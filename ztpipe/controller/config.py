"""Building the configuration of one member (controller §8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ztpipe.controller import coerce, member
from ztpipe.controller.addresses import Assignment, Random, assign
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.metadata import Metadata
from ztpipe.controller.state import NetworkState
from ztpipe.controller.view import NetworkView, trace_address
from ztpipe.wire.credentials import MAX_THINGS, Capability, CertificateOfMembership, CertificateOfOwnership, Tag, Thing
from ztpipe.wire.identity import Identity
from ztpipe.wire.netconf import (
    FLAG_BROADCAST,
    FLAG_NDP_EMULATION,
    MAX_CAPABILITIES,
    MAX_SPECIALISTS,
    MAX_TAGS,
    ROLE_BRIDGE,
    TYPE_PRIVATE,
    TYPE_PUBLIC,
    NetworkConfig,
)
from ztpipe.wire.rule import ACCEPT, Rule

OWNERSHIP_ID: Final = 1


@dataclass(frozen=True, slots=True)
class Grant:
    """Who gets a configuration, when, and from whom."""

    controller: Identity  # with its private key
    member: Identity
    metadata: Metadata
    timestamp: int  # ms; of the configuration and of every credential in it
    first: bool  # nothing has ever been granted to this member
    expiry: int | None  # when the member's sign-on ends, ms; None = none is needed


def build(grant: Grant, network: NetworkState, record: JsonObject, random: Random) -> NetworkConfig:
    """The configuration of the member with record `record`.

    `record` is changed where the member is given something to keep: addresses from a pool, default tags, default
    capabilities (controller §8.4, §8.6).  The caller stores it.
    """
    view = network.view
    assignment = _addresses(grant, network, record, random)
    capabilities: tuple[Capability, ...] = ()
    tags: tuple[Tag, ...] = ()
    rules: tuple[Rule, ...] = (ACCEPT,)  # all that a member without a rules engine gets (controller §8.4)
    if grant.metadata.rules_revision > 0:
        rules = view.rules
        capabilities = _capabilities(grant, view, record)
        tags = _tags(grant, view, record)
    target, level = _trace(view, record)
    return NetworkConfig(
        network_id=view.nwid,
        timestamp=grant.timestamp,
        credential_time_max_delta=view.window,
        revision=view.revision,
        issued_to=grant.member.address,
        trace_target=target,
        trace_level=level,
        flags=_flags(view, assignment),
        multicast_limit=view.multicast_limit,
        type=TYPE_PRIVATE if view.private else TYPE_PUBLIC,
        name=view.name,
        mtu=view.mtu,
        com=_membership(grant, view),
        capabilities=capabilities,
        tags=tags,
        coos=_ownership(grant, view, assignment),
        specialists=tuple(ROLE_BRIDGE | address for address in network.bridges[:MAX_SPECIALISTS]),
        routes=view.routes,
        static_ips=tuple(assignment.addresses),
        rules=rules,
        dns=view.dns,
        sso_enabled=grant.expiry is not None,
        authentication_expiry=grant.expiry or 0,
    )


def _addresses(grant: Grant, network: NetworkState, record: JsonObject, random: Random) -> Assignment:
    no_auto = coerce.boolean(record.get("noAutoAssignIps"), False)
    own = member.assignments(record)
    assignment = assign(network.view, grant.member.address, own, no_auto, network.taken, random)
    if assignment.chosen:
        chosen = [coerce.ip_text(ip) for ip in assignment.chosen]
        record["ipAssignments"] = [*_list(record, "ipAssignments"), *chosen]
    return assignment


def _flags(view: NetworkView, assignment: Assignment) -> int:
    flags = FLAG_BROADCAST if view.broadcast else 0
    return flags | FLAG_NDP_EMULATION if assignment.embedded else flags


def _trace(view: NetworkView, record: JsonObject) -> tuple[int, int]:
    """Remote trace target and level: the member's if it has a target, else the network's (controller §8.1)."""
    target = trace_address(record)
    if target is None:
        return view.trace_target, view.trace_level
    return target, coerce.integer(record.get("remoteTraceLevel"), 0) & coerce.U32


def _membership(grant: Grant, view: NetworkView) -> CertificateOfMembership:
    com = CertificateOfMembership.issue(view.nwid, grant.member, grant.timestamp, view.window)
    return com.sign(grant.controller)


def _ownership(grant: Grant, view: NetworkView, assignment: Assignment) -> tuple[CertificateOfOwnership, ...]:
    """One certificate for the first 16 addresses; that is all the format holds (controller §8.3)."""
    if not assignment.addresses:
        return ()
    things = tuple(Thing.ip(address.ip) for address in assignment.addresses[:MAX_THINGS])
    certificate = CertificateOfOwnership(view.nwid, grant.timestamp, 0, OWNERSHIP_ID, things, grant.member.address)
    return (certificate.sign(grant.controller),)


def _capabilities(grant: Grant, view: NetworkView, record: JsonObject) -> tuple[Capability, ...]:
    """The member's capabilities that the network defines, in the order of the record.

    A member gets the network's defaults when it is first granted anything, unless its capabilities were set before.
    (The reference gives them only if the record did not exist before, so that members authorised later never receive
    any: controller §8.4.)
    """
    chosen = record.pop(member.CAPABILITIES_CHOSEN, False) or _list(record, "capabilities")
    if grant.first and not chosen:
        record["capabilities"] = [ident for ident, capability in view.capabilities.items() if capability.default]
    idents = [coerce.integer(ident, 0) & coerce.U32 for ident in _list(record, "capabilities")]
    defined = [ident for ident in dict.fromkeys(idents) if ident in view.capabilities]
    return tuple(
        Capability(view.nwid, grant.timestamp, ident, view.capabilities[ident].rules).sign(
            grant.controller, grant.member.address
        )
        for ident in defined[:MAX_CAPABILITIES]
    )


def _tags(grant: Grant, view: NetworkView, record: JsonObject) -> tuple[Tag, ...]:
    """The member's tags by ascending id; defaults it does not have yet are added to its record (controller §8.4)."""
    values: dict[int, int] = {}
    for pair in _list(record, "tags"):
        if isinstance(pair, list) and len(pair) == 2:
            values[coerce.integer(pair[0], 0) & coerce.U32] = coerce.integer(pair[1], 0) & coerce.U32
    added = {ident: value for ident, value in view.tag_defaults.items() if ident not in values}
    if added:
        record["tags"] = [*_list(record, "tags"), *([ident, value] for ident, value in added.items())]
    values |= added
    return tuple(
        Tag(view.nwid, grant.timestamp, ident, values[ident], grant.member.address).sign(grant.controller)
        for ident in sorted(values)[:MAX_TAGS]
    )


def _list(record: JsonObject, field: str) -> list[object]:
    value = record.get(field)
    return value if isinstance(value, list) else []
