"""Packets that cannot be handled yet (vl1-behaviour §4.4): sealed ones of unknown senders, opened ones VL2 deferred.

Bounded by number, per sender and in all; the oldest gives way.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ztpipe.node.seam import PacketContext
    from ztpipe.wire.inetaddress import InetAddress

TIMEOUT_MS: Final = 5_000
MAX_SEALED: Final = 256
MAX_SEALED_PER_SOURCE: Final = 32
MAX_PARKED: Final = 256
MAX_PARKED_PER_SOURCE: Final = 32


class Sealed(NamedTuple):
    """A packet as it came."""

    binding: int
    remote: InetAddress
    packet: bytes


class Deferral:
    """The two waiting rooms. Methods that may have to throw something out return the drop reason."""

    __slots__ = ("_parked", "_parked_of", "_sealed", "_sealed_count")

    def __init__(self) -> None:
        self._sealed: dict[int, deque[tuple[int, Sealed]]] = {}
        self._sealed_count = 0
        self._parked: deque[tuple[int, PacketContext]] = deque()
        self._parked_of: Counter[int] = Counter()

    # -- sealed: the sender's identity is not known ---------------------------------------------------------------

    def keep_sealed(self, now: int, source: int, sealed: Sealed) -> str | None:
        queue = self._sealed.setdefault(source, deque())
        queue.append((now + TIMEOUT_MS, sealed))
        self._sealed_count += 1
        if len(queue) > MAX_SEALED_PER_SOURCE:
            self._pop_sealed(source)
            return "rx_source_queue_full"
        if self._sealed_count > MAX_SEALED:
            self._pop_sealed(next(iter(self._sealed)))
            return "rx_queue_full"
        return None

    def _pop_sealed(self, source: int) -> None:
        queue = self._sealed[source]
        queue.popleft()
        self._sealed_count -= 1
        if not queue:
            del self._sealed[source]

    def release(self, source: int) -> list[Sealed]:
        """What waited for this sender, in arrival order; it waits no longer."""
        queue = self._sealed.pop(source, None)
        if queue is None:
            return []
        self._sealed_count -= len(queue)
        return [sealed for _, sealed in queue]

    def sources(self) -> list[int]:
        """Unknown senders of which something waits."""
        return list(self._sealed)

    def expire_sealed(self, now: int) -> int:
        """Throw out what waited too long; how many."""
        before = self._sealed_count
        for source in list(self._sealed):
            while source in self._sealed and now >= self._sealed[source][0][0]:
                self._pop_sealed(source)
        return before - self._sealed_count

    # -- parked: opened, but VL2 said DEFER -----------------------------------------------------------------------

    def park(self, ctx: PacketContext) -> str | None:
        """Keep it. One sender without credentials cannot take the room of all."""
        if self._parked_of[ctx.peer.address] >= MAX_PARKED_PER_SOURCE:
            return "rx_deferred_source_full"
        self.park_again(ctx.now + TIMEOUT_MS, ctx)
        if len(self._parked) > MAX_PARKED:
            _, oldest = self._parked.popleft()
            self._parked_of[oldest.peer.address] -= 1
            return "rx_deferred_full"
        return None

    def park_again(self, deadline: int, ctx: PacketContext) -> None:
        """After another attempt: the time limit stays that of the first."""
        self._parked.append((deadline, ctx))
        self._parked_of[ctx.peer.address] += 1

    def take_parked(self) -> list[tuple[int, PacketContext]]:
        """All parked packets, in arrival order."""
        parked = list(self._parked)
        self._parked.clear()
        self._parked_of.clear()
        return parked

    def __len__(self) -> int:
        return self._sealed_count + len(self._parked)
