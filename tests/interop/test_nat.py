"""Ours and an unmodified node behind address translators: every pair that those allow (`long`; docs/nat.md)."""

from __future__ import annotations

import os

import pytest

from tests.interop.nat_matrix import measure
from tests.interop.nat_meetings import SPECIAL, expected
from tests.interop.test_interop import pytestmark as _interop
from ztpipe.lab.nat import KINDS

pytestmark = [*_interop, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.mark.parametrize("who", ["ours-reference", "ours-old"])
def test_every_pair_that_can_be_is_direct(who: str) -> None:
    if "old" in who and "ZT_REFERENCE_OLD" not in os.environ:
        pytest.skip("NOT TESTED with an old node: set ZT_REFERENCE_OLD")
    meetings = measure(who, KINDS, KINDS, SPECIAL, seconds=45)
    assert {m.name: m.result for m in meetings} == {m.name: expected(m.name) for m in meetings}
