"""`Node`: the sans-IO protocol core. Every method is an event with its time; `take_actions()` is all that comes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import SaveState
from ztpipe.node.seam import PacketContext
from ztpipe.node.settings import Binding, NodeSettings
from ztpipe.node.topology import Topology
from ztpipe.node.views import moon_statuses, node_status, peer_statuses, peer_traffic
from ztpipe.node.vl1 import Vl1Engine
from ztpipe.wire.protocol import Verb

if TYPE_CHECKING:
    from ztpipe.node.actions import Action
    from ztpipe.node.replay import Replay
    from ztpipe.node.seam import GatherQuestion, Vl2, Vl2Factory
    from ztpipe.node.status import MoonStatus, NetworkStatusRecord, NodeStatus, PeerStatus, PeerTraffic
    from ztpipe.node.tally import Tally
    from ztpipe.wire.address import MulticastGroup
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.protocol import ErrorCode
    from ztpipe.wire.world import World

QUEUE_TICK_MS: Final = 500
HOUSEKEEPING_MS: Final = 30_000


class Node:
    """One ZeroTier node. Not thread-safe; never raises on anything that came from a network."""

    def __init__(
        self,
        identity: Identity,
        *,
        random: Callable[[int], bytes],
        planet: World | None,
        moons: Sequence[World] = (),
        networks: Mapping[int, bytes] | None = None,
        peers: Mapping[int, bytes] | None = None,
        settings: NodeSettings | None = None,
        vl2: Vl2Factory | None = None,
        replay: Replay | None = None,
    ) -> None:
        """`networks`: cached config dictionaries (b"" if none) of networks to join at start. `peers`: peers.d records.

        `vl2` makes the network layer (default: `ztpipe.node.vl2.Vl2Engine`). `replay`: the memory of packets seen that
        is shared with the data plane (default: one of its own).
        """
        topology = Topology(identity, planet, moons)
        self._vl1 = Vl1Engine(identity, random, settings or NodeSettings(), topology, peers or {}, replay)
        self._networks = dict(networks or {})
        self._vl2 = (vl2 or _default_vl2)(self._vl1, self._networks)
        self._vl1.vl2 = self._vl2
        self._next_queue = 0
        self._next_ping = 0
        self._next_housekeeping = 0

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        """Join `networks`, contact the roots."""
        self._vl1.add_roots(now)
        for nwid in self._networks:
            self._vl2.join(now, nwid)
        self._next_queue = self._next_ping = now
        self._next_housekeeping = now + HOUSEKEEPING_MS
        self.tick(now)

    def stop(self, now: int) -> None:
        """Save every peer. No packet is sent (vl1-behaviour §1.6)."""
        for peer in self._vl1.all_peers():
            self._vl1.save_peer(peer)

    def tick(self, now: int) -> None:
        """Do what is due. Call at `next_deadline()` or earlier."""
        if now >= self._next_queue:
            self._next_queue = _aligned(now) + QUEUE_TICK_MS
            self._queue_tick(now)
        if now >= self._next_ping:
            self._next_ping = _aligned(now) + self._vl1.pings.interval()
            self._vl1.pings.run(now)
            self._vl2.tick(now)
            self._vl1.fastpath.start_round(now)
        if now >= self._vl1.recovery.next:
            self._vl1.recovery.tick(now)
        if now >= self._next_housekeeping:
            self._next_housekeeping = _aligned(now) + HOUSEKEEPING_MS
            self._housekeeping(now)
        self._settle(now)

    def _queue_tick(self, now: int) -> None:
        vl1 = self._vl1
        vl1.whois_desk.tick(now)
        vl1.switch.tick(now)
        vl1.inbound.tick(now)
        vl1.pathmtu.tick(now)
        vl1.unproven.expire(now)
        vl1.rendezvous.tick(now)
        vl1.fastpath.relay_changed(now)
        vl1.fastpath.go_round(now)
        vl1.relay.tick()
        self._vl2.soon(now)

    def _housekeeping(self, now: int) -> None:
        vl1 = self._vl1
        vl1.forget_dead_peers(now)
        vl1.paths.housekeeping(now)
        vl1.surface.expire(now)
        vl1.replies.expire(now)
        vl1.relay.housekeeping(now)
        vl1.rendezvous.housekeeping(now)
        vl1.recovery.housekeeping(now)
        self._vl2.housekeeping(now)

    def next_deadline(self) -> int:
        """Node time in ms at which `tick` wants to be called at the latest."""
        return min(self._next_queue, self._next_ping, self._next_housekeeping, self._vl1.recovery.next)

    def take_actions(self) -> list[Action]:
        """Everything to be done since the last call, in order."""
        return self._vl1.take_actions()

    def _settle(self, now: int) -> None:
        """Last step of every event: whatever became possible by it (a peer became known, credentials came)."""
        if self._vl1.inbound.fresh or self._vl1.inbound.retry_wanted:
            self._vl1.inbound.settle(now)

    # -- surroundings ---------------------------------------------------------------------------------------------

    def set_settings(self, now: int, settings: NodeSettings) -> None:
        """Replace the settings; peers are installed anew if that changes their suite or MTU."""
        self._vl1.set_settings(settings)
        self._vl1.fastpath.refresh_all(now)

    def set_bindings(self, now: int, bindings: Sequence[Binding]) -> None:
        """The UDP sockets that exist now. IDs of sockets that stay must stay. New ones: the roots hear of it soon."""
        if self._vl1.set_bindings(now, bindings):
            self._next_ping = min(self._next_ping, now)

    def links_changed(self, now: int) -> None:
        """A link or address of the host changed; which sockets exist is told by `set_bindings`."""
        self._vl1.recovery.links_changed(now)

    def paths_to_look_up(self, now: int) -> list[tuple[int, InetAddress]]:
        """Paths (binding, remote) of which the host should say by `path_mtu_heard` what ICMP has told it; ask often."""
        return self._vl1.pathmtu.doubtful(now)

    def path_mtu_heard(self, now: int, binding: int, remote: InetAddress, ip_mtu: int) -> None:
        """The host has it that IP packets of at most `ip_mtu` bytes reach `remote`: a hint, which may be forged."""
        self._vl1.pathmtu.kernel_says(now, binding, remote, ip_mtu)

    def resumed(self, now: int) -> None:
        """The machine, or this process, was asleep: ask everything in use whether it still works."""
        self._vl1.recovery.resumed(now)

    def set_external_addresses(self, now: int, addresses: Sequence[InetAddress]) -> None:
        """Addresses that a port mapper (UPnP, NAT-PMP) got for us; advertised first (vl1-behaviour §2.9)."""
        self._vl1.external_addresses = tuple(addresses)

    def set_overlay_subnets(self, now: int, subnets: Collection[InetAddress]) -> None:
        """The subnets that TAP devices are in now, whoever put them there: no path leads there (vl1-behaviour §2.7)."""
        self._vl1.overlay_subnets = tuple(subnets)

    # -- traffic --------------------------------------------------------------------------------------------------

    def datagram_received(self, now: int, binding: int, remote: InetAddress, data: bytes) -> None:
        """One UDP datagram, as it came."""
        self._vl1.inbound.datagram(now, binding, remote, data)
        self._settle(now)

    def packet_received(self, now: int, binding: int, remote: InetAddress, packet: bytes) -> None:
        """A whole packet, already reassembled, still sealed."""
        self._vl1.inbound.packet(now, binding, remote, packet)
        self._settle(now)

    def frame_received(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes
    ) -> None:
        """A frame read from a TAP that the data plane could not send by itself. MACs as integers."""
        self._vl2.frame_received(now, nwid, destination, source, ethertype, payload)
        self._settle(now)

    def group_in_use(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes, origin: int = 0
    ) -> None:
        """The data plane repeated this frame to its group by an entry that is due to be renewed.

        `origin`: the member for whom we replicated it, 0 if it came from our TAP.
        """
        self._vl2.group_in_use(now, nwid, destination, source, ethertype, payload, origin)
        self._settle(now)

    def bridged_in_use(self, now: int, nwid: int, mac: int, bridge: int) -> None:
        """The data plane let in a frame of a MAC behind a bridge by an entry that is due to be renewed."""
        self._vl2.bridged_in_use(now, nwid, mac, bridge)
        self._settle(now)

    def path_activity(
        self, now: int, address: int, binding: int, remote: InetAddress, last_receive: int, last_send: int
    ) -> None:
        """Traffic that the data plane carried over a path (0 = none); call before `tick`."""
        self._vl1.activity.path(now, address, binding, remote, last_receive, last_send)

    def peer_activity(self, now: int, address: int, nwid: int, last_frame: int) -> None:
        """The data plane accepted a frame of this peer at `last_frame`."""
        if self._vl1.activity.peer(now, address, last_frame):
            self._vl2.peer_activity(now, address, nwid, last_frame)

    def unknown_path(self, now: int, address: int, binding: int, remote: InetAddress) -> None:
        """The data plane got an authentic, direct frame of this peer from a path that is not installed."""
        self._vl1.activity.unknown_path(now, address, binding, remote)

    def gather_asked(
        self, now: int, address: int, binding: int, remote: InetAddress, nwid: int, question: GatherQuestion
    ) -> None:
        """With a MULTICAST_FRAME that the data plane delivered, this peer asked who else is in its group."""
        peer = self._vl1.known(address)
        if peer is None:
            self._vl1.drop("gather_not_admitted")
            return
        ctx = PacketContext(
            now,
            peer,
            binding,
            remote,
            question.hops,
            question.packet_id,
            Verb.MULTICAST_FRAME,
            b"",
            question.suite,
            size=question.size,
        )
        self._vl2.gather_asked(ctx, nwid, question.group, question.limit)
        self._settle(now)

    # -- networks, moons, controller ------------------------------------------------------------------------------

    def join(self, now: int, nwid: int) -> None:
        self._vl2.join(now, nwid)
        self._settle(now)

    def leave(self, now: int, nwid: int) -> None:
        self._vl2.leave(now, nwid)
        self._settle(now)

    def orbit(self, now: int, moon_id: int, seed: int, stored: World | None = None) -> None:
        """Fetch a moon from `seed` (vl1-behaviour §3.4); nothing happens if we hold it, or if `seed` is 0.

        `stored`: what lies in moons.d; if it is that moon, it is taken at once.
        """
        if self._vl1.topology.orbit(moon_id, seed):
            if stored is not None and self._vl1.topology.adopt(moon_id, stored):
                self._vl1.add_roots(now)
            self._next_ping = now
            self.tick(now)

    def deorbit(self, now: int, moon_id: int) -> None:
        """Forget a moon, held or wanted."""
        if self._vl1.topology.deorbit(moon_id):
            self._vl1.emit(SaveState("moon", moon_id, None))

    def set_multicast_groups(self, now: int, nwid: int, groups: set[MulticastGroup]) -> None:
        self._vl2.set_multicast_groups(now, nwid, groups)
        self._settle(now)

    def network_config_from_controller(self, now: int, nwid: int, dictionary: bytes) -> None:
        """Our own controller's answer to our own request."""
        self._vl2.config_from_controller(now, nwid, dictionary)
        self._settle(now)

    def controller_error(self, now: int, nwid: int, code: ErrorCode) -> None:
        """Our own controller's refusal of our own request."""
        self._vl2.controller_error(now, nwid, code)
        self._settle(now)

    def set_tap_error(self, now: int, nwid: int, failed: bool) -> None:
        """The host cannot provide the TAP of a network (status PORT_ERROR), or can again."""
        self._vl2.set_tap_error(now, nwid, failed)
        self._settle(now)

    def send_verb(self, now: int, destination: int, verb: Verb, payload: bytes, *, compress: bool = False) -> None:
        """Send anything to anybody; for the controller, and for user messages."""
        self._vl2.sent_by_controller(now, destination, verb, payload)
        self._vl1.send(now, destination, verb, payload, compress=compress)
        self._settle(now)

    @property
    def packets_handled(self) -> int:
        """Packets accepted so far; every other one ended in a `Drop`."""
        return self._vl1.inbound.handled

    @property
    def pieces_joined(self) -> int:
        """Datagrams that became part of a packet; the packet is counted once."""
        return self._vl1.inbound.joined

    # -- what it knows --------------------------------------------------------------------------------------------

    def status(self, now: int) -> NodeStatus:
        return node_status(self._vl1, now)

    def moons(self) -> list[MoonStatus]:
        """Moons held, and those being fetched."""
        return moon_statuses(self._vl1)

    def peers(self, now: int) -> list[PeerStatus]:
        """All peers in memory, roots included, by ascending address."""
        return peer_statuses(self._vl1, now)

    def peer_traffic(self, now: int) -> list[PeerTraffic]:
        """What metrics tell of all peers, by ascending address."""
        return peer_traffic(self._vl1, now)

    @property
    def tally(self) -> Tally:
        """Packets by verb and errors by code, of the slow path."""
        return self._vl1.tally

    def network_statuses(self) -> list[NetworkStatusRecord]:
        return self._vl2.statuses()


def _aligned(now: int) -> int:
    """What is done periodically is done at multiples of the queue tick, so that one awakening does for all of it."""
    return now - now % QUEUE_TICK_MS


def _default_vl2(vl1: Vl1Engine, networks: Mapping[int, bytes]) -> Vl2:
    from ztpipe.node.vl2 import Vl2Engine

    return Vl2Engine(vl1, networks)
