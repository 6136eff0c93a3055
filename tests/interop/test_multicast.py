"""Frames for groups between two nodes of ours and two unmodified ones: each arrives once at each member (vl2 §6).

They come fast enough for the data plane to repeat them by itself; tests/netns/test_correctness.py has that, too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.groupcast import MDNS4, MDNS6, Listener, device_of, talk
from tests.interop.marks import BESIDE_REFERENCE
from tests.pairs import counted
from ztpipe.lab import Gateway, Lab, LabNode, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(240)]

COUNT, INTERVAL, PORT = 100, 0.005, 5353
BROADCAST = "10.88.0.255"


@dataclass
class Members:
    nodes: list[LabNode]
    devices: list[str]

    def __iter__(self) -> Iterator[tuple[int, LabNode, str]]:
        return iter(zip(range(1, 5), self.nodes, self.devices, strict=True))


@pytest.fixture(scope="module")
def members() -> Iterator[Members]:
    with Lab("zpm") as lab:
        switch = lab.switch("sw")
        hosts = [lab.namespace(label) for label in ("a", "b", "r", "s")]
        for number, host in enumerate(hosts, start=1):
            lab.cable(host, "eth0", [f"10.66.9.{number}/24"], switch)
            host.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0")
        nodes: list[LabNode] = [
            Gateway(hosts[0], lab.directory, flags=("--layout", "pipeline")),
            Gateway(hosts[1], lab.directory, flags=("--layout", "fused")),
            *(Reference(host, lab.directory) for host in hosts[2:]),
        ]
        planet, moons = private_planet(), [moon(nodes[0].identity, ["10.66.9.1/9993"])]
        for node in nodes:
            node.use_world(planet, moons)
            node.start()
        routes = [{"target": "10.88.0.0/24"}]
        nwid = nodes[0].create_network(
            name="m", routes=routes, v4AssignMode={"zt": False}, v6AssignMode={"rfc4193": True}
        )
        for number, node in enumerate(nodes, start=1):
            nodes[0].authorise(nwid, node.address, ipAssignments=[f"10.88.0.{number}"])
            node.join(nwid)
        for node in nodes:
            node.wait_ok(nwid, addresses=2)
        devices = [device_of(node.namespace, f"10.88.0.{number}") for number, node in enumerate(nodes, start=1)]
        yield Members(nodes, devices)


def test_arp_between_all(members: Members) -> None:
    for number, node, _ in members:
        for other in range(1, 5):
            if other != number:
                target = f"10.88.0.{other}"
                node.wait_for(f"a ping to {target}", lambda n=node, t=target: ping(n.namespace, t, count=1).times, 30)  # type: ignore[misc]


@pytest.mark.parametrize("target", [BROADCAST, "224.0.0.1", "ff02::1"])
def test_everybody_answers_a_ping_to_all(members: Members, target: str) -> None:
    for _, node, device in members:
        argv = ["ping", "-n", "-c", "3", "-i", "0.5", "-W", "3", "-I", device, *(["-b"] if target == BROADCAST else [])]

        def answering(node: LabNode = node, argv: list[str] = argv) -> bool:
            shown = node.namespace.run(*argv, target, timeout=30, check=False).stdout
            return len(set(re.findall(r"from ([^ ]+): icmp_seq", shown.replace("%" + argv[-2], "")))) >= 4 - (
                target != "ff02::1"
            )

        node.wait_for(f"answers of all to {target}", answering, 40)


@pytest.mark.parametrize("group", [MDNS4, MDNS6, BROADCAST])
def test_once_at_each(members: Members, group: str) -> None:
    ours = [node for _, node, _ in members if isinstance(node, Gateway)]
    before = [counted(node, "tap_multicasts") for node in ours]
    seconds = 4 * (COUNT * INTERVAL + 1.5) + 14
    listeners = [Listener(node.namespace, seconds, PORT, [f"{group}@{device}"]) for _, node, device in members]
    time.sleep(6)  # nodes look at their TAPs every five seconds
    for number, node, device in members:
        talk(node.namespace, PORT, 3, 0.3, f"{group}@{device}", 90 + number)  # those that find the members
        talk(node.namespace, PORT, COUNT, INTERVAL, f"{group}@{device}", number)
    for (number, _, _), listener in zip(members, listeners, strict=True):
        heard = listener.heard()[group]
        assert {sender: heard[str(sender)] for sender in range(1, 5) if sender != number} == {
            sender: [COUNT, COUNT] for sender in range(1, 5) if sender != number
        }
    for node, count in zip(ours, before, strict=True):
        assert counted(node, "tap_multicasts") - count > COUNT // 2  # most of them without the slow path
