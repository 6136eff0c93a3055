"""Node time: milliseconds that start at the wall clock and then only go forward.

The kernel adds the same offset to CLOCK_MONOTONIC (`zt_now`), so stamps made by workers compare with the node's
own. A wall clock that is set while we run changes nothing:
credentials are compared with the controller's times, not with ours.
"""

from __future__ import annotations

import time

_ABSENCE_MS = 3_000


class Clock:
    def __init__(self) -> None:
        self._asked = _since_boot()
        self.offset = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000

    def now(self) -> int:
        """Milliseconds since the Unix epoch as of the start of the process, plus what has passed since."""
        return time.monotonic_ns() // 1_000_000 + self.offset

    def was_away(self) -> bool:
        """Whether the machine slept, or this process was stopped, for 3 s or more since the last call; ask often.

        CLOCK_BOOTTIME, unlike CLOCK_MONOTONIC, goes on while the machine sleeps.
        """
        before, self._asked = self._asked, _since_boot()
        return self._asked - before >= _ABSENCE_MS

    def seconds_until(self, deadline: int) -> float:
        return max(0.0, ((deadline - self.offset) * 1_000_000 - time.monotonic_ns()) / 1e9)

    def pause(self, seconds: float) -> float:
        """How long to wait between two rounds of work done every `seconds`: until node time is a multiple of them.

        So what is done now and then is done together, and wakes this process once. Never less than half of `seconds`.
        """
        period = round(seconds * 1e9)
        left = period - (time.monotonic_ns() + self.offset * 1_000_000) % period
        return (left if 2 * left >= period else left + period) / 1e9


def _since_boot() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
