"""A moon gets a newer version at its root; leaves that orbit it take it over: ours and unmodified ones, each way."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from tests.interop.nat_matrix import make
from tests.interop.test_interop import pytestmark  # noqa: F401  (pytest reads it)
from ztpipe.lab import Lab, LabNode
from ztpipe.lab.nodes import private_planet
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.world import Root, World, WorldType

WAN = "10.66.11"


def versions(root: Identity) -> tuple[World, World]:
    """The moon as it was, and as it is now: with a second endpoint, signed by the key that the first one names."""
    key = Identity.generate(os.urandom)
    assert key.private is not None
    roots = (Root(root.without_private(), (InetAddress.parse(f"{WAN}.1/9993"),)),)
    now = int(time.time() * 1000)
    first = World(WorldType.MOON, root.address, now - 60_000, key.public, b"", roots).sign(key.public, key.private)
    more = (replace(roots[0], endpoints=(*roots[0].endpoints, InetAddress.parse(f"{WAN}.9/9993"))),)
    second = World(WorldType.MOON, root.address, now, key.public, b"", more).sign(key.public, key.private)
    return first, second


@pytest.mark.parametrize(
    ("root", "leaf"),
    [("ours", "reference"), ("reference", "ours"), ("ours", "old"), ("old", "ours")],
)
def test_leaves_take_the_newer_moon(root: str, leaf: str) -> None:
    if "old" in (root, leaf) and "ZT_REFERENCE_OLD" not in os.environ:
        pytest.skip("NOT TESTED with an old node: set ZT_REFERENCE_OLD")
    with Lab("zpo") as lab:
        wan = lab.switch("wan")
        nodes: list[LabNode] = []
        for number, kind in enumerate((root, leaf), start=1):
            host = lab.namespace(f"n{number}")
            lab.cable(host, "eth0", [f"{WAN}.{number}/24"], wan)
            nodes.append(make(kind)(host, lab))
        first, second = versions(nodes[0].identity)
        planet = private_planet()
        nodes[0].use_world(planet, [second])
        nodes[1].use_world(planet, [first])
        for node in nodes:
            node.start()
        stored = nodes[1].home / "moons.d" / f"{second.id:016x}.moon"
        nodes[1].wait_for("the newer moon", lambda: stored.read_bytes() == second.encode(), 40)
        assert nodes[1].wait_direct(nodes[0].address)["role"] == "MOON"
