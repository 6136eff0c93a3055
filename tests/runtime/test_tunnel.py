"""The tunnel as a socket of the underlay, against a relay on loopback: when it opens, what it drops, when it closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from ztpipe.node.actions import SendDatagram
from ztpipe.node.settings import TUNNEL, Binding
from ztpipe.runtime.bindings import Bindings
from ztpipe.runtime.fallback import Fallback
from ztpipe.runtime.slowpath import SlowPathCounters
from ztpipe.runtime.tunnel import Tunnel
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.tcprelay import FrameReader, encode, greeting

ROOT = InetAddress.parse("44.128.0.1/9993")
LAN = InetAddress.parse("192.168.1.1/9993")
PACKET = bytes(28)


class Scene:
    """A tunnel under a clock of the test's, and the relay's end of its connection."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.counters = SlowPathCounters()
        self.received: list[tuple[InetAddress, bytes]] = []
        self.bindings: list[list[Binding]] = []
        self.got = bytearray()
        self.writer: asyncio.StreamWriter | None = None
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.sockets = Bindings(_NoWorkers(), [9993], workers=1, gro=False, changed=self.bindings.append)
        self.tunnel = self.sockets.tunnel = Tunnel(
            Fallback(self.now, allowed=True, forced=True),
            self.counters,
            relay=InetAddress.parse(f"127.0.0.1/{port}"),
            version=(1, 14, 1),
            now=lambda: self.now,
            received=lambda remote, data: self.received.append((remote, data)),
            changed=self.sockets.announce,
        )

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while data := await reader.read(65_536):
            self.got += data

    def send(self, remote: InetAddress = ROOT, binding: int | None = None) -> tuple[int, int]:
        return self.sockets.send(SendDatagram(binding, remote, PACKET))

    async def until(self, probe: Callable[[], object]) -> None:
        for _ in range(200):
            if probe():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("not within 4 s")


class _NoWorkers:
    def add_binding(self, binding: int, family: int, fds: list[int]) -> None: ...
    def remove_binding(self, binding: int) -> None: ...


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    await made.start()
    yield made
    made.tunnel.stop()
    assert made.server is not None
    made.server.close()


async def test_the_first_datagram_connects_and_the_node_hears_of_a_socket(scene: Scene) -> None:
    assert scene.send() == (0, 0)
    assert scene.counters.drops["tcp_relay_closed"] == 1
    await scene.until(lambda: scene.tunnel.open)
    assert [binding.id for binding in scene.bindings[-1]] == [TUNNEL]
    assert scene.send() == (1, 0)
    assert scene.send(binding=TUNNEL) == (1, 0)
    assert scene.send(LAN) == (0, 0)
    assert scene.counters.drops["tcp_relay_cannot_carry"] == 1
    await scene.until(lambda: len(scene.got) == len(greeting((1, 14, 1))) + 2 * len(encode(ROOT, PACKET)))
    assert FrameReader().feed(bytes(scene.got)) == [(ROOT, PACKET)] * 2


async def test_what_comes_back(scene: Scene) -> None:
    scene.send()
    await scene.until(lambda: scene.writer)
    assert scene.writer is not None
    scene.writer.write(encode(ROOT, PACKET) + encode(ROOT, b"short") + encode(LAN._replace(port=0), PACKET))
    await scene.until(lambda: scene.counters.drops["tcp_relay_useless"] == 2)
    assert scene.received == [(ROOT, PACKET)]
    scene.writer.write(b"HTTP/1.1 400 Bad Request\r\n")
    await scene.until(lambda: not scene.tunnel.open)
    assert scene.bindings[-1] == []
    assert scene.counters.drops["relay_bad_frame"] == 1


async def test_a_relay_that_does_not_read_costs_64_kb(scene: Scene) -> None:
    scene.send()
    await scene.until(lambda: scene.tunnel.open and scene.writer)
    assert scene.writer is not None
    scene.writer.transport.pause_reading()
    for _ in range(400_000):
        if scene.send() == (0, 0):
            break
    assert scene.counters.drops["tcp_relay_buffer_full"] == 1


async def test_udp_back_and_settings_close_it(scene: Scene) -> None:
    scene.send()
    await scene.until(lambda: scene.tunnel.open)
    scene.tunnel.configure(scene.tunnel.relay, allowed=True, forced=False)
    scene.tunnel.tick(scene.now)
    assert scene.tunnel.open
    scene.tunnel.fallback.received(scene.now, ROOT)
    scene.tunnel.tick(scene.now + 1)
    assert not scene.tunnel.open
    assert scene.send() == (0, 1)  # by UDP: there is no socket
    scene.tunnel.configure(None, allowed=True, forced=True)
    assert scene.send() == (0, 0)
    await asyncio.sleep(0.05)
    assert not scene.tunnel.open
