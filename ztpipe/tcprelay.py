"""The TCP relay's server: a blind UDP proxy with one UDP socket for each client (vl1-behaviour §6.6).

Everything is bounded: clients in all and of one address, what waits for a slow client, how long one may be silent,
how much one may send; and where datagrams may go, so that it does not open the network it stands in.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final, cast

from ztpipe.log import get_logger
from ztpipe.wire import tcprelay
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress, IpScope

log = get_logger("tcp-relay")

BUFFER_BYTES: Final = 131_072
MIN_PORT: Final = 1_025
GREETING_SECONDS: Final = 15.0
_SWEEP: Final = 5.0
_REPORT: Final = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`rate`: bytes per second of one client in one direction, 0: any. `idle`: seconds."""

    clients: int = 1_000
    per_address: int = 32
    idle: float = 300.0
    rate: int = 0
    private: bool = False


class _Bucket:
    """A second's worth of bytes may come at once."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: int) -> None:
        self._rate, self._left, self._at = rate, float(rate), time.monotonic()

    def allow(self, size: int) -> bool:
        if not self._rate:
            return True
        now = time.monotonic()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < size:
            return False
        self._left -= size
        return True


class _UdpSide(asyncio.DatagramProtocol):
    """The UDP socket of one client."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.udp = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._client.came_back(data, address)

    def error_received(self, error: Exception) -> None:
        """A port or host unreachable: nothing to do, UDP promises nothing."""
        self._client.relay.counts["udp_errors"] += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._client.close()


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, relay: TcpRelay) -> None:
        self.relay = relay
        self.tcp: asyncio.Transport | None = None
        self.udp: asyncio.DatagramTransport | None = None
        self.address = ""
        self.last = self.since = time.monotonic()
        self.reader = tcprelay.FrameReader()
        self.up, self.down = _Bucket(relay.limits.rate), _Bucket(relay.limits.rate)
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.tcp = transport
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        if not self.relay.admit(self):
            transport.abort()
            return
        transport.pause_reading()
        self._opening = asyncio.get_running_loop().create_task(self._open_udp(transport))

    async def _open_udp(self, tcp: asyncio.Transport) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: _UdpSide(self), local_addr=(self.relay.udp_source, 0))
        except OSError as error:
            log.warning("no UDP socket for a client", error=str(error))
            self.close()
            return
        if tcp.is_closing():
            self.close()
        else:
            tcp.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.last = time.monotonic()
        try:
            found = self.reader.feed(data)
        except WireError:
            self.relay.counts["drop_bad_frame"] += 1
            self.close()
            return
        if not self.reader.greeted:
            if found:
                self.relay.counts["drop_no_greeting"] += 1
                self.close()
            return
        for remote, datagram in found:
            self._send(remote, datagram)

    def _send(self, remote: InetAddress | None, datagram: bytes) -> None:
        counts = self.relay.counts
        if remote is None or len(datagram) < tcprelay.MIN_DATAGRAM or not self.relay.may_send_to(remote):
            counts["drop_destination"] += 1
        elif not self.up.allow(len(datagram)):
            counts["drop_rate"] += 1
        elif self.udp is None:
            counts["drop_closing"] += 1
        else:
            self.udp.sendto(datagram, (remote.host, remote.port))
            counts["to_udp"] += 1

    def came_back(self, data: bytes, address: tuple[str, int]) -> None:
        counts = self.relay.counts
        if not tcprelay.MIN_DATAGRAM <= len(data) <= tcprelay.MAX_DATAGRAM:
            counts["drop_size"] += 1
        elif not self.down.allow(len(data)):
            counts["drop_rate"] += 1
        elif self.tcp is None or not self.reader.greeted or self.tcp.get_write_buffer_size() > BUFFER_BYTES:
            counts["drop_tcp_full"] += 1
        else:
            self.tcp.write(tcprelay.encode(InetAddress.parse(f"{address[0]}/{address[1]}"), data))
            self.last = time.monotonic()
            counts["to_tcp"] += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        self.relay.forget(self)
        if self._opening is not None and not self._opening.done() and self._opening is not asyncio.current_task():
            self._opening.cancel()
        tcp, self.tcp = self.tcp, None
        udp, self.udp = self.udp, None
        if tcp is not None:
            tcp.abort()
        if udp is not None:
            udp.abort()


class TcpRelay:
    """The server. `counts`: what it carried and what it dropped, by name."""

    def __init__(self, listen: InetAddress, udp_source: str, limits: Limits) -> None:
        self.listen, self.udp_source, self.limits = listen, udp_source, limits
        self.counts: Counter[str] = Counter()
        self._clients: set[_Client] = set()
        self._of: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; OSError if that is not possible."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Client(self), self.listen.host, self.listen.port, backlog=256, reuse_address=True
            )
        except OSError as error:
            number = error.errno or errno.EIO
            raise OSError(number, f"cannot listen on {self.listen.text()} (TCP): {error.strerror or error}") from error
        self._sweeper = loop.create_task(self._sweep())
        log.info("TCP relay up", listen=self.listen.text(), clients=self.limits.clients)

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.close()
        log.info("TCP relay stopped", **self.counts)

    def admit(self, client: _Client) -> bool:
        if len(self._clients) >= self.limits.clients or self._of[client.address] >= self.limits.per_address:
            self.counts["drop_too_many_clients"] += 1
            return False
        self._clients.add(client)
        self._of[client.address] += 1
        self.counts["clients"] += 1
        return True

    def forget(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._of[client.address] -= 1
            if not self._of[client.address]:
                del self._of[client.address]

    def may_send_to(self, remote: InetAddress) -> bool:
        if not remote.is_ipv4 or remote.port < MIN_PORT:
            return False
        scope = remote.scope
        usual = (IpScope.PRIVATE, IpScope.PSEUDO_PRIVATE, IpScope.SHARED)
        return scope is IpScope.GLOBAL or (self.limits.private and scope in usual)

    async def _sweep(self) -> None:
        """Close who is silent for too long, and who connects without a word."""
        reported = time.monotonic()
        while True:
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            for client in list(self._clients):
                mute = not client.reader.greeted and now - client.since > GREETING_SECONDS
                if mute or now - client.last > self.limits.idle:
                    client.close()
            if now - reported >= _REPORT:
                reported = now
                log.info("TCP relay", connected=len(self._clients), **self.counts)
