"""The controller with 10,000 members of which 1,000 are online, and the reference's in the same place.

    python -m tests.bench.controller [--members 10000] [--online 1000] [--reference]

Needs root. The members that are online are real nodes on real UDP sockets (`tests.bench.crowd`); two more are whole
gateways, which ping each other. Prints requests answered per second by the controller alone (cold: new members, each
stored; cached: the same again; over the wire: `tests.bench.requests`), memory per member that is offline, and with the
crowd: how long until a change of the network has reached all, until a revocation has, how long the API waited at most,
and what pings meanwhile cost, beside their idle time.
With --reference also what an unmodified zerotier-one (ZT_REFERENCE) achieves, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.crowd import FIRST_ADDRESS, member_identity
from ztpipe.controller.controller import Controller
from ztpipe.controller.store_files import export_files
from ztpipe.controller.store_sqlite import SqliteStore
from ztpipe.lab import Gateway, Lab, LabNode, Namespace, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping
from ztpipe.node.config_request import request_metadata
from ztpipe.node.peercache import PeerRecord
from ztpipe.node.settings import NodeSettings
from ztpipe.wire.identity import Identity

WAN, OVERLAY = "10.66.51", "10.67.51"
_NETWORK = {
    "name": "start",
    "private": True,
    "routes": [{"target": "10.67.0.0/16"}],
    "v4AssignMode": {"zt": True},
    "ipAssignmentPools": [{"ipRangeStart": "10.67.64.1", "ipRangeEnd": "10.67.200.254"}],
}


def prepare(identity: Identity, directory: Path, members: int, online: int) -> tuple[int, dict[str, float]]:
    """A controller's store with its members; the network's ID, and what the controller alone achieves."""
    rates: dict[str, float] = {}
    now = time.time_ns() // 1_000_000
    metadata = request_metadata(NodeSettings())
    with SqliteStore(directory) as store:
        controller = Controller(identity, store, random=os.urandom)
        nwid = int(controller.create_network(now, _NETWORK)["id"], 16)
        with store.transaction():
            for number in range(members):
                controller.update_member(now, nwid, FIRST_ADDRESS + number, {"authorized": True})
        asking = [member_identity(number).without_private() for number in range(online)]
        for name in ("cold", "cached"):
            now += 2_000
            started = time.perf_counter()
            for member in asking:
                assert controller.request(now, nwid, member, metadata, 1, None)
            rates[name] = online / (time.perf_counter() - started)
    return nwid, rates


def memory_per_member(directory: Path, members: int) -> float:
    """Bytes of a process that holds all records, beyond those of one that holds none, for each member."""
    program = (
        "import os, sys; from pathlib import Path\\n"
        "from ztpipe.controller.controller import Controller\\n"
        "from ztpipe.controller.store_sqlite import SqliteStore\\n"
        "from tests.bench.crowd import member_identity\\n"
        "c = Controller(member_identity(0), SqliteStore(Path(sys.argv[1])), random=os.urandom)\\n"
        "print(open('/proc/self/statm').read().split()[1])"
    ).replace("\\n", "\n")

    def run(where: Path) -> int:
        return int(subprocess.run([sys.executable, "-c", program, where], capture_output=True, check=True).stdout)

    with tempfile.TemporaryDirectory() as empty:
        return (run(directory) - run(Path(empty))) * resource.getpagesize() / members


class Crowd:
    """The members that are online, as they say they are."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.state: dict[str, Any] = {"names": {}, "credentials": 0}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.state = json.loads(line)

    def wait(self, what: Callable[[dict[str, Any]], bool], seconds: float) -> float:
        """How long until its state is such; infinity if it never is."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if what(self.state):
                return time.monotonic() - started
            time.sleep(0.02)
        return float("inf")


def measure(kind: type[LabNode], members: int, online: int) -> tuple[dict[str, float], dict[str, float]]:
    """With the whole crowd: seconds by what they were for; and what the controller alone achieves."""
    with Lab("zpo") as lab:
        wan = lab.switch("wan")
        hosts = [lab.namespace(label) for label in ("c", "crowd", "m1", "m2")]
        for number, host in enumerate(hosts, start=1):
            lab.cable(host, "eth0", [f"{WAN}.{number}/24"], wan)
        node = kind(hosts[0], lab.directory)
        store = node.home / "controller.d" if kind is Gateway else lab.directory / "store"
        nwid, rates = prepare(node.identity, store, members, online)
        rates["bytes"] = memory_per_member(store, members)
        if kind is Reference:
            with SqliteStore(store) as found:
                export_files(found, node.home / "controller.d")
        (node.home / "peers.d").mkdir()
        for number in range(online):
            record = PeerRecord(member_identity(number), 12, (1, 14, 1), ())
            (node.home / "peers.d" / f"{FIRST_ADDRESS + number:010x}.peer").write_bytes(record.encode())
        others = [Gateway(host, lab.directory) for host in hosts[2:]]
        planet, moons = private_planet(), [moon(node.identity, [f"{WAN}.1/9993"])]
        for each in (node, *others):
            each.use_world(planet, moons)
            each.start(wait=60)
        return _with_crowd(node, hosts[1], others, f"{nwid:016x}", online), rates


class Slowest:
    """The slowest answer to a request that does next to nothing, asked again and again: how long the node was busy."""

    def __init__(self, node: LabNode) -> None:
        self._node, self._going, self.milliseconds = node, True, 0.0
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while self._going:
            started = time.perf_counter()
            self._node.api("GET", "/controller")
            self.milliseconds = max(self.milliseconds, (time.perf_counter() - started) * 1000)
            time.sleep(0.01)

    def stop(self) -> float:
        self._going = False
        self._thread.join()
        return self.milliseconds


def _with_crowd(node: LabNode, host: Namespace, others: list[Gateway], nwid: str, online: int) -> dict[str, float]:
    path = f"/controller/network/{nwid}"
    for number, other in enumerate(others, start=1):
        node.authorise(nwid, other.address, ipAssignments=[f"{OVERLAY}.{number}"])
        other.join(nwid)
    for other in others:
        other.wait_ok(nwid)
    source, target = others[0].namespace, f"{OVERLAY}.2"
    others[0].wait_for("a ping", lambda: ping(source, target, count=1).times, 60)
    words = (str(online), f"{WAN}.2", node.identity.without_private().text(), f"{WAN}.1/9993", nwid)
    crowd = Crowd(host.popen(sys.executable, "-m", "tests.bench.crowd", *words, stdout=subprocess.PIPE, text=True))
    found = {"join of all": crowd.wait(lambda state: state["names"].get("start", 0) >= online, 180)}
    time.sleep(3)
    found["ping idle, ms"] = ping(source, target, count=200, interval=0.01).median
    pings: list[float] = []
    pinging = threading.Thread(target=lambda: pings.append(ping(source, target, count=150, interval=0.01).median))
    pinging.start()
    slowest = Slowest(node)
    node.api("POST", path, {"name": "changed"})
    found["change at all"] = crowd.wait(lambda state: state["names"].get("changed", 0) >= online, 90)
    found["API meanwhile, slowest, ms"] = slowest.stop()
    pinging.join()
    found["ping meanwhile, ms"] = pings[0]
    time.sleep(3)
    before = crowd.state["credentials"]
    slowest = Slowest(node)
    node.api("POST", f"{path}/member/{others[1].address}", {"authorized": False})
    found["revocation at all"] = crowd.wait(lambda state: state["credentials"] - before >= online, 60)
    found["API meanwhile, slowest, ms "] = slowest.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--online", type=int, default=1_000)
    parser.add_argument("--reference", action="store_true")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, arguments.online + 500)), hard))
    kinds: dict[str, type[LabNode]] = {"ztpipe": Gateway}
    if arguments.reference:
        kinds["zerotier-one"] = Reference
    results = {name: measure(kind, arguments.members, arguments.online) for name, kind in kinds.items()}
    table = Table("", *kinds, *(["ratio"] if len(kinds) > 1 else []))
    rates = results["ztpipe"][1]
    table.add_row("requests/s, controller alone, cold", f"{rates['cold']:.0f}")
    table.add_row("requests/s, controller alone, cached", f"{rates['cached']:.0f}")
    table.add_row("bytes per offline member", f"{rates['bytes']:.0f}")
    for row in results["ztpipe"][0]:
        values = [found[0][row] for found in results.values()]
        ratio = [f"{values[0] / values[1]:.2f}"] if len(values) > 1 and values[1] else []
        table.add_row(row, *(f"{value:.0f}" if value >= 100 else f"{value:.2f}" for value in values), *ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
