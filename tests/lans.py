"""Two LANs joined at layer 2: a host behind each of two nodes that are active bridges."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.pairs import Make, Pair, joined
from ztpipe.lab import Lab, LabNode, Namespace
from ztpipe.lab.traffic import ping
from ztpipe.wire.address import mac_of

LEFT, RIGHT = "10.80.0.11", "10.80.0.12"


@dataclass
class Lans:
    """A host behind each node, on the port of a Linux bridge whose other port is the node's TAP."""

    pair: Pair
    left: Namespace
    right: Namespace
    left_ip: str = LEFT
    right_ip: str = RIGHT


def mac_behind(nwid: str, address: str, *, like_members: bool) -> str:
    """One that begins like those of the network's members, or one that does not: chance must not decide which."""
    octet = mac_of(1, int(nwid, 16)) >> 40
    return f"{octet if like_members else octet ^ 0x04:02x}:00:5e:00:53:{int(address.rpartition('.')[2]):02x}"


def behind(
    lab: Lab, gateway: Namespace, node: LabNode, nwid: str, label: str, address: str, *, like_members: bool = False
) -> Namespace:
    """The host `label` with `address` and an IPv6 address, behind a gateway whose TAP goes into a Linux bridge."""
    host = lab.namespace(label)
    gateway.run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    gateway.run("ip", "link", "set", "br0", "up")
    gateway.run("ip", "link", "set", node.network(nwid)["portDeviceName"], "master", "br0")
    lab.cable(host, "eth0", [f"{address}/24", f"fd80::{address.rpartition('.')[2]}/64"], gateway)
    host.run("ip", "link", "set", "eth0", "address", mac_behind(nwid, address, like_members=like_members))
    return host


def joined_lans(lab: Lab, name: str, number: int, left: Make, right: Make, *, like_members: bool = False) -> Lans:
    """Both LANs, once they have met. `number`: of the nets of cable and overlay; the LANs' own are always the same.

    like_members: the MAC on the right begins like those of members, whom 1.14.1 does not reach (vl2 §5.4).
    """
    pair = joined(lab, name, f"10.66.{number}", f"10.67.{number}", left, right)
    for node in pair.nodes:
        pair.nodes[0].authorise(pair.nwid, node.address, activeBridge=True)
    for node in pair.nodes:
        node.wait_for("being a bridge", lambda node=node: node.network(pair.nwid)["bridge"], 40)  # type: ignore[misc]
    hosts = [
        behind(lab, gateway, node, pair.nwid, f"{name}-{label}", address, like_members=like)
        for gateway, node, label, address, like in (
            (pair.a, pair.nodes[0], "left", LEFT, False),
            (pair.b, pair.nodes[1], "right", RIGHT, like_members),
        )
    ]
    deadline = time.monotonic() + 120
    while not ping(hosts[0], RIGHT, count=1).times:
        assert time.monotonic() < deadline, "the LANs never met"
    return Lans(pair, *hosts)
