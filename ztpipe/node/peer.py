"""One remote node: its identity and session, its paths, and when we last heard what from it (vl1-behaviour §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ztpipe.node.budget import TokenBucket
from ztpipe.node.path import EXPIRED_MS, TRUST_MS, UNKNOWN_LATENCY, Path, PeerPath
from ztpipe.node.ratelimit import NEVER, BurstGate, IntervalGate, KeyedGate
from ztpipe.node.tally import Traffic

if TYPE_CHECKING:
    from ztpipe.node.actions import InstallPeer
    from ztpipe.node.path import PathKey
    from ztpipe.wire.armor import SessionKeys
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress

ALIVE_MS: Final = 500_000
UNHEARD_MS: Final = 60_000
"""How long a peer that never spoke is kept: long enough to try again, short enough that lookups do not pile up."""
MAX_PATHS: Final = 64

WHOIS_GATE_MS: Final = 100
PUSH_WINDOW_MS: Final = 30_000
PUSH_LIMIT: Final = 8
CONFIRM_GATE_MS: Final = 1_000
HINT_GATE_MS: Final = 30_000
VERSION_GATE_MS: Final = 30_000


class Redirect(NamedTuple):
    """A peer said to be better reached at `remote`; it counts if it answers there before `deadline`."""

    remote: InetAddress
    priority: int
    deadline: int


class Peer:
    """State of one peer. All times are node ms; `NEVER` if it did not happen.

    protocol_version: 0 before a HELLO or OK(HELLO) told us. installed, installed_paths: what the data plane was told.
    """

    __slots__ = (
        "address",
        "confirm_gate",
        "confirmations",
        "hint_gate",
        "identity",
        "installed",
        "installed_paths",
        "keys",
        "known_since",
        "last_hello",
        "last_nontrivial",
        "last_push",
        "last_receive",
        "last_trusted",
        "paths",
        "protocol_version",
        "push_gate",
        "redirect",
        "traffic",
        "version",
        "version_gate",
        "whois_gate",
    )

    def __init__(self, identity: Identity, keys: SessionKeys, now: int) -> None:
        self.identity = identity
        self.address = identity.address
        self.keys = keys
        self.known_since = now
        self.protocol_version = 0
        self.version: tuple[int, int, int] | None = None
        self.paths: list[PeerPath] = []
        self.last_receive = NEVER
        self.last_nontrivial = NEVER
        self.last_trusted = NEVER
        self.last_hello = NEVER
        self.last_push = NEVER
        self.whois_gate = IntervalGate(WHOIS_GATE_MS)
        self.hint_gate = IntervalGate(HINT_GATE_MS)
        self.version_gate = IntervalGate(VERSION_GATE_MS)
        self.push_gate = BurstGate(PUSH_WINDOW_MS, PUSH_LIMIT)
        self.confirm_gate = KeyedGate(CONFIRM_GATE_MS, MAX_PATHS)
        self.confirmations = TokenBucket()
        self.redirect: Redirect | None = None
        self.traffic = Traffic()
        self.installed: InstallPeer | None = None
        self.installed_paths: set[PathKey] = set()

    # -- predicates (vl1-behaviour §2.1) --------------------------------------------------------------------------

    def spoken(self) -> bool:
        """Something authentic came from it since we know it."""
        return self.last_receive != NEVER

    def alive(self, now: int) -> bool:
        return now - self.last_receive < ALIVE_MS

    def active(self, now: int) -> bool:
        return now - self.last_nontrivial < ALIVE_MS

    def trusted(self, now: int) -> bool:
        return now - self.last_trusted < TRUST_MS

    def speaks_echo(self) -> bool:
        """ECHO probes need protocol 5, and version 1.1.0 answered them wrongly (vl1-behaviour §2.3)."""
        return self.protocol_version >= 5 and self.version != (1, 1, 0)

    # -- paths ----------------------------------------------------------------------------------------------------

    def path(self, binding: int, remote: InetAddress) -> PeerPath | None:
        for entry in self.paths:
            if entry.path.binding == binding and entry.path.remote == remote:
                return entry
        return None

    def has_alive_twin(self, now: int, binding: int, remote: InetAddress) -> bool:
        """A live path to the same IP, whatever port, on the same socket: then another port is not worth a try."""
        return any(
            entry.path.binding == binding
            and entry.path.remote.ip == remote.ip
            and entry.path.alive(now)
            and not entry.path.doubted
            for entry in self.paths
        )

    def best_path(self, now: int) -> PeerPath | None:
        """The non-expired path with the smallest score; later entries win ties (vl1-behaviour §2.10)."""
        best: PeerPath | None = None
        best_score = 0
        for entry in self.paths:
            if now - entry.last_receive >= EXPIRED_MS:
                continue
            score = entry.score(now)
            if best is None or score <= best_score:
                best, best_score = entry, score
        return best

    def best_expired_path(self, now: int) -> PeerPath | None:
        """The best of all, expired or not: the last resort."""
        return min(reversed(self.paths), key=lambda entry: entry.score(now), default=None)

    def has_direct_path(self, now: int) -> bool:
        return any(now - entry.last_receive < EXPIRED_MS for entry in self.paths)

    @property
    def latency(self) -> int:
        """Smallest measured latency of its paths in ms; -1 if none was measured."""
        measured = [entry.path.latency for entry in self.paths if entry.path.latency != UNKNOWN_LATENCY]
        return min(measured, default=-1)

    def learn(self, now: int, path: Path, priority: int = 1) -> PeerPath:
        """Make `path` one of ours, for a dead one to the same IP on the same socket, or for the stalest of 64."""
        entry = PeerPath(path, now, priority)
        path.refs += 1
        path.owner = self.address
        slot = self._slot_for(now, path)
        if slot is None:
            self.paths.append(entry)
        else:
            self.paths[slot].path.refs -= 1
            self.paths[slot] = entry
        return entry

    def _slot_for(self, now: int, path: Path) -> int | None:
        for index, entry in enumerate(self.paths):
            old = entry.path
            if old.binding == path.binding and old.remote.ip == path.remote.ip and (old.doubted or not old.alive(now)):
                return index
        if len(self.paths) < MAX_PATHS:
            return None
        return min(range(len(self.paths)), key=lambda index: self.paths[index].last_receive)

    def keep_paths(self, keep: list[PeerPath]) -> None:
        """Replace the list of paths by a part of it."""
        for entry in self.paths:
            if entry not in keep:
                entry.path.refs -= 1
        self.paths = keep
