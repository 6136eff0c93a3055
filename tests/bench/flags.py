"""What a switch costs: one TCP stream with it and without, turn by turn.

    python -m tests.bench.flags [--pairs 10] [--seconds 2] [--layout pipeline|fused] -- SWITCH ...

For example `-- --sandbox false`. Needs root and iperf3. Two pairs of nodes run side by side and take turns; printed are
the medians, and the median over neighbouring runs of (with the switch / without), with its quartiles; the same for CPU
seconds per GB of all their processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys

from rich.console import Console
from rich.table import Table

from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import CpuMeter, iperf

Run = tuple[float, float]


def run(pair: Pair, seconds: float) -> Run:
    """Gbit/s, and CPU seconds per GB."""
    meter = CpuMeter(pair.pids()).start()
    result = iperf(pair.a, pair.b, pair.target, seconds=seconds)
    return result.gbit, meter.total() / result.bytes * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--layout", choices=("pipeline", "fused"), default="pipeline")
    parser.add_argument("switches", nargs="+", metavar="SWITCH")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    runs: list[tuple[Run, Run]] = []
    with Lab("zpf") as lab:
        layout = ("--layout", arguments.layout)
        plain = joined(lab, "p", "10.66.49", "10.67.49", *[ztpipe(*layout)] * 2)
        changed = joined(lab, "c", "10.66.50", "10.67.50", *[ztpipe(*layout, *arguments.switches)] * 2)
        for number in range(arguments.pairs):
            order = (plain, changed) if number % 2 else (changed, plain)
            measured = {id(pair): run(pair, arguments.seconds) for pair in order}
            runs.append((measured[id(plain)], measured[id(changed)]))
    table = Table(arguments.layout, "without", " ".join(arguments.switches), "ratio", "quartiles")
    for place, name in enumerate(("Gbit/s", "CPU s/GB")):
        before, after = ([pair[which][place] for pair in runs] for which in (0, 1))
        low, middle, high = statistics.quantiles([b / a for a, b in zip(before, after, strict=True)])
        medians = (f"{statistics.median(values):.2f}" for values in (before, after))
        table.add_row(name, *medians, f"{middle:.3f}", f"{low:.3f}-{high:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
