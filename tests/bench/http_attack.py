"""What hostile clients of the HTTP API take away from the frames: throughput during each attack, beside that before it.

    python -m tests.bench.http_attack [--rounds 5] [--seconds 2] [KIND ...]

Needs root and iperf3. The attackers run at the lowest priority, since in life they are on another machine; what is
measured is the work that they cause. Figures are medians of alternating rounds; the ratio is theirs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.netns import http_attackers
from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import iperf

_LOCAL = ("pipelined", "bodies")


def _attacked(pair: Pair, kind: str, seconds: float, port: int) -> float:
    token = (pair.nodes[0].home / "authtoken.secret").read_text() if kind in _LOCAL else ""
    source, host = (pair.a, "127.0.0.1") if kind in _LOCAL else (pair.b, "10.66.45.1")
    argv = [sys.executable, str(Path(http_attackers.__file__)), kind, host, str(port), str(seconds + 2), token]
    process = source.popen("nice", "-n", "19", *argv, stdout=subprocess.DEVNULL)
    try:
        return iperf(pair.a, pair.b, pair.target, seconds=seconds).gbit
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("kinds", nargs="*", choices=[*http_attackers.KINDS, []], metavar="KIND")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    table = Table("attack", "Gbit/s without", "on a closed port", "on the API", "ratio to none", "ratio to closed port")
    with Lab("zpb") as lab:
        pair = joined(lab, "x", "10.66.45", "10.67.45", ztpipe(), ztpipe())
        for kind in arguments.kinds or http_attackers.KINDS:
            calm, closed, attacked = [], [], []
            for _ in range(arguments.rounds):
                calm.append(iperf(pair.a, pair.b, pair.target, seconds=arguments.seconds).gbit)
                closed.append(_attacked(pair, kind, arguments.seconds, 9))
                attacked.append(_attacked(pair, kind, arguments.seconds, 9993))
            without, alone, during = map(statistics.median, (calm, closed, attacked))
            ratios = (during / without, during / alone)
            table.add_row(kind, *(f"{value:.2f}" for value in (without, alone, during, *ratios)))
    Console().print(table)


if __name__ == "__main__":
    main()
