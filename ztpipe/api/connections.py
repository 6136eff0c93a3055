"""TCP connections to the API: how many there may be, how long they may take, and what counts as HTTP (service §4.1).

`Acceptor` takes them from the listeners, or closes them on the spot when they are too many: that costs a few system
calls, and no frame waits for it. What was admitted is a `Connection`.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import struct
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import http_exceptions, web

from ztpipe.api import answers

MAX_CONNECTIONS: Final = 512
MAX_REMOTE_CONNECTIONS: Final = 256
"""Of those, what other hosts may hold together: they cannot lock out the programs on this one."""
REMOTE_RATE: Final = 100
"""New connections a second from other hosts, all together; up to MAX_REMOTE_CONNECTIONS of a burst."""
_ACCEPTS_PER_TURN: Final = 64
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_HEAD_LIMIT: Final = 64 << 10
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Admission:
    """Counts open connections and refuses those beyond the limits. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._open = 0
        self._remote = 0
        self._allowance = float(MAX_REMOTE_CONNECTIONS)
        self._filled = 0.0
        self.refused = 0

    def enter(self, now: float, *, remote: bool) -> bool:
        """Whether one more connection may be served; if so, `leave` must follow."""
        if self._open >= MAX_CONNECTIONS or (remote and not self._enter_remote(now)):
            self.refused += 1
            return False
        self._open += 1
        self._remote += remote
        return True

    def _enter_remote(self, now: float) -> bool:
        self._allowance = min(MAX_REMOTE_CONNECTIONS, self._allowance + (now - self._filled) * REMOTE_RATE)
        self._filled = now
        if self._remote >= MAX_REMOTE_CONNECTIONS or self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def leave(self, *, remote: bool) -> None:
        self._open -= 1
        self._remote -= remote


class Acceptor:
    """Takes connections from listening sockets and gives those that are admitted to a server."""

    def __init__(self, sockets: Sequence[socket.socket], server: ConnectionServer) -> None:
        self._sockets = sockets
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
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:  # it would be tried again and again: give the others a second
                    self._loop.remove_reader(listener)
                    self._loop.call_later(1.0, self._resume, listener)
                return
            remote = _is_remote(str(peer[0]))
            if self._admission.enter(self._loop.time(), remote=remote):
                self._serve(sock, remote=remote)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                sock.close()

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept, listener)

    def _serve(self, sock: socket.socket, *, remote: bool) -> None:
        sock.setblocking(False)
        made = functools.partial(self._server, ended=functools.partial(self._admission.leave, remote=remote))
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


def _is_remote(host: str) -> bool:
    return not (host.startswith("127.") or host == "::1")


class ConnectionServer(web.Server):
    """Makes a `Connection` for each client; `ended` is called when it is gone."""

    def __call__(self, ended: Callable[[], None] = lambda: None) -> web.RequestHandler:
        return Connection(self, ended, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An `AppRunner` whose server is a `ConnectionServer`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return ConnectionServer(made.request_handler, request_factory=made.request_factory, **made._kwargs)
