"""Two nodes with an overlay between them, on one cable or with a relay in between: what interoperation and throughput
are tested on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ztpipe.lab import Gateway, Lab, LabNode, Namespace, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

Make = Callable[[Namespace, Lab], LabNode]


@dataclass(slots=True)
class Pair:
    """Hosts A and B; `target` is B's address as A should use it (overlay, or the cable itself without nodes)."""

    name: str
    a: Namespace
    b: Namespace
    target: str
    nodes: list[LabNode] = field(default_factory=list)
    nwid: str = ""
    underlay_a: str = ""  # A's address on the cable
    overlay: str = ""  # first three bytes of the overlay's IPv4 addresses; A is .1, B is .2

    def overlay_v6(self, host: int) -> str:
        return f"fd00:{self.overlay.split('.')[2]}::{host}"

    def pids(self) -> list[int]:
        return [node.pid() for node in self.nodes]


def ztpipe(*flags: str) -> Make:
    return lambda host, lab: Gateway(host, lab.directory, flags=flags)


def reference(program: str | None = None) -> Make:
    return lambda host, lab: Reference(host, lab.directory, program=program or os.environ["ZT_REFERENCE"])


def bare(lab: Lab, name: str, underlay: str, *, mtu: int = 1500) -> Pair:
    """The cable alone: the yardstick."""
    a, b = lab.namespace(f"{name}-a"), lab.namespace(f"{name}-b")
    lab.cable(a, "eth0", [f"{underlay}.1/24"], b, plug="eth0", other_addresses=[f"{underlay}.2/24"], mtu=mtu)
    return Pair(name, a, b, f"{underlay}.2", underlay_a=f"{underlay}.1")


def joined(
    lab: Lab,
    name: str,
    underlay: str,
    overlay: str,
    make_a: Make,
    make_b: Make,
    *,
    without: Sequence[str] = (),
    mtu: int = 1500,
    cable: Callable[..., Pair] | None = None,
) -> Pair:
    """Node A is moon root and controller, both are members; returns when a ping crosses directly.

    `without`: ethtool features switched off at both ends of the cable (a poor network card). `mtu`: of the cable.
    `cable`: lays it, instead of `bare`.
    """
    pair = (cable or bare)(lab, name, underlay, mtu=mtu)
    for namespace in (pair.a, pair.b):
        for feature in without:
            namespace.run("ethtool", "-K", "eth0", feature, "off")
    first, second = make_a(pair.a, lab), make_b(pair.b, lab)
    planet, moons = private_planet(), [moon(first.identity, [f"{underlay}.1/9993"])]
    for node in (first, second):
        node.use_world(planet, moons)
        node.start()
    pair.nodes = [first, second]
    _join(pair, overlay, first, pair.nodes)
    first.wait_direct(second.address)
    _wait_for_ping(pair)
    return pair


def relayed(lab: Lab, name: str, underlay: str, overlay: str, make_a: Make, make_relay: Make, make_b: Make) -> Pair:
    """A and B, each on a cable of its own to a relay that is moon root and controller. The cables are not connected.

    `nodes` are A, the relay, B.
    """
    a, relay, b = (lab.namespace(f"{name}-{label}") for label in ("a", "r", "b"))
    for host, port, number in ((a, "eth0", 0), (b, "eth1", 128)):
        here, there = f"{underlay}.{number + 2}/25", f"{underlay}.{number + 1}/25"
        lab.cable(host, "eth0", [here], relay, plug=port, other_addresses=[there])
    pair = Pair(name, a, b, "")
    pair.nodes = [make(host, lab) for make, host in ((make_a, a), (make_relay, relay), (make_b, b))]
    middle = pair.nodes[1]
    planet, moons = private_planet(), [moon(middle.identity, [f"{underlay}.1/9993", f"{underlay}.129/9993"])]
    for node in pair.nodes:
        node.use_world(planet, moons)
        node.start()
    _join(pair, overlay, middle, [pair.nodes[0], pair.nodes[2]])
    _wait_for_ping(pair)
    return pair


def _join(pair: Pair, overlay: str, controller: LabNode, members: Sequence[LabNode]) -> None:
    """A network of the controller; its members get the addresses .1, .2, ... of the overlay."""
    pair.overlay = overlay
    routes = [{"target": f"{overlay}.0/24"}, {"target": f"{pair.overlay_v6(0)}/64"}]
    nwid = pair.nwid = controller.create_network(
        name=pair.name, private=True, routes=routes, v4AssignMode={"zt": False}
    )
    for number, node in enumerate(members, start=1):
        controller.authorise(nwid, node.address, ipAssignments=[f"{overlay}.{number}", pair.overlay_v6(number)])
        node.join(nwid)
    for node in members:
        node.wait_ok(nwid, addresses=2)
    pair.target = f"{overlay}.2"


def _wait_for_ping(pair: Pair) -> None:
    pair.nodes[0].wait_for("a ping through the overlay", lambda: ping(pair.a, pair.target, count=1).times, 20)


def counted(node: LabNode, name: str) -> int:
    """A counter of a gateway, summed over its processes."""
    return sum(int(worker["counters"].get(name, 0)) for worker in node.api("GET", "/ztpipe/workers"))
