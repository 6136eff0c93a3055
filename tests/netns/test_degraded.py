"""What works less well is counted, goes on, and comes back: offloads, the underlay, rings, TAPs, send buffers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pairs import Pair, counted, joined, ztpipe
from ztpipe.lab import Lab, LabNode
from ztpipe.lab.traffic import iperf, ping, transfer

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

SIZE = 10_000_000


@pytest.fixture(scope="module", params=["pipeline", "fused"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with Lab("zpd") as lab:
        make = ztpipe("--layout", request.param)
        yield joined(lab, "d", "10.66.7", "10.67.7", make, make)


def workers(node: LabNode) -> dict[str, dict[str, Any]]:
    return {w["name"]: w for w in node.api("GET", "/ztpipe/workers")}


def recovered(pair: Pair, within: float) -> None:
    """Frames pass in both directions again."""
    pair.nodes[0].wait_for(
        "frames to pass", lambda: ping(pair.a, pair.target, count=3, interval=0.05).lost == 0, within
    )
    assert transfer(pair.a, pair.b, pair.target, SIZE).intact
    assert transfer(pair.b, pair.a, f"{pair.overlay}.1", SIZE).intact


def flood(pair: Pair, seconds: float) -> threading.Thread:
    """UDP from A to B as fast as it goes, in the background."""
    work = threading.Thread(target=lambda: iperf(pair.a, pair.b, pair.target, seconds=seconds, udp_payload=1400))
    work.start()
    time.sleep(0.7)
    return work


@pytest.mark.parametrize("missing", [["gso"], ["gro"], ["tso", "uso"]], ids="-".join)
def test_without_offloads(missing: list[str]) -> None:
    """Switched off at one end only, so that each meets the other kind. Kernels without them: test_refusals.py."""
    flags = [word for name in missing for word in (f"--{name}-offload", "false")]
    with Lab("zpw") as lab:
        pair = joined(lab, "w", "10.66.8", "10.67.8", ztpipe(*flags), ztpipe())
        for target in (pair.target, pair.overlay_v6(2)):
            assert transfer(pair.a, pair.b, target, SIZE).intact
        assert transfer(pair.b, pair.a, f"{pair.overlay}.1", SIZE).intact
        assert iperf(pair.a, pair.b, pair.target, seconds=1, udp_payload=1400, rate="100M").lost < 0.02
        for node in pair.nodes:
            assert sum(counted(node, name) for name in ("drop_bad_mac", "drop_tap_bad_vnet", "drop_send_oversize")) == 0


def test_underlay_mtu_lowered_in_mid_run(pair: Pair) -> None:
    before = workers(pair.nodes[0])
    work = flood(pair, 2)
    for host in (pair.a, pair.b):
        host.run("ip", "link", "set", "eth0", "mtu", "1280")
    work.join(30)
    recovered(pair, 10)
    assert "5 received" in pair.a.run("ping", "-n", "-c", "5", "-i", "0.1", "-s", "2700", pair.target).stdout
    for host in (pair.a, pair.b):
        host.run("ip", "link", "set", "eth0", "mtu", "1500")
    recovered(pair, 5)
    assert {n: w["restarts"] for n, w in workers(pair.nodes[0]).items()} == {
        n: w["restarts"] for n, w in before.items()
    }


def test_a_card_that_loses_its_offloads_in_mid_run(pair: Pair) -> None:
    """Some kernels then refuse UDP_SEGMENT with EIO, others segment themselves."""
    features = ("tx", "tx-udp-segmentation", "gso", "gro")
    work = flood(pair, 2)
    for feature in features:
        pair.a.run("ethtool", "-K", "eth0", feature, "off")
    recovered(pair, 5)
    work.join(30)
    for feature in features:
        pair.a.run("ethtool", "-K", "eth0", feature, "on")
    recovered(pair, 5)


def test_a_tap_that_is_down(pair: Pair) -> None:
    """Frames for it are dropped and counted; nothing is stuck when it is up again."""
    receiver = pair.nodes[1]
    device = str(receiver.network(pair.nwid)["portDeviceName"])
    before, restarts = counted(receiver, "drop_tap_write"), [w["restarts"] for w in workers(receiver).values()]
    work = flood(pair, 2)
    pair.b.run("ip", "link", "set", device, "down")
    time.sleep(0.7)
    pair.b.run("ip", "link", "set", device, "up")
    work.join(30)
    recovered(pair, 10)
    assert counted(receiver, "drop_tap_write") > before
    assert [w["restarts"] for w in workers(receiver).values()] == restarts


@pytest.mark.parametrize("side", [0, 1], ids=["sender", "receiver"])
def test_a_worker_that_stands_still_for_three_seconds(pair: Pair, side: int) -> None:
    """Rings fill up and the kernel drops; then everything goes on where it was, with the same processes."""
    node = pair.nodes[side]
    before = workers(node)
    for name in [name for name in before if name != "control"]:
        full = counted(node, "ring_full")
        work = flood(pair, 4)
        os.kill(before[name]["pid"], signal.SIGSTOP)
        time.sleep(3)
        os.kill(before[name]["pid"], signal.SIGCONT)
        work.join(30)
        recovered(pair, 5)
        after = workers(node)
        assert counted(node, "ring_full") > full or not name.startswith("crypto"), (
            "no ring was full: nothing was tested"
        )
        assert {n: w["pid"] for n, w in after.items()} == {n: w["pid"] for n, w in before.items()}


def test_a_send_buffer_that_stays_full(pair: Pair) -> None:
    """A slow device with a long queue: the sockets refuse, which is counted as drops, not waited for."""
    sender = pair.nodes[0]
    before = counted(sender, "drop_send_error")
    pair.a.run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "100mbit", "burst", "100k", "limit", "500m")
    try:
        flood(pair, 2).join(40)
    finally:
        pair.a.run("tc", "qdisc", "del", "dev", "eth0", "root")
    assert counted(sender, "drop_send_error") > before
    recovered(pair, 10)
