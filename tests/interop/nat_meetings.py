"""Pairs of nodes behind address translators: who meets whom directly, how soon, and whether it holds without a root."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.pairs import Make
from ztpipe.lab import Lab, LabNode, Namespace
from ztpipe.lab.nat import Site, behind, carrier, firewalled, router, site, subscriber
from ztpipe.lab.nodes import moon, private_planet

ROOT_V6: Final = "2001:db8::1"
ROOT: Final = "44.128.0.1"  # a global address (which counts for path selection) of a block that is set aside for tests
OVERLAY: Final = "10.67.9"
SPECIAL: Final = ("same LAN", "CGN, hairpin", "CGN, no hairpin", "IPv6 firewalls")
_SPECIAL_RESULTS: Final = {(name, ""): "relayed" if "no" in name else "direct" for name in SPECIAL}
_STAGGER: Final = 0.3  # seconds between first packets: the machine has few cores, and a root admits one by one


@dataclass(slots=True)
class Meeting:
    """One pair. Seconds from the first packet; None: never. `direct`: both sides have a path to the other."""

    name: tuple[str, str]
    a: LabNode
    b: LabNode
    target: str
    log: Path
    started: float = 0.0
    first_reply: float | None = None
    direct: float | None = None
    one_sided: bool = False
    without_root: bool = False

    @property
    def result(self) -> str:
        if self.without_root:
            return "direct"
        if self.first_reply is None:
            return "nothing"
        return "relayed"


@dataclass(slots=True)
class Field:
    """The laboratory with its nodes; `meetings` are the pairs to be tried."""

    lab: Lab
    root: LabNode
    nwid: str = ""
    nodes: list[LabNode] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)

    def number(self, node: LabNode) -> int:
        return self.nodes.index(node) + 10

    def meet(self, name: tuple[str, str], a: LabNode, b: LabNode) -> None:
        log = self.lab.directory / f"ping-{len(self.meetings)}.txt"
        self.meetings.append(Meeting(name, a, b, f"{OVERLAY}.{self.number(b)}", log))


def build(
    lab: Lab,
    make_root: Make,
    make_a: Make,
    make_b: Make,
    kinds_a: Sequence[str],
    kinds_b: Sequence[str],
    special: Sequence[str] = (),
) -> Field:
    """Every kind on one side beside every kind on the other, and the `special` pairs."""
    wan = lab.switch("wan")
    host = lab.namespace("root")
    lab.cable(host, "eth0", [f"{ROOT}/16", f"{ROOT_V6}/64"], wan)
    made = Field(lab, make_root(host, lab))
    left = [_node(made, _site(lab, wan, "a", n, kind).host, make_a) for n, kind in enumerate(kinds_a)]
    right = [_node(made, _site(lab, wan, "b", n, kind).host, make_b) for n, kind in enumerate(kinds_b)]
    for kind_a, a in zip(kinds_a, left, strict=True):
        for kind_b, b in zip(kinds_b, right, strict=True):
            made.meet((kind_a, kind_b), a, b)
    for n, name in enumerate(special):
        one, other = _neighbours(lab, wan, name, n)
        made.meet((name, ""), _node(made, one, make_a), _node(made, other, make_b))
    _start(made)
    return made


def _site(lab: Lab, wan: Namespace, side: str, n: int, kind: str) -> Site:
    """Each in a /24 of its own: a root admits one stranger of a /24 at a time."""
    octet = n + (10 if side == "a" else 40)
    return site(lab, wan, f"{side}{n}", kind, f"44.128.{octet}.1", lan=f"192.168.{octet}")


def _neighbours(lab: Lab, wan: Namespace, name: str, n: int) -> tuple[Namespace, Namespace]:
    if name == "IPv6 firewalls":
        found = firewalled(lab, wan, f"h{n}-a", 11), firewalled(lab, wan, f"h{n}-b", 12)
        routers = {number: lab.namespaces[f"h{n}-{letter}-r"] for number, letter in ((11, "a"), (12, "b"))}
        for number in routers:
            for host in (lab.namespaces["root"], *(r for k, r in routers.items() if k != number)):
                host.run("ip", "-6", "route", "add", f"2001:db8:{number}::/64", "via", f"2001:db8::{number}")
        return found
    if name == "same LAN":
        home = router(lab, f"h{n}-r", "port", wan, f"44.128.{70 + n}.1/16")
        inside = lab.switch(f"h{n}-s")
        lab.cable(home, "inside", ["192.168.70.1/24"], inside)
        hosts = [lab.namespace(f"h{n}-{letter}") for letter in "ab"]
        for number, host in enumerate(hosts, start=2):
            lab.cable(host, "eth0", [f"192.168.70.{number}/24"], inside)
            host.run("ip", "route", "add", "default", "via", "192.168.70.1")
        return hosts[0], hosts[1]
    inner = {f"100.64.{k}.2": f"44.128.{70 + n * 2 + k}.1" for k in (2, 3)}
    middle = carrier(lab, wan, f"h{n}-c", inner, hairpin=name == "CGN, hairpin")
    hosts = []
    for k, letter in ((2, "a"), (3, "b")):
        home = subscriber(lab, middle, f"h{n}-{letter}r", k)
        host = lab.namespace(f"h{n}-{letter}")
        behind(lab, host, home, f"192.168.{80 + n * 2 + k}")
        hosts.append(host)
    return hosts[0], hosts[1]


def _node(made: Field, host: Namespace, make: Make) -> LabNode:
    node = make(host, made.lab)
    made.nodes.append(node)
    return node


def _start(made: Field) -> None:
    planet, moons = private_planet(), [moon(made.root.identity, [f"{ROOT}/9993", f"{ROOT_V6}/9993"])]
    for node in (made.root, *made.nodes):
        node.use_world(planet, moons)
        node.start(wait=60)
    made.nwid = made.root.create_network(
        name="nat", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
    )
    for node in made.nodes:
        made.root.authorise(made.nwid, node.address, ipAssignments=[f"{OVERLAY}.{made.number(node)}"])
        node.join(made.nwid)
    for node in made.nodes:
        node.wait_ok(made.nwid, timeout=90)


def expected(name: tuple[str, str]) -> str:
    """What the translators allow without guessing ports. A symmetric one gives each destination another port, so only
    who lets in any port of a known address (or all) can be reached."""
    if name in _SPECIAL_RESULTS:
        return _SPECIAL_RESULTS[name]
    narrow = {"port", "double", "symmetric"}
    return "relayed" if "symmetric" in name and narrow.issuperset(name) else "direct"


def run(made: Field, *, seconds: float = 45, cut: float = 5, hurry: bool = False) -> None:
    """Let all pairs ping for `seconds`; with `hurry` not longer than until those are direct that should be. Then cut
    the root off, and see which pairs still hear each other."""
    with contextlib.ExitStack() as stack:
        for meeting in made.meetings:
            _ping(stack, meeting)
            _watch(made, _STAGGER)
        hoped = [m for m in made.meetings if not hurry or expected(m.name) == "direct"]
        deadline = time.time() + seconds
        while time.time() < deadline and any(m.direct is None or m.started == 0 for m in hoped):
            _watch(made, 0.2)
        table = "table inet cut { chain in { type filter hook input priority 0; meta l4proto udp drop; }; }"
        made.root.namespace.run("nft", table)
        since = time.time() + 1
        time.sleep(1 + cut)
    for meeting in made.meetings:
        replies = _replies(meeting)
        if replies:
            meeting.first_reply = replies[0] - meeting.started
        meeting.without_root = sum(at > since for at in replies) >= 2


def _ping(stack: contextlib.ExitStack, meeting: Meeting) -> None:
    output = stack.enter_context(meeting.log.open("wb"))
    meeting.started = time.time()
    argv = ("ping", "-n", "-D", "-i", "0.5", "-W", "2", meeting.target)
    process = meeting.a.namespace.popen(*argv, stdout=output, stderr=subprocess.DEVNULL)
    stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(5)


def _replies(meeting: Meeting) -> list[float]:
    return [float(t) for t in re.findall(r"^\[([\d.]+)\] .*time=", meeting.log.read_text(), re.MULTILINE)]


def _watch(made: Field, seconds: float) -> None:
    """Ask nodes with an open meeting for their paths; takes at least `seconds`."""
    end = time.time() + seconds
    running = [m for m in made.meetings if m.started and m.direct is None]
    known: dict[LabNode, set[str]] = {}
    for node in {id(n): n for m in running for n in (m.a, m.b)}.values():
        with contextlib.suppress(OSError):
            found = node.api("GET", "/peer")
            known[node] = {p["address"] for p in found if any(not path["expired"] for path in p["paths"])}
    now = time.time()
    for meeting in running:
        one = meeting.b.address in known.get(meeting.a, ())
        other = meeting.a.address in known.get(meeting.b, ())
        meeting.one_sided = one != other
        if one and other:
            meeting.direct = now - meeting.started
    time.sleep(max(0.0, end - time.time()))
