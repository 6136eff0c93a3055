"""TCP connections to the API: how many there may be, how long they may take, and what counts as HTTP (service §4.1).

`Acceptor` takes them from the listeners, or closes them on the spot when they are too many. That costs some 40 µs each,
so after a few of them it leaves the listener alone for a moment: the kernel's queue fills up, and whoever comes then
costs next to nothing. What was admitted is a `Connection`.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import functools
import math
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import http_exceptions, web

from ztpipe.api import answers

MAX_CONNECTIONS: Final = 512
_ACCEPTS_PER_TURN: Final = 64
_PAUSE: Final = 0.1
"""Seconds without accepting after a turn in which a connection was refused."""
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_HEAD_LIMIT: Final = 64 << 10
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Source(enum.Enum):
    """Where a connection comes from."""

    LOCAL = "this host"
    MANAGEMENT = "an address in allowManagementFrom"
    STRANGER = "anywhere else"


@dataclass(slots=True)
class Budget:
    """What the connections of one kind may take together: `most` open at once, and `rate` new ones a second, with
    bursts of `most`. Times are seconds of any clock."""

    most: int
    rate: float
    open: int = 0
    _filled: float = 0.0
    _allowance: float = math.inf

    def enter(self, now: float) -> bool:
        """Whether one more may be served; if so, it is open."""
        self._allowance = min(self.most, self._allowance + (now - self._filled) * self.rate)
        self._filled = now
        if self.open >= self.most or self._allowance < 1:
            return False
        self._allowance -= 1
        self.open += 1
        return True


class Admission:
    """Counts open connections and refuses those beyond the limits: others cannot lock out the programs on this host,
    and those who may only ask for metrics cannot keep it busy."""

    def __init__(self) -> None:
        self.budgets = {
            Source.LOCAL: Budget(MAX_CONNECTIONS, math.inf),
            Source.MANAGEMENT: Budget(256, 100),
            Source.STRANGER: Budget(64, 20),
        }
        self.refused = 0

    def enter(self, now: float, source: Source) -> bool:
        """Whether one more connection may be served; if so, `leave` must follow."""
        full = sum(budget.open for budget in self.budgets.values()) >= MAX_CONNECTIONS
        if full or not self.budgets[source].enter(now):
            self.refused += 1
            return False
        return True

    def leave(self, source: Source) -> None:
        self.budgets[source].open -= 1


class Acceptor:
    """Takes connections from listening sockets and gives those that are admitted to a server.

    `source` tells where an address is.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], server: ConnectionServer, source: Callable[[str], Source]
    ) -> None:
        self._sockets = sockets
        self._source = source
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._admission = Admission()
        self._starting: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Close the listeners; what was accepted goes on."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()

    def _accept(self, listener: socket.socket) -> None:
        refused = self._admission.refused
        pause = self._accept_some(listener)
        if self._admission.refused != refused:
            pause = max(pause, _PAUSE)
        if pause:
            self._loop.remove_reader(listener)
            self._loop.call_later(pause, self._resume, listener)

    def _accept_some(self, listener: socket.socket) -> float:
        """One turn; seconds to wait until the next."""
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return 0
            except OSError as error:  # without descriptors it would be tried again and again: the others need them
                return 1 if error.errno in _NO_DESCRIPTORS else 0
            source = self._source(str(peer[0]))
            if self._admission.enter(self._loop.time(), source):
                self._serve(sock, source)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                sock.close()
        return 0

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept, listener)

    def _serve(self, sock: socket.socket, source: Source) -> None:
        sock.setblocking(False)
        made = functools.partial(self._server, ended=functools.partial(self._admission.leave, source))
        task = asyncio.ensure_future(self._loop.connect_accepted_socket(made, sock))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)


class Connection(web.RequestHandler):
    """One client. Unlike plain aiohttp it accepts a first request of HTTP/1.1 without ``Host``, which is what
    zerotier-cli of the reference sends (service §2.3); such a connection carries no second request.

    What is not HTTP gets an empty 400 (414 for an endless request line), without noise in the log. A client that sends
    no whole head within the idle time is closed.
    """

    hostless = False
    _head: bytes | None = b""  # of the first request, until it is complete

    def __init__(self, manager: web.Server, ended: Callable[[], None], **options: Any) -> None:
        super().__init__(manager, **options)
        self._ended = ended

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0 and len(data) < _HEAD_LIMIT:
                self._head = data
                return
            self._head = None
            if end >= 0 and b"\nhost:" not in data[:end].lower():
                self.hostless = True
                data = data.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nHost: localhost\r\n", 1)
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, http_exceptions.LineTooLong):
            status = HTTPStatus.REQUEST_URI_TOO_LONG
        response = answers.nothing(status)
        response.force_close()
        return response


class ConnectionServer(web.Server):
    """Makes a `Connection` for each client; `ended` is called when it is gone."""

    def __call__(self, ended: Callable[[], None] = lambda: None) -> web.RequestHandler:
        return Connection(self, ended, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An `AppRunner` whose server is a `ConnectionServer`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return ConnectionServer(made.request_handler, request_factory=made.request_factory, **made._kwargs)
