"""Ten thousand forged HELLOs a second, from changing sources, at the node that receives a TCP stream: what is left?

    python -m tests.bench.flood [--pairs 12] [--seconds 4] [--rate 10000] [--layout pipeline] [--leaf]

Needs root and iperf3. One TCP stream all the while, and one flood, which is aimed at the node and at a port of the same
host in turn, because its delivery costs the same machine something, too; there, nobody reads it. What the node is
answerable for is what crosses in one against what crosses in the next: the figure is the median of these ratios, with
the quartiles, as a busy machine makes single ones worth little. The node is a root, which is there to meet strangers
and hears three times as many; with --leaf it is none.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.pairs import Pair, counted, joined, ztpipe
from ztpipe.lab import Lab, Namespace
from ztpipe.lab.traffic import CpuMeter, tcp_stream

_SINK = 9994
_NODE = 9993
_ROOT = Path(__file__).resolve().parents[2]
_SETTLE = 0.7  # seconds: what a root lets in at once after a pause is over
DROPS = ("stranger_rate", "stranger_budget")


def start_flood(
    pair: Pair, port: int | str, rate: int, seconds: float, *, leaf: bool = False, turn: float = 0.0
) -> subprocess.Popen[str]:
    """At host A, from host B's end of the cable, or the other way; returns once it flows.

    `port`: one, or several with commas between them, each for `turn` seconds in turn.
    """
    target, node, source = (pair.underlay_a, pair.nodes[0], pair.b)
    if leaf:
        target, node, source = (pair.underlay_a.removesuffix("1") + "2", pair.nodes[1], pair.a)
    argv = [sys.executable, "-m", "tests.bench.forged", target, str(port), node.address, str(rate), str(seconds)]
    running = source.popen(*argv, str(turn), cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()
    return running


def dropped(pair: Pair, *, leaf: bool = False) -> int:
    """Forged HELLOs that C refused at A, or at B."""
    return sum(counted(pair.nodes[leaf], f"drop_{reason}") for reason in DROPS)


@dataclass(frozen=True, slots=True)
class Turn:
    """What crossed while the flood was aimed at `port`, and what the node spent by process."""

    port: int
    gbit: float
    cpu: dict[str, float]


def turns(pair: Pair, count: int, seconds: float, rate: int, *, leaf: bool) -> Iterator[Turn]:
    """`count` turns, at the node first."""
    host, length = (pair.b if leaf else pair.a), _SETTLE + seconds
    flood = start_flood(pair, f"{_NODE},{_SINK}", rate, (count + 1) * length, leaf=leaf, turn=length)
    assert flood.stdout is not None
    for _ in range(count):
        port = int(flood.stdout.readline())
        time.sleep(_SETTLE)
        meter, before, start = CpuMeter([pair.nodes[leaf].pid()]).start(), _received(host), time.monotonic()
        time.sleep(max(0.1, seconds - 0.2))
        crossed, took = _received(host) - before, time.monotonic() - start
        yield Turn(port, crossed * 8e-9 / took, {name: spent / took for name, spent in meter.read().items()})
    flood.terminate()
    flood.wait(10)


def _received(host: Namespace) -> int:
    """Bytes that came out of the host's TAP so far."""
    found = host.run("sh", "-c", "cat /sys/class/net/zt*/statistics/rx_bytes")
    return int(found.stdout.split()[0])


def show(console: Console, found: list[Turn], title: str) -> float:
    """The median of the ratios."""
    shown = Table(title=title, title_justify="left")
    names = sorted({name for turn in found for name in turn.cpu})
    for heading in ("aimed", "Gbit/s", *(f"{name}, of a core" for name in names)):
        shown.add_column(heading, justify="right")
    for where, port in (("elsewhere", _SINK), ("at the node", _NODE)):
        there = [turn for turn in found if turn.port == port]
        spent = [f"{statistics.median(turn.cpu.get(name, 0.0) for turn in there):.0%}" for name in names]
        shown.add_row(where, f"{statistics.median(turn.gbit for turn in there):.2f}", *spent)
    console.print(shown)
    ratios = [
        (one.gbit if one.port == _NODE else other.gbit) / (other.gbit if one.port == _NODE else one.gbit)
        for one, other in pairwise(found)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    console.print(f"kept of the same flood aimed elsewhere: {middle:.0%} (half of them {low:.0%} to {high:.0%})")
    return middle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--layout", default="pipeline")
    parser.add_argument("--leaf", action="store_true")
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs: at least 2, for the ratios to have quartiles")
    console = Console(width=150)
    with Lab("zpf") as lab:
        make = ztpipe("--layout", options.layout)
        pair = joined(lab, "f", "10.66.7", "10.67.7", make, make)
        sink = (pair.b if options.leaf else pair.a).popen(
            sys.executable, "-c", f"import socket,time; s=socket.socket(2,2); s.bind(('',{_SINK})); time.sleep(600)"
        )
        sender, receiver, host = (pair.a, pair.b, 2) if options.leaf else (pair.b, pair.a, 1)
        with tcp_stream(sender, receiver, f"{pair.overlay}.{host}"):
            found = list(turns(pair, 2 * options.pairs, options.seconds, options.rate, leaf=options.leaf))
        refused = dropped(pair, leaf=options.leaf)
        sink.terminate()
    role = "leaf" if options.leaf else "root"
    kept = show(console, found, f"{options.rate} forged HELLOs a second, {options.layout}, {role}")
    console.print(f"refused in C: {refused}")
    console.print("at least 90 % kept" if kept >= 0.9 else "LESS than 90 % kept")
    return 0 if kept >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
