"""The walking skeleton: real workers, real TAPs and sockets, two hosts on one cable, tables installed by hand.

What it shows: the rings mesh, the sleep protocol, descriptors that outlive workers, and the C stages work together, in
every layout, and every worker may die at any moment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.node_process import NWID, Skeleton
from ztpipe.lab import Lab, Namespace
from ztpipe.lab.traffic import ping, transfer
from ztpipe.wire.address import format_mac, mac_of
from ztpipe.wire.identity import Identity

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

_IDENTITIES = Path(__file__).parents[1] / "vectors/kat/identities.json"
_PIPELINE, _FUSED = (1, 1, 1, 0), (0, 0, 0, 1)
_LAYOUTS = {
    "pipeline": _PIPELINE,
    "pipeline of two each": (2, 2, 2, 0),
    "uneven pipeline": (1, 3, 2, 0),
    "fused": _FUSED,
    "two fused": (0, 0, 0, 2),
}


class Host:
    """One end: a namespace with a running node process."""

    def __init__(self, namespace: Namespace, skeleton: Skeleton, overlay: str) -> None:
        self.namespace = namespace
        self.overlay = overlay
        self.skeleton = skeleton
        self.process = namespace.popen(
            sys.executable, "-m", "tests.process.node_process", skeleton.text(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self.first = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the node process died"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, what: str = "status") -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._answer()

    def total(self, counter: str) -> int:
        return sum(block[counter] for block in self.ask()["counters"].values())

    def drops(self) -> dict[str, int]:
        counted = {
            name: sum(block[name] for block in self.ask()["counters"].values())
            for name in next(iter(self.first["counters"].values()))
            if name.startswith("drop_")
        }
        return {name: count for name, count in counted.items() if count}

    def pids(self) -> dict[str, int]:
        return {name: worker["pid"] for name, worker in self.ask()["workers"].items()}

    def stop(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._answer()


@contextlib.contextmanager
def _pair(plan: tuple[int, int, int, int], **options: Any) -> Iterator[tuple[Host, Host]]:
    known = [Identity.parse(entry["secret_text"]) for entry in json.loads(_IDENTITIES.read_text())["valid"][:2]]
    with Lab("zs") as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.cable(a, "veth0", ["10.1.0.1/24"], b, plug="veth0", other_addresses=["10.1.0.2/24"])
        hosts = []
        for number, namespace in enumerate((a, b)):
            home = lab.directory / namespace.label
            home.mkdir()
            skeleton = Skeleton(
                known[number].text(private=True), known[1 - number].text(), f"10.1.0.{number + 1}",
                f"10.1.0.{2 - number}", plan, str(home), f"zt{namespace.label}", **options,
            )  # fmt: skip
            hosts.append(Host(namespace, skeleton, f"10.2.0.{number + 1}"))
            device = skeleton.device
            namespace.run("ip", "addr", "add", f"10.2.0.{number + 1}/24", "dev", device)
            mac = format_mac(mac_of(known[1 - number].address, NWID))
            namespace.run("ip", "neigh", "add", f"10.2.0.{2 - number}", "lladdr", mac, "dev", device)
        yield hosts[0], hosts[1]


@pytest.mark.parametrize("plan", _LAYOUTS.values(), ids=_LAYOUTS)
def test_frames_cross(plan: tuple[int, int, int, int]) -> None:
    with _pair(plan) as (a, b):
        pinged = ping(a.namespace, b.overlay, count=20, interval=0.02)
        assert pinged.lost == 0
        for source, sink in ((a, b), (b, a)):
            moved = transfer(source.namespace, sink.namespace, sink.overlay, 20_000_000)
            assert moved.intact
        assert "drop_bad_mac" not in a.drops() | b.drops()
        for host in (a, b):
            assert host.total("seal_packets") > 0
            assert host.total("open_packets") > 0
            assert not any(host.ask()["waiting"].values()), "rings are empty once it is quiet"
        self_stamped = b.ask("activity")
        assert self_stamped["paths"], "crypto workers stamp paths"
        assert self_stamped["frames"], "crypto workers stamp members"
        for host in (a, b):
            assert host.stop()["stopped_in"] < 1.0


@pytest.mark.parametrize("plan", [_PIPELINE, _FUSED], ids=["pipeline", "fused"])
@pytest.mark.parametrize(("suite", "offload"), [(1, True), (3, False)], ids=["Salsa20/12", "no offloads"])
def test_frames_cross_with_fewer_means(plan: tuple[int, int, int, int], suite: int, offload: bool) -> None:
    with _pair(plan, suite=suite, offload=offload) as (a, b):
        assert ping(a.namespace, b.overlay, count=10, interval=0.02).lost == 0
        assert transfer(a.namespace, b.namespace, b.overlay, 5_000_000).intact


def test_idle_workers_sleep() -> None:
    """No spinning: an idle worker turns about once a second, for its heartbeat."""
    with _pair((2, 2, 2, 0)) as (a, _):
        time.sleep(0.5)
        before = {name: block["turns"] for name, block in a.ask()["counters"].items()}
        time.sleep(2)
        after = {name: block["turns"] for name, block in a.ask()["counters"].items()}
        assert all(after[name] - before[name] < 40 for name in before), (before, after)


@pytest.mark.parametrize("spin_us", [0, 50])
def test_the_shortest_rings_do_not_deadlock(spin_us: int) -> None:
    """Every ring is full much of the time: both directions of the doorbell."""
    with _pair((1, 2, 1, 0), ring_slots=2, spin_us=spin_us) as (a, b):
        assert transfer(a.namespace, b.namespace, b.overlay, 30_000_000).intact
        assert ping(a.namespace, b.overlay, count=5, interval=0.02).lost == 0


class _Pinging:
    """A ping every 20 ms, with the times of its answers."""

    def __init__(self, source: Host, target: str) -> None:
        self.process = source.namespace.popen(
            "ping", "-D", "-n", "-i", "0.02", target, stdout=subprocess.PIPE, text=True
        )
        time.sleep(0.5)

    def end(self) -> list[float]:
        self.process.send_signal(signal.SIGINT)
        output = self.process.communicate(timeout=5)[0]
        return [float(stamp) for stamp in re.findall(r"^\[([0-9.]+)\] .*icmp_seq=", output, re.MULTILINE)]


@pytest.mark.parametrize("plan", [_PIPELINE, (2, 2, 2, 0), _FUSED], ids=["pipeline", "pipeline of two each", "fused"])
def test_every_worker_may_be_killed(plan: tuple[int, int, int, int]) -> None:
    """kill -9 of each worker in turn under a running ping: the answers are back within a second."""
    with _pair(plan) as (a, b):
        running = _Pinging(a, b.overlay)
        victims = a.pids()
        for pid in victims.values():
            os.kill(pid, signal.SIGKILL)
            time.sleep(1.5)
        stamps = running.end()
        gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
        assert max(gaps) < 1.0, f"silent for {max(gaps):.2f} s"
        assert stamps[-1] - stamps[0] > 1.4 * len(victims), "and it was answered to the end"
        status = a.ask()["workers"]
        assert {name: worker["restarts"] for name, worker in status.items()} == dict.fromkeys(victims, 1)
        assert not set(a.pids().values()) & set(victims.values())
        assert transfer(a.namespace, b.namespace, b.overlay, 5_000_000).intact


def test_workers_die_with_control() -> None:
    with _pair(_PIPELINE) as (a, _):
        pids = list(a.pids().values())
        control = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(control, signal.SIGKILL)
        until = time.monotonic() + 1
        while any(_alive(pid) for pid in pids) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_only_crypto_workers_map_the_keys() -> None:
    with _pair(_PIPELINE) as (a, _):
        maps = {name: Path(f"/proc/{pid}/maps").read_text() for name, pid in a.pids().items()}
        assert {name for name, text in maps.items() if "ztpipe-keys" in text} == {"crypto-0"}
        assert all("ztpipe-tables" in text for text in maps.values())
        for name, text in maps.items():
            writable = [line for line in text.splitlines() if "ztpipe-tables" in line and " rw-s " in line]
            assert bool(writable) == (name == "crypto-0"), "only crypto workers write stamps"
            assert not [line for line in text.splitlines() if "ztpipe-keys" in line and " rw-s " in line]
