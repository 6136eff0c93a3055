"""Throughput, CPU cost and latency of ztpipe beside zerotier-one and the bare cable, in one run.

    python -m tests.bench.throughput [--rounds 3] [--seconds 3] [--only NAME ...] [--json FILE]
    python -m tests.bench.throughput --targets [GROUP ...]        the target table, see targets.py

Needs root and iperf3. Set ZT_REFERENCE to a zerotier-one program for the comparison. All pairs are up for the whole
run and are measured in alternation, because the machine's speed drifts; figures are medians over the rounds, ratios
are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import targets
from tests.pairs import Pair, bare, joined, reference, relayed, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import CpuMeter, Throughput, iperf, ping, proportional_memory

Row = dict[str, float]
_PING_INTERVALS = (0.001, 0.01, 0.1)


def measure(pair: Pair, seconds: float) -> Row:
    """One round on one pair."""
    row: Row = {}
    for streams in (1, 4):
        found, cost = _with_cpu(
            pair, lambda streams=streams: iperf(pair.a, pair.b, pair.target, seconds=seconds, streams=streams)
        )
        row[f"tcp{streams}_gbit"] = found.gbit
        row[f"tcp{streams}_cpu_s_per_gb"] = cost / (found.bytes / 1e9) if found.bytes else float("nan")
    for payload in (1400, 64):
        found, cost = _with_cpu(
            pair, lambda payload=payload: iperf(pair.a, pair.b, pair.target, seconds=seconds, udp_payload=payload)
        )
        row[f"udp{payload}_kpps"] = found.packets_per_second / 1e3
        row[f"udp{payload}_lost"] = found.lost
    for interval in _PING_INTERVALS:
        count = min(500, max(20, int(seconds / interval)))
        answer = ping(pair.a, pair.target, count=count, interval=interval)
        label = f"ping_{int(interval * 1000)}ms"
        row[f"{label}_median_ms"] = answer.median
        row[f"{label}_p99_ms"] = answer.percentile(0.99)
        row[f"{label}_lost"] = answer.lost
    return row


def _with_cpu(pair: Pair, work: Callable[[], Throughput]) -> tuple[Throughput, float]:
    meter = CpuMeter(pair.pids()).start()
    found = work()
    return found, meter.total()


def idle(pair: Pair, seconds: float) -> Row:
    """CPU share (of one core) and memory of one node of the pair while nothing happens."""
    if not pair.nodes:
        return {}
    meter = CpuMeter(pair.pids()).start()
    time.sleep(seconds)
    nodes = len(pair.nodes)
    return {
        "idle_cpu_percent": 100 * meter.total() / seconds / nodes,
        "memory_mb": proportional_memory(pair.pids()) / nodes / 1e6,
    }


SCENARIOS: dict[str, Callable[[Lab, int], Pair]] = {
    "veth": lambda lab, n: bare(lab, "veth", f"10.66.{n}"),
    "zerotier-one": lambda lab, n: joined(lab, "ref", f"10.66.{n}", f"10.67.{n}", reference(), reference()),
    "pipeline": lambda lab, n: joined(lab, "pipe", f"10.66.{n}", f"10.67.{n}", *[ztpipe("--layout", "pipeline")] * 2),
    "fused": lambda lab, n: joined(lab, "fused", f"10.66.{n}", f"10.67.{n}", *[ztpipe("--layout", "fused")] * 2),
    "pipeline, suite 1": lambda lab, n: joined(
        lab, "salsa", f"10.66.{n}", f"10.67.{n}", *[ztpipe("--layout", "pipeline", "--protocol-version", "11")] * 2
    ),
    "ztpipe to zerotier-one": lambda lab, n: joined(lab, "to", f"10.66.{n}", f"10.67.{n}", ztpipe(), reference()),
    "zerotier-one to ztpipe": lambda lab, n: joined(lab, "from", f"10.66.{n}", f"10.67.{n}", reference(), ztpipe()),
    "relay: zerotier-one": lambda lab, n: relayed(
        lab, "rref", f"10.66.{n}", f"10.67.{n}", ztpipe(), reference(), ztpipe()
    ),
    "relay: ztpipe": lambda lab, n: relayed(lab, "rztp", f"10.66.{n}", f"10.67.{n}", *[ztpipe()] * 3),
    "relay: ztpipe, fused": lambda lab, n: relayed(
        lab, "rfus", f"10.66.{n}", f"10.67.{n}", ztpipe(), ztpipe("--layout", "fused"), ztpipe()
    ),
}
_DEFAULT = ("veth", "zerotier-one", "pipeline", "fused")


def chosen(only: list[str] | None) -> list[str]:
    names = list(only or _DEFAULT)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        sys.exit(f"no such scenario: {', '.join(unknown)}; known: {', '.join(SCENARIOS)}")
    if "ZT_REFERENCE" not in os.environ:
        print("ZT_REFERENCE is not set: nothing is compared with zerotier-one", file=sys.stderr)
        names = [name for name in names if "zerotier-one" not in name]
    return names


def run(names: list[str], rounds: int, seconds: float) -> dict[str, Row]:
    """All rounds over all scenarios; medians."""
    samples: dict[str, list[Row]] = {name: [] for name in names}
    with Lab("zpb") as lab:
        pairs = {name: SCENARIOS[name](lab, number) for number, name in enumerate(names, start=1)}
        result = {name: idle(pair, 5.0) for name, pair in pairs.items()}
        for number in range(rounds):
            for name, pair in pairs.items():
                print(f"round {number + 1}/{rounds}: {name}", file=sys.stderr)
                samples[name].append(measure(pair, seconds))
    for name, rows in samples.items():
        result[name] |= {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return result


def table(result: dict[str, Row]) -> Table:
    """One row per figure, one column per scenario, with the ratio to zerotier-one where there is one."""
    shown = Table(title="throughput (medians of one run)", title_justify="left")
    shown.add_column("figure")
    for name in result:
        shown.add_column(name, justify="right")
    base = result.get("zerotier-one") or result.get("relay: zerotier-one", {})
    for key in max(result.values(), key=len):
        cells = []
        for name, row in result.items():
            value, against = row.get(key), base.get(key)
            text = "" if value is None else f"{value:.3g}"
            if value is not None and against and row is not base and name != "veth":
                text += f" ({value / against:.2f}×)"
            cells.append(text)
        shown.add_row(key, *cells)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"any of: {', '.join(SCENARIOS)}")
    parser.add_argument(
        "--targets",
        nargs="*",
        metavar="GROUP",
        help=f"the target table; all groups, or these: {', '.join(targets.GROUPS)}",
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.targets is not None:
        targets.main(options.targets, options.rounds, options.seconds, options.json)
        return
    result = run(chosen(options.only), options.rounds, options.seconds)
    Console(width=160).print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
