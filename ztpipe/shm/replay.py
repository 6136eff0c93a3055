"""The packets that were seen lately, in the shared tables: one memory for control and all crypto workers."""

from __future__ import annotations

from typing import Any

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.tables import Endpoint, Tables, _endpoint


class SharedReplay:
    """`ztpipe.node.replay.Replay`, by kernel/replay.c."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def seen(self, now: int, packet: bytes, place: tuple[int, Endpoint] | None) -> bool:
        """Was this authentic packet (28 bytes and more, as it came) seen before, here or in a worker?"""
        binding, remote = (0, ffi.NULL) if place is None else (place[0], _endpoint(place[1]))
        data: Any = ffi.from_buffer(packet)
        return bool(lib.zt_replay_check(self._tables.pointer, data, binding, remote, now))
