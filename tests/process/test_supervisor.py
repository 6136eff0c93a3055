"""The supervisor with real workers and no privileges: the TAP and the socket are socket pairs and loopback sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ztpipe.config import Config
from ztpipe.mesh import Plan, plan
from ztpipe.shm.tables import Tables
from ztpipe.supervisor import Supervisor, SupervisorError

_PLAN = Plan(tap=1, crypto=2, peer=1)
_NWID = 0xABCDEF0000000001


class Bench:
    """A supervisor with its tables, and what it reported."""

    def __init__(self, directory: Path, shape: Plan = _PLAN, **settings: Any) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []
        self.config = Config(home=directory, run_dir=directory / "run", ring_slots=4, log_level="error", **settings)
        self.tables = Tables.create(1)
        network = self.tables.install_network(_NWID, 0x32AABBCCDDEE, 2800, accept_all=True, bridge=False)
        assert network is not None
        self.network = network
        self.supervisor = Supervisor(
            self.config, self.tables, on_punts=lambda _: None, on_event=lambda *e: self.events.append(e), shape=shape
        )

    def pid(self, name: str) -> int:
        pid = next(status.pid for status in self.supervisor.status() if status.name == name)
        assert pid is not None
        return pid

    def restarts(self, name: str) -> int:
        return next(status.restarts for status in self.supervisor.status() if status.name == name)


async def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        await asyncio.sleep(0.005)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    bench.supervisor.start()
    try:
        await bench.supervisor.ready()
        yield bench
    finally:
        await bench.supervisor.stop()


def _tap() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


_FRAME = bytes(12) + bytes.fromhex("ffffffffffff 32aabbccddee 0806") + bytes(28)


async def test_a_worker_that_dies_is_replaced_and_keeps_its_device(bench: Bench) -> None:
    ours, theirs = _tap()
    bench.supervisor.add_tap(bench.network, [theirs.fileno()])
    theirs.close()
    assert await bench.supervisor.settled()
    for expected in (1, 2):
        pid = bench.pid("tap-0")
        before = bench.supervisor.counters.read(0)["tap_read_frames"]
        os.kill(pid, signal.SIGKILL)
        ours.send(_FRAME)  # waits in the kernel while nobody reads
        await _until(lambda: bench.supervisor.counters.read(0)["tap_read_frames"] == before + 1)  # noqa: B023
        assert bench.restarts("tap-0") == expected
        assert bench.pid("tap-0") != pid
    assert bench.restarts("crypto-0") == bench.restarts("peer-0") == 0


async def test_a_removed_device_does_not_come_back_with_a_restart(bench: Bench) -> None:
    ours, theirs = _tap()
    bench.supervisor.add_tap(bench.network, [theirs.fileno()])
    theirs.close()
    await bench.supervisor.settled()
    bench.supervisor.remove_tap(bench.network)
    assert await bench.supervisor.settled()
    with pytest.raises(ConnectionRefusedError):
        ours.send(_FRAME)  # the last copy of the other end is closed
    os.kill(bench.pid("tap-0"), signal.SIGKILL)
    await _until(lambda: bench.restarts("tap-0") == 1)
    await bench.supervisor.ready()
    assert await bench.supervisor.settled()
    assert not [event for event in bench.events if event[1] == "command_failed"]


async def test_death_is_noticed_at_once(bench: Bench) -> None:
    noticed = time.monotonic()
    os.kill(bench.pid("crypto-1"), signal.SIGKILL)
    await _until(lambda: bool(bench.events))
    assert time.monotonic() - noticed < 0.5
    assert bench.events[0][:2] == ("crypto-1", "ended")


async def test_a_worker_that_hangs_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ztpipe.crew._SILENCE_S", 4.0)
    os.kill(bench.pid("crypto-0"), signal.SIGSTOP)  # its beats end, and no others'
    await _until(lambda: bench.restarts("crypto-0") == 1, 30)
    assert [event[:2] for event in bench.events] == [("crypto-0", "ended")]


async def test_who_stood_still_himself_takes_nobody_for_hung(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ztpipe.crew._SILENCE_S", 1.0)
    monkeypatch.setattr("ztpipe.crew._ABSENCE_S", 0.5)
    pids = {status.name: status.pid for status in bench.supervisor.status()}
    time.sleep(1.2)  # frozen: the heartbeats of this time are still to be read
    bench.supervisor._crew.watch()
    await asyncio.sleep(0.2)
    assert {status.name: status.pid for status in bench.supervisor.status()} == pids
    assert not bench.events


async def test_a_fault_empties_the_rings_of_its_worker_and_a_kill_does_not(bench: Bench) -> None:
    os.kill(bench.pid("crypto-0"), signal.SIGSTOP)  # so that input piles up
    bench.tables.install_peer(7, bytes(32), bytes(32), bytes(32), 3, 0, (b"\x7f\0\0\1", 1), 1432, True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        bench.supervisor.add_binding(0, 4, [receiver.fileno()])
        await bench.supervisor.settled(0.5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in range(20):  # several sources: some belong to crypto-0
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                    one.sendto(bytes([port]) * 64, receiver.getsockname())
            sender.sendto(b"x" * 64, receiver.getsockname())
        await _until(lambda: bench.supervisor.waiting()["peer-0>crypto-0"] > 0)
        os.kill(bench.pid("crypto-0"), signal.SIGSEGV)
        os.kill(bench.pid("crypto-0"), signal.SIGCONT)
        await _until(lambda: any(event[1] == "ended" for event in bench.events))
        assert bench.events[-1][2]["swept"]
        await _until(lambda: bench.supervisor.waiting()["peer-0>crypto-0"] == 0)


async def test_a_worker_that_keeps_dying_is_restarted_ever_slower(bench: Bench) -> None:
    for expected in range(1, 5):
        os.kill(bench.pid("peer-0"), signal.SIGKILL)
        await _until(lambda: bench.restarts("peer-0") == expected)  # noqa: B023
        await _until(lambda: any(s.name == "peer-0" and s.pid for s in bench.supervisor.status()))
    started = time.monotonic()
    os.kill(bench.pid("peer-0"), signal.SIGKILL)
    await _until(lambda: bench.restarts("peer-0") == 5)
    await _until(lambda: any(s.name == "peer-0" and s.pid for s in bench.supervisor.status()))
    assert time.monotonic() - started > 0.15


async def test_a_command_that_fails_is_reported(bench: Bench) -> None:
    ours, theirs = _tap()
    bench.supervisor.add_tap(10**6, [theirs.fileno()])
    assert await bench.supervisor.settled()
    failed = [event for event in bench.events if event[1] == "command_failed"]
    assert [event[0] for event in failed] == ["tap-0"]
    theirs.close()
    bench.supervisor.remove_tap(10**6)
    await bench.supervisor.settled()
    with pytest.raises(ConnectionRefusedError):
        ours.send(_FRAME)  # no copy of the descriptor was left behind


async def test_scheduling_class_and_cpu_are_set(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Plan(fused=1), sched="batch", pinning=(max(os.sched_getaffinity(0)),))
    bench.supervisor.start()
    await bench.supervisor.ready()
    pid = bench.pid("fused-0")
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH
    assert os.sched_getaffinity(pid) == {max(os.sched_getaffinity(0))}
    await bench.supervisor.stop()


async def test_devices_must_reach_every_worker(bench: Bench) -> None:
    with pytest.raises(ValueError, match="0 descriptors for 1"):
        bench.supervisor.add_tap(0, [])
    with pytest.raises(ValueError, match="0 descriptors for 1"):
        bench.supervisor.add_binding(0, 4, [])


@pytest.mark.parametrize("frozen", [False, True], ids=["willing", "frozen"])
async def test_stop_takes_about_a_second_at_most(tmp_path: Path, frozen: bool) -> None:
    bench = Bench(tmp_path)
    bench.supervisor.start()
    await bench.supervisor.ready()
    pids = [bench.pid(status.name) for status in bench.supervisor.status()]
    if frozen:
        os.kill(pids[0], signal.SIGSTOP)
    started = time.monotonic()
    await bench.supervisor.stop()
    assert time.monotonic() - started < (1.5 if frozen else 1.0)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    await bench.supervisor.stop()  # again: nothing


async def test_a_late_worker_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.supervisor.start()
    with pytest.raises(SupervisorError, match="tap-0"):
        await bench.supervisor.ready(timeout=0.0)
    await bench.supervisor.stop()


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    async def once(directory: Path) -> None:
        bench = Bench(directory)
        bench.supervisor.start()
        await bench.supervisor.ready()
        ours, theirs = _tap()
        bench.supervisor.add_tap(bench.network, [theirs.fileno()])
        await bench.supervisor.stop()
        bench.tables.close()
        ours.close()
        theirs.close()

    await _twice(once, tmp_path)


async def _twice(once: Callable[[Path], Awaitable[None]], tmp_path: Path) -> None:
    await once(tmp_path / "first")  # what asyncio and ZeroMQ open once
    before = len(os.listdir("/proc/self/fd"))
    await once(tmp_path / "second")
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_run_directory_is_private(tmp_path: Path) -> None:
    Bench(tmp_path)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_the_plan_follows_the_configuration() -> None:
    config = Config(
        home=Path("/"), run_dir=Path("/"), layout="pipeline", tap_workers=2, crypto_workers=3, peer_workers=4
    )
    assert plan(config) == Plan(tap=2, crypto=3, peer=4)
    assert (plan(config).taps, plan(config).sockets) == (2, 4)
    fused = Config(home=Path("/"), run_dir=Path("/"), layout="fused", tap_workers=2)
    assert plan(fused) == Plan(fused=2)
    auto = Config(home=Path("/"), run_dir=Path("/"), layout="auto")
    assert plan(auto, cores=2).fused == 1
    assert plan(auto, cores=8).crypto == 1
