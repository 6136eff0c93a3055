"""Which packets of ours may still be answered by OK (vl1-behaviour §4.6).

Only packets that can be answered are registered, with their whole wire ID and a time limit; so no load of frames pushes
a pending HELLO out of the table, as it does in the reference.
"""

from __future__ import annotations

from typing import Final

CAPACITY: Final = 8_192
LIFETIME_MS: Final = 30_000


class ExpectedReplies:
    """Wire packet ID -> time after which an OK to it is no longer believed. Oldest first."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: dict[int, int] = {}

    def expect(self, now: int, packet_id: int) -> None:
        """An OK naming `packet_id` is welcome, any number of times, for `LIFETIME_MS`."""
        deadlines = self._deadlines
        deadlines.pop(packet_id, None)
        if len(deadlines) >= CAPACITY:
            del deadlines[next(iter(deadlines))]
        deadlines[packet_id] = now + LIFETIME_MS

    def expects(self, now: int, packet_id: int) -> bool:
        deadline = self._deadlines.get(packet_id)
        return deadline is not None and now < deadline

    def expire(self, now: int) -> None:
        deadlines = self._deadlines
        while deadlines:
            oldest = next(iter(deadlines))
            if now < deadlines[oldest]:
                return
            del deadlines[oldest]

    def __len__(self) -> int:
        return len(self._deadlines)
