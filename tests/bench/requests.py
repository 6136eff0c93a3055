"""Requests for configurations answered per second in real packets, beside the reference's controller.

    python -m tests.bench.requests [--askers 40] [--networks 100] [--rounds 3] [--reference]

Needs root. A node with a controller, and members in another namespace (`tests.bench.askers`) that ask it for public
networks: each for each network once (cold: the member is new, admitted, addressed and stored), then three times more
(cached). The members have been met before, so that what is measured is requests. Rounds of both programs alternate,
with new homes; printed are the medians, the ratio, and the CPU time of the node and its workers for each answer.
With --reference also what an unmodified zerotier-one (ZT_REFERENCE) achieves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import defaultdict

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.askers import FIRST_NUMBER
from tests.bench.crowd import FIRST_ADDRESS, member_identity
from ztpipe.lab import Gateway, Lab, LabNode, Namespace, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.node.peercache import PeerRecord

WAN = "10.66.52"
_NETWORK = {
    "name": "asked",
    "private": False,
    "routes": [{"target": "10.67.0.0/16"}],
    "v4AssignMode": {"zt": True},
    "ipAssignmentPools": [{"ipRangeStart": "10.67.64.1", "ipRangeEnd": "10.67.200.254"}],
}
Found = dict[str, float]


def measure(kind: type[LabNode], askers: int, networks: int) -> Found:
    """One round of one program."""
    with Lab("zpq") as lab:
        wan = lab.switch("wan")
        hosts = [lab.namespace(label) for label in ("c", "a")]
        for number, host in enumerate(hosts, start=1):
            lab.cable(host, "eth0", [f"{WAN}.{number}/24"], wan)
        node = kind(hosts[0], lab.directory)
        (node.home / "peers.d").mkdir()
        for number in range(FIRST_NUMBER, FIRST_NUMBER + askers):
            record = PeerRecord(member_identity(number), 12, (1, 14, 1), ())
            (node.home / "peers.d" / f"{FIRST_ADDRESS + number:010x}.peer").write_bytes(record.encode())
        node.use_world(private_planet(), [moon(node.identity, [f"{WAN}.1/9993"])])
        node.start(wait=60)
        nwids = [node.create_network(**_NETWORK) for _ in range(networks)]
        return _asked(node, hosts[1], askers, nwids)


def _asked(node: LabNode, host: Namespace, askers: int, nwids: list[str]) -> Found:
    words = (str(askers), f"{WAN}.2", node.identity.without_private().text(), f"{WAN}.1/9993", *nwids)
    before = _cpu_seconds(node)
    found = json.loads(host.run(sys.executable, "-m", "tests.bench.askers", *words, timeout=150).stdout)
    answers = 4 * askers * len(nwids) - found["unanswered"]
    return {
        "requests/s, cold": found["cold"],
        "requests/s, cached": found["cached"],
        "CPU of the node for each, ms": 1000 * (_cpu_seconds(node) - before) / answers,
        "not answered": found["unanswered"],
    }


def _cpu_seconds(node: LabNode) -> float:
    top = psutil.Process(node.pid())
    return sum(sum(each.cpu_times()[:2]) for each in (top, *top.children(recursive=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--askers", type=int, default=40)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reference", action="store_true")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    kinds: dict[str, type[LabNode]] = {"ztpipe": Gateway}
    if arguments.reference:
        kinds["zerotier-one"] = Reference
    rounds: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in kinds}
    for _ in range(arguments.rounds):
        for name, kind in kinds.items():
            for row, value in measure(kind, arguments.askers, arguments.networks).items():
                rounds[name][row].append(value)
    table = Table("", *kinds, *(["ratio"] if len(kinds) > 1 else []))
    for row in rounds["ztpipe"]:
        values = [statistics.median(found[row]) for found in rounds.values()]
        ratio = [f"{values[0] / values[1]:.2f}"] if len(values) > 1 and values[1] else []
        table.add_row(row, *(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values), *ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
