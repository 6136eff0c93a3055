"""Ten thousand forged HELLOs a second: refused by header, and nobody whom we know notices. (tests/bench/flood.py: how
much throughput is left.)"""

from __future__ import annotations

import pytest

from tests.bench.flood import dropped, start_flood
from tests.pairs import counted, joined, ztpipe
from ztpipe.kernel._kernel import lib
from ztpipe.lab import Lab
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SECONDS = 3


def test_the_slow_path_hears_little_of_a_flood() -> None:
    with Lab("zpF") as lab:
        pair = joined(lab, "F", "10.66.8", "10.67.8", ztpipe("--layout", "fused"), ztpipe("--layout", "fused"))
        node = pair.nodes[0]
        punts = counted(node, "punts")
        running = start_flood(pair, 9993, 10_000, SECONDS)
        answers = ping(pair.b, f"{pair.overlay}.1", count=100, interval=0.02)
        sent = int(running.communicate(timeout=60)[0])
        refused, heard = dropped(pair), counted(node, "punts") - punts
        assert sent > 1_000  # a busy machine may not manage ten thousand
        assert answers.lost <= 2
        assert refused + heard > sent * 0.8
        assert heard < lib.ZT_STRANGERS_HELLOS_PER_S_ROOT * (lib.ZT_STRANGERS_BURST_S + SECONDS * 3) + 500
