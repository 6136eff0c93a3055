"""How long traffic stops when the underlay changes under two running nodes that have a root; times are printed."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from ztpipe.lab import Gateway, Lab, LabNode
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

WAN, OVERLAY = "10.66.10", "10.67.10"
LIMIT = 5.0  # seconds


@dataclass(slots=True)
class Site:
    root: LabNode
    a: LabNode
    b: LabNode

    def outage(self, event: Callable[[], float | None], seconds: float = 12) -> float:
        """Longest time without an answer to pings 50 ms apart, after `event`; or after the time it returns."""
        each = 0.05
        running = self.a.namespace.popen(
            "ping", "-n", "-D", "-i", str(each), "-c", str(int(seconds / each)), "-W", "1", f"{OVERLAY}.2",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        time.sleep(1)
        at = time.time()
        at = event() or at
        output = running.communicate(timeout=seconds * 2 + 10)[0]
        end = time.time() - 1.2
        replies = [float(stamp) for stamp in re.findall(r"^\[([\d.]+)\].*time=", output, re.M)]
        assert [stamp for stamp in replies if stamp < at], "no traffic before the event"
        times = [at, *(stamp for stamp in replies if stamp > at), max(end, at)]
        return max(later - earlier for earlier, later in pairwise(times))


@pytest.fixture(scope="module", params=["pipeline"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Lab("zpv") as lab:
        wan = lab.switch("wan")
        hosts = [lab.namespace(label) for label in ("root", "a", "b")]
        for number, host in enumerate(hosts, start=1):
            lab.cable(host, "eth0", [f"{WAN}.{number}/24"], wan)
        settings = {"allowSecondaryPort": False}  # one path only: nothing to fall back on but the root
        flags = ["--layout", request.param]
        nodes = [Gateway(host, lab.directory, flags=flags, settings=settings) for host in hosts]
        planet, moons = private_planet(), [moon(nodes[0].identity, [f"{WAN}.1/9993"])]
        for node in nodes:
            node.use_world(planet, moons)
            node.start()
        root, a, b = nodes
        nwid = root.create_network(
            name="recovery", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
        )
        for number, node in enumerate((a, b), start=1):
            root.authorise(nwid, node.address, ipAssignments=[f"{OVERLAY}.{number}"])
            node.join(nwid)
        for node in (a, b):
            node.wait_ok(nwid)
        a.wait_for("a ping", lambda: ping(a.namespace, f"{OVERLAY}.2", count=1).times, 20)
        for one, other in ((a, b), (b, a)):
            one.wait_direct(other.address)
        yield Site(root, a, b)


def _nft(node: LabNode, *rules: str) -> None:
    node.namespace.run("nft", "; ".join(("add table ip lab", *rules)))


def test_direct_path_dropped_in_mid_ping(site: Site) -> None:
    def drop() -> None:
        for node, other in ((site.a, 3), (site.b, 2)):
            _nft(
                node,
                "add chain ip lab in { type filter hook input priority 0 ; }",
                f"add rule ip lab in ip saddr {WAN}.{other} udp dport 1-65535 drop",
            )

    took = site.outage(drop)
    print(f"\ndirect path dropped: {took:.2f} s")
    for node in (site.a, site.b):
        node.namespace.run("nft", "delete table ip lab")
    assert took < LIMIT
    back = time.monotonic()
    site.a.wait_for("the direct path to be used again", lambda: _sends_directly(site), 15)
    print(f"back on the direct path: {time.monotonic() - back:.2f} s")


def _sends_directly(site: Site) -> bool:
    """A ping changes nothing in what the root relays."""
    before = _relayed(site.root)
    lost = ping(site.a.namespace, f"{OVERLAY}.2", count=5, interval=0.05).lost
    return lost == 0 and _relayed(site.root) - before < 5


def _relayed(root: LabNode) -> int:
    workers = root.api("GET", "/ztpipe/workers")
    return sum(w["counters"].get("sent_datagrams", 0) for w in workers if w["name"] == "control")


def test_address_change(site: Site) -> None:
    def change() -> None:
        site.a.namespace.run("ip", "addr", "del", f"{WAN}.2/24", "dev", "eth0")
        site.a.namespace.run("ip", "addr", "add", f"{WAN}.77/24", "dev", "eth0")

    took = site.outage(change)
    print(f"\naddress changed: {took:.2f} s")
    assert took < LIMIT


def test_link_down_and_up(site: Site) -> None:
    def bounce() -> float:
        site.b.namespace.run("ip", "link", "set", "eth0", "down")
        time.sleep(2)
        site.b.namespace.run("ip", "link", "set", "eth0", "up")
        return time.time()

    took = site.outage(bounce, 14)
    print(f"\nlink down and up: {took:.2f} s after it was up")
    assert took < LIMIT


def test_rebinding_nat(site: Site) -> None:
    """What A sends comes from another port from one moment to the next, and its old port is deaf."""

    def rebind() -> None:
        _nft(
            site.a,
            "add chain ip lab out { type filter hook output priority -300 ; }",
            "add chain ip lab in { type filter hook prerouting priority -300 ; }",
            f"add rule ip lab in ip daddr {WAN}.77 udp dport 9993 drop",
            f"add rule ip lab in ip daddr {WAN}.77 udp dport 40001 udp dport set 9993",
            f"add rule ip lab out ip saddr {WAN}.77 udp sport 9993 udp sport set 40001",
        )

    took = site.outage(rebind)
    print(f"\nNAT rebinding: {took:.2f} s")
    assert took < LIMIT
