"""Status records made from the live state of VL1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztpipe.node.path import UNKNOWN_LATENCY
from ztpipe.node.status import MoonStatus, NodeStatus, PathStatus, PeerStatus, PeerTraffic, Role

if TYPE_CHECKING:
    from ztpipe.node.path import PeerPath
    from ztpipe.node.peer import Peer
    from ztpipe.node.vl1 import Vl1Engine


def node_status(core: Vl1Engine, now: int) -> NodeStatus:
    return NodeStatus(
        address=core.identity.address,
        identity=core.identity.without_private(),
        online=core.pings.online,
        is_root=core.topology.we_are_root,
        clock=now,
        planet=core.topology.planet,
        moons=tuple(moon_statuses(core)),
        surface_addresses=tuple(core.surface.addresses()),
        protocol_version=core.settings.protocol_version,
        version=core.settings.version,
    )


def moon_statuses(core: Vl1Engine) -> list[MoonStatus]:
    held = [MoonStatus(moon.id, moon, 0) for moon in core.topology.moons.values()]
    return held + [MoonStatus(moon_id, None, seed) for moon_id, seed in core.topology.wanted.items()]


def peer_statuses(core: Vl1Engine, now: int) -> list[PeerStatus]:
    return [_peer_status(core, peer, now) for peer in sorted(core.all_peers(), key=lambda peer: peer.address)]


def peer_traffic(core: Vl1Engine, now: int) -> list[PeerTraffic]:
    """All peers, by address; as cheap as can be, since it is made for every scrape."""
    return [_peer_traffic(peer, now) for peer in sorted(core.all_peers(), key=lambda peer: peer.address)]


def _peer_traffic(peer: Peer, now: int) -> PeerTraffic:
    best = peer.best_path(now)
    alive = sum(1 for entry in peer.paths if entry.path.alive(now))
    dead = len(peer.paths) - alive
    if best is None:
        return PeerTraffic(peer.address, peer.latency, alive, dead, None, 0, peer.traffic)
    path = best.path
    return PeerTraffic(peer.address, peer.latency, alive, dead, path.remote, path.probes, peer.traffic)


def _peer_status(core: Vl1Engine, peer: Peer, now: int) -> PeerStatus:
    best = peer.best_path(now)
    return PeerStatus(
        address=peer.address,
        identity=peer.identity,
        protocol_version=peer.protocol_version,
        version=peer.version,
        latency=peer.latency,
        role=_role(core, peer.address),
        last_receive=max(peer.last_receive, 0),
        paths=tuple(_path_status(entry, entry is best) for entry in peer.paths if not entry.expired(now)),
    )


def _role(core: Vl1Engine, address: int) -> Role:
    if address in core.topology.planet_roots:
        return Role.PLANET
    return Role.MOON if core.topology.is_root(address) else Role.LEAF


def _path_status(entry: PeerPath, preferred: bool) -> PathStatus:
    path = entry.path
    return PathStatus(
        binding=path.binding,
        remote=path.remote,
        last_send=max(path.last_out, 0),
        last_receive=max(path.last_in, 0),
        preferred=preferred,
        latency=-1 if path.latency == UNKNOWN_LATENCY else path.latency,
        doubted=path.doubted,
    )
