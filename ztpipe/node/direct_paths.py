"""PUSH_DIRECT_PATHS: telling a trusted peer where to reach us, and trying what others tell (vl1-behaviour §2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.path import PeerPath
from ztpipe.node.peer import Redirect
from ztpipe.node.seam import Outcome
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import DirectPath, PushDirectPaths
from ztpipe.wire.verbs_vl1 import PATH_CLUSTER_REDIRECT, PATH_FORGET

if TYPE_CHECKING:
    from ztpipe.node.path import Path
    from ztpipe.node.peer import Peer
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

INTERVAL_RELAYED_MS: Final = 15_000
INTERVAL_DIRECT_MS: Final = 120_000
LOW_BANDWIDTH_FACTOR: Final = 16
MAX_BYTES: Final = 1_200
MAX_PER_CLASS: Final = 8
REDIRECT_MS: Final = 10_000
MAX_PRIORITY: Final = 255


class DirectPaths:
    """Both directions of PUSH_DIRECT_PATHS."""

    __slots__ = ("core",)

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core

    # -- sending --------------------------------------------------------------------------------------------------

    def push_if_due(self, now: int, peer: Peer, path: Path, *, direct: bool) -> None:
        """After the receipt of anything authentic from a peer we trust; over the path it came on (gate 12), or, if that
        is nobody's proved path, over the one that we use."""
        interval = INTERVAL_RELAYED_MS
        if direct:
            interval = INTERVAL_DIRECT_MS * (LOW_BANDWIDTH_FACTOR if self.core.settings.low_bandwidth else 1)
        if now - peer.last_push < interval or not peer.trusted(now):
            return
        records = self._our_addresses()
        route = (path, direct) if path.refs else self.core.switch.route(now, peer)
        if not records or route is None:
            return
        peer.last_push = now
        for packet in _in_packets(records):
            self.core.send_on(now, peer, route[0], Verb.PUSH_DIRECT_PATHS, packet.encode(), compress=True)

    def _our_addresses(self) -> list[InetAddress]:
        """Mapped addresses, then the sockets', then what others reported; each once."""
        core = self.core
        local = [binding.local for binding in core.bindings if binding.local.scope >= 3 and binding.local.port]
        return list(dict.fromkeys((*core.external_addresses, *local, *core.surface.addresses())))

    # -- receiving ------------------------------------------------------------------------------------------------

    def received(self, ctx: PacketContext) -> Outcome:
        """Try what is new and usable: per packet at most 8 per scope and family; 8 packets in a row (gate 4)."""
        core = self.core
        peer = core.known(ctx.peer.address)
        if peer is None or not peer.push_gate.allow(ctx.now):
            core.drop("push_rate")
            return Outcome.HANDLED
        tried: dict[tuple[int, int], int] = {}
        for record in PushDirectPaths.decode(ctx.payload).paths:
            remote = record.endpoint
            if record.flags & PATH_FORGET or self._has(ctx.now, peer, remote) or not core.usable(peer, remote):
                continue
            if record.flags & PATH_CLUSTER_REDIRECT:
                self._redirect(ctx, peer, remote)
                continue
            key = (int(remote.scope), len(remote.ip))
            tried[key] = tried.get(key, 0) + 1
            if tried[key] <= MAX_PER_CLASS:
                core.contact.attempt(ctx.now, peer, None, remote)
        return Outcome.HANDLED

    def _has(self, now: int, peer: Peer, remote: InetAddress) -> bool:
        return any(entry.path.remote == remote and not entry.expired(now) for entry in peer.paths)

    def _redirect(self, ctx: PacketContext, peer: Peer, remote: InetAddress) -> None:
        """Cluster redirect: ask there. Unlike in the reference nothing is sent there before the peer has answered:
        else any peer could aim what we send at whom it likes."""
        arrival = peer.path(ctx.binding, ctx.remote)
        priority = min((arrival.priority if arrival is not None else 1) + 2, MAX_PRIORITY)
        peer.redirect = Redirect(remote, priority, ctx.now + REDIRECT_MS)
        self.core.contact.attempt(ctx.now, peer, ctx.binding, remote, full=True)

    def redirecting(self, now: int, peer: Peer, remote: InetAddress) -> bool:
        """Was `peer` asked at `remote` because of a redirect?"""
        redirect = peer.redirect
        return redirect is not None and redirect.remote == remote and now < redirect.deadline

    def follow(self, now: int, peer: Peer, answered: PeerPath) -> None:
        """The redirect's address has answered: prefer it, and forget paths of lower priority or the same host."""
        redirect, peer.redirect = peer.redirect, None
        assert redirect is not None
        answered.priority = redirect.priority
        keep = [
            entry
            for entry in peer.paths
            if entry is answered or (entry.priority >= redirect.priority and not _same_host(entry, redirect.remote))
        ]
        peer.keep_paths(keep)
        self.core.fastpath.refresh(now, peer)


def _same_host(entry: PeerPath, remote: InetAddress) -> bool:
    """The same IPv4 address, or IPv6 /64."""
    return entry.path.remote.ip[:8] == remote.ip[:8]


def _in_packets(addresses: list[InetAddress]) -> list[PushDirectPaths]:
    """Split so that no payload exceeds 1 200 bytes: 2 bytes of count, 11 or 23 per record."""
    packets: list[PushDirectPaths] = []
    batch: list[DirectPath] = []
    size = 2
    for address in addresses:
        need = 7 + len(address.ip)
        if size + need > MAX_BYTES:
            packets.append(PushDirectPaths(tuple(batch)))
            batch, size = [], 2
        batch.append(DirectPath(address))
        size += need
    packets.append(PushDirectPaths(tuple(batch)))
    return packets
