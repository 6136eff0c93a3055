"""A controller that disappears: whom certificates keep together, whom they part, and when (vl2 §3.2), for real time.

Members are compared by the age of their certificates, not with a clock. Those who are all cut off stay together for as
long as they live. Of two of whom one goes on being served, neither hears the other once their certificates are
further apart than the network's window, which is set to the shortest there is; and they meet again when the
controller is back. Takes eight minutes.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, field

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from ztpipe.lab import Gateway, Lab, LabNode, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

pytestmark = [*BESIDE_REFERENCE, pytest.mark.long, pytest.mark.timeout(900)]

WINDOW = 300  # seconds, the shortest (controller §8.2)
REFRESH = 60  # members ask for a new configuration this often
SLACK = 45  # for both refreshes, the push of credentials, and a busy machine
WAN, OVERLAY = "10.66.52", "10.67.52"


@dataclass
class Couple:
    """Two members; `cut` are those whom the controller is taken from."""

    name: str
    members: list[LabNode]
    cut: list[LabNode]
    numbers: tuple[int, int]
    heard: list[tuple[float, bool, bool]] = field(default_factory=list)
    """(seconds since the cut, first hears second's answer, second hears first's)."""

    def look(self, since: float) -> None:
        answers = [
            bool(ping(one.namespace, f"{OVERLAY}.{number}", count=2, interval=0.3).times)
            for one, number in zip(self.members, reversed(self.numbers), strict=True)
        ]
        self.heard.append((time.monotonic() - since, answers[0], answers[1]))

    def together(self) -> bool:
        return all(self.heard[-1][1:])


def _shortest_window(root: LabNode, nwid: str) -> None:
    """The API cannot set it (controller §8.2): whoever wants it edits the stored object."""
    assert root.stop() == 0
    with sqlite3.connect(root.home / "controller.d" / "controller.db") as database:
        ((text,),) = database.execute("SELECT object FROM network WHERE nwid = ?", (nwid,)).fetchall()
        record = json.dumps(json.loads(text) | {"certificateTimeoutWindowSize": WINDOW * 1000})
        database.execute("UPDATE network SET object = ? WHERE nwid = ?", (record, nwid))
    root.start()


def _cut(node: LabNode) -> None:
    """Nothing goes from the node to the root or back."""
    chains = (("output", "daddr"), ("input", "saddr"))
    rules = "\n".join(
        f"chain {hook} {{ type filter hook {hook} priority 0; ip {side} {WAN}.1 drop; }}" for hook, side in chains
    )
    node.namespace.run("nft", f"table inet cut {{\n{rules}\n}}")


def _mend(node: LabNode) -> None:
    node.namespace.run("nft", "delete table inet cut")


def test_certificates_part_and_join() -> None:
    with Lab("zpx") as lab:
        wan = lab.switch("wan")
        kinds: list[type[LabNode]] = [Gateway, Gateway, Reference, Gateway, Reference, Gateway, Reference]
        nodes = []
        for number, kind in enumerate(kinds, start=1):
            host = lab.namespace(f"n{number}")
            lab.cable(host, "eth0", [f"{WAN}.{number}/24"], wan)
            host.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
            nodes.append(kind(host, lab.directory))
        root, *members = nodes
        planet, moons = private_planet(), [moon(root.identity, [f"{WAN}.1/9993"])]
        for node in nodes:
            node.use_world(planet, moons)
            node.start()
        nwid = root.create_network(
            name="x", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
        )
        _shortest_window(root, nwid)
        for number, node in enumerate(members, start=2):
            root.authorise(nwid, node.address, ipAssignments=[f"{OVERLAY}.{number}"])
            node.join(nwid)
        for node in members:
            node.wait_ok(nwid)
        all_cut = Couple("both are cut off", members[0:2], members[0:2], (2, 3))
        ours_cut = Couple("ours is cut off", members[2:4], members[2:3], (4, 5))
        theirs_cut = Couple("the unmodified one is cut off", members[4:6], members[5:6], (6, 7))
        parted = [ours_cut, theirs_cut]
        for couple in (all_cut, *parted):
            one, two = couple.members
            one.wait_for("a ping", lambda c=couple: (c.look(0), c.together())[1], 60)  # type: ignore[misc]
            one.wait_direct(two.address)
        began = time.monotonic()
        for couple in (all_cut, *parted):
            couple.heard.clear()
            for node in couple.cut:
                _cut(node)
        while time.monotonic() - began < WINDOW + REFRESH + SLACK + 15:
            for couple in (all_cut, *parted):
                couple.look(began)
            time.sleep(5)
        for couple in (all_cut, *parted):
            last = max((at for at, *both in couple.heard if any(both)), default=0.0)
            print(f"{couple.name}: last heard after {last:.0f} s; {couple.heard[-1]}")
        assert all(both == [True, True] for _, *both in all_cut.heard), all_cut.heard
        for couple in parted:
            early = [both for at, *both in couple.heard if at < WINDOW - REFRESH - SLACK]
            late = [both for at, *both in couple.heard if at > WINDOW + REFRESH + SLACK]
            assert early and all(both == [True, True] for both in early), couple
            assert late and not any(any(both) for both in late), couple
        for couple in (all_cut, *parted):
            for node in couple.cut:
                _mend(node)
        for couple in parted:
            couple.members[0].wait_for("each other", lambda c=couple: (c.look(began), c.together())[1], 150)  # type: ignore[misc]
