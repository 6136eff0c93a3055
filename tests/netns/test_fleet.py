"""Two controllers with one identity on one PostgreSQL: each may die, the database may die, and members go on."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres
from ztpipe.lab import Gateway, Lab, LabNode, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping
from ztpipe.wire.identity import Identity

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(postgres.MISSING), reason=postgres.MISSING or "-"),
]

WAN, OVERLAY = "10.66.50", "10.67.50"


@dataclass
class Fleet:
    server: postgres.Server
    root: LabNode
    controllers: list[LabNode]
    members: list[LabNode]
    nwid: str = ""

    def pings(self, count: int = 5) -> int:
        """How many of them cross between the members."""
        return len(ping(self.members[0].namespace, f"{OVERLAY}.2", count=count, interval=0.1).times)


@pytest.fixture(scope="module", params=["ours", pytest.param("unmodified", marks=pytest.mark.interop)])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    if request.param == "unmodified" and "ZT_REFERENCE" not in os.environ:
        pytest.skip("NOT TESTED AGAINST zerotier-one: set ZT_REFERENCE")
    directory = Path(tempfile.mkdtemp(prefix="zpfp", dir="/tmp"))
    with postgres.server(directory) as server, Lab("zpp") as lab:
        yield _build(lab, server, Reference if request.param == "unmodified" else Gateway)
    shutil.rmtree(directory, ignore_errors=True)


def _build(lab: Lab, server: postgres.Server, kind: type[LabNode]) -> Fleet:
    wan = lab.switch("wan")
    hosts = []
    for number, label in enumerate(("root", "c1", "c2", "m1", "m2"), start=1):
        host = lab.namespace(label)
        lab.cable(host, "eth0", [f"{WAN}.{number}/24"], wan)
        hosts.append(host)
    shared = Identity.generate(os.urandom)
    extra = {"ztpipe": {"controllerDatabase": server.database("fleet")}}
    root = Gateway(hosts[0], lab.directory)
    controllers: list[LabNode] = [Gateway(host, lab.directory, identity=shared, extra=extra) for host in hosts[1:3]]
    members = [kind(host, lab.directory) for host in hosts[3:]]
    planet, moons = private_planet(), [moon(root.identity, [f"{WAN}.1/9993"])]
    for node in (root, *controllers, *members):
        node.use_world(planet, moons)
        node.start()
    found = Fleet(server, root, controllers, members)
    found.nwid = controllers[0].create_network(
        name="fleet", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
    )
    for number, member in enumerate(members, start=1):
        controllers[number % 2].authorise(found.nwid, member.address, ipAssignments=[f"{OVERLAY}.{number}"])
        member.join(found.nwid)
    for member in members:
        member.wait_ok(found.nwid)
    members[0].wait_for("a ping", lambda: found.pings(1), 30)
    return found


def test_a_database_that_is_away(fleet: Fleet) -> None:
    """For 30 seconds if asked for (ZTPIPE_LONG=1), else for 6."""
    away = 30 if os.environ.get("ZTPIPE_LONG") == "1" else 6
    controller = fleet.controllers[0]
    path = f"/controller/network/{fleet.nwid}"
    before = controller.api("GET", path)
    fleet.server.kill()
    until = time.monotonic() + away
    refused = 0
    while time.monotonic() < until:
        status, answer = controller.api_raw("POST", path, {"name": "lost"})
        assert status == 503, answer
        refused += 1
        assert fleet.pings(5) == 5
        assert controller.api("GET", path) == before
    assert refused > 2
    fleet.server.start()
    controller.wait_for(
        "changes to be taken again", lambda: controller.api_raw("POST", path, {"name": "found"})[0] == 200, 15
    )
    for node in fleet.controllers:
        node.wait_for("the change", lambda node=node: node.api("GET", path)["name"] == "found", 15)  # type: ignore[misc]
    for node in fleet.members:
        node.wait_for("the change", lambda node=node: node.network(fleet.nwid)["name"] == "found", 70)  # type: ignore[misc]


def test_a_fleet(fleet: Fleet) -> None:
    first, second = fleet.controllers
    member = fleet.members[1]
    path = f"/controller/network/{fleet.nwid}"

    # What one changes the other shows, and members learn it at once, whoever answers them.
    for number, controller in enumerate((first, second)):
        controller.api("POST", f"/controller/network/{fleet.nwid}", {"name": f"name {number}"})
        for node in (first, second):
            node.wait_for(
                "the change", lambda node=node, number=number: node.api("GET", path)["name"] == f"name {number}", 5
            )  # type: ignore[misc]
        for node in fleet.members:
            node.wait_for(
                "the change", lambda node=node, number=number: node.network(fleet.nwid)["name"] == f"name {number}", 5
            )  # type: ignore[misc]

    # kill -9 of the one that answers, in the middle of a join.
    member.api("DELETE", f"/network/{fleet.nwid}")
    member.join(fleet.nwid)
    os.kill(first.pid(), signal.SIGKILL)
    member.wait_ok(fleet.nwid, timeout=60)
    fleet.members[0].wait_for("a ping", lambda: fleet.pings(1), 30)
    assert second.api("POST", f"/controller/network/{fleet.nwid}", {"name": "alone"})["name"] == "alone"
    for node in fleet.members:
        node.wait_for("the change", lambda node=node: node.network(fleet.nwid)["name"] == "alone", 90)  # type: ignore[misc]

    # It comes back, the other dies.
    assert first.process is not None
    first.process.wait(5)
    first.start()
    assert first.api("GET", f"/controller/network/{fleet.nwid}")["name"] == "alone"
    os.kill(second.pid(), signal.SIGKILL)
    member.api("DELETE", f"/network/{fleet.nwid}")
    member.join(fleet.nwid)
    member.wait_ok(fleet.nwid, timeout=60)
