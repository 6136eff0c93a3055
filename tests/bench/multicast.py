"""Multicast frames delivered per second to three members of a group, and what they cost, beside zerotier-one.

    python -m tests.bench.multicast [--rounds 3] [--seconds 2] [--json FILE]

Needs root; ZT_REFERENCE for the comparison. Four members per scenario on one switch; one talks to a group as fast as
it can, frames are counted where the others' TAPs deliver them. All scenarios are up for the whole run and measured in
alternation; medians, ratios of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.groupcast import device_of, hold, talk_for, unread
from tests.pairs import Make, reference, ztpipe
from ztpipe.lab import Lab, LabNode
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import CpuMeter, ping

MEMBERS = 4
SIZES = (64, 1200)
GROUP, PORT = "239.77.0.1", 5777


@dataclass
class Team:
    """Members of one network; the first is its controller, root, and the one who talks."""

    name: str
    nodes: list[LabNode]
    devices: list[str]

    def delivered(self) -> int:
        """Datagrams that have reached the sockets of the others, which read none."""
        return sum(unread(node.namespace, PORT) for node in self.nodes[1:])

    def warm_up(self) -> None:
        """Everybody is in the group, and heard of: nodes look at their TAPs every five seconds."""
        for node, device in zip(self.nodes[1:], self.devices[1:], strict=True):
            hold(node.namespace, 600, PORT, [f"{GROUP}@{device}"])
        talk_for(self.nodes[0].namespace, PORT, 12, f"{GROUP}@{self.devices[0]}", size=64, interval=0.05)


def team(lab: Lab, name: str, number: int, make: Make) -> Team:
    """Four members on a switch of their own, who have pinged one another."""
    switch = lab.switch(f"{name}-sw")
    underlay, overlay = f"10.66.{number}", f"10.67.{number}"
    nodes: list[LabNode] = []
    for index in range(1, MEMBERS + 1):
        host = lab.namespace(f"{name}{index}")
        lab.cable(host, "eth0", [f"{underlay}.{index}/24"], switch)
        nodes.append(make(host, lab))
    root = nodes[0]
    planet, moons = private_planet(), [moon(root.identity, [f"{underlay}.1/9993"])]
    for node in nodes:
        node.use_world(planet, moons)
        node.start()
    routes = [{"target": f"{overlay}.0/24"}]
    nwid = root.create_network(name=name, private=True, routes=routes, v4AssignMode={"zt": False})
    for index, node in enumerate(nodes, start=1):
        root.authorise(nwid, node.address, ipAssignments=[f"{overlay}.{index}"])
        node.join(nwid)
    for node in nodes:
        node.wait_ok(nwid)
    for index in range(2, MEMBERS + 1):
        target = f"{overlay}.{index}"
        root.wait_for(f"a ping to {target}", lambda target=target: ping(root.namespace, target, count=1).times, 30)  # type: ignore[misc]
    devices = [device_of(node.namespace, f"{overlay}.{index}") for index, node in enumerate(nodes, start=1)]
    made = Team(name, nodes, devices)
    made.warm_up()
    return made


def measure(team: Team, seconds: float) -> dict[str, float]:
    """One round: thousands delivered per second to all three together, and CPU seconds per million of them."""
    row = {}
    for size in SIZES:
        meter = CpuMeter([node.pid() for node in team.nodes]).start()
        before, begin = team.delivered(), time.monotonic()
        talk_for(team.nodes[0].namespace, PORT, seconds, f"{GROUP}@{team.devices[0]}", size=size)
        time.sleep(0.3)
        delivered = team.delivered() - before
        row[f"{size} B: kframes/s"] = delivered / (time.monotonic() - begin) / 1e3
        row[f"{size} B: CPU s per million"] = meter.total() / max(delivered, 1) * 1e6
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    makes: dict[str, Make] = {"pipeline": ztpipe("--layout", "pipeline"), "fused": ztpipe("--layout", "fused")}
    if "ZT_REFERENCE" in os.environ:
        makes = {"zerotier-one": reference(), **makes}
    else:
        print("ZT_REFERENCE is not set: nothing is compared with zerotier-one", file=sys.stderr)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in makes}
    with Lab("zpg") as lab:
        teams = [team(lab, name[:4], number, make) for number, (name, make) in enumerate(makes.items(), start=70)]
        for _ in range(options.rounds):
            for name, made in zip(makes, teams, strict=True):
                samples[name].append(measure(made, options.seconds))
    result = {n: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for n, rows in samples.items()}
    shown = Table(title=f"one talks, {MEMBERS - 1} listen (medians of one run)", title_justify="left")
    for heading in ("figure", *result):
        shown.add_column(heading, justify="left" if heading == "figure" else "right")
    base = result.get("zerotier-one")
    for key in next(iter(result.values())):
        ratio = "" if base is None else " ({:.2f}×)"
        shown.add_row(
            key, *(f"{row[key]:.3g}" + ratio.format(row[key] / (base or row)[key]) for row in result.values())
        )
    Console(width=120).print(shown)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
