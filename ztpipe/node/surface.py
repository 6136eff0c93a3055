"""Self-awareness: from which addresses others see us (vl1-behaviour §2.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ztpipe.wire.inetaddress import InetAddress

RECORD_MS: Final = 600_000
CAPACITY: Final = 1_024
_UNTOLD_SCOPES: Final = frozenset({0, 1, 2})  # none, multicast, loopback

SurfaceKey = tuple[int, int, "InetAddress", int]


@dataclass(slots=True)
class SurfaceRecord:
    reported: InetAddress
    at: int
    from_root: bool


class Surface:
    """Reports, keyed by (reporter, binding, reporter's physical address, scope). Bounded, oldest forgotten first."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[SurfaceKey, SurfaceRecord] = {}

    def report(
        self, now: int, *, reporter: int, root: bool, binding: int, remote: InetAddress, seen: InetAddress
    ) -> int | None:
        """A peer at `remote` says it sees us as `seen` (received directly). Returns the scope in which our external
        address changed, so that all paths of that scope and family must prove themselves again; None if it did not."""
        scope = int(seen.scope)
        if scope in _UNTOLD_SCOPES or scope != int(remote.scope):
            return None
        key = (reporter, binding, remote, scope)
        old = self._records.pop(key, None)
        changed = root and old is not None and now - old.at < RECORD_MS and old.reported.ip != seen.ip
        if changed:
            for other in [k for k in self._records if k[3] == scope and k[2] != remote]:
                del self._records[other]
        elif len(self._records) >= CAPACITY:
            del self._records[next(iter(self._records))]
        self._records[key] = SurfaceRecord(seen, now, root)
        return scope if changed else None

    def addresses(self) -> list[InetAddress]:
        """Distinct reported addresses that name a port, newest last."""
        return list(dict.fromkeys(r.reported for r in self._records.values() if r.reported.port))

    def keep_bindings(self, bindings: set[int]) -> None:
        """Sockets have gone: what they were seen as leads nowhere any more."""
        for key in [k for k in self._records if k[1] not in bindings]:
            del self._records[key]

    def expire(self, now: int) -> None:
        for key in [k for k, record in self._records.items() if now - record.at >= RECORD_MS]:
            del self._records[key]

    def __len__(self) -> int:
        return len(self._records)
