"""A kernel that knows less, and one that refuses in mid-run: counted, degraded, recovered, and no worker ends.

By a library between the node and its kernel (refusals.py). What the kernel itself can be made to do: test_degraded.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.refusals import COMPILER, Refusals
from tests.pairs import Pair, counted, joined, ztpipe
from ztpipe.lab import Lab, LabNode
from ztpipe.lab.traffic import iperf, ping, transfer

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(180),
    pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: needs a C compiler"),
]

SIZE = 10_000_000
LAYOUTS = ["pipeline", "fused"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Refusals:
    return Refusals(tmp_path_factory.mktemp("kernel"))


@pytest.fixture(scope="module", params=LAYOUTS)
def pair(request: pytest.FixtureRequest, kernel: Refusals) -> Iterator[Pair]:
    """Both nodes have the kernel that refuses; in the first A sends."""
    with Lab("zpr") as lab:
        make = kernel.make("--layout", request.param)
        yield joined(lab, "r", "10.66.9", "10.67.9", make, make)


def restarts(node: LabNode) -> dict[str, Any]:
    return {w["name"]: (w["pid"], w["restarts"]) for w in node.api("GET", "/ztpipe/workers")}


def both_ways(pair: Pair) -> None:
    assert transfer(pair.a, pair.b, pair.target, SIZE).intact
    assert transfer(pair.b, pair.a, f"{pair.overlay}.1", SIZE).intact


def total(pair: Pair, name: str) -> int:
    return sum(counted(node, name) for node in pair.nodes)


def test_segmentation_fails_with_an_io_error_in_mid_run(pair: Pair, kernel: Refusals) -> None:
    """Nothing is lost: what the kernel will not segment is sent piece by piece."""
    before, processes = total(pair, "udp_gso_refused"), [restarts(node) for node in pair.nodes]
    lost = total(pair, "drop_send_error")
    with kernel.refusing("EIO from GSO"):
        both_ways(pair)
    assert kernel.count("EIO from GSO") > 0
    assert total(pair, "udp_gso_refused") > before
    assert total(pair, "drop_send_error") == lost
    both_ways(pair)
    assert [restarts(node) for node in pair.nodes] == processes


@pytest.mark.parametrize(
    ("refusal", "counter"),
    [
        ("ENOBUFS", "drop_send_error"),
        ("EIO from TAP", "drop_tap_write"),
        pytest.param("ENOBUFS from TAP", "drop_tap_write", marks=pytest.mark.long),
    ],
)
def test_a_time_in_which_nothing_is_taken(pair: Pair, kernel: Refusals, refusal: str, counter: str) -> None:
    """Counted drops; afterwards everything passes, by the same processes."""
    before, processes = total(pair, counter), [restarts(node) for node in pair.nodes]
    with kernel.refusing(refusal):
        assert ping(pair.a, pair.target, count=6, interval=0.05, timeout=0.2).times == ()
    assert kernel.count(refusal) > 0
    assert total(pair, counter) - before >= 6
    pair.nodes[0].wait_for("frames to pass", lambda: ping(pair.a, pair.target, count=3, interval=0.05).lost == 0, 20)
    both_ways(pair)
    assert [restarts(node) for node in pair.nodes] == processes


@pytest.mark.parametrize("layout", ["pipeline", pytest.param("fused", marks=pytest.mark.long)])
def test_an_old_kernel(kernel: Refusals, layout: str) -> None:
    """Without UDP_SEGMENT, UDP_GRO and USO; the other end has them."""
    with kernel.refusing("UDP_SEGMENT unknown", "UDP_GRO unknown", "USO unknown"), Lab("zpk") as lab:
        pair = joined(lab, "k", "10.66.8", "10.67.8", kernel.make("--layout", layout), ztpipe("--layout", layout))
        both_ways(pair)
        for target, source, sink in ((pair.target, pair.a, pair.b), (f"{pair.overlay}.1", pair.b, pair.a)):
            assert iperf(source, sink, target, seconds=1, udp_payload=1400, rate="100M").lost < 0.02
        for node in pair.nodes:
            names = ("drop_bad_mac", "drop_tap_bad_vnet", "drop_tap_write", "drop_send_oversize", "drop_send_error")
            assert sum(counted(node, name) for name in names) == 0
        assert counted(pair.nodes[0], "udp_gso_refused") == 0, "it was asked at the start"
        assert kernel.count("UDP_SEGMENT unknown") > 0 and kernel.count("UDP_GRO unknown") > 0


@pytest.mark.long
def test_segmentation_is_back_after_a_pause(pair: Pair, kernel: Refusals) -> None:
    """10 s after the last refusal, and nothing but a few system calls is lost by the trials before."""
    with kernel.refusing("EIO from GSO"):
        both_ways(pair)
    before = kernel.count("segmented")

    def segmented() -> bool:
        both_ways(pair)
        return kernel.count("segmented") > before + 10

    pair.nodes[0].wait_for("the kernel to segment", segmented, 60)
