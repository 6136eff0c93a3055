"""Which offloads this kernel has: asked for once at start, never assumed.

What is missing has a plain fallback in the kernel stages, so a probe that fails costs speed, not function.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass

from ztpipe.host.sockets import udp_offloads
from ztpipe.host.tap import TSO, USO, TapError, open_queue

_TUNSETOFFLOAD = 0x400454D0


@dataclass(frozen=True, slots=True)
class Offloads:
    """tso, uso: super-frames of TCP and UDP on TAPs; gso, gro: UDP segmentation when sending, coalescing on receipt."""

    tso: bool
    uso: bool
    gso: bool
    gro: bool


def probe() -> Offloads:
    """Ask the kernel, with a throw-away TAP that is never brought up and a socket that is never bound."""
    gso, gro = udp_offloads()
    tso, uso = _tap_offloads()
    return Offloads(tso, uso, gso, gro)


def _tap_offloads() -> tuple[bool, bool]:
    try:
        fd = open_queue(f"zt{os.getpid() % 10**8:08d}p")
    except TapError:
        return False, False
    try:
        return _accepts(fd, int(TSO)), _accepts(fd, int(TSO | USO))
    finally:
        os.close(fd)


def _accepts(fd: int, offload: int) -> bool:
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, offload)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return False
    return True
