"""An unmodified zerotier-one beside our gateway: it must not be able to tell (root; ZT_REFERENCE names the program)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from tests.pairs import Pair, joined, reference, ztpipe
from ztpipe.lab import Lab, Namespace
from ztpipe.lab.traffic import iperf, ping, transfer

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(180)]

SUITE_1 = ("--protocol-version", "11")  # we announce no AES: both sides speak Salsa20/12
CASES = {
    "it joins our controller's network": (ztpipe(), reference()),
    "we join its controller's network": (reference(), ztpipe()),
    "it joins ours, AES off": (ztpipe(*SUITE_1), reference()),
    "we join its, AES off": (reference(), ztpipe(*SUITE_1)),
    "it joins ours, fused": (ztpipe("--layout", "fused"), reference()),
    "it joins ours, two workers of each kind": (
        ztpipe("--tap-workers", "2", "--crypto-workers", "2", "--peer-workers", "2"),
        reference(),
    ),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.replace(" ", "-"))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    make_a, make_b = CASES[request.param]
    with Lab("zpi") as lab:
        yield joined(lab, "i", "10.66.1", "10.67.1", make_a, make_b)


def _both_ways(pair: Pair) -> list[tuple[Namespace, Namespace, str, str]]:
    """(source, sink, IPv4 of the sink, IPv6 of the sink)."""
    return [
        (pair.a, pair.b, f"{pair.overlay}.2", pair.overlay_v6(2)),
        (pair.b, pair.a, f"{pair.overlay}.1", pair.overlay_v6(1)),
    ]


def test_ping_both_ways(pair: Pair) -> None:
    for source, _, v4, v6 in _both_ways(pair):
        for target in (v4, v6):
            ping(source, target, count=3)  # resolution
            assert ping(source, target, count=10, interval=0.1).lost == 0, target


def test_tcp_both_ways(pair: Pair) -> None:
    for source, sink, v4, v6 in _both_ways(pair):
        for target in (v4, v6):
            assert iperf(source, sink, target, seconds=1).bytes > 1_000_000, target


def test_bytes_arrive_unchanged(pair: Pair) -> None:
    for source, sink, v4, _ in _both_ways(pair):
        moved = transfer(source, sink, v4, 20_000_000)
        assert moved.intact, moved


def test_both_see_a_direct_path_and_version(pair: Pair) -> None:
    for node, other in (pair.nodes, reversed(pair.nodes)):
        peer = node.wait_direct(other.address)
        assert peer["version"] == "1.14.1"
        assert any(path["preferred"] for path in peer["paths"])
