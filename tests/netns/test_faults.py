"""Real nodes under real faults: killed workers, killed control, SIGTERM, hostile datagrams."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Lab, LabNode
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

WORKERS = {"pipeline": ["tap-0", "crypto-0", "peer-0"], "fused": ["fused-0"]}


def _workers(node: LabNode) -> dict[str, dict[str, Any]]:
    return {worker["name"]: worker for worker in node.api("GET", "/ztpipe/workers")}


@pytest.fixture(params=WORKERS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[str, Pair]]:
    with Lab("zpf") as lab:
        make = ztpipe("--layout", request.param)
        yield request.param, joined(lab, "f", "10.66.2", "10.67.2", make, make)


def test_killed_worker_is_back_within_a_second(pair: tuple[str, Pair]) -> None:
    layout, nodes = pair
    gateway = nodes.nodes[0]
    for victim in WORKERS[layout]:
        before = _workers(gateway)
        running = nodes.a.popen(
            "ping", "-n", "-D", "-i", "0.02", "-c", "150", "-W", "1", nodes.target, stdout=subprocess.PIPE, text=True
        )
        time.sleep(0.8)
        os.kill(before[victim]["pid"], signal.SIGKILL)
        output = running.communicate(timeout=20)[0]
        received = len(re.findall(r"time=", output))
        after = _workers(gateway)
        assert 150 - received <= 50, f"{victim}: {150 - received} pings (20 ms apart) lost"
        assert after[victim]["pid"] != before[victim]["pid"]
        assert after[victim]["restarts"] == before[victim]["restarts"] + 1
        untouched = set(after) - {victim}
        assert {n: after[n]["pid"] for n in untouched} == {n: before[n]["pid"] for n in untouched}
        assert ping(nodes.a, nodes.target, count=5, interval=0.05).lost == 0


def test_sigterm_leaves_nothing_behind(pair: tuple[str, Pair]) -> None:
    _, nodes = pair
    gateway = nodes.nodes[1]
    device = gateway.network(nodes.nwid)["portDeviceName"]
    assert device in nodes.b.run("ip", "-br", "link").stdout
    pids = [worker["pid"] for worker in _workers(gateway).values()]
    started = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - started < 2.5
    assert device not in nodes.b.run("ip", "-br", "link").stdout
    assert nodes.overlay not in nodes.b.run("ip", "route").stdout
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_killed_control_takes_its_workers_and_comes_back_the_same(pair: tuple[str, Pair]) -> None:
    _, nodes = pair
    gateway = nodes.nodes[1]
    before = gateway.api("GET", "/status")
    pids = [worker["pid"] for worker in _workers(gateway).values()]
    assert gateway.process is not None
    os.kill(gateway.pid(), signal.SIGKILL)
    gateway.process.wait(5)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}") for pid in pids):
        time.sleep(0.02)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    gateway.start()
    assert gateway.api("GET", "/status")["address"] == before["address"]
    gateway.wait_ok(nodes.nwid, addresses=2)
    gateway.wait_for("traffic again", lambda: ping(nodes.a, nodes.target, count=1).times, 20)
