"""The TCP relay's server over loopback: what it carries, what it refuses, and that it forgets who is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from ztpipe import tcprelay as server
from ztpipe.tcprelay import Limits, TcpRelay
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.tcprelay import FrameReader, encode, greeting

HELLO = greeting((1, 14, 1))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Relay:
    """A relay, and what a test does with it."""

    def __init__(self, limits: Limits) -> None:
        self.port = free_port()
        self.server = TcpRelay(InetAddress.parse(f"127.0.0.1/{self.port}"), "127.0.0.1", limits)

    async def connect(self, first: bytes = HELLO) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(first)
        return reader, writer

    async def until(self, probe: Callable[[], object]) -> None:
        for _ in range(200):
            if probe():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not within 4 s: {dict(self.server.counts)}")


@pytest_asyncio.fixture
async def relay(request: pytest.FixtureRequest) -> AsyncIterator[Relay]:
    made = Relay(getattr(request, "param", Limits()))
    await made.server.start()
    yield made
    await made.server.stop()


@pytest.fixture
def peer() -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock  # type: ignore[misc]


async def test_there_and_back(relay: Relay, peer: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay.server, "may_send_to", lambda remote: True)  # loopback is refused otherwise
    loop = asyncio.get_running_loop()
    reader, writer = await relay.connect()
    there = InetAddress.parse(f"127.0.0.1/{peer.getsockname()[1]}")
    writer.write(encode(there, b"a" * 100) + encode(there, b"short") + encode(there, b"b" * 100))
    first, source = await asyncio.wait_for(loop.sock_recvfrom(peer, 4000), 4)
    second, _ = await asyncio.wait_for(loop.sock_recvfrom(peer, 4000), 4)
    assert (first, second) == (b"a" * 100, b"b" * 100)
    for answer in (b"x" * 15, b"y" * 2048, b"z" * 2047):
        await loop.sock_sendto(peer, answer, source)
    frames = FrameReader()
    got: list[object] = []
    while not got:
        got += frames.feed(await asyncio.wait_for(reader.read(65536), 4))
    assert got == [(there, b"z" * 2047)]
    assert relay.server.counts["drop_size"] == 2
    assert relay.server.counts["drop_destination"] == 1
    writer.close()
    await relay.until(lambda: not relay.server._clients and not relay.server._of)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.0\r\n\r\n", encode(InetAddress.parse("44.1.1.1/9993"), b"a" * 30)])
async def test_who_does_not_greet_is_cut_off(relay: Relay, first: bytes) -> None:
    reader, writer = await relay.connect(first)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 4)
    writer.close()
    await relay.until(lambda: not relay.server._clients)


@pytest.mark.parametrize("relay", [Limits(per_address=2)], indirect=True)
async def test_clients_of_one_address_have_a_limit(relay: Relay) -> None:
    kept = [await relay.connect() for _ in range(2)]
    await relay.until(lambda: len(relay.server._clients) == 2)
    reader, third = await relay.connect()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 4)
    assert relay.server.counts["drop_too_many_clients"] == 1
    for _, writer in (*kept, (None, third)):
        writer.close()
    await relay.until(lambda: not relay.server._clients)


@pytest.mark.parametrize("relay", [Limits(idle=0.1)], indirect=True)
async def test_who_is_silent_is_closed(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SWEEP", 0.05)
    await relay.server.stop()
    await relay.server.start()  # its sweeper takes the new interval
    reader, writer = await relay.connect()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 4)
    writer.close()


def test_where_datagrams_may_go() -> None:
    strict = TcpRelay(InetAddress.parse("127.0.0.1/1"), "0.0.0.0", Limits())
    lax = TcpRelay(InetAddress.parse("127.0.0.1/1"), "0.0.0.0", Limits(private=True))
    allowed = [("44.1.1.1/9993", True, True), ("10.1.1.1/9993", False, True), ("127.0.0.1/9993", False, False),
               ("224.0.0.1/9993", False, False), ("44.1.1.1/1024", False, False),
               ("255.255.255.255/9993", False, False),
               ("169.254.169.254/9993", False, False), ("0.0.0.0/9993", False, False)]  # fmt: skip
    for text, by_default, when_private in allowed:
        remote = InetAddress.parse(text)
        assert (strict.may_send_to(remote), lax.may_send_to(remote)) == (by_default, when_private), text
