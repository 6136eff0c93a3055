"""Which packets of ours may still be answered by OK (vl1-behaviour §4.6).

Only packets that can be answered are registered, with their whole wire ID, whom they are for and a time limit; so no
load of frames pushes a pending HELLO out of the table, as it does in the reference, and nobody answers for another:
relays see the IDs of what they pass on.
"""

from __future__ import annotations

from typing import Final

CAPACITY: Final = 8_192
LIFETIME_MS: Final = 30_000


class ExpectedReplies:
    """Wire packet ID -> (time after which an OK to it is no longer believed, the only peer it may come from).

    Oldest first.
    """

    __slots__ = ("_expected",)

    def __init__(self) -> None:
        self._expected: dict[int, tuple[int, int]] = {}

    def expect(self, now: int, packet_id: int, peer: int) -> None:
        """An OK of `peer` naming `packet_id` is welcome, any number of times, for `LIFETIME_MS`."""
        expected = self._expected
        expected.pop(packet_id, None)
        if len(expected) >= CAPACITY:
            del expected[next(iter(expected))]
        expected[packet_id] = (now + LIFETIME_MS, peer)

    def expects(self, now: int, packet_id: int, peer: int) -> bool:
        deadline, wanted = self._expected.get(packet_id, (now, 0))
        return now < deadline and peer == wanted

    def expire(self, now: int) -> None:
        expected = self._expected
        while expected:
            oldest = next(iter(expected))
            if now < expected[oldest][0]:
                return
            del expected[oldest]

    def __len__(self) -> int:
        return len(self._expected)
