"""The target table: what was set as a goal, measured beside zerotier-one in one run.

    python -m tests.bench.throughput --targets [GROUP ...] [--rounds 3] [--seconds 3] [--json FILE]

Each group has a laboratory of its own, in which all of its pairs are up and are measured in alternation. Figures are
medians over the rounds; a ratio is the median of the rounds' ratios, because the machine's speed drifts from one
round to the next. With `--json FILE` groups measured earlier are kept and shown too, so that the table can be filled
in slices. Group "suite 1" needs ZT_REFERENCE_SUITE1, a zerotier-one without AES (1.4 or older).

TCP is measured with CUBIC, the default of Linux, whatever the host's default is. BBR sends at the rate that it
estimates and so leaves CPUs idle that CUBIC uses; group "BBR" measures it where the kernel has it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.pairs import Make, Pair, joined, reference, relayed, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import CpuMeter, iperf, ping, proportional_memory

LAYOUTS: Final = ("pipeline", "fused")
_REFERENCE: Final = "zerotier-one"
_CONGESTION: Final = "cubic"
_POOR: Final = ("tx-udp-segmentation", "gro", "tso")
_NETWORKS: Final = 10
_AVAILABLE: Final = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
_IDLE_SECONDS: Final = 20.0

Row = dict[str, float]
Measured = dict[str, list[Row]]  # column (zerotier-one, pipeline, fused) -> one row per round


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table. `limits` are for pipeline and fused: ratios to zerotier-one, unless `absolute`."""

    title: str
    figure: str
    limits: tuple[float, float]
    unit: str
    at_most: bool = False
    absolute: bool = False

    def holds(self, value: float, layout: str) -> bool:
        limit = self.limits[LAYOUTS.index(layout)]
        return value <= limit if self.at_most else value >= limit

    def goal(self, layout: str) -> str:
        limit = self.limits[LAYOUTS.index(layout)]
        return f"{'≤' if self.at_most else '≥'} {limit:g}{f' {self.unit}' if self.absolute else '×'}"


@dataclass(frozen=True, slots=True)
class Group:
    """Lines measured on the same pairs. `pairs(lab)`: by column; `measure(pair, seconds)`: one round on one pair."""

    pairs: Callable[[Lab], dict[str, Pair]]
    measure: Callable[[Pair, float], Row]
    targets: tuple[Target, ...]


# ---- pairs ---------------------------------------------------------------------------------------------------------


def _columns(makes: Mapping[str, tuple[Make, Make]], **options: object) -> Callable[[Lab], dict[str, Pair]]:
    def lay(lab: Lab) -> dict[str, Pair]:
        return {
            name: joined(lab, f"t{n}", f"10.66.{n}", f"10.67.{n}", *both, **options)  # type: ignore[arg-type]
            for n, (name, both) in enumerate(makes.items(), start=1)
        }

    return lay


def _twins(*flags: str, peer: Make | None = None) -> dict[str, tuple[Make, Make]]:
    """zerotier-one with itself, and each layout with itself."""
    other = peer or reference()
    made = {layout: ztpipe("--layout", layout, *flags) for layout in LAYOUTS}
    return {_REFERENCE: (other, other)} | {layout: (make, make) for layout, make in made.items()}


def _mixed(*, towards: bool) -> dict[str, tuple[Make, Make]]:
    """Each layout with an unmodified node; A sends."""
    pairs = {_REFERENCE: (reference(), reference())}
    for layout in LAYOUTS:
        ours = ztpipe("--layout", layout)
        pairs[layout] = (ours, reference()) if towards else (reference(), ours)
    return pairs


def _relays(lab: Lab) -> dict[str, Pair]:
    """The relay differs; the two ends are gateways of ours."""
    end = ztpipe("--layout", "fused")
    relays = {_REFERENCE: reference()} | {layout: ztpipe("--layout", layout) for layout in LAYOUTS}
    return {
        name: relayed(lab, f"t{n}", f"10.66.{n}", f"10.67.{n}", end, relay, end)
        for n, (name, relay) in enumerate(relays.items(), start=1)
    }


def _with_many_networks(lab: Lab) -> dict[str, Pair]:
    """Ours alone, in ten networks each."""
    pairs = _columns({layout: (ztpipe("--layout", layout),) * 2 for layout in LAYOUTS})(lab)
    for pair in pairs.values():
        controller = pair.nodes[0]
        for number in range(1, _NETWORKS):
            nwid = controller.create_network(name=f"n{number}", private=False, v4AssignMode={"zt": False})
            for node in pair.nodes:
                node.join(nwid)
            for node in pair.nodes:
                node.wait_ok(nwid, addresses=0)
    return pairs


# ---- figures -------------------------------------------------------------------------------------------------------


def _tcp(pair: Pair, seconds: float, *, streams: Iterable[int] = (1,), congestion: str = _CONGESTION) -> Row:
    row: Row = {}
    for count in streams:
        meter = CpuMeter(pair.pids()).start()
        found = iperf(pair.a, pair.b, pair.target, seconds=seconds, streams=count, congestion=congestion)
        row[f"tcp{count}"] = found.gbit
        row[f"cpu{count}"] = meter.total() / (found.bytes / 1e9) if found.bytes else float("inf")
    return row


def _udp(pair: Pair, seconds: float) -> Row:
    sizes = (1400, 64)
    found = [iperf(pair.a, pair.b, pair.target, seconds=seconds, udp_payload=size) for size in sizes]
    return {f"udp{size}": one.packets_per_second / 1e3 for size, one in zip(sizes, found, strict=True)}


def _round_trips(pair: Pair, seconds: float) -> Row:
    row: Row = {}
    for interval in (0.001, 0.01, 0.1):
        count = min(500, max(20, int(seconds / interval)))
        row[f"ping{int(interval * 1000)}"] = ping(pair.a, pair.target, count=count, interval=interval).median
    return row


def _loaded(pair: Pair, seconds: float) -> Row:
    """Round trips while one TCP stream takes all it can."""
    how = {"seconds": seconds + 1, "congestion": _CONGESTION}
    load = threading.Thread(target=iperf, args=(pair.a, pair.b, pair.target), kwargs=how)
    load.start()
    time.sleep(0.7)
    answer = ping(pair.a, pair.target, count=int(seconds / 0.02), interval=0.02)
    load.join()
    return {"loaded": answer.median}


def _at_rest(pair: Pair, seconds: float) -> Row:
    nodes = len(pair.nodes)
    time.sleep(15)  # joining causes some talk
    before = proportional_memory(pair.pids()) / nodes / 1e6
    meter = CpuMeter(pair.pids()).start()
    time.sleep(_IDLE_SECONDS)
    idle = 100 * meter.total() / _IDLE_SECONDS / nodes
    iperf(pair.a, pair.b, pair.target, seconds=seconds, streams=4)
    first = proportional_memory(pair.pids()) / nodes / 1e6
    iperf(pair.a, pair.b, pair.target, seconds=seconds, streams=4)
    grown = proportional_memory(pair.pids()) / nodes / 1e6 - first
    return {"idle": idle, "memory": before, "loaded_memory": first, "growth": grown}


# ---- the table -----------------------------------------------------------------------------------------------------

GROUPS: Final[dict[str, Group]] = {
    "tcp": Group(
        lambda lab: _columns(_twins())(lab),
        lambda pair, seconds: _tcp(pair, seconds, streams=(1, 4)),
        (
            Target("TCP, 1 stream", "tcp1", (3.5, 4.0), "Gbit/s"),
            Target("TCP, 4 streams", "tcp4", (3.5, 4.5), "Gbit/s"),
            Target("CPU, both gateways, 1 stream", "cpu1", (0.30, 0.22), "s/GB", at_most=True),
        ),
    ),
    "BBR": Group(
        lambda lab: _columns(_twins())(lab),
        lambda pair, seconds: _tcp(pair, seconds, streams=(1, 4), congestion="bbr"),
        (
            Target("TCP, 1 stream, BBR", "tcp1", (3.5, 4.0), "Gbit/s"),
            Target("TCP, 4 streams, BBR", "tcp4", (3.5, 4.5), "Gbit/s"),
        ),
    ),
    "udp": Group(
        lambda lab: _columns(_twins())(lab),
        _udp,
        (
            Target("UDP, 1400 bytes, flood", "udp1400", (2.5, 2.5), "kpps"),
            Target("UDP, 64 bytes, flood", "udp64", (1.5, 1.5), "kpps"),
        ),
    ),
    "ping": Group(
        lambda lab: _columns(_twins())(lab),
        _round_trips,
        tuple(
            Target(f"ping, median, every {ms} ms", f"ping{ms}", (2.5, 1.0), "ms", at_most=True) for ms in (1, 10, 100)
        ),
    ),
    "loaded ping": Group(
        lambda lab: _columns(_twins())(lab),
        _loaded,
        (Target("ping, median, during bulk TCP", "loaded", (5.0, 5.0), "ms", at_most=True, absolute=True),),
    ),
    "suite 1": Group(
        lambda lab: _columns(
            _twins("--protocol-version", "11", peer=reference(os.environ["ZT_REFERENCE_SUITE1"]))
        )(lab),
        _tcp,
        (Target("suite 1, TCP", "tcp1", (2.0, 2.5), "Gbit/s"),),
    ),
    "towards": Group(
        lambda lab: _columns(_mixed(towards=True))(lab),
        _tcp,
        (Target("to an unmodified zerotier-one, TCP", "tcp1", (1.0, 1.0), "Gbit/s"),),
    ),
    "from": Group(
        lambda lab: _columns(_mixed(towards=False))(lab),
        _tcp,
        (Target("from an unmodified zerotier-one, TCP", "tcp1", (1.0, 1.0), "Gbit/s"),),
    ),
    "relay": Group(_relays, _tcp, (Target("relay, TCP", "tcp1", (3.0, 3.0), "Gbit/s"),)),
    "poor card": Group(
        lambda lab: _columns(_twins(), without=_POOR)(lab),
        _tcp,
        (Target("UDP segmentation, GRO and TSO off, TCP", "tcp1", (1.8, 2.0), "Gbit/s"),),
    ),
    "rest": Group(
        _with_many_networks,
        _at_rest,
        (
            Target("idle CPU, 10 networks", "idle", (1.0, 1.0), "%", at_most=True, absolute=True),
            Target("memory (PSS), 10 networks", "memory", (150, 80), "MB", at_most=True, absolute=True),
            Target("memory grown by a second load", "growth", (2, 2), "MB", at_most=True, absolute=True),
        ),
    ),
}  # fmt: skip


def run(name: str, rounds: int, seconds: float) -> Measured:
    """One group in a laboratory of its own."""
    group = GROUPS[name]
    samples: Measured = {}
    with Lab("zpt") as lab:
        pairs = group.pairs(lab)
        for number in range(rounds):
            for column, pair in pairs.items():
                print(f"{name}: round {number + 1}/{rounds}: {column}", file=sys.stderr)
                samples.setdefault(column, []).append(group.measure(pair, seconds))
    return samples


def table(measured: Mapping[str, Measured]) -> Table:
    """The goals, what was measured, and whether it holds."""
    shown = Table(title="targets (medians of one run)", title_justify="left")
    for heading in ("measure", "zerotier-one"):
        shown.add_column(heading, justify="left" if heading == "measure" else "right")
    for layout in LAYOUTS:
        for heading in (layout, "target", "held"):
            shown.add_column(heading, justify="right")
    for name in GROUPS:
        if name in measured:
            for target in GROUPS[name].targets:
                shown.add_row(*_cells(target, measured[name]))
    return shown


def _cells(target: Target, found: Measured) -> list[str]:
    base = [row[target.figure] for row in found.get(_REFERENCE, [])]
    cells = [target.title, f"{statistics.median(base):.3g} {target.unit}" if base else ""]
    for layout in LAYOUTS:
        values = [row[target.figure] for row in found[layout]]
        value = statistics.median(values)
        ratios = [ours / theirs if theirs else float("nan") for ours, theirs in zip(values, base, strict=False)]
        compared = value if target.absolute else statistics.median(ratios)
        text = f"{value:.3g} {target.unit}" if target.absolute else f"{value:.3g} ({compared:.2f}×)"
        cells += [text, target.goal(layout), "yes" if target.holds(compared, layout) else "no"]
    return cells


def main(names: list[str], rounds: int, seconds: float, kept: Path | None) -> None:
    """Measure and print; exits with a message for an unknown group or a missing reference."""
    lacking = {"suite 1": "ZT_REFERENCE_SUITE1" not in os.environ, "BBR": "bbr" not in _AVAILABLE.read_text().split()}
    names = names or [name for name in GROUPS if not lacking.get(name)]
    if unknown := [name for name in names if name not in GROUPS]:
        sys.exit(f"no such group: {', '.join(unknown)}; known: {', '.join(GROUPS)}")
    if "ZT_REFERENCE" not in os.environ and names != ["rest"]:
        sys.exit("targets are ratios to zerotier-one: set ZT_REFERENCE to its path")
    if "BBR" in names and lacking["BBR"]:
        sys.exit(f"group BBR needs that in {_AVAILABLE}")
    if "suite 1" in names and lacking["suite 1"]:
        sys.exit("group suite 1 needs a zerotier-one without AES (1.4 or older): set ZT_REFERENCE_SUITE1 to its path")
    measured: dict[str, Measured] = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    for name in names:
        measured[name] = run(name, rounds, seconds)
        if kept is not None:
            kept.write_text(json.dumps(measured, indent=2))
    Console(width=170).print(table(measured))
