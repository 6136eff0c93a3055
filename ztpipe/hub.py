"""Where all workers' messages arrive in control (`ztpipe.ipc`); not there, since workers need no asyncio."""

from __future__ import annotations

import asyncio
from typing import Final

import zmq

from ztpipe.ipc import HIGH_WATER, Message, parse

_AT_ONCE: Final = 32  # messages


class Hub:
    """Control's end, made inside a running loop. Messages that are not well-formed are counted in `malformed`.

    On the socket's own descriptor, without the futures that `zmq.asyncio` makes of each message: there may be hundreds
    a second that lead to nothing (strangers).
    """

    def __init__(self, where: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1 << 20)
        self._socket.bind(where)
        self.malformed = 0
        self._at_once = 0  # messages since others had their turn
        self._something = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._something.set)

    async def receive(self) -> Message:
        """The next message."""
        while True:
            try:
                message = parse(self._socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:  # only now does the descriptor tell of what comes next
                self._something.clear()
                await self._something.wait()
                self._at_once = 0
                continue
            self._at_once += 1
            if self._at_once >= _AT_ONCE:
                self._at_once = 0
                await asyncio.sleep(0)
            if message is not None:
                return message
            self.malformed += 1

    def close(self) -> None:
        """Close at once."""
        self._loop.remove_reader(self._fd)
        self._context.destroy(linger=0)
