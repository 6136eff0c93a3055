"""How long traffic stops when the underlay changes: ztpipe beside zerotier-one, event by event.

    python -m tests.bench.recovery [--rounds 1] [--limit 40] [--only NAME ...]

Needs root; ZT_REFERENCE names a zerotier-one program for the comparison. Three nodes: a root, which is of ztpipe in any
case, and two members with one socket each. Pings are 50 ms apart; a figure is the longest time without an answer, over
no less than `--limit` seconds after the event, and "> limit" if no answer came in all that time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from ztpipe.lab import Gateway, Lab, LabNode, Namespace, Reference
from ztpipe.lab.nodes import NodeFailed, moon, private_planet
from ztpipe.lab.traffic import ping

EACH = 0.05
Make = Callable[[Namespace, Lab], LabNode]
_SETTINGS = {"allowSecondaryPort": False}  # one path: nothing to fall back on but the root


def ours(host: Namespace, lab: Lab) -> LabNode:
    return Gateway(host, lab.directory, settings=_SETTINGS)


def reference(host: Namespace, lab: Lab) -> LabNode:
    return Reference(host, lab.directory, settings=_SETTINGS)


PAIRS: dict[str, tuple[Make, Make]] = {
    "ztpipe, ztpipe": (ours, ours),
    "ztpipe, zerotier-one": (ours, reference),
    "zerotier-one, zerotier-one": (reference, reference),
}


@dataclass(slots=True)
class Site:
    """A root and two members on one switch."""

    lab: Lab
    wan: str
    overlay: str
    a: LabNode
    b: LabNode


def build(lab: Lab, number: int, make: tuple[Make, Make]) -> Site:
    """Members with a direct path, ready to be disturbed."""
    wan, overlay = f"10.66.{100 + number}", f"10.67.{100 + number}"
    switch = lab.switch(f"wan{number}")
    hosts = [lab.namespace(f"{label}{number}") for label in ("r", "a", "b")]
    for host_number, host in enumerate(hosts, start=1):
        lab.cable(host, "eth0", [f"{wan}.{host_number}/24"], switch)
    nodes = [ours(hosts[0], lab), make[0](hosts[1], lab), make[1](hosts[2], lab)]
    planet, moons = private_planet(), [moon(nodes[0].identity, [f"{wan}.1/9993"])]
    for node in nodes:
        node.use_world(planet, moons)
        node.start()
    root, a, b = nodes
    nwid = root.create_network(private=True, routes=[{"target": f"{overlay}.0/24"}], v4AssignMode={"zt": False})
    for host_number, node in enumerate((a, b), start=1):
        root.authorise(nwid, node.address, ipAssignments=[f"{overlay}.{host_number}"])
        node.join(nwid)
    for node in (a, b):
        node.wait_ok(nwid)
    site = Site(lab, wan, overlay, a, b)
    settle(site)
    return site


def settle(site: Site) -> None:
    """Until both have a direct path and it carries pings."""
    site.a.wait_for("pings", lambda: ping(site.a.namespace, f"{site.overlay}.2", count=5, interval=0.1).lost == 0, 300)
    for one, other in ((site.a, site.b), (site.b, site.a)):
        one.wait_direct(other.address, timeout=120)
    time.sleep(3)


def outage(site: Site, event: Callable[[Site], float | None], limit: float) -> float:
    """Longest time without an answer after `event`, or after the time that it returns."""
    running = site.a.namespace.popen(
        "ping", "-n", "-D", "-i", str(EACH), "-W", "1", f"{site.overlay}.2",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    time.sleep(1)
    at = time.time()
    at = event(site) or at
    time.sleep(max(0.0, at + limit - time.time()))
    running.send_signal(signal.SIGINT)  # an event may take time of its own: until `limit` after it
    output = running.communicate(timeout=60)[0]
    replies = [float(stamp) for stamp in re.findall(r"^\[([\d.]+)\].*time=", output, re.M)]
    after = [stamp for stamp in replies if stamp > at]
    return max(later - earlier for earlier, later in pairwise((at, *after, max([at + limit, *after[-1:]]))))


# ---- events ---------------------------------------------------------------------------------------------------------


def _nft(node: LabNode, *rules: str) -> None:
    node.namespace.run("nft", "; ".join(("add table ip lab", *rules)))


def _unfilter(site: Site) -> None:
    for node in (site.a, site.b):
        node.namespace.run("nft", "delete table ip lab", check=False)


def path_dropped(site: Site) -> None:
    for node, other in ((site.a, 3), (site.b, 2)):
        _nft(
            node,
            "add chain ip lab in { type filter hook input priority 0 ; }",
            f"add rule ip lab in ip saddr {site.wan}.{other} udp dport 1-65535 drop",
        )


def address_changed(site: Site) -> None:
    ip = site.a.namespace
    ip.run("ip", "addr", "add", f"{site.wan}.77/24", "dev", "eth0")
    ip.run("ip", "addr", "del", f"{site.wan}.2/24", "dev", "eth0")
    ip.run("ip", "addr", "replace", f"{site.wan}.77/24", "dev", "eth0")


def address_back(site: Site) -> None:
    site.a.namespace.run("ip", "addr", "flush", "dev", "eth0")
    site.a.namespace.run("ip", "addr", "add", f"{site.wan}.2/24", "dev", "eth0")


def link_bounced(site: Site) -> float:
    site.b.namespace.run("ip", "link", "set", "eth0", "down")
    time.sleep(2)
    site.b.namespace.run("ip", "link", "set", "eth0", "up")
    return time.time()


def slept(site: Site) -> float:
    """All processes of A stand still for 20 s, and its NAT has forgotten them meanwhile (another port)."""
    everybody = _processes(site.a.pid())
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(20)
    nat_rebound(site)
    for pid in reversed(everybody):  # the watched before their watcher, as after a real sleep
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return time.time()


def nat_rebound(site: Site) -> None:
    """What A sends comes from another port from now on, and its old port is deaf."""
    _nft(
        site.a,
        "add chain ip lab out { type filter hook output priority -300 ; }",
        "add chain ip lab in { type filter hook prerouting priority -300 ; }",
        f"add rule ip lab in ip daddr {site.wan}.2 udp dport 9993 drop",
        f"add rule ip lab in ip daddr {site.wan}.2 udp dport 40001 udp dport set 9993",
        f"add rule ip lab out ip saddr {site.wan}.2 udp sport 9993 udp sport set 40001",
    )


def _processes(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [pid, *(p for child in children.read().split() for p in _processes(int(child)))]


EVENTS: dict[str, tuple[Callable[[Site], float | None], Callable[[Site], None]]] = {
    "direct path dropped both ways": (path_dropped, _unfilter),
    "our address changed": (address_changed, address_back),
    "link down 2 s, then up": (link_bounced, lambda site: None),
    "NAT rebinding": (nat_rebound, _unfilter),
    "asleep 20 s, another NAT port": (slept, _unfilter),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=40.0, help="seconds after which an outage is given up")
    parser.add_argument("--only", nargs="+", choices=list(PAIRS), metavar="NAME", help=f"any of: {'; '.join(PAIRS)}")
    options = parser.parse_args()
    names = options.only or list(PAIRS)
    if "ZT_REFERENCE" not in os.environ:
        print("ZT_REFERENCE is not set: nothing is compared with zerotier-one", file=sys.stderr)
        names = [name for name in names if "zerotier" not in name]
    console = Console(width=130)
    found: dict[str, dict[str, list[float]]] = {event: {name: [] for name in names} for event in EVENTS}
    for number, name in enumerate(names):
        try:
            with Lab("zpq") as lab:
                site = build(lab, number, PAIRS[name])
                for _ in range(options.rounds):
                    for event, (happen, undo) in EVENTS.items():
                        took = outage(site, happen, options.limit)
                        print(f"{name}: {event}: {took:.1f} s", file=sys.stderr)
                        found[event][name].append(took)
                        undo(site)
                        settle(site)
        except NodeFailed as error:
            console.print(f"{name}: {str(error).splitlines()[0]}", markup=False)
    shown = Table(title="seconds without an answer (medians)", title_justify="left")
    shown.add_column("event")
    for name in names:
        shown.add_column(name, justify="right")
    for event, by_name in found.items():
        cells = []
        for name in names:
            times = by_name[name]
            middle = statistics.median(times) if times else 0.0
            over = f"> {options.limit:.0f}" if middle > options.limit - 1 else f"{middle:.1f}"
            cells.append(over if times else "-")
        shown.add_row(event, *cells)
    console.print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
