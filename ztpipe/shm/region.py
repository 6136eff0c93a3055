"""A region: memory of a fixed size behind a file descriptor (memfd), shared by the processes that hold the descriptor.

The size is sealed, so no process can make another one fault by truncating the file. Regions have no name in the
file system and vanish with their last user, however that ends.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Any, Final

from ztpipe.kernel._kernel import ffi

__all__ = ["Region", "RegionError"]

_SIZE_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class RegionError(Exception):
    """A region that cannot be used: not one of ours, made by another version, or of the wrong size."""


class Region:
    """Mapped shared memory. `pointer` is valid until `close`; `fd` is -1 for memory private to this process."""

    __slots__ = ("_map", "fd", "pointer", "size")

    def __init__(self, fd: int, memory: mmap.mmap, size: int) -> None:
        self.fd = fd
        self.size = size
        self._map = memory
        #: cffi ``char[]`` over the whole region.
        self.pointer: Any = ffi.from_buffer(memory)

    @classmethod
    def create(cls, name: str, size: int) -> Region:
        """A new region of `size` zero bytes; `name` only shows in /proc. The descriptor is close-on-exec."""
        if size <= 0:
            raise RegionError(f"region {name}: a size of {size} bytes is not possible")
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SIZE_SEALS | fcntl.F_SEAL_SEAL)
            return cls(fd, mmap.mmap(fd, size), size)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def private(cls, size: int) -> Region:
        """Memory of this process alone, for rings between stages of one process."""
        return cls(-1, mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), size)

    @classmethod
    def attach(cls, fd: int, *, writable: bool = True) -> Region:
        """Map the region behind `fd`, which this object then owns. A write to a read-only mapping ends the process.

        Raises `RegionError` when `fd` is not a memfd whose size is sealed.
        """
        try:
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SIZE_SEALS == _SIZE_SEALS
            size = os.fstat(fd).st_size
        except OSError as error:
            raise RegionError(f"descriptor {fd} is not a shared region: {error.strerror}") from None
        if not sealed or size == 0:
            raise RegionError(f"descriptor {fd} is not a shared region: its size ({size}) can still change")
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return cls(fd, mmap.mmap(fd, size, access=access), size)

    def close(self) -> None:
        """Unmap, and close the descriptor. Nothing may use `pointer` or anything cast from it any more."""
        ffi.release(self.pointer)
        self._map.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
