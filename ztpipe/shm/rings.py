"""Rings: slots that travel from one stage to another (kernel/ring.h). Python makes, attaches and sweeps them; it never
touches a slot."""

from __future__ import annotations

import errno
import os
from typing import Any

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.region import Region, RegionError

__all__ = ["RingRegion", "RingSet"]

_REASONS = {
    errno.EPROTO: "it holds no ring",
    errno.EPROTONOSUPPORT: f"it was made for another ABI version than {lib.ZT_ABI_VERSION}",
    errno.EINVAL: "its sizes or indices do not fit together",
    errno.ENOSPC: f"there are {lib.ZT_MAX_RINGS} rings already",
}


class RingRegion:
    """One ring in a region of its own, so that a process maps the rings it takes part in and no other."""

    __slots__ = ("region", "slots")

    def __init__(self, region: Region, slots: int) -> None:
        self.region = region
        self.slots = slots

    @classmethod
    def create(cls, name: str, slots: int, producer: int, consumer: int, *, private: bool = False) -> RingRegion:
        """A ring of `slots` (a power of two) between two worker ids; `private`: both are this process."""
        size = lib.zt_ring_size(slots)
        if size == 0:
            raise RegionError(f"ring {name}: {slots} slots; a power of two from 2 to 4096 is possible")
        region = Region.private(size) if private else Region.create(name, size)
        _check(name, lib.zt_ring_init(region.pointer, size, slots, producer, consumer))
        return cls(region, slots)

    @classmethod
    def attach(cls, fd: int) -> RingRegion:
        """Raises `RegionError` with the reason when `fd` holds no ring that this program can use."""
        region = Region.attach(fd)
        try:
            _check(str(fd), lib.zt_ring_check(region.pointer, region.size))
        except RegionError:
            region.close()
            raise
        return cls(region, region.size // lib.ZT_SLOT_BYTES)

    @property
    def used(self) -> int:
        """Slots published and not yet released."""
        return int(lib.zt_ring_used(ffi.cast("struct zt_ring *", self.region.pointer)))

    def sweep(self) -> int:
        """Drop everything that waits in it; only while the consumer does not run. Returns the number of slots."""
        return int(lib.zt_ring_sweep(ffi.cast("struct zt_ring *", self.region.pointer)))

    def close(self) -> None:
        """Unmap."""
        self.region.close()


class RingSet:
    """The rings of one stage in one direction, in the order of the workers at the other end."""

    __slots__ = ("_rings", "pointer")

    def __init__(self) -> None:
        self.pointer: Any = ffi.gc(lib.zt_ring_set_new(), lib.zt_ring_set_free)
        if not self.pointer:
            raise MemoryError
        self._rings: list[RingRegion] = []  # keeps them mapped

    def __len__(self) -> int:
        return len(self._rings)

    def add(self, ring: RingRegion, bell: Any = ffi.NULL, bell_fd: int = -1) -> None:
        """Append one end of `ring`, where it stands; bell and fd are those of the worker at the other end."""
        pointer, size = ring.region.pointer, ring.region.size
        _check(str(ring.region.fd), lib.zt_ring_set_add(self.pointer, pointer, size, bell, bell_fd))
        self._rings.append(ring)

    def end(self, index: int) -> Any:
        """``struct zt_ring_ref *`` of the ring at `index`; for tests and tools."""
        return ffi.addressof(self.pointer.ring, index)


def _check(name: str, code: int) -> None:
    if code < 0:
        raise RegionError(f"ring {name}: {_REASONS.get(-code, os.strerror(-code))}")
