"""From datagram to handler: classify, reassemble, open, dispatch, record (vl1-wire §4.5, vl1-behaviour §2.5, §4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ztpipe.node.deferral import Deferral, Sealed
from ztpipe.node.ratelimit import IntervalGate
from ztpipe.node.seam import Handler, Outcome, PacketContext, PathNews
from ztpipe.wire.armor import MAC, open_packet
from ztpipe.wire.errors import WireError
from ztpipe.wire.packet import Reassembler, beacon_sender, destination_of, hops_of, is_fragment, parse_header
from ztpipe.wire.protocol import MASK_VERB, MIN_PACKET, ErrorCode, Suite, Verb
from ztpipe.wire.verbs import Error, Ok, RemoteTrace, UserMessage

if TYPE_CHECKING:
    from ztpipe.node.peer import Peer
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

REASSEMBLY_CAPACITY: Final = 1_024
REASSEMBLY_TIMEOUT_MS: Final = 5_000
BEACON_GATE_MS: Final = 2_500

NONTRIVIAL: Final = frozenset(
    {Verb.FRAME, Verb.EXT_FRAME, Verb.NETWORK_CONFIG_REQUEST, Verb.NETWORK_CONFIG, Verb.MULTICAST_FRAME}
)
"""What makes a peer active (vl1-behaviour §1.3)."""

FROM_SEVERAL_SOCKETS: Final = frozenset({Verb.HELLO, Verb.ECHO, Verb.NOP})
"""What a sender rightly sends as one packet from each of its sockets, to be answered each time (vl1-behaviour §2.3)."""


class Inbound:
    """Everything that arrives. `fresh`: peers that became known during this event."""

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self.fresh: list[Peer] = []
        self.retry_wanted = False
        #: packets that were accepted: the one end of a packet that is no drop
        self.handled = 0
        self.deferral = Deferral()
        self._reassembler = Reassembler(REASSEMBLY_CAPACITY, REASSEMBLY_TIMEOUT_MS)
        self._lost_pieces = 0  # of the reassembler's count, how many have been counted as drops
        self._beacons = IntervalGate(BEACON_GATE_MS)
        self._handlers: Mapping[Verb, Handler] = {
            Verb.NOP: lambda ctx: Outcome.HANDLED,
            Verb.HELLO: core.hellos.received,
            Verb.OK: self._ok,
            Verb.ERROR: self._error,
            Verb.WHOIS: core.whois_desk.received,
            Verb.RENDEZVOUS: core.rendezvous.received,
            Verb.ECHO: core.contact.echo_received,
            Verb.PUSH_DIRECT_PATHS: core.direct_paths.received,
            Verb.ACK: self._unbonded,
            Verb.QOS_MEASUREMENT: self._unbonded,
            Verb.PATH_NEGOTIATION_REQUEST: self._unbonded,
            Verb.USER_MESSAGE: self._user_message,
            Verb.REMOTE_TRACE: self._remote_trace,
        }

    # -- datagrams ------------------------------------------------------------------------------------------------

    def datagram(self, now: int, binding: int, remote: InetAddress, data: bytes) -> None:
        """Classify one datagram (vl1-wire §4.5). Never raises."""
        try:
            self._classify(now, binding, remote, data)
        except WireError as error:
            self.core.drop(error.reason)

    def _classify(self, now: int, binding: int, remote: InetAddress, data: bytes) -> None:
        core = self.core
        mark = core.mark()
        path = core.paths.find(binding, remote)
        size = len(data)
        if size <= 16:
            self._beacon(now, binding, remote, data)
            return
        destination = destination_of(data)
        ours = destination == core.identity.address
        if is_fragment(data):
            if not ours:
                core.relay.fragment(now, path, data, destination, hops_of(data))
                self._accepted(mark)
                return
        elif size < MIN_PACKET:
            core.drop("short_packet")
            return
        else:
            header = parse_header(data)
            if header.source in (core.identity.address, destination):
                core.drop("own_source" if header.source == core.identity.address else "source_is_destination")
                return
            if not ours:
                core.relay.packet(now, path, data, destination, header.source, header.hops)
                self._accepted(mark)
                return
        try:
            packet = self._reassembler.add(now, data, remote.ip)
        finally:
            self._count_lost_pieces()
        if packet is not None:
            self._open(now, binding, remote, packet)

    def packet(self, now: int, binding: int, remote: InetAddress, packet: bytes) -> None:
        """A packet for us that the data plane put together. Never raises."""
        core = self.core
        try:
            header = parse_header(packet)
            if header.destination != core.identity.address or header.source == core.identity.address:
                core.drop("not_for_us")
                return
            self._open(now, binding, remote, packet)
        except WireError as error:
            core.drop(error.reason)

    def _beacon(self, now: int, binding: int, remote: InetAddress, data: bytes) -> None:
        """13 bytes: a LAN beacon of an old node; up to 16 bytes: NAT openers, nothing to read."""
        core = self.core
        sender = beacon_sender(data)
        peer = core.known(sender) if sender is not None else None
        if peer is None or not core.usable(peer, remote) or not self._beacons.allow(now):
            core.drop("short_datagram")
            return
        core.contact.nop_to_beacon(now, peer, binding, remote)
        self.handled += 1

    # -- packets --------------------------------------------------------------------------------------------------

    def _open(self, now: int, binding: int, remote: InetAddress, packet: bytes) -> None:
        """Authenticate and decrypt, or keep for the sender's identity."""
        core = self.core
        header = parse_header(packet)
        if header.suite == Suite.POLY1305_NONE and packet[27] & MASK_VERB == Verb.HELLO:
            peer = core.hellos.admit(now, binding, remote, packet)
            if peer is None:
                return
        else:
            peer = core.find(now, header.source)
            if peer is None:
                self._wait_for_identity(now, header.source, Sealed(binding, remote, packet))
                return
        trusted = self._trusted_path(remote, packet) if header.suite == Suite.TRUSTED else 0
        try:
            opened = open_packet(peer.keys, packet, trusted_path_id=trusted)
        except WireError:
            peer.traffic.refused += 1
            raise
        place = (binding, remote) if opened.verb in FROM_SEVERAL_SOCKETS else None
        if core.replay.seen(now, packet, place):
            core.drop("replayed")
            return
        path = core.paths.find(binding, remote)
        if path is not None:  # only what is authentic says that it lives, unlike in the reference
            path.received(now)
        core.tally.packet_received(opened.verb, opened.payload)
        peer.traffic.received += 1
        ctx = PacketContext(
            now,
            peer,
            binding,
            remote,
            opened.hops,
            opened.packet_id,
            opened.verb,
            opened.payload,
            opened.suite,
            size=len(packet),
        )
        self._dispatch(ctx, peer)

    def _trusted_path(self, remote: InetAddress, packet: bytes) -> int:
        """The trusted path ID that a packet of suite 2 names, if `remote` is to be trusted with it; else 0."""
        claimed = int.from_bytes(packet[MAC], "big")
        return claimed if self.core.physical.accepts(remote, claimed) else 0

    def _wait_for_identity(self, now: int, source: int, sealed: Sealed) -> None:
        reason = self.deferral.keep_sealed(now, source, sealed)
        if reason is not None:
            self.core.drop(reason)
        self.core.whois_desk.request(now, source)

    def _dispatch(self, ctx: PacketContext, peer: Peer) -> None:
        mark = self.core.mark()
        outcome = self._handle(ctx)
        if outcome is Outcome.DEFER:
            reason = self.deferral.park(ctx)
            if reason is not None:
                self.core.drop(reason)
        elif outcome is not Outcome.DROP:
            self._accepted(mark)
            self._record(ctx, peer, outcome)

    def _accepted(self, mark: int) -> None:
        """Count a packet as handled, unless its handler has counted it as a drop (received, but without effect)."""
        if not self.core.dropped_since(mark):
            self.handled += 1

    def _handle(self, ctx: PacketContext) -> Outcome:
        """Run the verb's handler. Verbs that nobody handles only count as received."""
        handler = self._handlers.get(ctx.verb) or self.core.vl2.handlers.get(ctx.verb)
        if handler is None:
            return Outcome.HANDLED
        try:
            return handler(ctx)
        except WireError as error:
            self.core.drop(error.reason)
            return Outcome.DROP

    def _record(self, ctx: PacketContext, peer: Peer, outcome: Outcome) -> None:
        """Note the receipt; learn or question the path; push our addresses if due (vl1-behaviour §2.5)."""
        core, now = self.core, ctx.now
        path = core.paths.get(ctx.binding, ctx.remote)
        path.received(now)
        peer.last_receive = now
        if ctx.verb in NONTRIVIAL:
            peer.last_nontrivial = now
        if outcome is Outcome.TRUSTED:
            peer.last_trusted = path.last_trusted = now
        if ctx.hops == 0:
            news = self.heard_directly(now, peer, ctx.binding, ctx.remote, answer=ctx.verb is Verb.OK)
            if news is not None:
                core.vl2.path_news(ctx, news)
        else:
            core.contact.ask_version(now, peer, path)
        core.recovery.heard(now, peer, path.key if ctx.hops == 0 else None)
        core.direct_paths.push_if_due(now, peer, path, direct=ctx.hops == 0)
        core.fastpath.refresh(now, peer)

    def heard_directly(
        self, now: int, peer: Peer, binding: int, remote: InetAddress, *, answer: bool
    ) -> PathNews | None:
        """Something authentic came directly over (binding, remote). `answer`: it was an expected OK, so we learn it."""
        core, news = self.core, None
        entry = peer.path(binding, remote)
        redirected = core.direct_paths.redirecting(now, peer, remote)
        if entry is not None:
            entry.last_receive = now
        elif (redirected or not peer.has_alive_twin(now, binding, remote)) and core.usable(peer, remote):
            if not answer:
                return PathNews.QUESTIONED if core.contact.confirm(now, peer, binding, remote) else None
            news = PathNews.LEARNED
            entry = peer.learn(now, core.paths.get(binding, remote))
            core.paths.keep(entry.path)
            core.unproven.proved(now, peer, entry.path)
            core.event("path_learned", peer=peer.address, binding=binding, remote=remote)
            if core.topology.is_root(peer.address):
                core.switch.tick(now)
        if entry is not None and redirected and answer:
            core.direct_paths.follow(now, peer, entry)
        return news

    # -- what had to wait -----------------------------------------------------------------------------------------

    def settle(self, now: int) -> None:
        """At the end of every event: follow up on peers that became known, in arrival order, and on wanted retries."""
        for _ in range(4):
            fresh, self.fresh = self.fresh, []
            for peer in fresh:
                self.core.rendezvous.peer_known(now, peer)
                for sealed in self.deferral.release(peer.address):
                    self._reopen(now, sealed)
                self.core.switch.flush(now, peer.address)
            if self.retry_wanted:
                self.retry_wanted = False
                self.retry_parked(now)
            if not self.fresh and not self.retry_wanted:
                return

    def _reopen(self, now: int, sealed: Sealed) -> None:
        try:
            self._open(now, sealed.binding, sealed.remote, sealed.packet)
        except WireError as error:
            self.core.drop(error.reason)

    def retry_parked(self, now: int) -> None:
        """Present deferred packets to their handlers again; those still not wanted go back."""
        for deadline, ctx in self.deferral.take_parked():
            peer = self.core.known(ctx.peer.address)
            if now >= deadline or peer is None:
                self.core.drop("rx_deferred_timeout")
                continue
            again = replace(ctx, now=now, peer=peer, attempt=ctx.attempt + 1)
            mark = self.core.mark()
            outcome = self._handle(again)
            if outcome is Outcome.DEFER:
                self.deferral.park_again(deadline, again)
            elif outcome is not Outcome.DROP:
                self._accepted(mark)
                self._record(again, peer, outcome)

    def tick(self, now: int) -> None:
        """Every 500 ms: expire, ask for identities again, retry what VL2 deferred."""
        expired = self.deferral.expire_sealed(now)
        if expired:
            self.core.drop_many("rx_identity_timeout", expired)
        for source in self.deferral.sources():
            self.core.whois_desk.request(now, source)
        self.retry_parked(now)
        self._reassembler.expire(now)
        self._count_lost_pieces()

    @property
    def joined(self) -> int:
        """Datagrams that became part of a packet, which is counted once."""
        return self._reassembler.joined

    def _count_lost_pieces(self) -> None:
        lost, self._lost_pieces = self._reassembler.evicted - self._lost_pieces, self._reassembler.evicted
        if lost:
            self.core.drop_many("fragment_expired", lost)

    # -- verbs that are nobody else's -----------------------------------------------------------------------------

    def _ok(self, ctx: PacketContext) -> Outcome:
        """OK counts only as an answer to something sent lately (vl1-behaviour §4.6)."""
        core = self.core
        ok = Ok.decode(ctx.payload)
        if not core.replies.expects(ctx.now, ok.in_re_id, ctx.peer.address):
            core.drop("ok_unexpected")
            return Outcome.DROP
        if ok.in_re_verb == Verb.HELLO:
            return core.hellos.ok_received(ctx, ok)
        if ok.in_re_verb == Verb.WHOIS:
            return core.whois_desk.ok_received(ctx, ok)
        if ok.in_re_verb == Verb.ECHO:
            core.pathmtu.answered(ctx, ok)
            return Outcome.HANDLED
        handler = core.vl2.ok_handlers.get(ok.in_re_verb)
        return handler(ctx, ok) if handler is not None else Outcome.HANDLED

    def _error(self, ctx: PacketContext) -> Outcome:
        core = self.core
        error = Error.decode(ctx.payload)
        if error.code == ErrorCode.IDENTITY_COLLISION:
            if core.topology.is_root(ctx.peer.address):
                core.event("collision", reporter=ctx.peer.address)
            return Outcome.HANDLED
        handler = core.vl2.error_handlers.get(error.code)
        return handler(ctx, error) if handler is not None else Outcome.HANDLED

    def _unbonded(self, ctx: PacketContext) -> Outcome:
        self.core.drop("no_bond")
        return Outcome.DROP

    def _user_message(self, ctx: PacketContext) -> Outcome:
        message = UserMessage.decode(ctx.payload)
        self.core.event("user_message", source=ctx.peer.address, type=message.type, data=message.data)
        return Outcome.HANDLED

    def _remote_trace(self, ctx: PacketContext) -> Outcome:
        for data in RemoteTrace.decode(ctx.payload).traces:
            self.core.event("remote_trace", source=ctx.peer.address, data=data)
        return Outcome.HANDLED
