"""RENDEZVOUS: a root tells two peers where to find each other (vl1-behaviour §3.8, vl1-wire §9.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import SendDatagram
from ztpipe.node.relay import best_endpoint_by_class
from ztpipe.node.seam import Outcome
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import Rendezvous

if TYPE_CHECKING:
    from ztpipe.node.peer import Peer
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

REMEMBER_MS: Final = 5_000
REMEMBER_MAX: Final = 64
OPENER_TTL: Final = 2

RETRY_MS: Final = (1_000, 3_000, 7_000)
"""After an introduction, until there is a path (our addition): the other one's filter may open only when it has heard
of us by a push, for an unmodified node forgets introductions that come before it knows whom they are about."""
RETRY_MAX: Final = 64


class Meetings:
    """Sends introductions as a root, follows those it gets, and keeps early ones until the peer is known."""

    __slots__ = ("_early", "_retries", "core")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self._early: dict[int, tuple[int, int, InetAddress]] = {}
        self._retries: dict[int, tuple[int, int, int, InetAddress]] = {}

    # -- as a root ------------------------------------------------------------------------------------------------

    def introduce(self, now: int, one: Peer, other_address: int) -> None:
        """Tell both, in the highest scope and the newest family that both have; in random order."""
        other = self.core.known(other_address)
        if other is None:
            return
        ours = best_endpoint_by_class(now, one)
        theirs = best_endpoint_by_class(now, other)
        common = max(ours.keys() & theirs.keys(), default=None)
        if common is None:
            return
        letters = [(one, ours[common][2], other, theirs[common][1]), (other, theirs[common][2], one, ours[common][1])]
        if self.core.random(1)[0] & 1:
            letters.reverse()
        for to, path, named, endpoint in letters:
            payload = Rendezvous(named.address, endpoint).encode()
            self.core.send_on(now, to, path, Verb.RENDEZVOUS, payload)

    # -- as a peer ------------------------------------------------------------------------------------------------

    def received(self, ctx: PacketContext) -> Outcome:
        """Only roots are believed. A peer not yet known is remembered for as long as a WHOIS may take."""
        core = self.core
        if not core.topology.is_root(ctx.peer.address):
            core.drop("rendezvous_not_root")
            return Outcome.HANDLED
        letter = Rendezvous.decode(ctx.payload)
        if letter.peer == core.identity.address:
            core.drop("rendezvous_with_self")
            return Outcome.HANDLED
        peer = core.find(ctx.now, letter.peer)
        if peer is not None:
            self._meet(ctx.now, peer, ctx.binding, letter.endpoint)
        else:
            self._remember(ctx.now, letter.peer, ctx.binding, letter.endpoint)
        return Outcome.HANDLED

    def _remember(self, now: int, address: int, binding: int, endpoint: InetAddress) -> None:
        self._early.pop(address, None)
        if len(self._early) >= REMEMBER_MAX:
            del self._early[next(iter(self._early))]
        self._early[address] = (now + REMEMBER_MS, binding, endpoint)

    def peer_known(self, now: int, peer: Peer) -> None:
        """An identity has just become known: follow the introduction that came too early."""
        early = self._early.pop(peer.address, None)
        if early is not None and now < early[0]:
            self._meet(now, peer, early[1], early[2])

    def _meet(self, now: int, peer: Peer, binding: int, endpoint: InetAddress) -> None:
        core = self.core
        if not core.usable(peer, endpoint):
            core.drop("rendezvous_unusable")
            return
        ttl = OPENER_TTL if len(endpoint.ip) == 4 else 0
        core.emit(SendDatagram(binding, endpoint, core.random(4), ttl))
        core.contact.attempt(now, peer, binding, endpoint)
        self._retries.pop(peer.address, None)
        if len(self._retries) < RETRY_MAX:
            self._retries[peer.address] = (now, 0, binding, endpoint)

    def tick(self, now: int) -> None:
        """Every queue tick: once more to those we were introduced to, as long as there is no path."""
        core = self.core
        for address, (since, done, binding, endpoint) in list(self._retries.items()):
            peer = core.known(address)
            gone = peer is None or peer.has_direct_path(now) or all(b.id != binding for b in core.bindings)
            if gone or done >= len(RETRY_MS):
                del self._retries[address]
            elif peer is not None and now - since >= RETRY_MS[done] and core.usable(peer, endpoint):
                self._retries[address] = (since, done + 1, binding, endpoint)
                core.contact.attempt(now, peer, binding, endpoint)

    def housekeeping(self, now: int) -> None:
        for address in [a for a, early in self._early.items() if now >= early[0]]:
            del self._early[address]
