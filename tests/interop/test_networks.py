"""An unmodified zerotier-one, and a node of ours, as members of every kind of network that our controller makes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from ztpipe.lab import Gateway, Lab, LabNode, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping
from ztpipe.rules.compiler import compile_rules

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(180)]

Json = Any
#: A refresh by the member itself comes after 60 s; what comes sooner was pushed.
PUSHED = 10.0
POOL = [{"ipRangeStart": "10.88.0.1", "ipRangeEnd": "10.88.0.200"}]
POOL6 = [{"ipRangeStart": "fd88::1", "ipRangeEnd": "fd88::ffff"}]
ROUTE, ROUTE6 = {"target": "10.88.0.0/16"}, {"target": "fd88::/64"}


@dataclass
class Fleet:
    """A controller, which is root and member too, and its members; networks are left at the end of each test."""

    controller: LabNode
    members: list[LabNode]
    networks: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[LabNode]:
        return [self.controller, *self.members]

    def network(self, *, authorise: bool = True, fields: dict[str, Json] | None = None, **network: Json) -> str:
        """A network of which all are members; `fields` are of the members' records."""
        nwid = self.controller.create_network(**network)
        self.networks.append(nwid)
        for node in self.all:
            if authorise:
                self.controller.authorise(nwid, node.address, **(fields or {}))
            node.join(nwid)
        for node in self.all:
            node.wait_ok(nwid, addresses=0)
        return nwid

    def change(self, nwid: str, **fields: Json) -> None:
        self.controller.api("POST", f"/controller/network/{nwid}", fields)

    def change_member(self, nwid: str, node: LabNode, **fields: Json) -> None:
        self.controller.api("POST", f"/controller/network/{nwid}/member/{node.address}", fields)

    def learn(self, nwid: str, what: str, seen: Callable[[Json], object]) -> None:
        """Every member sees a change, soon; how soon is printed."""
        begin = time.monotonic()
        for node in self.members:
            node.wait_for(what, lambda node=node: seen(node.network(nwid)), PUSHED)  # type: ignore[misc]
            print(f"{type(node).__name__}: {what}: {time.monotonic() - begin:.2f} s")

    def leave(self) -> None:
        for nwid in self.networks:
            for node in self.all:
                with suppress(TimeoutError):  # the unmodified one needs long to take back 32 addresses and 128 routes
                    node.api_raw("DELETE", f"/network/{nwid}")
            self.controller.api_raw("DELETE", f"/controller/network/{nwid}")
        self.networks.clear()


@pytest.fixture(scope="module")
def lab_fleet() -> Iterator[Fleet]:
    with Lab("zpn") as lab:
        switch = lab.switch("sw")
        hosts = [lab.namespace(label) for label in ("c", "r", "o")]
        for number, host in enumerate(hosts, start=1):
            lab.cable(host, "eth0", [f"10.66.9.{number}/24"], switch)
        controller = Gateway(hosts[0], lab.directory)
        members: list[LabNode] = [Reference(hosts[1], lab.directory), Gateway(hosts[2], lab.directory)]
        planet, moons = private_planet(), [moon(controller.identity, ["10.66.9.1/9993"])]
        for node in (controller, *members):
            node.use_world(planet, moons)
            node.start()
        yield Fleet(controller, members)


@pytest.fixture
def fleet(lab_fleet: Fleet) -> Iterator[Fleet]:
    yield lab_fleet
    lab_fleet.leave()


def addresses(network: Json, start: str = "") -> list[str]:
    return [address for address in network["assignedAddresses"] if address.startswith(start)]


def reach(fleet: Fleet, nwid: str, start: str, *, wanted: bool = True) -> None:
    """Pings between all, to the address that begins with `start`; and that nothing gets through if not `wanted`."""
    targets = {node.address: addresses(node.network(nwid), start)[0].partition("/")[0] for node in fleet.all}
    for node in fleet.all:
        for other in fleet.all:
            if node is not other:

                def as_wanted(node: LabNode = node, target: str = targets[other.address]) -> bool:
                    return bool(ping(node.namespace, target, count=1, timeout=0.5).times) is wanted

                node.wait_for(f"a ping to {targets[other.address]} {'' if wanted else 'not '}answered", as_wanted, 30)


def test_private(fleet: Fleet) -> None:
    """Refused until they are authorised, and again when they no longer are; told at once both times."""
    pools = {"routes": [ROUTE], "ipAssignmentPools": POOL, "v4AssignMode": {"zt": True}}
    nwid = fleet.controller.create_network(name="private", **pools)
    fleet.networks.append(nwid)
    for node in fleet.members:
        node.join(nwid)
        node.wait_for("to be refused", lambda node=node: node.network(nwid)["status"] == "ACCESS_DENIED", 30)  # type: ignore[misc]
    for authorized, status in ((True, "OK"), (False, "ACCESS_DENIED"), (True, "OK")):
        for node in fleet.members:
            fleet.change_member(nwid, node, authorized=authorized)
        fleet.learn(nwid, status, lambda network, status=status: network["status"] == status)
    assert fleet.members[0].network(nwid)["type"] == "PRIVATE"
    for node in fleet.members:
        fleet.controller.api("DELETE", f"/controller/network/{nwid}/member/{node.address}")
    fleet.learn(nwid, "deleted", lambda network: network["status"] == "ACCESS_DENIED")
    for node in fleet.members:
        fleet.change_member(nwid, node, authorized=True)
    fleet.learn(nwid, "added again", lambda network: network["status"] == "OK")
    fleet.controller.api("DELETE", f"/controller/network/{nwid}")
    fleet.learn(nwid, "network deleted", lambda network: network["status"] == "NOT_FOUND")


def test_public(fleet: Fleet) -> None:
    pools = {"routes": [ROUTE], "ipAssignmentPools": POOL, "v4AssignMode": {"zt": True}}
    nwid = fleet.network(authorise=False, name="public ü€", private=False, **pools)
    reach(fleet, nwid, "10.88.")
    for node in fleet.members:
        assert (node.network(nwid)["type"], node.network(nwid)["name"]) == ("PUBLIC", "public ü€")


@pytest.mark.parametrize(
    ("fields", "starts"),
    [
        ({"routes": [ROUTE], "ipAssignmentPools": POOL, "v4AssignMode": {"zt": True}}, ["10.88."]),
        ({"routes": [ROUTE6], "ipAssignmentPools": POOL6, "v6AssignMode": {"zt": True}}, ["fd88:"]),
        ({"v6AssignMode": {"rfc4193": True}}, ["fd"]),
        ({"v6AssignMode": {"6plane": True}}, ["fc"]),
        (
            {
                "routes": [ROUTE, ROUTE6],
                "ipAssignmentPools": POOL + POOL6,
                "v4AssignMode": {"zt": True},
                "v6AssignMode": {"zt": True, "rfc4193": True, "6plane": True},
            },
            ["10.88.", "fd88:", "fc"],
        ),
    ],
    ids=["IPv4", "IPv6", "RFC-4193", "6PLANE", "all"],
)
def test_addresses(fleet: Fleet, fields: dict[str, Json], starts: list[str]) -> None:
    nwid = fleet.network(**fields)
    for start in starts:
        fleet.learn(nwid, f"an address {start}", lambda network, start=start: addresses(network, start))
        reach(fleet, nwid, start)


def test_settings_are_learnt_while_online(fleet: Fleet) -> None:
    """Each change on its own, as an interface sends it."""
    pools = {"routes": [ROUTE], "ipAssignmentPools": POOL, "v4AssignMode": {"zt": True}}
    nwid = fleet.network(**pools)
    via = {"target": "10.99.0.0/16", "via": "10.88.0.250"}
    dns = {"domain": "office.test", "servers": ["10.88.0.53", "fd88::53"]}
    changes: list[tuple[str, Json, Callable[[Json], object]]] = [
        ("name", "new name", lambda network: network["name"] == "new name"),
        ("mtu", 1400, lambda network: network["mtu"] == 1400),
        ("enableBroadcast", False, lambda network: network["broadcastEnabled"] is False),
        ("enableBroadcast", True, lambda network: network["broadcastEnabled"] is True),
        ("multicastLimit", 7, lambda network: network["netconfRevision"] > 5),
        ("routes", [ROUTE, via], lambda network: [r["via"] for r in network["routes"]] == [None, "10.88.0.250"]),
        ("dns", dns, lambda network: network["dns"] == dns),
        ("dns", {"domain": "", "servers": []}, lambda network: not network["dns"]["servers"]),
        ("private", False, lambda network: network["type"] == "PUBLIC"),
    ]
    for name, value, seen in changes:
        fleet.change(nwid, **{name: value})
        fleet.learn(nwid, f"{name} = {value}"[:40], seen)
    for node in fleet.members:
        device = node.network(nwid)["portDeviceName"]
        shown = json.loads(node.namespace.run("ip", "-j", "link", "show", "dev", device).stdout)
        assert shown[0]["mtu"] == 1400
        routes = json.loads(node.namespace.run("ip", "-j", "route", "show", "10.99.0.0/16").stdout)
        assert [route["gateway"] for route in routes] == ["10.88.0.250"]
    reach(fleet, nwid, "10.88.")


def test_fields_of_members_are_learnt_while_online(fleet: Fleet) -> None:
    nwid = fleet.network(routes=[ROUTE], ipAssignmentPools=POOL, v4AssignMode={"zt": True})
    for number, node in enumerate(fleet.members):
        fleet.change_member(nwid, node, ipAssignments=[f"10.88.7.{number}"], activeBridge=True)
    fleet.learn(nwid, "another address", lambda network: addresses(network) == addresses(network, "10.88.7."))
    fleet.learn(nwid, "the right to bridge", lambda network: network["bridge"] is True)
    fleet.change_member(nwid, fleet.members[0], noAutoAssignIps=True, ipAssignments=[])
    fleet.members[0].wait_for("no address", lambda: not addresses(fleet.members[0].network(nwid)), PUSHED)


def test_rules_tags_and_capabilities(fleet: Fleet) -> None:
    """As source, the way our controller takes them; members obey at once, the unmodified one included."""
    pools = {"routes": [ROUTE], "ipAssignmentPools": POOL, "v4AssignMode": {"zt": True}}
    nwid = fleet.network(**pools)
    reach(fleet, nwid, "10.88.")
    fleet.change(nwid, rulesSource="accept ethertype arp; drop ipprotocol icmp4; accept;")
    reach(fleet, nwid, "10.88.", wanted=False)
    fleet.change(nwid, rulesSource="tag team id 5 default 1; accept ethertype arp; accept tand team 1; drop;")
    reach(fleet, nwid, "10.88.")
    fleet.change(nwid, rulesSource="accept ethertype arp; cap pinger id 9 accept ipprotocol icmp4; ; drop;")
    reach(fleet, nwid, "10.88.", wanted=False)
    for node in fleet.all:
        fleet.change_member(nwid, node, capabilities=[9])
    reach(fleet, nwid, "10.88.", wanted=False)  # drop is final: a capability adds to rules that come to their end
    fleet.change(nwid, rulesSource="accept ethertype arp; cap pinger id 9 accept ipprotocol icmp4; ;")
    reach(fleet, nwid, "10.88.")


def test_the_largest_network(fleet: Fleet) -> None:
    """As much of everything as a configuration holds."""
    source = "".join(f"drop ipprotocol udp and dport {port};\n" for port in range(1, 341))
    rules = compile_rules(source + "accept;").rules
    nwid = fleet.network(
        fields={"ipAssignments": []},
        name="n" * 127,
        routes=[ROUTE, *({"target": f"10.{number}.0.0/24", "via": "10.88.0.250"} for number in range(100, 227))],
        rules=rules,
        capabilities=[{"id": number, "default": False, "rules": [{"type": "ACTION_DROP"}] * 64} for number in range(4)],
        tags=[{"id": number, "default": number} for number in range(128)],
        dns={"domain": "d" * 127, "servers": [f"10.88.0.{number}" for number in range(4)]},
    )
    assert len(rules) > 1000
    for number, node in enumerate(fleet.all):
        own = [f"10.88.{number}.{host}" for host in range(1, 33)]
        fleet.change_member(nwid, node, ipAssignments=own, capabilities=[0, 1, 2, 3])
    fleet.learn(nwid, "32 addresses", lambda network: len(addresses(network)) == 32)
    fleet.learn(nwid, "128 routes", lambda network: len(network["routes"]) == 128)
    for node in fleet.members:
        shown = node.network(nwid)
        assert shown["name"] == "n" * 127 and len(shown["dns"]["servers"]) == 4
    reach(fleet, nwid, "10.88.")
