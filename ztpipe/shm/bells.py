"""Bells: how workers wake each other. A flag per worker in one shared region, and an eventfd behind each flag.

The protocol (kernel/ring.h): the sleeper raises its flag, passes a fence, looks at its rings once more, and only then
polls; whoever publishes passes a fence, and rings only where the flag is up. So a busy worker is never rung.
"""

from __future__ import annotations

import os
from typing import Any

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.region import Region, RegionError

__all__ = ["Bells"]


class Bells:
    """The flags of all workers (`flag`), and in the creating process their eventfds (`fds`)."""

    __slots__ = ("count", "fds", "region")

    def __init__(self, region: Region, fds: list[int]) -> None:
        self.region = region
        self.count = region.size // ffi.sizeof("struct zt_bell")
        self.fds = fds

    @classmethod
    def create(cls, workers: int) -> Bells:
        """Bells for workers with the ids 0 to `workers` - 1."""
        region = Region.create("ztpipe-bells", workers * ffi.sizeof("struct zt_bell"))
        return cls(region, [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(workers)])

    @classmethod
    def attach(cls, fd: int) -> Bells:
        """The flags alone; a worker is given the eventfds it needs one by one. Raises `RegionError`."""
        region = Region.attach(fd)
        if region.size % ffi.sizeof("struct zt_bell"):
            raise RegionError(f"bells: {region.size} bytes are not a whole number of bells")
        return cls(region, [])

    def flag(self, worker: int) -> Any:
        """``struct zt_bell *`` of a worker id."""
        if not 0 <= worker < self.count:
            raise RegionError(f"bells: no worker {worker} among {self.count}")
        return ffi.cast("struct zt_bell *", self.region.pointer) + worker

    def ring(self, worker: int) -> None:
        """Wake a worker whatever its flag says; for control."""
        lib.zt_bell_awake(self.flag(worker))
        os.eventfd_write(self.fds[worker], 1)

    def close(self) -> None:
        """Unmap the flags and close the eventfds of this object."""
        self.region.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []
