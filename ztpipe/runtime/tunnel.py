"""The connection to a TCP relay, as one more socket of the underlay (vl1-behaviour §6.6, docs/nat.md)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from ztpipe.host.sockets import set_mark
from ztpipe.log import get_logger
from ztpipe.runtime.fallback import Fallback, carries
from ztpipe.runtime.slowpath import SlowPathCounters
from ztpipe.wire import tcprelay
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress

log = get_logger("underlay")

CONNECT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 5.0
BUFFER_BYTES: Final = 65_536


class Tunnel(asyncio.Protocol):
    """Connects when `Fallback` says so, hands datagrams to `received`, tells `changed` when it opens or closes."""

    def __init__(
        self,
        fallback: Fallback,
        counters: SlowPathCounters,
        *,
        relay: InetAddress | None,
        version: tuple[int, int, int],
        now: Callable[[], int],
        received: Callable[[InetAddress, bytes], None],
        changed: Callable[[], None],
        mark: int = 0,
    ) -> None:
        """`mark`: of what we send to the relay, for policy routing."""
        self._mark = mark
        self.fallback, self.relay = fallback, relay
        self._counters, self._version = counters, version
        self._now, self._received, self._changed = now, received, changed
        self._transport: asyncio.Transport | None = None
        self._reader = tcprelay.FrameReader()
        self._connecting: asyncio.Task[None] | None = None
        self._failed = False

    @property
    def open(self) -> bool:
        return self._transport is not None

    # -- settings, time -----------------------------------------------------------------------------------------------

    def configure(self, relay: InetAddress | None, *, allowed: bool, forced: bool) -> None:
        """New settings; a connection to another relay is closed, and made anew by the next datagram."""
        self.fallback.allowed, self.fallback.forced = allowed, forced
        if relay != self.relay:
            self.relay = relay
            self.close()
        elif not allowed:
            self.close()

    def tick(self, now: int) -> None:
        if self.open and self.fallback.over(now):
            self.close()

    # -- datagrams ----------------------------------------------------------------------------------------------------

    def send(self, remote: InetAddress, datagram: bytes, *, only: bool) -> int | None:
        """A datagram that goes out; `only`: its path is the tunnel's. While UDP does not work it goes through the relay
        too. None: it is to go out by UDP (too); else how many left here, 0 or 1: what did not is counted as a drop."""
        now = self._now()
        if self.fallback.sent(now, remote, len(datagram)):
            self._connect()
        only = only or self.fallback.only_tcp()
        if only:
            return self._write(remote, datagram)
        if self.open and self.fallback.engaged(now) and carries(remote, len(datagram)):
            self._write(remote, datagram)
        return None

    def _write(self, remote: InetAddress, datagram: bytes) -> int:
        transport = self._transport
        reason = None
        if not carries(remote, len(datagram)):
            reason = "tcp_relay_cannot_carry"
        elif transport is None:
            reason = "tcp_relay_closed"
        elif transport.get_write_buffer_size() >= BUFFER_BYTES:
            reason = "tcp_relay_buffer_full"
        else:
            transport.write(tcprelay.encode(remote, datagram))
            self._counters.add("tcp_sent_bytes", len(datagram))
        if reason is not None:
            self._counters.drop(reason, 1)
        return int(reason is None)

    # -- the connection -----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self.relay is not None and self._transport is None and self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._try_connect(self.relay))
            self._connecting.add_done_callback(self._connected)

    async def _try_connect(self, relay: InetAddress) -> None:
        """One attempt; the next one not before `RETRY_SECONDS`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: self, sock=await self._dial(relay))
            self._failed = False
        except (OSError, TimeoutError) as error:
            if not self._failed:
                log.warning("cannot reach the TCP relay", relay=relay.text(), error=str(error) or "no answer")
            self._failed = True
            self._counters.drop("tcp_relay_connect", 1)
            await asyncio.sleep(RETRY_SECONDS)

    async def _dial(self, relay: InetAddress) -> socket.socket:
        sock = socket.socket(socket.AF_INET if len(relay.ip) == 4 else socket.AF_INET6)
        try:
            sock.setblocking(False)
            set_mark(sock, self._mark)
            await asyncio.get_running_loop().sock_connect(sock, (relay.host, relay.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is not None:
            log.error("connecting to the TCP relay", error=repr(task.exception()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._reader = tcprelay.FrameReader()
        transport.write(tcprelay.greeting(self._version))
        log.warning("UDP brings nothing: tunnelling through a TCP relay", relay=str(self.relay))
        self._changed()

    def data_received(self, data: bytes) -> None:
        try:
            found = self._reader.feed(data)
        except WireError as error:
            self._counters.drop(error.reason, 1)
            self.close()
            return
        for remote, datagram in found:
            if remote is None or len(datagram) < tcprelay.MIN_DATAGRAM or remote.port == 0:
                self._counters.drop("tcp_relay_useless", 1)
                continue
            self._counters.add("tcp_received_bytes", len(datagram))
            self._received(remote, datagram)

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        """Without the connection its paths are gone."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        transport.abort()
        log.info("tunnel through the TCP relay closed")
        self._changed()

    def stop(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self.close()
