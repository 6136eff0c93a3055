"""Our node as the multicast replicator of a network with unmodified members: it repeats their frames to the others.

No controller that one can get makes replicators (controller §8.5); this one's does, by a word in its configurations. A
replicator is an active bridge as well, because members believe only bridges about the source of a frame (vl2 §6.4).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.groupcast import Listener, device_of, talk
from tests.interop.marks import BESIDE_REFERENCE
from tests.interop.test_multicast import Members
from tests.pairs import counted
from ztpipe.lab import Gateway, Lab, LabNode, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(240)]

COUNT, INTERVAL, PORT = 200, 0.005, 5353
GROUP = "239.88.0.1"
_PROGRAM = """
import sys
import ztpipe.controller.config as config
from ztpipe.wire.netconf import ROLE_BRIDGE, ROLE_REPLICATOR
from ztpipe.__main__ import main
config.ROLE_BRIDGE = ROLE_BRIDGE | ROLE_REPLICATOR
sys.exit(main())
"""


class Replicating(Gateway):
    """A node whose controller makes replicators of active bridges."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, *super().command()[3:]]


@pytest.fixture(scope="module", params=["pipeline", "fused"])
def members(request: pytest.FixtureRequest) -> Iterator[Members]:
    """The replicator, another of ours, two unmodified ones."""
    with Lab("zpR") as lab:
        switch = lab.switch("sw")
        hosts = [lab.namespace(label) for label in ("a", "b", "r", "s")]
        for number, host in enumerate(hosts, start=1):
            lab.cable(host, "eth0", [f"10.66.19.{number}/24"], switch)
        flags = ("--layout", request.param)
        nodes: list[LabNode] = [Replicating(hosts[0], lab.directory, flags=flags)]
        nodes += [Gateway(hosts[1], lab.directory, flags=flags)]
        nodes += [Reference(host, lab.directory) for host in hosts[2:]]
        root = nodes[0]
        planet, moons = private_planet(), [moon(root.identity, ["10.66.19.1/9993"])]
        for node in nodes:
            node.use_world(planet, moons)
            node.start()
        nwid = root.create_network(
            name="m", private=True, routes=[{"target": "10.89.0.0/24"}], v4AssignMode={"zt": False}
        )
        root.authorise(nwid, root.address, activeBridge=True)
        for number, node in enumerate(nodes, start=1):
            root.authorise(nwid, node.address, ipAssignments=[f"10.89.0.{number}"])
            node.join(nwid)
        for node in nodes:
            node.wait_ok(nwid)
        devices = [device_of(node.namespace, f"10.89.0.{number}") for number, node in enumerate(nodes, start=1)]
        yield Members(nodes, devices)


def test_arp_goes_through_it(members: Members) -> None:
    for number, node, _ in members:
        for other in range(1, 5):
            if other != number:
                target = f"10.89.0.{other}"
                node.wait_for(f"a ping to {target}", lambda n=node, t=target: ping(n.namespace, t, count=1).times, 40)  # type: ignore[misc]


def test_each_frame_once_at_each_other_member(members: Members) -> None:
    replicator = members.nodes[0]
    names = ("open_replicated", "open_punted", "drop_group_share", "drop_no_room", "drop_group_budget")
    seconds = 3 * (COUNT * INTERVAL + 2.5) + 14
    listeners = [Listener(node.namespace, seconds, PORT, [f"{GROUP}@{device}"]) for _, node, device in members]
    time.sleep(7)  # nodes look at their TAPs every five seconds
    talkers = [(number, node, device) for number, node, device in members if number != 1]
    for number, node, device in talkers:
        talk(node.namespace, PORT, 8, 0.2, f"{GROUP}@{device}", 90 + number)  # those that make it an entry
        before = {name: counted(replicator, name) for name in names}
        talk(node.namespace, PORT, COUNT, INTERVAL, f"{GROUP}@{device}", number)
        time.sleep(0.3)
        grown = {name: counted(replicator, name) - before[name] for name in names}
        print(node.namespace.label, grown, file=sys.stderr)
        assert grown["open_replicated"] > COUNT // 2, (number, grown)  # most of them without the slow path
    for (number, _, _), listener in zip(members, listeners, strict=True):
        heard = listener.heard()[GROUP]
        expected = {sender: [COUNT, COUNT] for sender, _, _ in talkers if sender != number}
        assert {sender: heard.get(str(sender)) for sender in expected} == expected, number
