"""Two nodes that reach each other only through a third: the relay in C, and the introductions of the slow path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pairs import Pair, counted, relayed, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import transfer

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(params=["pipeline", "fused"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with Lab("zpy") as lab:
        make = ztpipe("--layout", request.param)
        yield relayed(lab, "y", "10.66.2", "10.67.2", make, make, make)


def test_bulk_traffic_through_the_relay_stays_out_of_the_slow_path(pair: Pair) -> None:
    relay = pair.nodes[1]
    punts = counted(relay, "punts")
    assert transfer(pair.a, pair.b, pair.target, 20_000_000).intact
    assert transfer(pair.b, pair.a, f"{pair.overlay}.1", 2_000_000).intact
    forwarded = counted(relay, "relay_datagrams")
    assert forwarded > 22_000_000 // 1432
    assert counted(relay, "punts") - punts < 100
    assert counted(relay, "open_datagrams") < forwarded // 10


def test_nodes_that_could_reach_each_other_are_introduced(pair: Pair) -> None:
    """As soon as the cables are connected, the next packet that is punted for an introduction brings a direct path."""
    first, relay, second = pair.nodes
    pair.a.run("ip", "route", "add", "10.66.2.128/25", "via", "10.66.2.1")
    pair.b.run("ip", "route", "add", "10.66.2.0/25", "via", "10.66.2.129")
    relay.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    with pair.a.popen("ping", "-n", "-q", "-i", "0.2", pair.target) as running:
        first.wait_direct(second.address, timeout=60)
        running.terminate()
    assert counted(relay, "udp_punted") >= 1
