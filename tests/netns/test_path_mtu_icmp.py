"""A router on the way gets a smaller MTU in the middle of a transfer: how long frames are carried in fragments.

    pytest -s tests/netns/test_path_mtu_icmp.py     (ZTPIPE_LONG=1: IPv4 as well, and with ICMP filtered)

A - router - router - B; the link between the routers shrinks, so that either side hears of it by ICMP only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import pytest

from ztpipe.lab import Gateway, Lab, LabNode, Namespace
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

OVERLAY = "10.67.13"
PREFIX = {4: "10.66.13", 6: "fd66:13"}
SHRUNK = 1_400
NO_BATCHES = ("tx-udp-segmentation", "gro")


@dataclass(frozen=True)
class Site:
    nodes: tuple[LabNode, LabNode]
    routers: tuple[Namespace, Namespace]
    family: int

    @property
    def payload(self) -> int:
        return SHRUNK - (28 if self.family == 4 else 48)

    def shrink(self) -> None:
        for router in self.routers:
            router.run("ip", "link", "set", "middle", "mtu", str(SHRUNK))

    def filter_icmp(self) -> None:
        """Neither side ever hears that a packet was too large."""
        what = "icmp type destination-unreachable" if self.family == 4 else "icmpv6 type packet-too-big"
        table = "ip" if self.family == 4 else "ip6"
        for node in self.nodes:
            chain = f"add chain {table} lab in {{ type filter hook prerouting priority -400 ; }}"
            rules = (f"add table {table} lab", chain, f"add rule {table} lab in {what} drop")
            node.namespace.run("nft", "; ".join(rules))


def _address(family: int, net: int, host: int) -> str:
    return f"{PREFIX[4]}.{net * 16 + host}/28" if family == 4 else f"{PREFIX[6]}:{net}::{host}/64"


def _lay_cables(lab: Lab, family: int) -> list[Namespace]:
    """A, R1, R2, B in a row: networks 0, 1, 2 between them."""
    hosts = [lab.namespace(label) for label in ("a", "r1", "r2", "b")]
    names = (("eth0", "near"), ("middle", "middle"), ("near", "eth0"))
    for net, (one, other) in enumerate(pairwise(hosts)):
        left, right = [_address(family, net, 1)], [_address(family, net, 2)]
        lab.cable(one, names[net][0], left, other, plug=names[net][1], other_addresses=right)
        for host, device in ((one, names[net][0]), (other, names[net][1])):
            for feature in NO_BATCHES:
                host.run("ethtool", "-K", device, feature, "off")
    a, r1, r2, b = hosts
    gateways = ((a, 0, 2), (r1, 1, 2), (r2, 1, 1), (b, 2, 1))
    for host, net, gateway in gateways:
        host.run("ip", f"-{family}", "route", "add", "default", "via", _address(family, net, gateway).split("/")[0])
    for router in (r1, r2):
        key = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
        router.run("sysctl", "-qw", f"{key}=1")
    return hosts


@contextmanager
def _site(family: int) -> Iterator[Site]:
    with Lab("zpi") as lab:
        a, r1, r2, b = _lay_cables(lab, family)
        nodes = (Gateway(a, lab.directory), Gateway(b, lab.directory))
        root = _address(family, 0, 1).split("/")[0]
        planet, moons = private_planet(), [moon(nodes[0].identity, [f"{root}/9993"])]
        for node in nodes:
            node.use_world(planet, moons)
            node.start()
        nwid = nodes[0].create_network(
            name="icmp", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
        )
        for number, node in enumerate(nodes, start=1):
            nodes[0].authorise(nwid, node.address, ipAssignments=[f"{OVERLAY}.{number}"])
            node.join(nwid)
        for node in nodes:
            node.wait_ok(nwid)
        nodes[0].wait_for("a ping", lambda: ping(a, f"{OVERLAY}.2", count=1).times, 30)
        yield Site(nodes, (r1, r2), family)


def _found(node: LabNode) -> int:
    """The UDP payload that the node found last."""
    lines = [json.loads(line) for line in node.log_tail(300).splitlines() if line.startswith("{")]
    return next((line["mtu"] for line in reversed(lines) if line["event"] == "path MTU"), 0)


def _wait_found(site: Site, payload: int, timeout: float) -> None:
    for node in site.nodes:
        node.wait_for(f"a path MTU of {payload}", lambda n=node: _found(n) == payload, timeout)


long = pytest.mark.long


@pytest.mark.parametrize(
    ("family", "icmp"),
    [
        (6, True),
        pytest.param(6, False, marks=long),
        pytest.param(4, True, marks=long),
        pytest.param(4, False, marks=long),
    ],
    ids=["IPv6", "IPv6-filtered", "IPv4", "IPv4-filtered"],
)
def test_a_router_shrinks(family: int, icmp: bool) -> None:
    """Nothing is lost where somebody on the way cuts what is too long; and soon nobody needs to."""
    with _site(family) as site:
        a = site.nodes[0].namespace
        traffic = a.popen("ping", "-n", "-i", "0.05", "-s", "2700", f"{OVERLAY}.2", stdout=-3)
        _wait_found(site, 1_432, 60)
        if not icmp:
            site.filter_icmp()
        site.shrink()
        started = time.monotonic()
        _wait_found(site, site.payload, 100)
        took = time.monotonic() - started
        print(f"IPv{family}, ICMP {'heard' if icmp else 'filtered'}: frames fit again after {took:.1f} s")
        assert ping(a, f"{OVERLAY}.2", count=5, interval=0.1).lost == 0
        traffic.kill()
        traffic.wait()
