"""Physical paths: one per (local socket, remote endpoint), shared by all peers seen there (vl1-behaviour §2.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ztpipe.node.ratelimit import NEVER, IntervalGate

if TYPE_CHECKING:
    from ztpipe.wire.inetaddress import InetAddress

ALIVE_MS: Final = 19_000
EXPIRED_MS: Final = 243_000
HEARTBEAT_MS: Final = 14_000
TRUST_MS: Final = 600_000
ECHO_GATE_MS: Final = 166

UNKNOWN_LATENCY: Final = 0xFFFF
_MAX_AGE: Final = 140_000
_DEAD_PENALTY: Final = 65_535
_LOOK_AT: Final = 64

PathKey = tuple[int, "InetAddress"]


class Path:
    """Where datagrams go. Times: node ms; `last_in` counts every authentic packet, relayed ones too.

    owner: the peer that learned it last: whom a probe is addressed to. refs: how many peers have it.
    waiting_since: our first datagram that nothing has come back for yet (meaningful if later than `last_in`).
    mtu: UDP payload that is known to pass in one piece, 0 if none is.
    doubted: several probes in a row went unanswered; used only if there is nothing better (our addition).
    """

    __slots__ = (
        "binding",
        "doubted",
        "echo_gate",
        "last_in",
        "last_out",
        "last_probe",
        "last_trusted",
        "latency",
        "mtu",
        "owner",
        "probes",
        "refs",
        "remote",
        "scope",
        "waiting_since",
    )

    def __init__(self, binding: int, remote: InetAddress) -> None:
        self.binding = binding
        self.remote = remote
        self.scope = int(remote.scope)
        self.last_in = NEVER
        self.last_out = NEVER
        self.last_trusted = NEVER
        self.latency = UNKNOWN_LATENCY
        self.mtu = 0
        self.echo_gate = IntervalGate(ECHO_GATE_MS)
        self.refs = 0
        self.owner = 0
        self.waiting_since = NEVER
        self.last_probe = NEVER
        self.probes = 0
        self.doubted = False

    @property
    def key(self) -> PathKey:
        return (self.binding, self.remote)

    def alive(self, now: int) -> bool:
        return now - self.last_in < ALIVE_MS

    def trusted(self, now: int) -> bool:
        return now - self.last_trusted < TRUST_MS

    def needs_heartbeat(self, now: int) -> bool:
        return now - self.last_out >= HEARTBEAT_MS

    def received(self, now: int) -> None:
        if now >= self.last_in:
            self.last_in = now
            self.probes = 0
            self.doubted = False

    def sent(self, now: int) -> None:
        self.last_out = max(now, self.last_out)
        if self.waiting_since <= self.last_in:
            self.waiting_since = now

    def silent_for(self, now: int) -> int:
        """How long we have been sending without anything coming back; 0 if something did."""
        return now - self.waiting_since if self.waiting_since > self.last_in else 0

    def add_latency_sample(self, sample: int) -> None:
        """OK(HELLO) says `sample` ms: the first counts whole, later ones half (vl1-behaviour §2.3)."""
        sample = min(max(sample, 0), UNKNOWN_LATENCY - 1)
        self.latency = sample if self.latency == UNKNOWN_LATENCY else (self.latency + sample) // 2


class PeerPath:
    """A path as one peer's: `last_receive` counts only what was authentic, direct and from this peer on this path."""

    __slots__ = ("last_receive", "path", "priority")

    def __init__(self, path: Path, now: int, priority: int = 1) -> None:
        self.path = path
        self.last_receive = now
        self.priority = priority

    def expired(self, now: int) -> bool:
        return now - self.last_receive >= EXPIRED_MS

    def score(self, now: int) -> int:
        """Smaller is better (vl1-behaviour §2.10). A doubted path counts as dead from the moment it is doubted."""
        path = self.path
        age = min(now - path.last_in, _MAX_AGE)
        base = path.latency
        if path.doubted or age >= ALIVE_MS:
            base += _DEAD_PENALTY + max(age, ALIVE_MS)
        return base * (8 - path.scope) // self.priority


class PathTable:
    """All paths by (binding, remote). Entries are made for authentic packets and for what we send, not for garbage."""

    __slots__ = ("_paths", "capacity")

    def __init__(self, capacity: int = 65_536) -> None:
        self.capacity = capacity
        self._paths: dict[PathKey, Path] = {}

    def find(self, binding: int, remote: InetAddress) -> Path | None:
        return self._paths.get((binding, remote))

    def get(self, binding: int, remote: InetAddress) -> Path:
        """The path, made if need be. In a full table an unused one of the oldest gives way, else it is not kept.

        A root has a path to each of its peers over each of its ports.
        """
        key = (binding, remote)
        path = self._paths.get(key)
        if path is None:
            path = Path(binding, remote)
            if len(self._paths) < self.capacity or self._make_room():
                self._paths[key] = path
        return path

    def keep(self, path: Path) -> None:
        """A peer has learned it: it stays, even in a full table. Peers have few paths each."""
        self._paths.setdefault(path.key, path)

    def _make_room(self) -> bool:
        for _ in range(min(_LOOK_AT, len(self._paths))):
            key = next(iter(self._paths))
            path = self._paths.pop(key)
            if path.refs == 0:
                return True
            self._paths[key] = path  # in use: not looked at again soon
        return False

    def housekeeping(self, now: int) -> None:
        """Drop what no peer refers to and nothing used for a while (their trust would be over at `TRUST_MS` anyway)."""
        stale = [
            key
            for key, path in self._paths.items()
            if path.refs == 0 and not path.trusted(now) and now - max(path.last_in, path.last_out) >= 30_000
        ]
        for key in stale:
            del self._paths[key]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths.values())

    def __len__(self) -> int:
        return len(self._paths)
