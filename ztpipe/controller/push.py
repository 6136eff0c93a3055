"""What goes out unasked: configurations after a change, and revocations (controller §9)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from ztpipe.wire.credentials import Revocation

#: Configurations built per call, so that a large network does not hold up the node.
PUSHES_PER_ROUND: Final = 8
#: A member reads one packet of credentials per second and sender (vl2 §3.9).
REVOCATION_INTERVAL: Final = 1_100
#: 152 bytes each; the packet stays below 10 000 bytes.
REVOCATIONS_PER_PACKET: Final = 60
MAX_PENDING_REVOCATIONS: Final = 65_536


class PushQueue:
    """The (network, member) pairs that are to get a new configuration, each once, in order."""

    def __init__(self) -> None:
        self._pending: OrderedDict[tuple[int, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, nwid: int, address: int) -> None:
        """Queue a member, unless it is queued already."""
        self._pending.setdefault((nwid, address))

    def take(self, limit: int = PUSHES_PER_ROUND) -> Iterator[tuple[int, int]]:
        """Remove and yield up to `limit` pairs."""
        for _ in range(min(limit, len(self._pending))):
            yield self._pending.popitem(last=False)[0]


class RevocationQueue:
    """Signed revocations by network, handed out in batches with a pause between two of the same network."""

    def __init__(self) -> None:
        self._pending: dict[int, list[Revocation]] = {}
        self._not_before: dict[int, int] = {}
        self._count = 0

    def add(self, revocation: Revocation) -> bool:
        """Queue one; False if the queue is full."""
        if self._count >= MAX_PENDING_REVOCATIONS:
            return False
        self._pending.setdefault(revocation.nwid, []).append(revocation)
        self._count += 1
        return True

    def take(self, now: int) -> list[tuple[int, tuple[Revocation, ...]]]:
        """Remove and return the batches that may be sent now."""
        batches: list[tuple[int, tuple[Revocation, ...]]] = []
        for nwid in list(self._pending):
            if self._not_before.get(nwid, now) > now:
                continue
            pending = self._pending[nwid]
            batches.append((nwid, tuple(pending[:REVOCATIONS_PER_PACKET])))
            self._pending[nwid] = pending[REVOCATIONS_PER_PACKET:]
            self._count -= len(batches[-1][1])
            self._not_before[nwid] = now + REVOCATION_INTERVAL
        self._pending = {nwid: pending for nwid, pending in self._pending.items() if pending}
        self._not_before = {nwid: time for nwid, time in self._not_before.items() if time > now}
        return batches

    def next_deadline(self, now: int) -> int | None:
        """When `take` has something to return; None if nothing is pending."""
        return min((self._not_before.get(nwid, now) for nwid in self._pending), default=None)
