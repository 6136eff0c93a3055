"""A home directory goes from an unmodified node to ours and back: same address, networks, roots, modes, controller."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from tests.pairs import Pair, joined, reference, ztpipe
from ztpipe.lab import Gateway, Lab, LabNode, Reference
from ztpipe.lab.traffic import ping

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(240)]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Lab("zpt") as lab:
        yield joined(lab, "t", "10.66.48", "10.67.48", ztpipe(), reference())


def successor(kind: type[LabNode], before: LabNode) -> LabNode:
    """A node of the other make in the home, and the place, of one that has stopped."""
    after = kind.__new__(kind)
    for name in ("namespace", "home", "identity", "log"):
        setattr(after, name, getattr(before, name))
    after.process = None
    if isinstance(after, Gateway):
        after.flags = []
    elif isinstance(after, Reference):
        after.program = os.environ["ZT_REFERENCE"]
    return after


def secrets_of(home: Path) -> dict[str, tuple[bytes, int]]:
    names = ("identity.secret", "identity.public", "authtoken.secret", "planet")
    return {name: ((home / name).read_bytes(), stat.S_IMODE((home / name).stat().st_mode)) for name in names}


def reached(pair: Pair, node: LabNode) -> None:
    """The member works: same network, same addresses, frames cross."""
    network = node.wait_ok(pair.nwid, addresses=2)
    assert f"{pair.overlay}.2/24" in network["assignedAddresses"]
    node.wait_for("a ping", lambda: ping(pair.a, f"{pair.overlay}.2", count=1).times, 30)
    assert [moon["id"] for moon in node.api("GET", "/moon")] == [f"{pair.nodes[0].identity.address:016x}"]


def test_there_and_back(pair: Pair) -> None:
    first = pair.nodes[1]
    first.api("POST", f"/network/{pair.nwid}", {"allowGlobal": True})
    own = first.create_network(name="mine", private=True)
    first.stop()
    before = secrets_of(first.home)

    ours = successor(Gateway, first)
    ours.start()
    assert ours.api("GET", "/status")["address"] == first.address
    reached(pair, ours)
    assert ours.network(pair.nwid)["allowGlobal"] is True
    done = ours.namespace.run(
        sys.executable, "-m", "ztpipe", "controller", "-D", str(ours.home), "import", str(ours.home / "controller.d")
    )
    assert done.returncode == 0
    assert ours.api("GET", f"/controller/network/{own}")["name"] == "mine"
    ours.stop()
    assert secrets_of(first.home) == before

    theirs = successor(Reference, ours)
    theirs.start()
    assert theirs.api("GET", "/status")["address"] == first.address
    reached(pair, theirs)
    assert theirs.network(pair.nwid)["allowGlobal"] is True
    assert theirs.api("GET", f"/controller/network/{own}")["name"] == "mine"
