"""Our node and an unmodified one where there is no IPv4 at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.interop.test_interop import pytestmark  # noqa: F401  (pytest reads it)
from ztpipe.lab import Gateway, Lab, LabNode, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

PREFIX, OVERLAY = "fd66:9:", "10.67.9"


@pytest.fixture(params=["we are the root", "it is the root"], ids=lambda case: case.replace(" ", "-"))
def nodes(request: pytest.FixtureRequest) -> Iterator[tuple[LabNode, LabNode]]:
    with Lab("zp6") as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.cable(a, "eth0", [f"{PREFIX}:1/64"], b, plug="eth0", other_addresses=[f"{PREFIX}:2/64"])
        ours = Gateway(a, lab.directory)
        other = Reference(b, lab.directory, program=os.environ["ZT_REFERENCE"])
        root, number = (ours, 1) if request.param == "we are the root" else (other, 2)
        planet, moons = private_planet(), [moon(root.identity, [f"{PREFIX}:{number}/9993"])]
        for node in (ours, other):
            node.use_world(planet, moons)
            node.start()
        nwid = root.create_network(
            name="six", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
        )
        for member, node in enumerate((ours, other), start=1):
            root.authorise(nwid, node.address, ipAssignments=[f"{OVERLAY}.{member}"])
            node.join(nwid)
        for node in (ours, other):
            node.wait_ok(nwid)
        yield ours, other


def test_traffic_and_direct_paths(nodes: tuple[LabNode, LabNode]) -> None:
    ours, other = nodes
    ours.wait_for("a ping", lambda: ping(ours.namespace, f"{OVERLAY}.2", count=1).times, 20)
    for source, target in ((ours, f"{OVERLAY}.2"), (other, f"{OVERLAY}.1")):
        assert ping(source.namespace, target, count=10, interval=0.1).lost == 0
    for node, peer in ((ours, other), (other, ours)):
        paths = node.wait_direct(peer.address)["paths"]
        assert paths and all(path["address"].startswith("fd66:9:") for path in paths)
