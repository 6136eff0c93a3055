"""What every test shares: skips that say loudly what was not tested."""

from __future__ import annotations

import os
import signal
from types import FrameType

import pytest


def pytest_configure() -> None:
    """SIGTERM ends a run as Ctrl-C does: with the teardown of every fixture, so that no namespace stays behind."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `root` are skipped for other users, those marked `long` unless they are asked for."""
    _skip(items, "root", os.geteuid() != 0, "NOT TESTED: needs root (network namespaces, TAP devices)")
    _skip(items, "long", os.environ.get("ZTPIPE_LONG") != "1", "NOT TESTED: takes long; set ZTPIPE_LONG=1")


def _skip(items: list[pytest.Item], marker: str, skipped: bool, reason: str) -> None:
    if skipped:
        for item in items:
            if marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Interoperation that was not tested is said at the end, where it is read."""
    if "ZT_REFERENCE" not in os.environ:
        terminalreporter.write_line(
            "NOT TESTED against an unmodified zerotier-one: set ZT_REFERENCE to its path to run tests/interop",
            yellow=True,
        )
