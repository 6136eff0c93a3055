"""What hostile clients of the HTTP API take away from the frames.

    python -m tests.bench.http_attack [--pairs 12] [--seconds 1.5] [--layout pipeline|fused] [KIND ...]

Needs root and iperf3. One TCP stream crosses the overlay while clients attack the sender's API, and, turn by turn,
while the same clients attack a stand-in beside it that behaves like the API and does nothing else: in life attackers
are on another machine, here their own work, and the kernel's for them, is in both. The ratio is the median over the
pairs of neighbouring runs, with its quartiles; `control` is what the control process spent, in percent of one core,
beside what it spends on the frames alone; memory is its growth since the first run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.netns import http_attackers, http_standin
from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Lab, Namespace
from ztpipe.lab.traffic import CpuMeter, iperf

_API, _STANDIN = 9993, 9994
_WITH_TOKEN = ("pipelined", "bodies")
#: Kind of attack -> what the attackers do: with the token from the host itself, or without from outside.
KINDS = {name: (name, name in _WITH_TOKEN) for name in http_attackers.KINDS} | {
    f"{name}-outside": (name, False) for name in _WITH_TOKEN
}


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: Gbit/s, CPU in percent of one core, resident bytes of control."""

    gbit: float
    control: float
    attackers: float
    memory: int


def _spent(pid: int) -> float:
    """CPU seconds of one process."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def _started(host: Namespace, program: object, *arguments: str, nice: str = "0") -> Iterator[int]:
    """Until it says that it is ready, or at once if it does not."""
    argv = ["nice", "-n", nice, sys.executable, str(Path(str(getattr(program, "__file__", "")))), *arguments]
    process = host.popen(*argv, stdout=subprocess.PIPE)
    try:
        if program is http_standin and process.stdout is not None:
            process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.wait()
        host.processes.remove(process)


def run(pair: Pair, kind: str, port: int, seconds: float) -> Run:
    """One stream beside the attackers of `kind` on `port` (0: nobody attacks)."""
    control = pair.nodes[0].pid()
    work, local = KINDS[kind]
    token = (pair.nodes[0].home / "authtoken.secret").read_text() if local else "none"
    source, host = (pair.a, "127.0.0.1") if local else (pair.b, "10.66.45.1")
    with contextlib.ExitStack() as stack:
        pids = []
        if port == _STANDIN:  # anew each time: what it leaves open at its end would slow down the next attackers
            stack.enter_context(_started(pair.a, http_standin, host, str(port), work))
        if port:
            words = (work, host, str(port), str(seconds + 10), token)
            pids = [stack.enter_context(_started(source, http_attackers, *words, nice="10"))]
            time.sleep(0.5)
        meter, before, began = CpuMeter(pids).start(), _spent(control), time.monotonic()
        gbit = iperf(pair.a, pair.b, pair.target, seconds=seconds).gbit
        percent = 100 / (time.monotonic() - began)
        theirs, ours = meter.total() * percent, (_spent(control) - before) * percent
        return Run(gbit, ours, theirs, psutil.Process(control).memory_info().rss)


def measure(pair: Pair, kind: str, pairs: int, seconds: float) -> list[str]:
    """One row of the table."""
    calm: list[Run] = []
    beside: list[Run] = []
    attacked: list[Run] = []
    first = run(pair, kind, 0, seconds).memory
    for number in range(pairs):
        turns = [(beside, _STANDIN), (attacked, _API)]
        for runs, port in [(calm, 0), *(turns if number % 2 else reversed(turns))]:
            runs.append(run(pair, kind, port, seconds))

    def middle(runs: list[Run], what: str, places: int = 1) -> str:
        return f"{statistics.median(getattr(one, what) for one in runs):.{places}f}"

    low, ratio, high = statistics.quantiles([a.gbit / b.gbit for a, b in zip(attacked, beside, strict=True)])
    return [
        kind, middle(calm, "gbit", 2), middle(beside, "gbit", 2), middle(attacked, "gbit", 2),
        f"{ratio:.3f}", f"{low:.2f}-{high:.2f}", middle(calm, "control"), middle(attacked, "control"),
        middle(beside, "attackers"), middle(attacked, "attackers"),
        f"{max(one.memory for one in attacked) - first >> 20}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--layout", choices=("pipeline", "fused"), default="pipeline")
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    table = Table(
        "attack", "Gbit/s alone", "beside the stand-in", "on the API", "ratio", "quartiles", "control alone %",
        "control %", "attackers (stand-in) %", "attackers %", "memory MB", title=arguments.layout,
    )  # fmt: skip
    with Lab("zpb") as lab:
        make = ztpipe("--layout", arguments.layout)
        pair = joined(lab, "x", "10.66.45", "10.67.45", make, make)
        for kind in arguments.kinds or KINDS:
            table.add_row(*measure(pair, kind, arguments.pairs, arguments.seconds))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
