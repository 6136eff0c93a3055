"""Where the CPUs' time goes while one TCP stream crosses two gateways: who runs, who waits for a CPU, and how much of
the idle time could have been used, because somebody was waiting for another, busy CPU meanwhile.

    python -m tests.bench.waits [--layout fused] [--relay] [--congestion cubic] [--seconds 1]

Needs root, iperf3 and perf (Debian: linux-perf).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.pairs import Pair, joined, relayed, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import iperf

_EVENTS = "sched:sched_switch,sched:sched_wakeup,sched:sched_migrate_task"
_LINE = re.compile(r"\s*.+?\s+\[(\d+)\]\s+([\d.]+):\s+sched:(\w+):\s+(.*)")
_SWITCH = re.compile(r"prev_comm=(.+) prev_pid=(\d+) .*prev_state=(\S+) ==> next_comm=(.+) next_pid=(\d+)")
_WAKEUP = re.compile(r"comm=(.+) pid=(\d+) .*target_cpu=(\d+)")
_MIGRATE = re.compile(r"comm=(.+) pid=(\d+) .*dest_cpu=(\d+)")


@dataclass(slots=True)
class Shares:
    """Seconds. `ran`, `waited`: by process. `idle`: of all CPUs together; `usable`: the part of it in which somebody
    waited for a busy one."""

    total: float = 0.0
    idle: float = 0.0
    usable: float = 0.0
    ran: Counter[str] = field(default_factory=Counter)
    waited: Counter[str] = field(default_factory=Counter)


class Timeline:
    """The state of the CPUs between one event and the next."""

    def __init__(self, cpus: int) -> None:
        self.shares = Shares()
        self._cpus = cpus
        self._running: dict[int, tuple[int, str]] = {}  # by CPU: PID (0 = idle) and name
        self._waiting: dict[int, tuple[int, str]] = {}  # by PID: CPU and name
        self._last = 0.0

    def event(self, at: float, cpu: int, kind: str, text: str) -> None:
        self._account(at)
        if kind == "sched_switch" and (found := _SWITCH.match(text)):
            before, state, after = int(found[2]), found[3], int(found[5])
            if before != 0 and state.startswith("R"):
                self._waiting[before] = (cpu, found[1])
            self._waiting.pop(after, None)
            self._running[cpu] = (after, found[4])
        elif kind == "sched_wakeup" and (found := _WAKEUP.match(text)):
            pid, running = int(found[2]), [pid for pid, _ in self._running.values()]
            if pid not in running and found[1] != "perf":
                self._waiting[pid] = (int(found[3]), found[1])
        elif kind == "sched_migrate_task" and (found := _MIGRATE.match(text)) and int(found[2]) in self._waiting:
            self._waiting[int(found[2])] = (int(found[3]), found[1])

    def _account(self, at: float) -> None:
        passed, self._last = at - self._last, at
        if len(self._running) < self._cpus:
            return  # not everybody has been seen yet
        self.shares.total += passed * self._cpus
        for pid, name in self._running.values():
            if pid != 0:
                self.shares.ran[name] += passed  # type: ignore[assignment]
                continue
            self.shares.idle += passed
            self.shares.usable += passed if self._somebody_waits() else 0.0
        for _, name in self._waiting.values():
            self.shares.waited[name] += passed  # type: ignore[assignment]

    def _somebody_waits(self) -> bool:
        """For a CPU that runs something: not for one that has been told to wake up."""
        return any(self._running[cpu][0] != 0 for cpu, _ in self._waiting.values())


def shares(lines: Iterable[str], cpus: int, names: dict[int, str]) -> Shares:
    """From the lines of `perf script`. `names`: what processes are to be called, by PID."""
    timeline = Timeline(cpus)
    for line in lines:
        if found := _LINE.match(line):
            text = re.sub(r"(\w*)comm=.+? (\w*)pid=(\d+)", lambda it: _renamed(it, names), found[4])
            timeline.event(float(found[2]), int(found[1]), found[3], text)
    return timeline.shares


def _renamed(found: re.Match[str], names: dict[int, str]) -> str:
    name = names.get(int(found[3]))
    return found[0] if name is None else f"{found[1]}comm={name} {found[2]}pid={found[3]}"


def _processes(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _processes(int(child))


def _names(pair: Pair) -> dict[int, str]:
    """Every thread of the gateways, by host."""
    hosts = ("A", "B") if len(pair.nodes) == 2 else ("A", "relay", "B")
    return {
        int(task.name): f"{host}: {(task / 'comm').read_text().strip().removeprefix('zt ')}"
        for host, node in zip(hosts, pair.nodes, strict=True)
        for process in _processes(node.pid())
        for task in Path(f"/proc/{process}/task").iterdir()
    }


def record(pair: Pair, seconds: float, congestion: str) -> tuple[float, list[str]]:
    """Gbit/s of a stream, and the lines of its middle."""
    rates: list[float] = []

    def stream() -> None:
        rates.append(iperf(pair.a, pair.b, pair.target, seconds=seconds + 3, congestion=congestion).gbit)

    with tempfile.TemporaryDirectory() as directory:
        data = f"{directory}/perf.data"
        load = threading.Thread(target=stream)
        load.start()
        time.sleep(1.5)
        argv = ["perf", "record", "-q", "-a", "-m", "4096", "-e", _EVENTS, "-o", data, "sleep", str(seconds)]
        subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
        load.join()
        argv = ["perf", "script", "-i", data, "-F", "comm,cpu,time,event,trace"]
        return rates[0], subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=("pipeline", "fused"), default="fused")
    parser.add_argument("--relay", action="store_true", help="with a relay in between")
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("perf is not installed (Debian: linux-perf)")
    make = ztpipe("--layout", options.layout)
    with Lab("zpw") as lab:
        if options.relay:
            pair = relayed(lab, "w", "10.66.1", "10.67.1", make, make, make)
        else:
            pair = joined(lab, "w", "10.66.1", "10.67.1", make, make)
        iperf(pair.a, pair.b, pair.target, seconds=1)
        names = _names(pair)
        rate, lines = record(pair, options.seconds, options.congestion)
    cpus = sum(1 for it in Path("/sys/devices/system/cpu").iterdir() if re.fullmatch(r"cpu\d+", it.name))
    found = shares(lines, cpus, names)
    print(f"{rate:.2f} Gbit/s (perf takes its part); {found.idle / found.total:.0%} of {cpus} CPUs idle,")
    print(f"{found.usable / found.total:.0%} while a process waited for a busy one. In CPUs:")
    print(f"{'':24}{'ran':>6}{'waited':>8}")
    for name, ran in found.ran.most_common(10):
        scale = cpus / found.total
        print(f"{name:24}{ran * scale:6.2f}{found.waited[name] * scale:8.2f}")


if __name__ == "__main__":
    main()
