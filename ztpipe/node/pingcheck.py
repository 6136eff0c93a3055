"""The ping check, every 5 s: roots, anchors, active peers, online status (vl1-behaviour §1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ztpipe.node.peer import ALIVE_MS
from ztpipe.node.ratelimit import NEVER
from ztpipe.wire.inetaddress import IpScope

if TYPE_CHECKING:
    from ztpipe.node.peer import Peer
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

INTERVAL_MS: Final = 5_000
LOW_BANDWIDTH_INTERVAL_MS: Final = 25_000
LEAF_GATE_MS: Final = 28_000
ROOT_GATE_MS: Final = 224_000

ROOT_SILENT_MS: Final = 14_000
"""The best root is asked something every 5 s; if it is silent that long it has probably forgotten us (our addition)."""


class PingCheck:
    """Decides who is contacted when."""

    __slots__ = ("core", "online")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self.online = False

    def interval(self) -> int:
        return LOW_BANDWIDTH_INTERVAL_MS if self.core.settings.low_bandwidth else INTERVAL_MS

    def run(self, now: int) -> None:
        core = self.core
        contacts = set(core.topology.roots) | set(core.topology.wanted.values())
        last_heard = max((self._last_receive(address) for address in contacts), default=NEVER)
        contacts |= core.vl2.always_contact()
        contacts.discard(core.identity.address)
        best = core.best_root(now)
        unreached = set(contacts)
        for peer in core.all_peers():
            if peer.alive(now):
                peer.traffic.observe(peer.latency)
            if peer.address in contacts:
                if self._contact(now, peer, peer is best):
                    unreached.discard(peer.address)
            elif peer.active(now):
                core.contact.keepalive(now, peer)
        for address in sorted(unreached):
            core.whois_desk.request(now, address)
        self._set_online(now, last_heard)

    def _last_receive(self, address: int) -> int:
        peer = self.core.known(address)
        return peer.last_receive if peer is not None else NEVER

    def _contact(self, now: int, peer: Peer, best: bool) -> bool:
        """Contact a root or anchor if it is time; False if it was not."""
        core = self.core
        root = core.topology.roots.get(peer.address)
        gate = LEAF_GATE_MS
        if root is not None:
            silent = best and now - peer.last_receive >= ROOT_SILENT_MS
            gate = ROOT_GATE_MS if peer.paths and not silent else 0
        if gate and now - peer.last_hello <= gate:
            return False
        pinged = core.contact.keepalive(now, peer)
        if root is not None:
            if not gate and now != peer.last_hello:
                pinged |= self._hello_paths(now, peer)
            pinged |= self._hello_endpoints(now, peer, root[1], {4, 16} - pinged)
        if not pinged and not peer.has_direct_path(now):
            self._relay_hello(now, peer)
        return True

    def greet_root(self, now: int, peer: Peer) -> None:
        """A HELLO to a root at its paths and at a declared endpoint of each family, whatever was sent before."""
        root = self.core.topology.roots.get(peer.address)
        if root is not None:
            self._hello_endpoints(now, peer, root[1], {4, 16} - self._hello_paths(now, peer))

    def _hello_paths(self, now: int, peer: Peer) -> set[int]:
        """A silent root that we have paths to: a HELLO, not only an ECHO, makes a restarted root know us again."""
        remotes = {entry.path.remote for entry in peer.paths}
        for remote in sorted(remotes):
            self.core.hellos.send(now, peer, None, remote)
        return {len(remote.ip) for remote in remotes}

    def _hello_endpoints(self, now: int, peer: Peer, endpoints: Sequence[InetAddress], lengths: set[int]) -> set[int]:
        """HELLO to one stable endpoint, chosen at random, of each family that was not pinged."""
        sent: set[int] = set()
        for length in sorted(lengths):
            candidates = [it for it in endpoints if len(it.ip) == length and _leads_somewhere(it)]
            if candidates and self._has_socket(length):
                choice = int.from_bytes(self.core.random(2), "big") % len(candidates)
                self.core.hellos.send(now, peer, None, candidates[choice])
                sent.add(length)
        return sent

    def _has_socket(self, ip_length: int) -> bool:
        bindings = self.core.bindings
        return not bindings or any(len(binding.local.ip) == ip_length for binding in bindings)

    def _relay_hello(self, now: int, peer: Peer) -> None:
        root = self.core.best_root(now)
        entry = root.best_path(now) if root is not None and root is not peer else None
        if entry is not None:
            self.core.hellos.send_via(now, peer, entry.path)
            peer.last_hello = now

    def _set_online(self, now: int, last_heard: int) -> None:
        online = self.core.topology.we_are_root or now - last_heard < ALIVE_MS
        if online != self.online:
            self.online = online
            self.core.event("online" if online else "offline")


def _leads_somewhere(endpoint: InetAddress) -> bool:
    """Not 0.0.0.0 or no port: what `genmoon` makes of a host name, and what would reach ourselves."""
    return endpoint.port != 0 and endpoint.scope is not IpScope.NONE
