"""What the data plane needs to evaluate rules by itself: a network's side and a member's, packed (`ztpipe.rules.flat`).

It is the same that `node/filter.py` gives the Python evaluator for frames that take the slow path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ztpipe.node.filter import in_force
from ztpipe.rules.flat import Owned, OwnedKind, pack
from ztpipe.wire.address import rfc4193, sixplane
from ztpipe.wire.credentials import CertificateOfOwnership, CredentialType, ThingType

if TYPE_CHECKING:
    from ztpipe.node.membership import Member
    from ztpipe.node.network import Network

_KINDS: Final = {
    ThingType.MAC: (OwnedKind.MAC, 6),
    ThingType.IPV4: (OwnedKind.IPV4, 4),
    ThingType.IPV6: (OwnedKind.IPV6, 16),
}


def network_policy(network: Network, *, strict: bool = False) -> bytes | None:
    """Base rules, our capabilities by ascending ID, our tags and what we own; None if it is too much."""
    config = network.config
    if config is None:
        return None
    capabilities = sorted((held for held, _ in network.capabilities), key=lambda capability: capability.id)
    return pack(
        [config.rules, *(capability.rules for capability in capabilities)],
        tags=network.local_tags,
        owned=[*_owned(config.coos), *_emulated(network)],
        unknown_matches=config.unknown_matches,
        strict=strict,
    )


def member_policy(network: Network, member: Member) -> bytes | None:
    """A member's credentials in force; b"" if it has none or nobody asks; None if they are too many."""
    config = network.config
    if config is None or network.rules.accepts_everything:
        return b""
    capabilities = in_force(config, member, CredentialType.CAPABILITY, member.capabilities.values())
    tags = in_force(config, member, CredentialType.TAG, member.tags.values())
    coos = in_force(config, member, CredentialType.COO, member.coos.values())
    if not (capabilities or tags or coos):
        return b""
    return pack(
        [capability.rules for capability in capabilities],
        tags={tag.id: tag.value for tag in tags},
        owned=_owned(coos),
        unknown_matches=config.unknown_matches,
    )


def _owned(coos: Iterable[CertificateOfOwnership]) -> Iterator[Owned]:
    for coo in coos:
        for thing in coo.things:
            if thing.type in _KINDS:
                kind, length = _KINDS[ThingType(thing.type)]
                yield Owned(kind, thing.value[:length])


def _emulated(network: Network) -> Iterator[Owned]:
    """The prefixes of the emulated-address rule (vl2 §4.4): of our own 6PLANE and RFC 4193 addresses, if assigned."""
    config = network.config
    if config is None or not config.ndp_emulation:
        return
    for own in (sixplane(network.nwid, network.own_address), rfc4193(network.nwid, network.own_address)):
        if own in config.static_ips:
            yield Owned(OwnedKind.EMULATED, own.ip[: own.port // 8])
