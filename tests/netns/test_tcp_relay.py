"""UDP does not get through: nodes reach each other by way of a TCP relay of ours, and directly again when it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ztpipe.lab import Gateway, Lab, LabNode, Namespace
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping, transfer

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

WAN, OVERLAY = "44.128.0", "10.67.8"  # a block set aside for tests: only global addresses are relayed
RELAY = f"{WAN}.4/443"


@dataclass(slots=True)
class Scene:
    """A root, a node that TCP must serve, a node as usual, and the relay."""

    root: LabNode
    walled: LabNode
    free: LabNode
    relay: Namespace


def start_relay(host: Namespace, lab: Lab) -> None:
    with open(lab.directory / "relay.log", "ab") as log:
        host.popen(sys.executable, "-m", "ztpipe", "tcp-relay", stdout=log, stderr=subprocess.STDOUT)


def scene(lab: Lab, kind: type[LabNode] = Gateway, **settings: object) -> Scene:
    """`kind` and `settings` are those of the walled node."""
    wan = lab.switch("wan")
    hosts = [lab.namespace(label) for label in ("root", "walled", "free", "relay")]
    for number, host in enumerate(hosts, start=1):
        lab.cable(host, "eth0", [f"{WAN}.{number}/24"], wan)
    start_relay(hosts[3], lab)
    chosen = {"allowTcpFallbackRelay": True, "tcpFallbackRelay": RELAY, **settings}
    nodes = [
        Gateway(hosts[0], lab.directory),
        kind(hosts[1], lab.directory, settings=chosen),
        Gateway(hosts[2], lab.directory),
    ]
    return Scene(nodes[0], nodes[1], nodes[2], hosts[3])


def run(found: Scene) -> None:
    """Start all, and let both members of a network of the root's have an address."""
    planet, moons = private_planet(), [moon(found.root.identity, [f"{WAN}.1/9993"])]
    for node in (found.root, found.walled, found.free):
        node.use_world(planet, moons)
        node.start()
    nwid = found.root.create_network(
        name="tcp", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
    )
    for number, node in enumerate((found.walled, found.free), start=1):
        found.root.authorise(nwid, node.address, ipAssignments=[f"{OVERLAY}.{number}"])
        node.join(nwid)
    for node in (found.walled, found.free):
        node.wait_ok(nwid, timeout=100)


def block_udp(host: Namespace) -> None:
    """The firewall of an office: nothing by UDP, neither out nor in."""
    rule = "priority 0; meta l4proto udp drop;"
    chains = " ".join(f"chain x{c} {{ type filter hook {c} {rule} }};" for c in ("output", "input"))
    host.run("nft", f"table inet wall {{ {chains} }}")


def answers(node: LabNode, target: str, timeout: float = 60) -> None:
    node.wait_for(f"a ping to {target}", lambda: ping(node.namespace, target, count=1, timeout=2).times, timeout)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("zpt") as made:
        yield made


def test_a_node_that_is_told_to_uses_the_relay_for_everything(lab: Lab) -> None:
    found = scene(lab, forceTcpRelay=True)
    block_udp(found.walled.namespace)
    run(found)
    assert found.walled.api("GET", "/status")["tcpFallbackActive"] is True
    assert found.walled.api("GET", "/status")["config"]["settings"]["listeningOn"] == []
    answers(found.walled, f"{OVERLAY}.2")
    answers(found.free, f"{OVERLAY}.1")
    assert transfer(found.walled.namespace, found.free.namespace, f"{OVERLAY}.2", 500_000).intact
    peer = found.free.wait_direct(found.walled.address)
    assert {path["address"].split("/")[0] for path in peer["paths"]} == {f"{WAN}.4"}


@pytest.mark.long
def test_relayed_when_udp_fails_and_back_when_it_works(lab: Lab) -> None:
    found = scene(lab)
    run(found)
    answers(found.walled, f"{OVERLAY}.2")
    block_udp(found.walled.namespace)
    status = lambda: found.walled.api("GET", "/status")["tcpFallbackActive"]  # noqa: E731
    found.walled.wait_for("the tunnel", status, 120)
    answers(found.walled, f"{OVERLAY}.2")
    found.walled.namespace.run("nft", "delete table inet wall")
    found.walled.wait_for("the end of the tunnel", lambda: not status(), 60)
    answers(found.walled, f"{OVERLAY}.2", 20)
