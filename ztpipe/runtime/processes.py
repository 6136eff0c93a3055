"""What the system knows about our processes."""

from __future__ import annotations

import contextlib
import os
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: object) -> float:
    """User and system time of a process so far; 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def end_tracker() -> None:
    """End the helper process of `multiprocessing` and wait for it.

    It would end a moment after us by itself; but a service manager that still sees it then takes it for a process that
    did not stop, and kills it.
    """
    from multiprocessing import resource_tracker

    stop = getattr(getattr(resource_tracker, "_resource_tracker", None), "_stop", None)
    if stop is not None:
        with contextlib.suppress(OSError):
            stop()
