"""What a network puts on a host, and what it leaves alone: addresses, routes, name servers (root)."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Gateway, Lab, LabNode, Namespace
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

ORIGINAL = "nameserver 192.0.2.53\nsearch home.example\n"
DNS = {"domain": "corp.example", "servers": ["10.67.9.53"]}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Lab("zpm") as lab:
        yield joined(lab, "m", "10.66.9", "10.67.9", ztpipe(), ztpipe())


@pytest.fixture
def resolv_conf() -> Iterator[Callable[[Namespace], Path]]:
    """Gives a namespace an /etc/resolv.conf of its own, which `ip netns exec` puts in place."""
    made: list[Path] = []

    def give(namespace: Namespace) -> Path:
        directory = Path("/etc/netns") / namespace.name
        directory.mkdir(parents=True)
        made.append(directory)
        (directory / "resolv.conf").write_text(ORIGINAL)
        return directory / "resolv.conf"

    yield give
    for directory in made:
        shutil.rmtree(directory, ignore_errors=True)


def settle(what: str, probe: Callable[[], Any], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def change(pair: Pair, **fields: Any) -> None:
    pair.nodes[0].api("POST", f"/controller/network/{pair.nwid}", fields)


def routes(host: Namespace) -> str:
    return host.run("ip", "route").stdout


def restart(node: LabNode) -> None:
    """As after a crash."""
    assert node.process is not None
    os.kill(node.pid(), signal.SIGKILL)
    node.process.wait(5)
    node.start()


def test_what_is_removed_comes_back_and_what_was_there_stays(pair: Pair) -> None:
    device = pair.nodes[1].network(pair.nwid)["portDeviceName"]
    own = ["10.70.1.0/24", "via", f"{pair.overlay}.1", "dev", device, "metric", "5000", "proto", "static"]
    pair.b.run("ip", "route", "add", *own)  # somebody's, and just like the one that is to come
    pair.b.run("ip", "addr", "add", "10.71.0.1/24", "dev", device)
    gateway = f"{pair.overlay}.1"
    wanted = [{"target": f"{pair.overlay}.0/24"}]
    wanted += [{"target": target, "via": gateway} for target in ("10.70.1.0/24", "10.70.2.0/24")]
    change(pair, routes=wanted)
    settle("a pushed route", lambda: "10.70.2.0/24" in routes(pair.b))
    pair.b.run("ip", "route", "del", "10.70.2.0/24")
    pair.b.run("ip", "addr", "del", f"{pair.overlay}.2/24", "dev", device)
    settle("the route to come back", lambda: "10.70.2.0/24" in routes(pair.b))
    settle("the address to come back", lambda: f"{pair.overlay}.2/24" in pair.b.run("ip", "-4", "addr").stdout)
    change(pair, routes=wanted[:1])
    settle("the route to go", lambda: "10.70.2.0/24" not in routes(pair.b))
    assert "10.70.1.0/24" in routes(pair.b), "not ours to remove"
    assert "10.71.0.1/24" in pair.b.run("ip", "-4", "addr").stdout
    # Addresses that the host's owner put there are found by others too (vl2 §6.1).
    pair.a.run("ip", "addr", "add", "10.71.0.2/24", "dev", pair.nodes[0].network(pair.nwid)["portDeviceName"])
    settle("an address that is not managed", lambda: ping(pair.a, "10.71.0.1", count=1).times)


def test_full_tunnel_keeps_the_underlay(pair: Pair) -> None:
    """B sends everything through A, but its own transport and what was routed more precisely goes on as before."""
    outside = "198.51.100.7"
    pair.a.run("ip", "addr", "add", f"{outside}/32", "dev", "lo")
    pair.a.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    # The underlay too is behind the default route, so that the halves would capture it.
    pair.b.run("ip", "route", "add", "default", "via", "10.66.9.1", "dev", "eth0", "onlink")
    pair.b.run("ip", "route", "del", "10.66.9.0/24", "dev", "eth0")
    everything = [{"target": f"{pair.overlay}.0/24"}, {"target": "0.0.0.0/0", "via": f"{pair.overlay}.1"}]
    change(pair, routes=everything)
    member = pair.nodes[1]
    time.sleep(3)
    assert "0.0.0.0/1" not in routes(pair.b), "only when it is allowed"
    member.join(pair.nwid, {"allowDefault": True})
    settle("both halves", lambda: "0.0.0.0/1" in routes(pair.b) and "128.0.0.0/1" in routes(pair.b))
    assert "default via 10.66.9.1" in routes(pair.b)
    device = member.network(pair.nwid)["portDeviceName"]
    assert device in pair.b.run("ip", "route", "get", outside).stdout
    assert device in pair.b.run("ip", "route", "get", "10.66.9.1").stdout
    ping(pair.b, outside, count=2)
    assert ping(pair.b, outside, count=10, interval=0.1).lost == 0
    assert member.peer(pair.nodes[0].address)["paths"][0]["address"].startswith("10.66.9.1/")
    member.join(pair.nwid, {"allowDefault": False})
    settle("the halves to go", lambda: "0.0.0.0/1" not in routes(pair.b))
    assert "default via 10.66.9.1" in routes(pair.b)


def _in_a_table(host: Namespace, lab: Lab) -> LabNode:
    """Its sockets are bound to no device, so that nothing but their mark keeps them off the overlay."""
    return Gateway(host, lab.directory, flags=["--routing-table", "5050"], settings={"bind": ["0.0.0.0"]})


def test_policy_routing() -> None:
    """Managed routes in a table of their own: the main table and the underlay stay, and the rules come and go."""
    outside = "198.51.100.7"
    with Lab("zpm") as lab:
        pair = joined(lab, "m", "10.66.9", "10.67.9", ztpipe(), _in_a_table)
        member = pair.nodes[1]
        rules = lambda: pair.b.run("ip", "rule").stdout + pair.b.run("ip", "-6", "rule").stdout  # noqa: E731
        table = lambda: pair.b.run("ip", "route", "show", "table", "5050", check=False).stdout  # noqa: E731
        pair.b.run("ip", "rule", "add", "from", "192.0.2.1", "lookup", "5050")  # somebody's
        pair.a.run("ip", "addr", "add", f"{outside}/32", "dev", "lo")
        pair.b.run("ip", "route", "add", "default", "via", "10.66.9.1", "dev", "eth0", "onlink")
        pair.b.run("ip", "route", "del", "10.66.9.0/24", "dev", "eth0")
        pair.b.run("ip", "route", "add", "198.51.100.8/32", "dev", "eth0")
        member.join(pair.nwid, {"allowDefault": True})
        targets = [("0.0.0.0/0", f"{pair.overlay}.1"), ("10.70.1.0/24", f"{pair.overlay}.1")]
        change(
            pair,
            routes=[{"target": f"{pair.overlay}.0/24"}, *({"target": target, "via": via} for target, via in targets)],
        )
        settle("the routes", lambda: "default via" in table() and "10.70.1.0/24" in table())
        assert "0.0.0.0/1" not in routes(pair.b) and "10.70.1.0/24" not in routes(pair.b)
        device = member.network(pair.nwid)["portDeviceName"]
        for target, mark, way in ((outside, "0", device), (outside, "5050", "eth0"), ("198.51.100.8", "0", "eth0")):
            assert f"dev {way}" in pair.b.run("ip", "route", "get", target, "mark", mark).stdout
        ping(pair.b, outside, count=2)
        assert ping(pair.b, outside, count=10, interval=0.1).lost == 0
        assert member.peer(pair.nodes[0].address)["paths"][0]["address"].startswith("10.66.9.1/")
        pair.b.run("ip", "rule", "del", "pref", "30001")
        pair.b.run("ip", "-6", "rule", "del", "pref", "30000")
        settle("the rules to come back", lambda: rules().count("lookup 5050 proto 93") == rules().count("proto 93") / 2)
        assert isinstance(member, Gateway)
        member.flags = []
        restart(member)
        settle("no rules", lambda: "proto 93" not in rules())
        settle("the halves", lambda: "0.0.0.0/1" in routes(pair.b))
        member.flags = ["--routing-table", "5051"]
        restart(member)
        settle("rules for another table", lambda: rules().count("lookup 5051 proto 93") == 2)
        assert member.stop() == 0
        assert rules().count("proto 93") == 0 and "from 192.0.2.1 lookup 5050" in rules()
        assert not (member.home / "routing-table").exists()


def test_name_servers(pair: Pair, resolv_conf: Callable[[Namespace], Path]) -> None:
    """Set when allowed; kept; gone after a crash and a start without permission, and gone at the stop."""
    conf = resolv_conf(pair.b)
    member = pair.nodes[1]
    assert member.stop() == 0
    (member.home / "devicemap").write_text(f"{pair.nwid}=overlay0\n")
    member.start()  # now with a resolv.conf of its own
    assert member.wait_ok(pair.nwid, addresses=2)["portDeviceName"] == "overlay0"
    change(pair, dns=DNS)
    time.sleep(3)
    assert conf.read_text() == ORIGINAL, "only when it is allowed"
    member.join(pair.nwid, {"allowDNS": True})
    settle("the servers", lambda: "nameserver 10.67.9.53" in conf.read_text())
    assert conf.read_text().index("10.67.9.53") < conf.read_text().index("192.0.2.53")
    assert "search corp.example home.example" in conf.read_text()
    conf.write_text(ORIGINAL)
    settle("the servers to come back", lambda: "10.67.9.53" in conf.read_text())
    restart(member)
    settle("the servers after a crash", lambda: conf.read_text().count("10.67.9.53") == 1)
    member.join(pair.nwid, {"allowDNS": False})
    settle("the file as it was", lambda: conf.read_text() == ORIGINAL)
    member.join(pair.nwid, {"allowDNS": True})
    settle("the servers again", lambda: "10.67.9.53" in conf.read_text())
    assert member.stop() == 0
    assert conf.read_text() == ORIGINAL
