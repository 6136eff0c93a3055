"""What an unmodified zerotier-one and we send each other over a bad cable arrives intact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.badcable import Cable
from tests.interop.marks import BESIDE_REFERENCE
from tests.pairs import Pair, counted, joined, reference, ztpipe
from ztpipe.lab import Gateway, Lab
from ztpipe.lab.traffic import transfer

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(180)]

TROUBLE = {
    "loss": {"loss": 0.003},
    "reordering": {"reordering": 0.05},
    "duplication": {"duplication": 0.1},
    "all": {"loss": 0.002, "reordering": 0.02, "duplication": 0.02},
}
SUITE_1 = ("--protocol-version", "11")  # we announce no AES: both sides speak Salsa20/12
CASES = {
    "pipeline": (ztpipe("--layout", "pipeline"), reference()),
    "fused": (ztpipe("--layout", "fused"), reference()),
    "pipeline, AES off, we join its": (reference(), ztpipe("--layout", "pipeline", *SUITE_1)),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.replace(" ", "-"))
def bad(request: pytest.FixtureRequest) -> Iterator[tuple[Pair, Cable]]:
    cable = Cable()
    with Lab("zpx") as lab:
        yield joined(lab, "x", "10.66.31", "10.67.31", *CASES[request.param], cable=cable), cable


@pytest.mark.parametrize("trouble", TROUBLE)
def test_tcp_arrives_intact_both_ways(bad: tuple[Pair, Cable], trouble: str) -> None:
    pair, cable = bad
    (ours,) = (node for node in pair.nodes if isinstance(node, Gateway))
    with cable.trouble(**TROUBLE[trouble]):
        for target_v4, target_v6, source, sink in (
            (f"{pair.overlay}.2", pair.overlay_v6(2), pair.a, pair.b),
            (f"{pair.overlay}.1", pair.overlay_v6(1), pair.b, pair.a),
        ):
            assert transfer(source, sink, target_v4, 6_000_000).intact
            assert transfer(source, sink, target_v6, 3_000_000).intact
    assert counted(ours, "drop_bad_mac") == 0, "pieces of different packets were joined"
