"""TCP connections to the API: how many there may be, how long they may take, and what counts as HTTP (service §4.1).

`Acceptor` takes them from the listeners, or closes them on the spot when they are too many. That costs some 40 µs each,
so after a few of them it leaves the listener alone for a moment: the kernel's queue fills up, and whoever comes then
costs next to nothing. What was admitted is a `Connection`; what it sends is read no faster than its source's `Budget`
allows, so that bodies without end cost little.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import functools
import math
import re
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
LINE_LIMIT: Final = 8192
_LINGER: Final = 0.3  # seconds in which who was refused may go on to send, so that no reset overtakes the answer
_REQUEST_LINE: Final = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) [^ ]+ HTTP/1\.[01]")
_REFUSALS: Final = {HTTPStatus.BAD_REQUEST: b"400 Bad Request", HTTPStatus.REQUEST_URI_TOO_LONG: b"414 URI Too Long"}
_INFLOW_BURST: Final = 2.0
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Source(enum.Enum):
    """Where a connection comes from."""

    LOCAL = "this host"
    MANAGEMENT = "an address in allowManagementFrom"
    STRANGER = "anywhere else"


@dataclass(slots=True)
class Budget:
    """What the connections of one kind may take together: `most` open at once, `rate` new ones a second with bursts of
    `burst`, and `inflow` bytes a second with bursts of two seconds' worth. Times are seconds of any clock."""

    most: int
    rate: float
    burst: float
    inflow: float
    open: int = 0
    _filled: float = 0.0
    _allowance: float = math.inf
    _read_until: float = 0.0  # by when all that was read would have come at the rate of `inflow`

    def enter(self, now: float) -> bool:
        """Whether one more may be served; if so, it is open."""
        self._allowance = min(self.burst, self._allowance + (now - self._filled) * self.rate)
        self._filled = now
        if self.open >= self.most or self._allowance < 1:
            return False
        self._allowance -= 1
        self.open += 1
        return True

    def read(self, now: float, size: int) -> float:
        """Account for `size` bytes; seconds for which nothing more should be read (0: none)."""
        self._read_until = max(self._read_until, now - _INFLOW_BURST) + size / self.inflow
        return max(0.0, self._read_until - now)


class Admission:
    """Counts open connections and refuses those beyond the limits: others cannot lock out the programs on this host,
    and those who may only ask for metrics cannot keep it busy."""

    def __init__(self) -> None:
        self.budgets = {
            Source.LOCAL: Budget(MAX_CONNECTIONS, math.inf, math.inf, 16 << 20),
            Source.MANAGEMENT: Budget(256, 100, 256, 8 << 20),
            Source.STRANGER: Budget(64, 10, 20, 64 << 10),
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
        # What remains of it in TIME_WAIT is no obstacle to a zerotier-one that is started next, which binds with this.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
        ended = functools.partial(self._admission.leave, source)
        made = functools.partial(self._server, ended=ended, budget=self._admission.budgets[source])
        task = asyncio.ensure_future(self._loop.connect_accepted_socket(made, sock))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)


class Connection(web.RequestHandler):
    """One client. Unlike plain aiohttp it accepts a first request of HTTP/1.1 without ``Host``, which is what
    zerotier-cli of the reference sends (service §2.3); such a connection carries no second request.

    What is not HTTP gets an empty 400 (414 for an endless request line), without noise in the log. A client that sends
    no whole head within the idle time is closed. Reading pauses while the `budget` is overdrawn.
    """

    hostless = False
    _head: bytes | None = b""  # of the first request, until it is complete
    _refused = False
    _held: asyncio.TimerHandle | None = None

    def __init__(
        self, manager: web.Server, ended: Callable[[], None], budget: Budget | None = None, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._ended = ended
        self._budget = budget

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._held is not None:
            self._held.cancel()
        self._ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._budget is not None and data:
            self._hold(self._budget.read(self._loop.time(), len(data)))
        if not self._refused:
            self._receive(data)

    def _hold(self, seconds: float) -> None:
        if seconds > 0 and self._held is None and self.transport is not None:
            self.transport.pause_reading()
            self._held = self._loop.call_later(seconds, self._release)

    def _release(self) -> None:
        self._held = None
        if self.transport is not None and not self._reading_paused and not getattr(self, "_buffer_paused", False):
            self.transport.resume_reading()

    def resume_reading(self, *arguments: bool, **options: bool) -> None:
        """Called by aiohttp when a body's buffer has room; a hold goes on nevertheless."""
        super().resume_reading(*arguments, **options)
        if self._held is not None and self.transport is not None:
            self.transport.pause_reading()

    def _receive(self, data: bytes) -> None:
        if self._head is not None:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0 and len(data) < _HEAD_LIMIT:
                self._head = data
                return
            self._head = None
            fault = _fault(data[:end]) if end >= 0 else _fault(data) or HTTPStatus.BAD_REQUEST
            if fault is not None:
                self._refuse(fault)
                return
            if b"\nhost:" not in data[:end].lower():
                self.hostless = True
                data = data.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nHost: localhost\r\n", 1)
        super().data_received(data)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer before anything costly is made of it."""
        self._refused = True
        if self.transport is not None:
            head = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nKeep-Alive: timeout=5, max=5\r\nConnection: close\r\n\r\n"
            self.transport.write(head % _REFUSALS[status])
            self._loop.call_later(_LINGER, self.transport.close)

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


def _fault(head: bytes) -> HTTPStatus | None:
    """What is wrong with the head of a first request, if something is."""
    line, *fields = head.split(b"\r\n")
    if len(line) > LINE_LIMIT:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    hosts = sum(field[:5].lower() == b"host:" for field in fields)
    if _REQUEST_LINE.fullmatch(line) is None or hosts > 1 or any(len(field) > LINE_LIMIT for field in fields):
        return HTTPStatus.BAD_REQUEST
    return None


class ConnectionServer(web.Server):
    """Makes a `Connection` for each client; `ended` is called when it is gone."""

    def __call__(self, ended: Callable[[], None] = lambda: None, budget: Budget | None = None) -> web.RequestHandler:
        return Connection(self, ended, budget, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An `AppRunner` whose server is a `ConnectionServer`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return ConnectionServer(made.request_handler, request_factory=made.request_factory, **made._kwargs)
