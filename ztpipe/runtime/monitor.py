"""Hands observed frames and trace reports to local clients (``ztpipe monitor``) without ever waiting for one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ztpipe import observed
from ztpipe.log import get_logger
from ztpipe.node.actions import Event, ObservedFrame
from ztpipe.wire import dictionary

log = get_logger("monitor")
MAX_CLIENTS: Final = 8
_BUFFER: Final = 4 << 20  # bytes a client may be behind
_ASK_WITHIN: Final = 5.0


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    nwid: int
    lost: int = 0


class MonitorServer:
    """One socket in the run directory. Nothing costs anything while nobody is connected."""

    def __init__(self, run_dir: Path) -> None:
        self._path = observed.socket_path(run_dir)
        self._listener: socket.socket | None = None
        self._clients: list[_Client] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to listen. A host where that fails loses monitoring only; the log says so."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            before = os.umask(0o177)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(before)
            listener.listen(MAX_CLIENTS)
        except OSError as error:
            log.warning("nobody can monitor this node", error=str(error))
            return
        self._listener = listener
        self._begin(self._accept(listener))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for client in self._clients:
            client.sock.close()
        self._clients.clear()
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def frame(self, action: ObservedFrame) -> None:
        """A copy for us came in."""
        if not self._clients:
            return
        head = action.destination.to_bytes(6, "big") + action.source.to_bytes(6, "big")
        data = head + action.ethertype.to_bytes(2, "big") + action.payload
        at = time.time_ns()
        message = observed.Frame(at, action.sender, action.flags, action.rule, action.capability, data)
        self._send(action.nwid, message)

    def trace(self, event: Event) -> None:
        """A report came in (event "remote_trace")."""
        data, source = event.fields.get("data"), event.fields.get("source")
        if not self._clients or not isinstance(data, bytes) or not isinstance(source, int):
            return
        entries = dictionary.decode(data)
        fields = {key: _text(value) for key, value in entries.items()}
        self._send(dictionary.u64(entries, "networkId"), observed.Trace(time.time_ns(), source, fields))

    def _send(self, nwid: int, message: observed.Message) -> None:
        encoded = observed.encode(message)
        for client in [c for c in self._clients if c.nwid == nwid]:
            try:
                if client.lost:
                    client.sock.send(observed.encode(observed.Lost(client.lost)))
                    client.lost = 0
                client.sock.send(encoded)
            except BlockingIOError:
                client.lost += 1
            except OSError:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        client.sock.close()
        if client in self._clients:
            self._clients.remove(client)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept who wants to monitor", error=str(error))
                await asyncio.sleep(1)
                continue
            if len(self._clients) >= MAX_CLIENTS:
                sock.close()
            else:
                self._begin(self._serve(sock))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        """From what it asks until it goes away."""
        loop = asyncio.get_running_loop()
        client: _Client | None = None
        try:
            ask = observed.decode_ask(await asyncio.wait_for(loop.sock_recv(sock, 256), _ASK_WITHIN))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            client = _Client(sock, ask.nwid)
            self._clients.append(client)
            log.info("monitored", network=f"{ask.nwid:016x}")
            while await loop.sock_recv(sock, 256):
                pass
            log.info("no longer monitored", network=f"{ask.nwid:016x}")
        except (OSError, TimeoutError, msgspec.DecodeError):
            pass
        finally:
            if client is not None:
                self._drop(client)
            else:
                sock.close()


def _text(value: bytes) -> str:
    """As it is where it can be read, else in hexadecimal."""
    return value.decode() if value.isascii() and value.decode().isprintable() else value.hex()
