"""Nodes behind address translators find each other. The whole matrix: `python -m tests.interop.nat_matrix`."""

from __future__ import annotations

import pytest

from tests.interop.nat_meetings import SPECIAL, build, expected, run
from tests.pairs import ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.nat import KINDS

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("kinds_a", "kinds_b", "special"),
    [
        pytest.param(("port", "symmetric"), ("restricted", "port"), (), id="some"),
        pytest.param(KINDS, KINDS, SPECIAL, id="all", marks=pytest.mark.long),
    ],
)
def test_who_meets_whom(kinds_a: tuple[str, ...], kinds_b: tuple[str, ...], special: tuple[str, ...]) -> None:
    """A direct path where the translators allow one, which holds without the root; relayed elsewhere, at once."""
    make = ztpipe("--layout", "fused")
    with Lab("zpn") as lab:
        field = build(lab, make, make, make, kinds_a, kinds_b, special)
        run(field, cut=2, hurry=True)
        found = {m.name: (m.result, m.first_reply is not None) for m in field.meetings}
    assert found == {name: (expected(name), True) for name in found}
