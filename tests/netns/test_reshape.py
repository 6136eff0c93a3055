"""Workers change while frames flow: what was sent arrives, each flow in its order, and counters go on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.pairs import Pair, counted, joined, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.nodes import Json
from ztpipe.lab.traffic import ping, transfer

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

TWO = {"tapWorkers": 2, "cryptoWorkers": 2, "peerWorkers": 2}
ONE = {"tapWorkers": 1, "cryptoWorkers": 1, "peerWorkers": 1}
#: Frames that may be in flight when the workers change.
IN_FLIGHT = 64

_COUNT = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
s.bind(("", 6100)); s.settimeout(1.5)
print("ready", flush=True)
received, late, last = 0, 0, {}
try:
    while True:
        data, remote = s.recvfrom(2048)
        number = struct.unpack_from("!Q", data)[0]
        received += 1
        late += number <= last.get(remote, -1)
        last[remote] = max(number, last.get(remote, -1))
except TimeoutError:
    print(received, late)
"""
#: 8 flows, 1600 datagrams a second together, until stdin closes.
_SEND = """
import select, socket, struct, sys, time
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
for s in sockets:
    s.connect((sys.argv[1], 6100))
number, began = 0, time.monotonic()
while not select.select([sys.stdin], [], [], max(0, began + number / 200 - time.monotonic()))[0]:
    for s in sockets:
        s.send(struct.pack("!Q", number) + bytes(700))
    number += 1
print(number * len(sockets))
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab("zrs") as lab:
        yield joined(lab, "rs", "10.66.7", "10.67.7", *[ztpipe("--layout", "pipeline")] * 2)


def _names(workers: Json) -> list[str]:
    return [worker["name"] for worker in workers if worker["ready"] or worker["role"] == "control"]


def _change(pair: Pair, **settings: object) -> None:
    for node in pair.nodes:
        assert all(worker.get("ready", True) for worker in node.api("POST", "/ztpipe/workers", settings))


def test_a_running_flow_survives_every_change(pair: Pair) -> None:
    """Up, down, to the other layout and back, on both gateways in turn, under 8 flows of datagrams and one of TCP."""
    receiver = pair.b.popen(sys.executable, "-c", _COUNT, stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None and receiver.stdout.readline() == "ready\n"
    sender = pair.a.popen(
        sys.executable, "-c", _SEND, pair.target, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    moved = []
    stream = threading.Thread(target=lambda: moved.append(transfer(pair.a, pair.b, pair.target, 300_000_000)))
    stream.start()
    steps = [TWO, ONE, {"layout": "fused"}, {"layout": "fused", **TWO}, {"layout": "pipeline", **ONE}]
    before = [counted(node, "seal_packets") for node in pair.nodes]
    for settings in steps:
        _change(pair, **settings)
        time.sleep(0.3)
        now = [counted(node, "seal_packets") for node in pair.nodes]
        assert all(new >= old for new, old in zip(now, before, strict=True)), "a counter went back"
        before = now
    sent = int(sender.communicate("", timeout=20)[0])
    received, late = map(int, receiver.communicate(timeout=30)[0].split())
    stream.join(60)
    assert moved and moved[0].intact
    assert late <= IN_FLIGHT
    assert sent - received <= IN_FLIGHT
    for node in pair.nodes:
        assert counted(node, "drop_bad_mac") == 0
        names = [worker["name"] for worker in node.api("GET", "/ztpipe/workers")]
        assert names == ["control", "tap-0", "crypto-0", "peer-0"]


def test_more_workers_share_the_work(pair: Pair) -> None:
    _change(pair, **TWO)
    transfer(pair.a, pair.b, pair.target, 1_000_000)
    for port in range(16):
        assert transfer(pair.a, pair.b, pair.target, 200_000, port=5400 + port).intact
    counters = {w["name"]: w["counters"] for w in pair.nodes[0].api("GET", "/ztpipe/workers")}
    for role, counter in (("tap", "tap_read_frames"), ("crypto", "seal_packets"), ("peer", "udp_send_datagrams")):
        assert counters[f"{role}-1"][counter] > 0, f"{role}-1 got nothing"
    _change(pair, **ONE)
    assert ping(pair.a, pair.target, count=5, interval=0.05).lost == 0


@pytest.mark.parametrize(
    "body", [{"tapWorkers": 0}, {"tapWorkers": "many"}, {"layout": "round"}, {"runDir": "/tmp"}, {"tap": 2}, []]
)
def test_what_cannot_be_changes_nothing(pair: Pair, body: Json) -> None:
    before = {w["name"]: w["pid"] for w in pair.nodes[0].api("GET", "/ztpipe/workers")}
    status, answer = pair.nodes[0].api_raw("POST", "/ztpipe/workers", body)
    assert status == 400 and answer["error"]
    assert {w["name"]: w["pid"] for w in pair.nodes[0].api("GET", "/ztpipe/workers")} == before


def test_joining_goes_on_while_workers_change(pair: Pair) -> None:
    """A network that comes and goes in the middle of a change is handed to whoever works then."""
    node = pair.nodes[0]
    changing = threading.Thread(target=_change, args=(pair,), kwargs=TWO)
    changing.start()
    nwid = node.create_network(name="second", private=False, v4AssignMode={"zt": False})
    node.join(nwid)
    changing.join(30)
    node.wait_ok(nwid, addresses=0)
    node.api("DELETE", f"/network/{nwid}")
    _change(pair, **ONE)
    assert ping(pair.a, pair.target, count=5, interval=0.05).lost == 0
