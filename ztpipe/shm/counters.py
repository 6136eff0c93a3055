"""Counters: one block of 64-bit numbers per worker, written by that worker alone and read by control and the API.

Names and meanings come from the kernel (kernel/counters.h is the one list). A restarted worker goes on in its block, so
counters never go backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.region import Region, RegionError

__all__ = ["INDEX", "NAMES", "TEXTS", "Counters"]

#: Counter names in the order of the kernel's enumeration.
NAMES: Final[tuple[str, ...]] = tuple(ffi.string(lib.zt_counter_name(i)).decode() for i in range(lib.ZT_COUNTERS))
#: Counter name -> one line of explanation.
TEXTS: Final[dict[str, str]] = {name: ffi.string(lib.zt_counter_text(i)).decode() for i, name in enumerate(NAMES)}
#: Counter name -> index in a block.
INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(NAMES)}

_BLOCK_BYTES: Final = 8 * lib.ZT_COUNTER_BLOCK


class Counters:
    """The blocks of `workers`, by worker id."""

    __slots__ = ("region", "workers")

    def __init__(self, region: Region, workers: Sequence[str]) -> None:
        self.region = region
        self.workers = tuple(workers)

    @classmethod
    def create(cls, workers: Sequence[str]) -> Counters:
        """Zeroed blocks for workers of these names; position = worker id."""
        return cls(Region.create("ztpipe-counters", max(1, len(workers)) * _BLOCK_BYTES), workers)

    @classmethod
    def attach(cls, fd: int, workers: Sequence[str]) -> Counters:
        """Raises `RegionError` when the region does not have a block for each of `workers`."""
        region = Region.attach(fd)
        if region.size < len(workers) * _BLOCK_BYTES:
            raise RegionError(f"counters: {region.size} bytes cannot hold {len(workers)} blocks of {_BLOCK_BYTES}")
        return cls(region, workers)

    def block(self, worker: int) -> Any:
        """``uint64_t *`` of the block of a worker id."""
        if not 0 <= worker < self.region.size // _BLOCK_BYTES:
            raise RegionError(f"counters: no block {worker}")
        return ffi.cast("uint64_t *", self.region.pointer) + worker * lib.ZT_COUNTER_BLOCK

    def read(self, worker: int) -> dict[str, int]:
        """Every counter of one worker."""
        return dict(zip(NAMES, ffi.unpack(self.block(worker), len(NAMES)), strict=True))

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Worker name -> counter name -> value."""
        return {name: self.read(worker) for worker, name in enumerate(self.workers)}

    def close(self) -> None:
        """Unmap."""
        self.region.close()
