"""Two LANs joined by two bridges: TCP between hosts behind them, beside the same nodes' own, and beside zerotier-one.

    python -m tests.bench.bridges [--rounds 3] [--seconds 3]

Needs root and iperf3; ZT_REFERENCE for the comparison. All scenarios are up for the whole run and measured in
alternation; medians. "not carried": frames and packets that took the slow path meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys

from rich.console import Console
from rich.table import Table

from tests.lans import Lans, joined_lans
from tests.pairs import Make, counted, joined, reference, ztpipe
from ztpipe.lab import Gateway, Lab
from ztpipe.lab.traffic import iperf, ping

PUNTED = ("tap_punted", "open_punted")


def scenarios() -> dict[str, tuple[Make, Make]]:
    """By name: the makers of both bridges; the right one is what the host on the left sends to."""
    ours = {"pipeline": ztpipe("--layout", "pipeline"), "fused": ztpipe("--layout", "fused")}
    made: dict[str, tuple[Make, Make]] = {name: (make, make) for name, make in ours.items()}
    if "ZT_REFERENCE" in os.environ:
        made["zerotier-one"] = (reference(), reference())
        made["fused and z-one"] = (ours["fused"], reference())
    else:
        print("ZT_REFERENCE is not set: nothing is compared with zerotier-one", file=sys.stderr)
    return made


def not_carried(lans: Lans) -> int:
    return sum(counted(node, name) for node in lans.pair.nodes if isinstance(node, Gateway) for name in PUNTED)


def measure(lans: Lans, seconds: float) -> dict[str, float]:
    """One round: Gbit/s and ms."""
    before = not_carried(lans)
    row = {
        "left to right, Gbit/s": iperf(lans.left, lans.right, lans.right_ip, seconds=seconds).gbit,
        "right to left, Gbit/s": iperf(lans.right, lans.left, lans.left_ip, seconds=seconds).gbit,
        "ping, ms": ping(lans.left, lans.right_ip, count=20, interval=0.05).median,
    }
    row["not carried"] = not_carried(lans) - before
    return row


def without_bridges(lab: Lab, make: Make) -> Lans:
    """The nodes themselves, for comparison; with the MTU that LANs have."""
    pair = joined(lab, "bn", "10.66.29", "10.67.29", make, make)
    pair.nodes[0].api("POST", f"/controller/network/{pair.nwid}", {"mtu": 1500})
    for node in pair.nodes:
        node.wait_for("the MTU of LANs", lambda node=node: node.network(pair.nwid)["mtu"] == 1500, 90)  # type: ignore[misc]
    return Lans(pair, pair.a, pair.b, f"{pair.overlay}.1", pair.target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    with Lab("zpB") as lab:
        made = {
            name: joined_lans(lab, f"b{number}", number, *makes)
            for number, (name, makes) in enumerate(scenarios().items(), start=30)
        }
        made["fused, no bridge"] = without_bridges(lab, ztpipe("--layout", "fused"))
        for _ in range(options.rounds):
            for name, lans in made.items():
                rows.setdefault(name, []).append(measure(lans, options.seconds))
    shown = Table(title="two LANs, two bridges (medians of one run)", title_justify="left")
    for heading in ("figure", *rows):
        shown.add_column(heading, justify="left" if heading == "figure" else "right")
    for key in next(iter(rows.values()))[0]:
        shown.add_row(key, *(f"{statistics.median(row[key] for row in found):.3g}" for found in rows.values()))
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
