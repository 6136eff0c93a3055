"""What the data plane is told about peers: one diff between what it has and what it should have, per peer.

`refresh` is idempotent and cheap; call it whenever a peer's paths, version or liveness may have changed. Only
differences become actions, in an order in which the tables are never wrong: first a peer, then its paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import InstallPath, InstallPeer, RemovePath, RemovePeer
from ztpipe.node.settings import TUNNEL

if TYPE_CHECKING:
    from ztpipe.node.path import PathKey
    from ztpipe.node.peer import Peer
    from ztpipe.node.vl1 import Vl1Engine


PORTION: Final = 256
"""Peers looked at in one go."""
ROUND_TICKS: Final = 8
"""Queue ticks that a round takes at most: less than a ping check."""


class FastPath:
    """Keeps the data plane's peer and path tables in step with the mind."""

    __slots__ = ("_portion", "_relay", "_round", "core")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self._relay: PathKey | None = None
        self._round: list[int] = []
        self._portion = PORTION

    def refresh(self, now: int, peer: Peer) -> None:
        """Install what changed about `peer`. A peer that never spoke, or that cannot be reached by UDP, has no
        entry."""
        wanted = self._wanted(now, peer) if peer.spoken() else None
        if wanted is None:
            self.remove(peer)
            return
        if wanted != peer.installed:
            self._tell(peer.installed, wanted)
            peer.installed = wanted
            self.core.emit(wanted)
        self._refresh_paths(peer)

    def _tell(self, before: InstallPeer | None, wanted: InstallPeer) -> None:
        """What an operator wants to know of a change: how the peer is reached, and from where to where it moved."""
        if before is None or before.direct != wanted.direct:
            kind = "peer_direct" if wanted.direct else "peer_relayed"
        elif wanted.direct and before.remote != wanted.remote:
            kind = "path_changed"
        else:
            return
        fields = {"path": wanted.remote} if wanted.direct else {"relay": wanted.remote}
        self.core.event(kind, peer=wanted.address, **fields)

    def _wanted(self, now: int, peer: Peer) -> InstallPeer | None:
        route = self.core.switch.route(now, peer)
        if route is None:
            return None
        path, direct = route
        if path.binding == TUNNEL:
            return None
        if direct:
            self.core.pathmtu.consider(now, peer, path)
        return InstallPeer(
            address=peer.address,
            salsa_key=peer.keys.salsa32,
            k0=peer.keys.k0,
            k1=peer.keys.k1,
            suite=int(self.core.suite_for(peer)),
            binding=path.binding,
            remote=path.remote,
            mtu=self.core.physical.mtu_of(path, relayed=not direct),
            direct=direct,
        )

    def _refresh_paths(self, peer: Peer) -> None:
        wanted = {entry.path.key for entry in peer.paths}
        if wanted == peer.installed_paths:
            return
        for binding, remote in sorted(peer.installed_paths - wanted):
            self.core.emit(RemovePath(peer.address, binding, remote))
        for binding, remote in sorted(wanted - peer.installed_paths):
            self.core.emit(InstallPath(peer.address, binding, remote))
        peer.installed_paths = wanted

    def remove(self, peer: Peer) -> None:
        """Take the peer out of the data plane, if it is in."""
        for binding, remote in sorted(peer.installed_paths):
            self.core.emit(RemovePath(peer.address, binding, remote))
        peer.installed_paths = set()
        if peer.installed is not None:
            peer.installed = None
            self.core.emit(RemovePeer(peer.address))

    def start_round(self, now: int) -> None:
        """Ping check: paths have aged. Of many peers a part at each queue tick, so that nobody waits for all."""
        if len(self._round) == 0:
            self._round = [peer.address for peer in self.core.all_peers()]
            self._portion = max(PORTION, len(self._round) // ROUND_TICKS + 1)
        if len(self._round) <= PORTION:
            self.go_round(now)

    def go_round(self, now: int) -> None:
        """Queue tick: the next part of the round."""
        part, self._round = self._round[: self._portion], self._round[self._portion :]
        for address in part:
            peer = self.core.known(address)
            if peer is not None:
                self.refresh(now, peer)

    def refresh_all(self, now: int) -> None:
        """Something has changed that concerns everybody."""
        for peer in self.core.all_peers():
            self.refresh(now, peer)

    def relay_changed(self, now: int) -> None:
        """Every queue tick: if traffic via the best root must take another path now, tell it for all relayed peers."""
        root = self.core.best_root(now)
        entry = root.best_path(now) if root is not None else None
        relay = entry.path.key if entry is not None else None
        if relay == self._relay:
            return
        self._relay = relay
        for peer in self.core.all_peers():
            if peer.installed is None or not peer.installed.direct:
                self.refresh(now, peer)
