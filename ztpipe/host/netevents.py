"""What the kernel says of changes to links, addresses and routes: only that there were some, so nothing is parsed.

Whoever hears of a change looks at what there is now. A host with a full routing table changes many routes a second:
those that are added do not concern us, and of the others only the type is read.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator
from enum import Flag, auto
from types import TracebackType
from typing import Final, Self

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_BUFFER: Final = 1 << 16
_SETTLE_SECONDS: Final = 0.05
_READS_PER_TURN: Final = 64

#: RTMGRP_LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_ROUTE, IPV6_ROUTE, IPV4_RULE, and RTNLGRP_IPV6_RULE
_GROUPS: Final = 0x1 | 0x10 | 0x100 | 0x40 | 0x400 | 0x80 | 0x40000


class Change(Flag):
    """LINKS: links or their addresses are others than before. ROUTES: a route or a rule was removed."""

    LINKS = auto()
    ROUTES = auto()


_TYPES: Final = {16: Change.LINKS, 17: Change.LINKS, 20: Change.LINKS, 21: Change.LINKS, 25: Change.ROUTES,
                 33: Change.ROUTES}  # fmt: skip
_EVERYTHING: Final = Change.LINKS | Change.ROUTES


class NetEvents:
    """A socket of the kernel's notices. Use as `with NetEvents() as events: async for change in events:`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, _GROUPS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    async def __aiter__(self) -> AsyncIterator[Change]:
        """Yields after something changed, bursts folded into one. Raises OSError."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            while True:
                await readable.wait()
                await asyncio.sleep(_SETTLE_SECONDS)
                readable.clear()
                change = self._read()
                if change:
                    yield change
        finally:
            loop.remove_reader(self._socket)

    def _read(self) -> Change:
        found = Change(0)
        for _ in range(_READS_PER_TURN):  # what is left makes the socket readable again
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return _EVERYTHING  # some notices were lost
            found |= changes_in(data)
        return found


def changes_in(data: bytes) -> Change:
    """What the messages of one datagram speak of; a broken one ends the reading."""
    found, offset = Change(0), 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            break
        found |= _TYPES.get(kind, Change(0))
        offset += (length + 3) & ~3
    return found
