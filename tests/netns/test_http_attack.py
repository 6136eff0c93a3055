"""Hostile clients of the HTTP API: memory stays bounded, the right clients are served, frames do not notice."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.netns import http_attackers
from tests.pairs import Pair, joined, ztpipe
from ztpipe.api import connections
from ztpipe.lab import Lab
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

_PROGRAM = Path(http_attackers.__file__)
_MB = 1 << 20


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab("zpx") as lab:
        yield joined(lab, "x", "10.66.44", "10.67.44", ztpipe(), ztpipe())


def attack(pair: Pair, kind: str, host: str, seconds: float, token: str = "") -> subprocess.Popen[str]:
    """Started at A itself for a loopback `host`, else at B."""
    source = pair.a if host.startswith("127.") else pair.b
    argv = [sys.executable, _PROGRAM, kind, host, 9993, seconds, token]
    return source.popen(*map(str, argv), stdout=subprocess.PIPE, text=True)


def counts_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return dict(json.loads(output))


def memory(pair: Pair) -> int:
    return int(psutil.Process(pair.nodes[0].pid()).memory_info().rss)


@pytest.mark.parametrize("kind", ["flood", "drip", "pipelined", "bodies", "nonsense"])
def test_other_clients_and_frames_do_not_notice(pair: Pair, kind: str) -> None:
    node = pair.nodes[0]
    token = (node.home / "authtoken.secret").read_text() if kind in ("pipelined", "bodies") else ""
    host = "127.0.0.1" if token else "10.66.44.1"
    before = memory(pair)
    process = attack(pair, kind, host, 3, token)
    answer = ping(pair.a, pair.target, count=30, interval=0.1)
    assert node.api("GET", "/status")["address"] == node.address, "the API answers who may ask, in the middle of it"
    counts = counts_of(process)
    assert answer.lost <= 1, answer
    assert memory(pair) - before < 64 * _MB
    assert node.api("GET", f"/network/{pair.nwid}")["status"] == "OK"
    if kind == "flood":
        assert counts["opened"] == http_attackers.CONNECTIONS
    elif kind == "bodies":
        assert counts.get("HTTP/1.1 413 Request Entity Too Large", 0) > 0
    elif kind == "nonsense":
        assert set(counts) <= {"expected", "turned away"}, counts
        assert counts["expected"] > 10


def test_connections_that_say_nothing_are_few_and_ended(pair: Pair) -> None:
    """Within the idle time, or at once beyond the limit; what comes too fast stays outside."""
    process = psutil.Process(pair.nodes[0].pid())
    before = process.num_fds()
    attackers = attack(pair, "flood", "10.66.44.1", 8)
    most = 0
    while attackers.poll() is None:
        most = max(most, process.num_fds())
        time.sleep(0.1)
    limit = connections.Admission().budgets[connections.Source.STRANGER].most
    assert counts_of(attackers)["ended by the server"] > 10 * limit
    assert most <= before + limit + 10
    pair.nodes[0].wait_for("the last of them to end", lambda: process.num_fds() <= before + 10, 20)


def test_programs_on_the_host_are_answered_at_once_during_an_attack(pair: Pair) -> None:
    """Their connections do not wait in the queue that the attackers fill."""
    attackers = attack(pair, "flood", "10.66.44.1", 2)
    node, times = pair.nodes[0], []
    while attackers.poll() is None:
        began = time.monotonic()
        assert node.api("GET", "/status")["address"] == node.address
        times.append(time.monotonic() - began)
    counts_of(attackers)
    assert statistics.median(times) < 0.9, "a SYN that a full queue drops is sent again after a second"
