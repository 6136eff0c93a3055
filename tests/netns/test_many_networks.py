"""As many networks as a node holds: each has a device of its own and carries frames (ad-hoc networks, vl2 §1.5)."""

from __future__ import annotations

import time

import pytest

from tests.pairs import joined, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import CpuMeter, ping, proportional_memory
from ztpipe.node.vl2 import MAX_NETWORKS

pytestmark = [pytest.mark.root, pytest.mark.timeout(180), pytest.mark.long]

COUNT = MAX_NETWORKS - 1
"""Beside the one of the pair."""


def adhoc(number: int) -> str:
    """One that lets in TCP and UDP ports of its own, ICMPv6 included."""
    return f"ff{1000 + number:04x}{2000 + number:04x}000000"


def test_as_many_networks_as_there_can_be() -> None:
    with Lab("zpM") as lab:
        pair = joined(lab, "M", "10.66.9", "10.67.9", ztpipe(), ztpipe())
        for node in pair.nodes:
            for number in range(COUNT):
                node.api("POST", f"/network/{adhoc(number)}", {})
        for node in pair.nodes:
            node.wait_for(
                "all networks",
                lambda node=node: sum(n["status"] == "OK" for n in node.api("GET", "/network")) == COUNT + 1,  # type: ignore[misc]
                100,
            )
        status, answer = pair.nodes[1].api_raw("POST", f"/network/{adhoc(COUNT)}", {})
        assert status == 503 and "256 networks are joined" in answer["error"]
        time.sleep(5)
        node = pair.nodes[1]
        meter = CpuMeter([node.pid()]).start()
        time.sleep(10)
        busy, memory = meter.total() / 10, proportional_memory([node.pid()]) / 1e6
        print(f"{COUNT + 1} networks, idle: {busy:.1%} of a core, {memory:.0f} MB")
        found = {n["nwid"]: n for n in pair.nodes[1].api("GET", "/network")}
        for number in (0, COUNT // 2, COUNT - 1):
            target = found[adhoc(number)]["assignedAddresses"][0].split("/")[0]
            node.wait_for(f"{adhoc(number)}", lambda target=target: ping(pair.a, target, count=1).times, 30)  # type: ignore[misc]
        assert ping(pair.a, pair.target, count=5, interval=0.2).lost == 0
