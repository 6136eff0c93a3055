"""`Vl1Engine`: what the parts of VL1 share, and VL1 as VL2 sees it (`ztpipe.node.seam.Vl1`).

Each part (switch, whois, hello, contact, ...) is one noun in one file and reaches the others through this object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import Action, Drop, Event, SaveState, SendDatagram
from ztpipe.node.activity import Activity
from ztpipe.node.contact import Contact
from ztpipe.node.direct_paths import DirectPaths
from ztpipe.node.fastpath import FastPath
from ztpipe.node.hello import Hellos
from ztpipe.node.inbound import Inbound
from ztpipe.node.path import Path, PathTable
from ztpipe.node.pathmtu import PathMtu
from ztpipe.node.peer import ALIVE_MS, UNHEARD_MS, Peer
from ztpipe.node.peercache import PeerCache, record_of
from ztpipe.node.physical import Physical
from ztpipe.node.pingcheck import PingCheck
from ztpipe.node.recovery import Recovery
from ztpipe.node.relay import Relay
from ztpipe.node.rendezvous import Meetings
from ztpipe.node.replay import Replay, ReplayGuard
from ztpipe.node.replies import ExpectedReplies
from ztpipe.node.seam import NullVl2, PacketContext, Vl2
from ztpipe.node.settings import TUNNEL, Binding, NodeSettings
from ztpipe.node.surface import Surface
from ztpipe.node.switch import Switch
from ztpipe.node.tally import Tally
from ztpipe.node.unproven import Unproven
from ztpipe.node.whois import WhoisDesk
from ztpipe.wire.armor import SessionKeys, seal
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress, IpScope
from ztpipe.wire.packet import split
from ztpipe.wire.protocol import ErrorCode, Suite, Verb
from ztpipe.wire.verbs import Error, Ok

if TYPE_CHECKING:
    from ztpipe.node.topology import Topology
    from ztpipe.wire.identity import Identity

_PATH_SCOPES: Final = frozenset({IpScope.PRIVATE, IpScope.PSEUDO_PRIVATE, IpScope.SHARED, IpScope.GLOBAL})
_REFUSED_IPV6: Final = bytes.fromhex("20010470")  # 2001:470::/32, tunnel broker (vl1-behaviour §2.7)

ANSWERABLE: Final = frozenset(
    {
        Verb.HELLO,
        Verb.ECHO,
        Verb.WHOIS,
        Verb.NETWORK_CONFIG_REQUEST,
        Verb.NETWORK_CONFIG,
        Verb.MULTICAST_GATHER,
        Verb.MULTICAST_FRAME,
    }
)
"""Verbs that may be answered by OK: registered as expected replies whoever sends them."""


class Vl1Engine:
    """State and primitives of VL1. Parts call each other by the attributes below."""

    def __init__(
        self,
        identity: Identity,
        random: Callable[[int], bytes],
        settings: NodeSettings,
        topology: Topology,
        cached_peers: Mapping[int, bytes],
        replay: Replay | None = None,
    ) -> None:
        self._identity = identity
        self._random = random
        self._settings = settings
        self.topology = topology
        self.vl2: Vl2 = NullVl2()
        self.bindings: tuple[Binding, ...] = ()
        self.external_addresses: tuple[InetAddress, ...] = ()
        self.overlay_subnets: tuple[InetAddress, ...] = ()
        self.paths = PathTable()
        self.replies = ExpectedReplies()
        self.replay = replay or ReplayGuard(int.from_bytes(random(8), "big"))
        self.surface = Surface()
        self.cache = PeerCache(cached_peers)
        self._peers: dict[int, Peer] = {}
        self._actions: list[Action] = []
        self.tally = Tally()
        self.switch = Switch(self)
        self.whois_desk = WhoisDesk(self)
        self.contact = Contact(self)
        self.hellos = Hellos(self, random(16))
        self.relay = Relay(self)
        self.rendezvous = Meetings(self)
        self.direct_paths = DirectPaths(self)
        self.fastpath = FastPath(self)
        self.inbound = Inbound(self)
        self.pings = PingCheck(self)
        self.recovery = Recovery(self)
        self.physical = Physical(self)
        self.pathmtu = PathMtu(self)
        self.unproven = Unproven(self)
        self.activity = Activity(self)

    # -- what VL2 asks (seam.Vl1) ---------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def random(self) -> Callable[[int], bytes]:
        return self._random

    @property
    def settings(self) -> NodeSettings:
        return self._settings

    def set_settings(self, settings: NodeSettings) -> None:
        self._settings = settings

    def emit(self, action: Action) -> None:
        self._actions.append(action)

    def take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def send(
        self, now: int, destination: int, verb: Verb, payload: bytes, *, compress: bool = False, register: bool = False
    ) -> None:
        self.switch.send(now, destination, verb, payload, compress=compress, register=register)

    def reply(self, ctx: PacketContext, verb: Verb, payload: bytes) -> None:
        peer = self._peers.get(ctx.peer.address)
        if peer is None:
            return
        path = self.unproven.path_for(ctx, peer, len(payload))
        if path is not None:
            self.send_on(ctx.now, peer, path, verb, payload)
        else:
            self.unproven.hold(ctx, verb, payload)

    def reply_ok(self, ctx: PacketContext, body: bytes, *, in_re_verb: Verb | None = None) -> None:
        verb = ctx.verb if in_re_verb is None else in_re_verb
        self.reply(ctx, Verb.OK, Ok(verb, ctx.packet_id, body).encode())

    def reply_error(self, ctx: PacketContext, code: ErrorCode, body: bytes = b"") -> None:
        self.reply(ctx, Verb.ERROR, Error(ctx.verb, ctx.packet_id, code, body).encode())

    def whois(self, now: int, address: int) -> None:
        self.whois_desk.request(now, address)

    def peer(self, address: int) -> Peer | None:
        return self._peers.get(address)

    def peers(self) -> Iterable[Peer]:
        return list(self._peers.values())

    def carried(self, address: int) -> bool:
        peer = self._peers.get(address)
        return peer is not None and peer.installed is not None

    def tunnelled(self, now: int, address: int) -> bool:
        peer = self._peers.get(address)
        route = None if peer is None else self.switch.route(now, peer)
        return route is not None and route[0].binding == TUNNEL

    def upstreams(self) -> list[int]:
        return list(self.topology.roots)

    def is_upstream(self, address: int) -> bool:
        return self.topology.is_root(address)

    def we_are_root(self) -> bool:
        return self.topology.we_are_root

    def best_upstream(self, now: int) -> int | None:
        root = self.best_root(now)
        return root.address if root is not None else None

    def retry_deferred(self, now: int) -> None:
        self.inbound.retry_wanted = True

    # -- peers ----------------------------------------------------------------------------------------------------

    def all_peers(self) -> list[Peer]:
        return list(self._peers.values())

    def known(self, address: int) -> Peer | None:
        """The peer, if it is in memory."""
        return self._peers.get(address)

    def find(self, now: int, address: int) -> Peer | None:
        """The peer, in memory or brought back from the cache (then all its old addresses get a HELLO)."""
        peer = self._peers.get(address)
        if peer is not None:
            return peer
        record = self.cache.take(address)
        if record is None or record.identity == self._identity:
            return None
        try:
            peer = self.add_peer(now, record.identity)
        except WireError as error:  # a record that another implementation made: no key can be agreed with it
            self.drop(error.reason)
            return None
        peer.protocol_version = record.protocol_version
        peer.version = record.version if record.protocol_version else None
        for remote in dict.fromkeys(record.addresses):
            self.hellos.send(now, peer, None, remote)
        return peer

    def add_peer(self, now: int, identity: Identity, keys: SessionKeys | None = None) -> Peer:
        """A peer has become known; what waits for it is looked at when the current event is done."""
        known = self._peers.get(identity.address)
        if known is not None:
            return known
        identity = identity.without_private()
        peer = Peer(identity, keys or SessionKeys(self._identity.agree(identity)), now)
        self._peers[identity.address] = peer
        self.inbound.fresh.append(peer)
        return peer

    def forget_peer(self, peer: Peer) -> None:
        """Out of memory, into the cache if it ever spoke."""
        self.save_peer(peer)
        self.fastpath.remove(peer)
        peer.keep_paths([])
        self._peers.pop(peer.address, None)
        self.vl2.peer_forgotten(peer.address)

    def forget_dead_peers(self, now: int) -> None:
        """Housekeeping: non-roots not heard for 500 s; those never heard, after a minute (vl1-behaviour §2.10)."""
        keep = self.topology.roots.keys() | set(self.topology.wanted.values())
        for peer in list(self._peers.values()):
            limit = ALIVE_MS if peer.spoken() else UNHEARD_MS
            if peer.address not in keep and now - max(peer.last_receive, peer.known_since) >= limit:
                self.forget_peer(peer)

    def save_peer(self, peer: Peer) -> None:
        if peer.spoken():
            data = record_of(peer).encode()
            self.cache.put(peer.address, data)
            self.emit(SaveState("peer", peer.address, data))

    def add_roots(self, now: int) -> None:
        """Roots are peers from the start and for good (vl1-behaviour §2.2)."""
        for identity, _ in self.topology.roots.values():
            try:
                self.add_peer(now, identity)
            except WireError as error:
                self.drop(error.reason)

    def best_root(self, now: int) -> Peer | None:
        return self.topology.best_root(now, self._peers.get)

    # -- sending --------------------------------------------------------------------------------------------------

    def drop(self, reason: str) -> None:
        self._actions.append(Drop(reason))

    def drop_many(self, reason: str, count: int) -> None:
        self._actions.append(Drop(reason, count))

    def mark(self) -> int:
        """A place in the list of actions, for `dropped_since`."""
        return len(self._actions)

    def dropped_since(self, mark: int) -> bool:
        """Whether anything was dropped after `mark` was taken, in the same event."""
        return any(isinstance(action, Drop) for action in self._actions[mark:])

    def event(self, kind: str, **fields: object) -> None:
        self._actions.append(Event(kind, fields))

    def put(self, now: int, path: Path, datagram: bytes) -> None:
        """One datagram over one path."""
        path.sent(now)
        self._actions.append(SendDatagram(path.binding, path.remote, datagram))
        self.recovery.watch(now, path)

    def put_everywhere(self, now: int, remote: InetAddress, datagram: bytes) -> None:
        """One datagram from every socket of the family; known paths take note."""
        self._actions.append(SendDatagram(None, remote, datagram))
        for binding in self.bindings:
            path = self.paths.find(binding.id, remote)
            if path is not None:
                path.sent(now)
                self.recovery.watch(now, path)

    def send_on(
        self,
        now: int,
        peer: Peer,
        path: Path,
        verb: Verb,
        payload: bytes,
        *,
        compress: bool = False,
        register: bool = False,
        in_clear: bool = False,
    ) -> None:
        """Seal and send one packet to `peer` over `path`, whatever path selection thinks.

        `in_clear`: not sealed if `path` is one of the peer's own and a trusted one (vl1-wire §5.8).
        """
        mtu = self.physical.mtu_of(path, relayed=path.owner != peer.address)
        trusted = self.physical.trusted_id(path.remote) if in_clear and path.owner == peer.address else 0
        try:
            packet = self.seal(peer, verb, payload, compress=compress, mtu=mtu, trusted=trusted)
            datagrams = split(packet, mtu)
        except ValueError:
            self.drop("send_oversize")
            return
        if register or verb in ANSWERABLE:
            self.replies.expect(now, int.from_bytes(packet[:8], "big"), peer.address)
        for datagram in datagrams:
            self.put(now, path, datagram)

    def seal(
        self, peer: Peer, verb: Verb, payload: bytes, *, compress: bool = False, mtu: int, trusted: int = 0
    ) -> bytes:
        """A sealed packet from us to `peer` (vl1-wire §5.1); in the clear with `trusted`, the ID of a trusted path."""
        packet = seal(
            peer.keys,
            destination=peer.address,
            source=self._identity.address,
            verb=verb,
            payload=payload,
            packet_id=int.from_bytes(self._random(8), "big"),
            suite=Suite.TRUSTED if trusted else self.suite_for(peer),
            compress=compress,
            mtu=mtu,
            trusted_path_id=trusted,
        )
        self.count_sent(peer, verb, payload)
        return packet

    def count_sent(self, peer: Peer, verb: Verb, payload: bytes) -> None:
        self.tally.packet_sent(verb, payload)
        peer.traffic.sent += 1

    def suite_for(self, peer: Peer) -> Suite:
        strong = peer.protocol_version >= 12 and self._settings.max_suite >= Suite.GMAC_SIV
        return Suite.GMAC_SIV if strong else Suite.SALSA2012

    # -- addresses ------------------------------------------------------------------------------------------------

    def usable(self, peer: Peer, remote: InetAddress) -> bool:
        """May `remote` be a path of `peer`? (vl1-behaviour §2.7; one of our own sockets may not: our addition.)"""
        if remote.port == 0 or remote.scope not in _PATH_SCOPES:
            return False
        if any(binding.local == remote for binding in self.bindings):
            return False
        if len(remote.ip) == 16 and remote.ip.startswith(_REFUSED_IPV6):
            return False
        root = self.topology.roots.get(peer.address)
        if root is not None and root[1] and all(endpoint.ip != remote.ip for endpoint in root[1]):
            return False
        if any(remote.in_prefix(prefix) for prefix in (*self.vl2.managed_prefixes(), *self.overlay_subnets)):
            return False
        virtual = self._settings.virtual.get(peer.address)
        if virtual is not None and any(remote.in_prefix(prefix) for prefix in virtual.blacklist):
            return False
        return not self.physical.blacklisted(remote)

    def set_bindings(self, now: int, bindings: Sequence[Binding]) -> bool:
        """The sockets have changed: paths of sockets that are gone are gone with them. True if there are new ones."""
        before, after = {binding.id for binding in self.bindings}, {binding.id for binding in bindings}
        mtus = {binding.id: binding.mtu for binding in self.bindings}
        self.bindings = tuple(bindings)
        self.surface.keep_bindings(after)
        for peer in self._peers.values():
            keep = [entry for entry in peer.paths if entry.path.binding in after]
            if len(keep) != len(peer.paths):
                self.recovery.lost(now, peer, [e.path.remote for e in peer.paths if e.path.binding not in after])
                peer.keep_paths(keep)
                self.fastpath.refresh(now, peer)
        if after != before:
            self.recovery.hurry(now)
        resized = {binding.id for binding in bindings if mtus.get(binding.id, binding.mtu) != binding.mtu}
        if resized:
            self.pathmtu.links_resized(now, resized)
        return bool(after - before)
