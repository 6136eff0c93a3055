"""`ztpipe bench workers`: how the load spreads over workers here, and what more cores would make of it.

Measured: CPU seconds per gigabyte of every worker process of a sending and a receiving gateway, with one and with two
workers of each kind, pinned to the CPUs in turn. Modelled: a gateway whose only job is to forward, one core for each
worker, and workers that cost what they cost here. A flow always takes one worker of each kind, so it can be no faster
than the slowest of them. What comes from one remote gateway takes one peer worker (the kernel chooses the socket by
address and port) and one crypto worker (the inner flow is not known before it is opened).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from rich.console import Console
from rich.table import Table

from ztpipe.lab import Gateway, Lab
from ztpipe.lab.namespaces import LabError
from ztpipe.lab.nodes import NodeFailed, moon, private_planet
from ztpipe.lab.traffic import CpuMeter, iperf, ping

ROLES: Final = ("tap", "crypto", "peer")
CORES: Final = (4, 8, 16, 32)
_SIDES: Final = ("sending", "receiving")
_FIRST_ADDRESS: Final = 1

Costs = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: for each side, worker -> CPU seconds per GB."""

    workers: int
    gbit: float
    cost: tuple[dict[str, float], dict[str, float]]

    def by_role(self, side: int) -> dict[str, float]:
        """Role -> CPU seconds per GB of all its workers together."""
        return {
            role: sum(spent for name, spent in self.cost[side].items() if name.startswith(f"zt {role}-"))
            for role in ROLES
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The best division of cores: workers of each role, and what it carries."""

    workers: tuple[int, ...]
    gbit: float


def best_plan(cost: Costs, cores: int) -> Plan:
    """One core for each worker, and at least one worker of each role; `cost` in CPU seconds per GB by role."""
    best = Plan((), 0.0)
    for counts in product(range(1, cores - 1), repeat=len(ROLES)):
        if sum(counts) <= cores:
            rate = 8 * min(n / max(cost[role], 1e-9) for n, role in zip(counts, ROLES, strict=True))
            if rate > best.gbit:
                best = Plan(counts, rate)
    return best


def limit(cost: Costs, roles: Sequence[str]) -> float:
    """Gbit/s of what has to take one worker of each of these roles, however many cores there are."""
    return 8 / max(*(cost[role] for role in roles), 1e-9)


def measure(workers: int, seconds: float, streams: int) -> Run:
    """Two gateways on one cable."""
    flags = [word for role in ROLES for word in (f"--{role}-workers", str(workers))]
    flags += ["--layout", "pipeline", "--pinning", ",".join(map(str, sorted(os.sched_getaffinity(0))))]
    with Lab("zpk") as lab:
        hosts = lab.namespace("a"), lab.namespace("b")
        lab.cable(hosts[0], "eth0", ["10.90.1.1/24"], hosts[1], plug="eth0", other_addresses=["10.90.1.2/24"])
        nodes = [Gateway(host, lab.directory, flags=flags) for host in hosts]
        for node in nodes:
            node.use_world(private_planet(), [moon(nodes[0].identity, ["10.90.1.1/9993"])])
            node.start()
        target = _join(nodes)
        nodes[0].wait_for("a ping through the overlay", lambda: ping(hosts[0], target, count=1).times, 20)
        nodes[0].wait_direct(nodes[1].address)
        meters = [CpuMeter([node.pid()]).start() for node in nodes]
        found = iperf(hosts[0], hosts[1], target, seconds=seconds, streams=streams)
        spent = [{name: cpu / (found.bytes / 1e9) for name, cpu in meter.read().items()} for meter in meters]
    return Run(workers, found.gbit, (spent[0], spent[1]))


def _join(nodes: list[Gateway]) -> str:
    """A network of the first; the address of the second on it."""
    controller = nodes[0]
    nwid = controller.create_network(private=True, routes=[{"target": "10.90.2.0/24"}], v4AssignMode={"zt": False})
    for number, node in enumerate(nodes, start=_FIRST_ADDRESS):
        controller.authorise(nwid, node.address, ipAssignments=[f"10.90.2.{number}"])
        node.join(nwid)
    for node in nodes:
        node.wait_ok(nwid)
    return "10.90.2.2"


def shares(runs: list[Run]) -> Table:
    """What each worker did of its role's work."""
    shown = Table(title="measured: CPU seconds per GB of each worker", title_justify="left")
    for heading in ("workers of each kind", "Gbit/s", "gateway", *ROLES, "share of the busiest"):
        shown.add_column(heading, justify="right")
    for run in runs:
        for side, title in enumerate(_SIDES):
            cells, busiest = [], 0.0
            for role in ROLES:
                each = [spent for name, spent in sorted(run.cost[side].items()) if name.startswith(f"zt {role}-")]
                cells.append(" + ".join(f"{spent:.2f}" for spent in each))
                busiest = max(busiest, max(each, default=0) / (sum(each) or 1))
            shown.add_row(str(run.workers), f"{run.gbit:.2f}", title, *cells, f"{busiest:.0%}")
    return shown


def model(run: Run) -> Table:
    """Cores down; for each side the best division and its rate."""
    shown = Table(title="model: a gateway that only forwards, one core for each worker", title_justify="left")
    shown.add_column("cores", justify="right")
    for title in _SIDES:
        shown.add_column(f"{title}: tap / crypto / peer", justify="right")
        shown.add_column("Gbit/s", justify="right")
    for cores in CORES:
        plans = [best_plan(run.by_role(side), cores) for side in range(len(_SIDES))]
        shown.add_row(str(cores), *[cell for p in plans for cell in (" / ".join(map(str, p.workers)), f"{p.gbit:.1f}")])
    shown.add_section()
    sending, receiving = (run.by_role(side) for side in range(len(_SIDES)))
    shown.add_row("one flow", "", f"{limit(sending, ROLES):.1f}", "", f"{limit(receiving, ROLES):.1f}")
    shown.add_row("one remote gateway", "", "", "", f"{limit(receiving, ROLES[1:]):.1f}")
    return shown


def main(seconds: float, streams: int) -> int:
    """Measure and print; the exit status."""
    console = Console(width=120)
    try:
        runs = [measure(workers, seconds, streams) for workers in (1, 2)]
    except (LabError, NodeFailed) as error:
        console.print(f"ztpipe bench workers: {error}", markup=False)
        return 1
    console.print(shares(runs))
    console.print(model(runs[0]))
    return 0
