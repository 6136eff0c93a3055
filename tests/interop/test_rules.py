"""Rules, tags and capabilities between an unmodified zerotier-one and us, either one being the controller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from tests.pairs import Pair, joined, reference, ztpipe
from ztpipe.lab import Gateway, Lab, LabNode, Namespace
from ztpipe.lab.traffic import iperf, ping
from ztpipe.rules.compiler import compile_rules

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(240)]

CASES = {"our controller": (ztpipe(), reference()), "its controller": (reference(), ztpipe())}

USUAL = """
drop
  not ethertype ipv4
  and not ethertype arp
  and not ethertype ipv6
;
accept;
"""
BY_TAG = """
tag department id 100;
accept ethertype arp;
accept tdiff department 0;
drop;
"""
BY_CAPABILITY = """
accept ethertype arp;
cap client
  id 7
  accept ipprotocol tcp and dport 5201;
;
cap server
  id 8
  accept ipprotocol tcp and sport 5201;
;
"""


@dataclass
class Ruled:
    """A pair, and what its controller is told."""

    pair: Pair

    @property
    def controller(self) -> LabNode:
        return self.pair.nodes[0]

    def rules(self, source: str) -> None:
        config: dict[str, Any] = compile_rules(source).config()
        self.controller.api("POST", f"/controller/network/{self.pair.nwid}", config)

    def member(self, number: int, **fields: Any) -> None:
        address = self.pair.nodes[number].address
        self.controller.api("POST", f"/controller/network/{self.pair.nwid}/member/{address}", fields)

    def sends(self, source: Namespace, target: str, wanted: bool, seconds: float = 30) -> None:
        """Wait until pings get through, or do not: members learn of a change within seconds."""
        deadline = time.monotonic() + seconds
        while bool(ping(source, target, count=1, timeout=0.5).times) is not wanted:
            assert time.monotonic() < deadline, f"ping {target}: still {'lost' if wanted else 'answered'}"
            time.sleep(0.3)

    @property
    def ours(self) -> Gateway:
        return next(node for node in self.pair.nodes if isinstance(node, Gateway))

    def counters(self) -> dict[str, int]:
        """Our counters, of all processes."""
        total: dict[str, int] = {}
        for report in self.ours.api("GET", "/ztpipe/workers"):
            for name, count in report["counters"].items():
                total[name] = total.get(name, 0) + count
        return total


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.replace(" ", "-"))
def ruled(request: pytest.FixtureRequest) -> Iterator[Ruled]:
    make_a, make_b = CASES[request.param]
    with Lab("zpr") as lab:
        yield Ruled(joined(lab, "r", "10.66.7", "10.67.7", make_a, make_b))


def _ways(ruled: Ruled) -> list[tuple[Namespace, Namespace, str]]:
    pair = ruled.pair
    return [(pair.a, pair.b, f"{pair.overlay}.2"), (pair.b, pair.a, f"{pair.overlay}.1")]


def _eventually(what: str, probe: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def test_usual_rules_are_no_slow_path(ruled: Ruled) -> None:
    ruled.rules(USUAL)
    for source, sink, target in _ways(ruled):
        ruled.sends(source, target, True)
        iperf(source, sink, target, seconds=1)
        before = ruled.counters()
        carried = iperf(source, sink, target, seconds=1).bytes
        after = ruled.counters()
        punted = after.get("punts", 0) - before.get("punts", 0)
        assert carried > 1_000_000
        assert punted < 200, f"{punted} punts for {carried} bytes"


def test_members_with_different_tags_are_apart(ruled: Ruled) -> None:
    for number in (0, 1):
        ruled.member(number, tags=[[100, 5]])
    ruled.rules(BY_TAG)
    for source, _, target in _ways(ruled):
        ruled.sends(source, target, True)
    ruled.member(1, tags=[[100, 6]])
    for source, _, target in _ways(ruled):
        ruled.sends(source, target, False, 90)
    ruled.member(1, tags=[[100, 5]])
    for source, _, target in _ways(ruled):
        ruled.sends(source, target, True, 90)


def test_a_capability_lets_its_holder_in(ruled: Ruled) -> None:
    """Pings stay out; one TCP port is open for those who hold the capabilities."""
    for number in (0, 1):
        ruled.member(number, tags=[], capabilities=[])
    ruled.rules(BY_CAPABILITY)
    for source, _, target in _ways(ruled):
        ruled.sends(source, target, False)
    for number in (0, 1):
        ruled.member(number, capabilities=[7, 8])
    for source, sink, target in _ways(ruled):

        def through(source: Namespace = source, sink: Namespace = sink, target: str = target) -> bool:
            try:
                return iperf(source, sink, target, seconds=1).bytes > 100_000
            except Exception:  # not yet: the connection is refused by the rules
                return False

        _eventually(f"TCP to {target}", through, 60)
        assert not ping(source, target, count=2, timeout=0.5).times
