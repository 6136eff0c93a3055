"""First contacts: how long the very first ping between two members takes, for every pair of them.

    python -m tests.bench.contacts [--members 10] [--layout fused] [--after 8]

Needs root. All nodes are on one switch and have one root, which is the network's controller. `--after`: seconds between
the last member's OK and the first ping. Such a ping needs an answer to an ARP request for a group of which nobody has
heard yet, the other's identity, credentials both ways, and a path. One that takes a second has lost a frame on its way:
a host asks for an address again after a second.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

from ztpipe.lab import Gateway, Lab
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

UNDERLAY, OVERLAY = "10.66.91", "10.67.91"


def team(lab: Lab, count: int, layout: str) -> list[Gateway]:
    """The members; the root and controller, which is no member, comes first."""
    switch = lab.switch("sw")
    nodes = []
    for number in range(1, count + 2):
        host = lab.namespace(f"n{number}")
        lab.cable(host, "eth0", [f"{UNDERLAY}.{number}/24"], switch)
        nodes.append(Gateway(host, lab.directory, flags=("--layout", layout)))
    root = nodes[0]
    planet, moons = private_planet(), [moon(root.identity, [f"{UNDERLAY}.1/9993"])]
    for node in nodes:
        node.use_world(planet, moons)
        node.start()
    nwid = root.create_network(
        name="contacts", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
    )
    for number, node in enumerate(nodes[1:], start=2):
        root.authorise(nwid, node.address, ipAssignments=[f"{OVERLAY}.{number}"])
        node.join(nwid)
    for node in nodes[1:]:
        node.wait_ok(nwid)
    return nodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--layout", default="fused")
    parser.add_argument("--after", type=float, default=8.0)
    options = parser.parse_args()
    times = []
    with Lab("zpF") as lab:
        nodes = team(lab, options.members, options.layout)
        time.sleep(options.after)
        for one, two in itertools.combinations(range(1, options.members + 1), 2):
            answered = ping(nodes[one].namespace, f"{OVERLAY}.{two + 1}", count=1, timeout=5).times
            times.append(answered[0] if answered else float("inf"))
    slow = sum(took >= 500 for took in times)
    print(f"{len(times)} first pings: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
    print(f"{slow} took half a second or more")


if __name__ == "__main__":
    main()
