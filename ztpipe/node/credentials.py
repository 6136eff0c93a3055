"""NETWORK_CREDENTIALS both ways: pushing our own, taking others', passing revocations on (vl2 §3.8, §3.9, §3.11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ztpipe.node.membership import KINDS, Acceptance, IdentityLookup, Member, MemberTable
from ztpipe.node.seam import Outcome
from ztpipe.wire.credentials import CredentialType
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import NetworkCredentials

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.gate import Gate
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext
    from ztpipe.wire.credentials import (
        Capability,
        CertificateOfMembership,
        CertificateOfOwnership,
        Revocation,
        Tag,
    )
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.netconf import NetworkConfig

RECEIVE_INTERVAL_MS: Final = 1_000
"""One NETWORK_CREDENTIALS packet per peer in this time; others are dropped unread."""
REQUEST_INTERVAL_MS: Final = 1_000
"""One push on request per member in this time."""
_MAX_PAYLOAD: Final = 9_900
"""What fits into seven fragments at the default MTU (1432 + 6 x 1416 bytes), less the header."""
_MAX_TRACKED_PEERS: Final = 16_384


class CredentialPusher:
    """Sends our own credentials of a network to those who need them."""

    def __init__(self, core: Core, gate: Gate) -> None:
        self._core = core
        self._gate = gate

    def push_if_due(self, now: int, network: Network, address: int) -> None:
        """Before a frame to a member: push if it may not hold our current credentials."""
        member = self._gate.obtain(now, network, address)
        if self._gate.push_due(now, network, member):
            self._push(now, network, member)
        self._gate.sync(now, network, member)

    def push_on_request(self, now: int, network: Network, address: int) -> None:
        """A peer says that it lacks our credentials: push, but not more often than once a second."""
        if network.config is None or network.config.com is None:
            return
        member = self._gate.obtain(now, network, address)
        if member.last_push < network.last_config_update or now - member.last_push > REQUEST_INTERVAL_MS:
            self._push(now, network, member)
            self._gate.sync(now, network, member)

    def _push(self, now: int, network: Network, member: Member) -> None:
        member.last_push = now
        if network.config is None:
            return
        for packet in credential_packets(network.config):
            self._core.vl1.send(now, member.address, Verb.NETWORK_CREDENTIALS, packet, compress=True)


def credential_packets(config: NetworkConfig) -> Iterator[bytes]:
    """The payloads that carry all our credentials, as few as possible: receivers take one packet per second."""
    com = () if config.com is None else (config.com,)
    batch = _Batch(com)
    items: Iterable[Capability | Tag | CertificateOfOwnership] = (*config.capabilities, *config.tags, *config.coos)
    kinds = ["capabilities"] * len(config.capabilities) + ["tags"] * len(config.tags) + ["coos"] * len(config.coos)
    for kind, item in zip(kinds, items, strict=True):
        if not batch.add(kind, item):
            yield batch.encode()
            batch = _Batch(())
            batch.add(kind, item)
    if not batch.empty:
        yield batch.encode()


class _Batch:
    """One NETWORK_CREDENTIALS packet being filled."""

    def __init__(self, coms: tuple[CertificateOfMembership, ...]) -> None:
        self._coms = coms
        self._items: dict[str, list[Capability | Tag | CertificateOfOwnership]] = {
            "capabilities": [],
            "tags": [],
            "coos": [],
        }
        self._size = 9 + sum(len(com.encode()) for com in coms)

    @property
    def empty(self) -> bool:
        return not self._coms and not any(self._items.values())

    def add(self, kind: str, item: Capability | Tag | CertificateOfOwnership) -> bool:
        """False if the item does not fit any more."""
        size = len(item.encode())
        if self._size + size > _MAX_PAYLOAD and not self.empty:
            return False
        self._size += size
        self._items[kind].append(item)
        return True

    def encode(self) -> bytes:
        held = self._items
        return NetworkCredentials(
            coms=self._coms,
            capabilities=tuple(held["capabilities"]),  # type: ignore[arg-type]
            tags=tuple(held["tags"]),  # type: ignore[arg-type]
            revocations=(),
            coos=tuple(held["coos"]),  # type: ignore[arg-type]
        ).encode()


class CredentialReceiver:
    """Takes credentials that others push, and floods revocations on."""

    def __init__(self, core: Core, gate: Gate) -> None:
        self._core = core
        self._gate = gate
        self._last: dict[int, int] = {}  # peer: when we last took a packet of it

    def receive(self, ctx: PacketContext) -> Outcome:
        """NETWORK_CREDENTIALS."""
        if ctx.attempt == 0 and not self._admit(ctx.now, ctx.peer.address):
            self._core.drop("credentials_rate")
            return Outcome.DROP
        packet = NetworkCredentials.decode(ctx.payload)
        results = [
            *(self._take(ctx.now, capability) for capability in packet.capabilities),
            *(self._take(ctx.now, tag) for tag in packet.tags),
            *(self._take(ctx.now, coo) for coo in packet.coos),
            # After what rules ask for: what opens the gate must not be in force before it.
            *(self.take_com(ctx.now, com) for com in packet.coms),
            *(self._take_revocation(ctx, revocation) for revocation in packet.revocations),
        ]
        if any(result is Acceptance.NEW for result in results):
            self._core.vl1.retry_deferred(ctx.now)
        if Acceptance.DEFERRED in results:
            return Outcome.DEFER
        if Acceptance.REJECTED in results:
            self._core.drop("credential_rejected")
        return Outcome.TRUSTED if any(result.accepted for result in results if result is not None) else Outcome.HANDLED

    def take_com(self, now: int, com: CertificateOfMembership) -> Acceptance | None:
        """A certificate of membership, pushed or attached to a frame; None if its network is not joined."""
        result = self._consider(
            now, com.nwid, com.issued_to, lambda members, identity_of: members.offer_com(now, com, identity_of)
        )
        if result is Acceptance.REJECTED:
            self._report(now, com, CredentialType.COM, 0)
        return result

    def _take(self, now: int, credential: Capability | Tag | CertificateOfOwnership) -> Acceptance | None:
        result = self._consider(
            now,
            credential.nwid,
            credential.issued_to,
            lambda members, identity_of: members.offer(now, credential, identity_of),
        )
        if result is Acceptance.REJECTED:
            self._report(now, credential, KINDS[type(credential)], credential.id)
        return result

    def _report(
        self,
        now: int,
        credential: CertificateOfMembership | Capability | Tag | CertificateOfOwnership,
        kind: CredentialType,
        number: int,
    ) -> None:
        """Tell an observer that a credential was not taken, and whether a revocation is why."""
        network = self._core.networks[credential.nwid]
        holder = credential.issued_to
        member = network.members.get(holder)
        revoked = member is not None and credential.timestamp <= member.threshold(kind, number)
        reason = "revoked" if revoked else "invalid"
        self._core.trace.credential_rejected(now, network, kind, number, credential.timestamp, holder, reason)

    def _take_revocation(self, ctx: PacketContext, revocation: Revocation) -> Acceptance | None:
        result = self._consider(
            ctx.now,
            revocation.nwid,
            revocation.target,
            lambda members, identity_of: members.offer_revocation(ctx.now, revocation, identity_of),
        )
        if result is Acceptance.NEW and revocation.fast_propagate:
            self._propagate(ctx, revocation)
        return result

    def _consider(
        self, now: int, nwid: int, holder: int, offer: Callable[[MemberTable, IdentityLookup], Acceptance]
    ) -> Acceptance | None:
        network = self._core.networks.get(nwid)
        if network is None:
            return None
        result = offer(network.members, lambda address: self._identity_of(now, address))
        if result is Acceptance.NEW:
            self._gate.forget_evicted(network)
            member = network.members.get(holder)
            if member is not None:
                self._gate.sync(now, network, member)
        return result

    def _propagate(self, ctx: PacketContext, revocation: Revocation) -> None:
        """Flood a revocation that is new to us to everybody we know; redundant ones end the flood."""
        network = self._core.networks[revocation.nwid]
        payload = NetworkCredentials(coms=(), capabilities=(), tags=(), revocations=(revocation,), coos=()).encode()
        for member in network.members:
            if member.address not in (ctx.peer.address, revocation.signer, self._core.address):
                self._core.vl1.send(ctx.now, member.address, Verb.NETWORK_CREDENTIALS, payload)

    def _identity_of(self, now: int, address: int) -> Identity | None:
        """A signer's identity; if it is unknown it is asked for, and the packet waits."""
        identity = self._core.identity_of(address)
        if identity is None:
            self._core.vl1.whois(now, address)
        return identity

    def _admit(self, now: int, peer: int) -> bool:
        last = self._last.get(peer)
        if last is not None and now - last < RECEIVE_INTERVAL_MS:
            return False
        self._last.pop(peer, None)
        self._last[peer] = now
        if len(self._last) > _MAX_TRACKED_PEERS:
            del self._last[next(iter(self._last))]
        return True

    def forget(self, peer: int) -> None:
        """The peer is gone from memory."""
        self._last.pop(peer, None)
