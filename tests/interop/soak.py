"""A quarter of an hour's keep-alives beside an unmodified zerotier-one: no path lost, no memory grown.

    ZT_REFERENCE=... python -m tests.interop.soak [--minutes 10]

Every ten seconds one ping each way; in between nothing. Fails if a ping is lost after the first minute,
if a direct path was ever missing, or if a process of ours holds more memory at the end than after the first two minutes
plus a tenth.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.pairs import Pair, joined, reference, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import ping, proportional_memory

_PERIOD = 10.0
_SETTLED = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with Lab("zps") as lab:
        pair = joined(lab, "s", "10.66.4", "10.67.4", ztpipe(), reference())
        return watch(pair, minutes * 60)


def watch(pair: Pair, seconds: float) -> int:
    """Ping, look at paths and memory until `seconds` have passed; exit status."""
    ours, other = pair.nodes
    started = time.monotonic()
    settled, lost, pathless, memory = 0, 0, 0, 0
    while (elapsed := time.monotonic() - started) < seconds:
        pings = [ping(pair.a, pair.target, count=1), ping(pair.b, f"{pair.overlay}.1", count=1)]
        if elapsed > 60:
            lost += sum(answer.lost for answer in pings)
        pathless += not ours.peer(other.address).get("paths")
        pathless += not other.peer(ours.address).get("paths")
        memory = proportional_memory([ours.pid()])
        settled = memory if elapsed < _SETTLED else settled
        print(f"{elapsed:5.0f} s  lost {lost}  without path {pathless}  memory {memory / 1e6:.1f} MB", flush=True)
        time.sleep(_PERIOD)
    grown = seconds > _SETTLED and memory > settled * 1.1
    print("FAILED" if lost or pathless or grown else "held", f"(memory {settled / 1e6:.1f} -> {memory / 1e6:.1f} MB)")
    return int(bool(lost or pathless or grown))


if __name__ == "__main__":
    sys.exit(main())
