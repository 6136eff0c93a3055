"""What several tests of the stages begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.stages_lab import REMOTE_A, A, B, Lab


@pytest.fixture
def b() -> Iterator[Lab]:
    """Node B on the network, which has met A."""
    with Lab(B) as lab:
        lab.join()
        lab.meet(A, REMOTE_A)
        yield lab
