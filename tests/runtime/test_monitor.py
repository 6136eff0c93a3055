"""The socket for those who monitor: what they get, what it costs them to be slow, and who may ask."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from ztpipe import observed
from ztpipe.node.actions import Event, ObservedFrame
from ztpipe.runtime.monitor import MAX_CLIENTS, MonitorServer
from ztpipe.wire import dictionary

NWID = 0x8056C2E21C000001
SEEN = ObservedFrame(NWID, 0x89E92CEEE5, 0x16, 3, 7, 0x112233445566, 0xAABBCCDDEEFF, 0x0800, b"payload")


def client(directory: Path, nwid: int = NWID) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(5)
    sock.connect(str(observed.socket_path(directory)))
    sock.send(observed.encode(observed.Ask(nwid)))
    return sock


def served(server: MonitorServer, count: int) -> bool:
    return len(server._clients) == count


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


def run(directory: Path, work: object) -> None:
    async def go() -> None:
        server = MonitorServer(directory)
        server.start()
        try:
            await work(server)  # type: ignore[operator]
        finally:
            server.stop()

    asyncio.run(go())


def test_frames_and_reports_of_the_network_that_was_asked_for(tmp_path: Path) -> None:
    async def work(server: MonitorServer) -> None:
        assert observed.socket_path(tmp_path).stat().st_mode & 0o777 == 0o600
        with client(tmp_path) as sock, client(tmp_path, 1) as other:
            await until(lambda: served(server, 2))
            server.frame(SEEN)
            trace = dictionary.encode({"event": "2000", "networkId": NWID, "reason": "why", "frameData": b"\xff\x00"})
            server.trace(Event("remote_trace", {"source": 0x1234567890, "data": trace}))
            frame = observed.decode(sock.recv(observed.MAX_MESSAGE))
            assert isinstance(frame, observed.Frame)
            assert (frame.sender, frame.action, frame.direction) == (0x89E92CEEE5, "watch", "outbound")
            assert frame.rule_text == "rule 3 of capability 7"
            assert frame.data == bytes.fromhex("112233445566aabbccddeeff0800") + b"payload"
            report = observed.decode(sock.recv(observed.MAX_MESSAGE))
            assert isinstance(report, observed.Trace) and report.sender == 0x1234567890
            assert report.fields["reason"] == "why" and report.fields["frameData"] == "ff00"
            other.setblocking(False)
            try:
                raise AssertionError(other.recv(100))
            except BlockingIOError:
                pass
        await until(lambda: served(server, 0))

    run(tmp_path, work)
    assert not observed.socket_path(tmp_path).exists()


def test_who_reads_too_slowly_is_told_how_much_is_lost(tmp_path: Path) -> None:
    async def work(server: MonitorServer) -> None:
        with client(tmp_path) as sock:
            await until(lambda: served(server, 1))
            while not server._clients[0].lost:
                server.frame(SEEN)
            server.frame(SEEN)
            lost = server._clients[0].lost
            for _ in range(8):
                observed.decode(sock.recv(observed.MAX_MESSAGE))
            server.frame(SEEN)
            messages = []
            sock.setblocking(False)
            try:
                while True:
                    messages.append(observed.decode(sock.recv(observed.MAX_MESSAGE)))
            except BlockingIOError:
                pass
            assert [m.count for m in messages if isinstance(m, observed.Lost)] == [lost]
            assert isinstance(messages[-1], observed.Frame)

    run(tmp_path, work)


def test_nonsense_and_too_many(tmp_path: Path) -> None:
    async def work(server: MonitorServer) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(observed.socket_path(tmp_path)))
            sock.send(b"\xc1nonsense")
            assert await asyncio.to_thread(sock.recv, 100) == b""
        socks = [client(tmp_path) for _ in range(MAX_CLIENTS)]
        await until(lambda: served(server, MAX_CLIENTS))
        with client(tmp_path) as late:
            try:
                assert await asyncio.to_thread(late.recv, 100) == b""
            except ConnectionResetError:
                pass
        for sock in socks:
            sock.close()

    run(tmp_path, work)
