"""Node time: milliseconds that start at the wall clock and then only go forward.

The kernel adds the same offset to CLOCK_MONOTONIC (`zt_now`), so stamps made by workers compare with the node's
own. A wall clock that is set while we run changes nothing:
credentials are compared with the controller's times, not with ours.
"""

from __future__ import annotations

import time


class Clock:
    def __init__(self) -> None:
        self.offset = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000

    def now(self) -> int:
        """Milliseconds since the Unix epoch as of the start of the process, plus what has passed since."""
        return time.monotonic_ns() // 1_000_000 + self.offset

    def seconds_until(self, deadline: int) -> float:
        return max(0.0, (deadline - self.now()) / 1000)
