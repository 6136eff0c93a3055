"""What we do faster than the reference, which keeps a dead sole path for up to 243 s (vl1-behaviour §2.10).

A path over which we send and hear nothing is asked by ECHO and doubted in less than 2 s; traffic then takes another
path or a root, and comes back with the first datagram that arrives on it. Sockets that come and go, and waking from
suspend, make us greet the roots and ask the paths of active peers at once. All of it stays within the peers' own rate
gates (ECHO: one per 166 ms and path; HELLO of a known identity: none).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ztpipe.node.path import EXPIRED_MS, UNKNOWN_LATENCY
from ztpipe.node.ratelimit import NEVER

if TYPE_CHECKING:
    from ztpipe.node.path import Path, PathKey
    from ztpipe.node.peer import Peer
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

TICK_MS: Final = 200
PROBE_AFTER_MS: Final = 400
PROBE_INTERVAL_MS: Final = 200
PROBE_DOUBTED_MS: Final = 2_000
DOUBT_AFTER_MS: Final = 1_200
DOUBT_PROBES: Final = 4
LONG_DOUBTED_MS: Final = 60_000
"""Doubted that long, a path is asked at `PROBE_LONG_MS` only."""
PROBE_LONG_MS: Final = 10_000
QUESTION_MS: Final = 1_500
MAX_SUSPECTS: Final = 4_096

HURRY_MS: Final = 10_000
HURRY_INTERVAL_MS: Final = 1_000
MAX_LOST: Final = 1_024
MAX_REMOTES: Final = 8
MAX_ASKED: Final = 1_024
"""Peers whose paths are asked at once after a suspend; the others are found out by their own traffic."""

_IDLE: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Lost:
    """Where a peer was reached over sockets that are gone, and since when."""

    remotes: tuple[InetAddress, ...]
    since: int


class Recovery:
    """Doubts paths, and finds new ones when our surroundings change. `suspects`: sent over, not heard from since."""

    __slots__ = ("_hurry_since", "_hurry_until", "_lost", "_next_hurry", "core", "next", "suspects")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self.suspects: dict[PathKey, Path] = {}
        self.next = _IDLE
        self._lost: dict[int, _Lost] = {}
        self._hurry_since = self._hurry_until = self._next_hurry = NEVER

    def tick(self, now: int) -> None:
        """At `next` or earlier: ask what is silent, greet whom we hurry to reach."""
        self._probe_suspects(now)
        if now < self._hurry_until and now >= self._next_hurry:
            self._next_hurry = now + HURRY_INTERVAL_MS
            self._greet_roots(now)
            self._ask_lost(now)
        self.next = now + TICK_MS if self.suspects or now < self._hurry_until else _IDLE

    def _soon(self, now: int) -> None:
        self.next = min(self.next, now + TICK_MS)

    # -- doubt ----------------------------------------------------------------------------------------------------

    def watch(self, now: int, path: Path) -> None:
        """We sent over `path` and wait to hear something."""
        if path.refs and path.waiting_since > path.last_in and len(self.suspects) < MAX_SUSPECTS:
            self.suspects[path.key] = path
            self._soon(now)

    def heard(self, now: int, peer: Peer, key: PathKey | None) -> None:
        """Something authentic of `peer` came over `key` (None: relayed). If the path that we would use has been silent
        meanwhile, the peer may have left it for a reason: ask it."""
        entry = peer.best_path(now)
        if entry is None or entry.path.key == key or entry.path.doubted or not peer.speaks_echo():
            return
        path = entry.path
        if now - path.last_in >= QUESTION_MS and now - path.last_probe >= QUESTION_MS:
            self._ask(now, peer, path)

    def _probe_suspects(self, now: int) -> None:
        for key, path in list(self.suspects.items()):
            peer = self.core.known(path.owner)
            if peer is None or path.refs == 0:
                del self.suspects[key]
            elif path.waiting_since <= path.last_in:
                del self.suspects[key]
                self.core.fastpath.refresh(now, peer)
            elif peer.speaks_echo():
                self._probe(now, peer, path)

    def _probe(self, now: int, peer: Peer, path: Path) -> None:
        silent = path.silent_for(now)
        patience = 0 if path.latency == UNKNOWN_LATENCY else 2 * path.latency
        if not path.doubted and path.probes >= DOUBT_PROBES and silent >= DOUBT_AFTER_MS + patience:
            path.doubted = True
            self.core.event("path_doubted", peer=peer.address, binding=path.binding, remote=path.remote)
            self.core.fastpath.refresh(now, peer)
        interval = PROBE_INTERVAL_MS
        if path.doubted:
            interval = PROBE_DOUBTED_MS if silent < LONG_DOUBTED_MS else PROBE_LONG_MS
        if silent >= PROBE_AFTER_MS + patience and now - path.last_probe >= interval:
            self._ask(now, peer, path)

    def _ask(self, now: int, peer: Peer, path: Path) -> None:
        path.last_probe = now
        path.probes += 1
        self.core.contact.attempt(now, peer, path.binding, path.remote)

    # -- changes around us ----------------------------------------------------------------------------------------

    def lost(self, now: int, peer: Peer, remotes: Sequence[InetAddress]) -> None:
        """The sockets by which `peer` was reached at `remotes` are gone: try the same over those that are left."""
        if not remotes or not peer.active(now):
            return
        old = self._lost.pop(peer.address, None)
        known = old.remotes if old is not None else ()
        if len(self._lost) >= MAX_LOST:
            del self._lost[next(iter(self._lost))]
        self._lost[peer.address] = _Lost(tuple(dict.fromkeys((*remotes, *known)))[:MAX_REMOTES], now)

    def hurry(self, now: int) -> None:
        """Our sockets have changed: for 10 s roots and lost peers that do not answer are asked every second."""
        self._hurry_since, self._hurry_until, self._next_hurry = now, now + HURRY_MS, now + HURRY_INTERVAL_MS
        self._ask_lost(now)
        self._soon(now)

    def links_changed(self, now: int) -> None:
        """Some link or address of the host changed, our sockets did not: paths in doubt may be good again."""
        for path in self.suspects.values():
            path.last_probe = min(path.last_probe, now - PROBE_INTERVAL_MS) if not path.doubted else NEVER
        self._soon(now)

    def resumed(self, now: int) -> None:
        """Time has passed that we were not there for: mappings of NATs may be gone, so ask every path in use."""
        asked = 0
        for peer in self.core.all_peers():
            if asked >= MAX_ASKED:
                break
            if peer.active(now) and peer.speaks_echo():
                asked += 1
                for entry in peer.paths:
                    self._ask(now, peer, entry.path)
        self.hurry(now)
        self._greet_roots(now)

    def _greet_roots(self, now: int) -> None:
        """HELLO to every root that has said nothing since the change."""
        for peer in self.core.all_peers():
            if self.core.topology.is_root(peer.address) and peer.last_receive <= self._hurry_since:
                self.core.pings.greet_root(now, peer)

    def _ask_lost(self, now: int) -> None:
        for address, lost in list(self._lost.items()):
            peer = self.core.known(address)
            if peer is None or peer.has_direct_path(now) or now - lost.since >= EXPIRED_MS:
                del self._lost[address]
                continue
            for remote in lost.remotes:
                if self.core.usable(peer, remote):
                    self.core.contact.attempt(now, peer, None, remote)

    def housekeeping(self, now: int) -> None:
        for address in [a for a, lost in self._lost.items() if now - lost.since >= EXPIRED_MS]:
            del self._lost[address]
