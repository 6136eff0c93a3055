from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.recorded import RecordedService, serving
from ztpipe.store import Home


@pytest.fixture
def service(tmp_path: Path) -> RecordedService:
    return RecordedService(Home.open(tmp_path / "home"))


@pytest.fixture
def port(service: RecordedService) -> Iterator[int]:
    with serving(service) as port:
        yield port
