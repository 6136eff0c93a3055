"""Packets that are not for us: forward them, and tell both ends where the other one is (vl1-behaviour §3.7, §3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import AllowRelay
from ztpipe.node.ratelimit import KeyedGate
from ztpipe.wire.packet import with_hops

if TYPE_CHECKING:
    from ztpipe.node.path import Path
    from ztpipe.node.peer import Peer
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

MAX_HOPS: Final = 3
RENDEZVOUS_GATE_MS: Final = 30_000
RENDEZVOUS_PAIRS: Final = 16_384


class Relay:
    """Forwards datagrams one by one, unopened.

    While we are a root, the data plane does this itself for nodes with a direct path (kernel/relay.c). Here comes then
    what is for others, and of each pair of nodes one packet every half minute, so that they are introduced.
    """

    __slots__ = ("_allowed", "core", "pairs")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self.pairs = KeyedGate(RENDEZVOUS_GATE_MS, RENDEZVOUS_PAIRS)
        self._allowed = False

    def tick(self) -> None:
        """Every queue tick: tell the data plane if we have become a root, or are none any more."""
        allowed = self.core.topology.we_are_root
        if allowed != self._allowed:
            self._allowed = allowed
            self.core.emit(AllowRelay(allowed))

    def packet(self, now: int, path: Path | None, data: bytes, destination: int, source: int, hops: int) -> None:
        """A head (or whole packet) from `source` for somebody else."""
        target = self._forward(now, path, data, destination, source, hops)
        if target is not None and target.address == destination and self._meet_allowed(now, destination, source):
            self.core.rendezvous.introduce(now, target, source)

    def fragment(self, now: int, path: Path | None, data: bytes, destination: int, hops: int) -> None:
        """A fragment for somebody else: no source, so no introduction."""
        self._forward(now, path, data, destination, None, hops)

    def _forward(
        self, now: int, arrival: Path | None, data: bytes, destination: int, source: int | None, hops: int
    ) -> Peer | None:
        """Send it on. The peer it was sent to (the destination or a root), None if it was dropped."""
        core = self.core
        if not core.topology.we_are_root and (arrival is None or not arrival.trusted(now)):
            core.drop("relay_not_trusted")
            return None
        if hops >= MAX_HOPS:
            core.drop("relay_too_many_hops")
            return None
        target, path = self._next_hop(now, destination, source)
        if target is None or path is None:
            core.drop("relay_no_route")
            return None
        core.put(now, path, with_hops(data, hops + 1))
        return target

    def _next_hop(self, now: int, destination: int, source: int | None) -> tuple[Peer | None, Path | None]:
        peer = self.core.known(destination)
        if peer is not None:
            entry = peer.best_path(now)
            if entry is not None:
                return peer, entry.path
        root = self.core.best_root(now)
        if root is None or root.address in (source, destination):
            return None, None
        entry = root.best_path(now) or root.best_expired_path(now)
        return root, entry.path if entry is not None else None

    def _meet_allowed(self, now: int, one: int, other: int) -> bool:
        """Gate 11. Asked only about a source we know, so that forged sources cannot fill it."""
        if self.core.known(other) is None:
            return False
        return self.pairs.allow(now, (min(one, other), max(one, other)))

    def housekeeping(self, now: int) -> None:
        self.pairs.expire(now)


def best_endpoint_by_class(now: int, peer: Peer) -> dict[tuple[int, int], tuple[int, InetAddress, Path]]:
    """For each (scope, address length): (score, endpoint, path) of the best path, expired ones included (§3.8)."""
    best: dict[tuple[int, int], tuple[int, InetAddress, Path]] = {}
    for entry in peer.paths:
        remote = entry.path.remote
        key = (entry.path.scope, len(remote.ip))
        score = entry.score(now)
        if key not in best or score <= best[key][0]:
            best[key] = (score, remote, entry.path)
    return best
