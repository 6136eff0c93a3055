"""Ten thousand forged HELLOs a second, from changing sources, at the node that receives a TCP stream: what is left?

    python -m tests.bench.flood [--rounds 3] [--seconds 4] [--rate 10000] [--layout pipeline] [--leaf]

Needs root and iperf3. Three throughputs in alternation, medians: undisturbed; with the flood aimed at a port of the
same host where nothing listens to it, because the flood and its delivery cost the same machine something, too; with the
flood aimed at the node. What the node is answerable for is the third against the second. The node is a root, which is
there to meet strangers and hears three times as many; with --leaf it is none.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.pairs import Pair, counted, joined, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import CpuMeter, iperf

WHERE = ("nowhere", "elsewhere", "at the node")
_SINK = 9994
_ROOT = Path(__file__).resolve().parents[2]
DROPS = ("stranger_rate", "stranger_budget")


def start_flood(pair: Pair, port: int, rate: int, seconds: float, *, leaf: bool = False) -> subprocess.Popen[str]:
    """At host A, from host B's end of the cable, or the other way; returns once it flows."""
    target, node, source = (pair.underlay_a, pair.nodes[0], pair.b)
    if leaf:
        target, node, source = (pair.underlay_a.removesuffix("1") + "2", pair.nodes[1], pair.a)
    argv = [sys.executable, "-m", "tests.bench.forged", target, str(port), node.address]
    running = source.popen(*argv, str(rate), str(seconds), cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()
    return running


def dropped(pair: Pair, *, leaf: bool = False) -> int:
    """Forged HELLOs that C refused at A, or at B."""
    return sum(counted(pair.nodes[leaf], f"drop_{reason}") for reason in DROPS)


def round_of(pair: Pair, seconds: float, rate: int, *, leaf: bool) -> dict[str, tuple[float, float]]:
    """(Gbit/s from B to A, CPU seconds of node A) for each of `WHERE`; the other way for a leaf."""
    sender, receiver = (pair.a, pair.b) if leaf else (pair.b, pair.a)
    found = {}
    for where in WHERE:
        port = 9993 if where == "at the node" else _SINK
        running = start_flood(pair, port, rate, seconds + 2, leaf=leaf) if where != "nowhere" else None
        meter = CpuMeter([pair.nodes[leaf].pid()]).start()
        result = iperf(sender, receiver, f"{pair.overlay}.{2 if leaf else 1}", seconds=seconds)
        found[where] = (result.gbit, meter.total())
        if running is not None:
            running.wait(30)
        time.sleep(1)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--layout", default="pipeline")
    parser.add_argument("--leaf", action="store_true")
    options = parser.parse_args()
    with Lab("zpf") as lab:
        make = ztpipe("--layout", options.layout)
        pair = joined(lab, "f", "10.66.7", "10.67.7", make, make)
        sink = (pair.b if options.leaf else pair.a).popen(
            sys.executable, "-c", f"import socket,time; s=socket.socket(2,2); s.bind(('',{_SINK})); time.sleep(600)"
        )
        rounds = [round_of(pair, options.seconds, options.rate, leaf=options.leaf) for _ in range(options.rounds)]
        refused = dropped(pair, leaf=options.leaf)
        sink.terminate()
    shown = Table(
        title=f"{options.rate} forged HELLOs a second, {options.layout}, {'leaf' if options.leaf else 'root'}",
        title_justify="left",
    )
    for heading in ("aimed", "Gbit/s", "of undisturbed", "of aimed elsewhere", "CPU s of the node per GB"):
        shown.add_column(heading, justify="right")
    median = {where: statistics.median(r[where][0] for r in rounds) for where in WHERE}
    for where in WHERE:
        cost = statistics.median(r[where][1] / (r[where][0] * options.seconds / 8 or 1) for r in rounds)
        ratios = [f"{median[where] / (median[base] or 1):.0%}" for base in WHERE[:2]]
        shown.add_row(where, f"{median[where]:.2f}", *ratios, f"{cost:.2f}")
    console = Console(width=120)
    console.print(shown)
    console.print(f"refused in C: {refused}")
    held = median["at the node"] >= 0.9 * median["elsewhere"]
    console.print("at least 90 % kept" if held else "LESS than 90 % kept")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
