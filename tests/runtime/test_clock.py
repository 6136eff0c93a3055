"""Node time, and work that is done together."""

from __future__ import annotations

import pytest

from ztpipe.runtime.clock import Clock


@pytest.mark.parametrize("wall", [1_700_000_000_000_000_000, 1_700_000_000_123_999_999])
@pytest.mark.parametrize("since_boot", [5_000_000_000, 5_250_000_001, 5_499_999_999])
def test_periodic_work_of_all_kinds_falls_together(monkeypatch: pytest.MonkeyPatch, wall: int, since_boot: int) -> None:
    monkeypatch.setattr("time.time_ns", lambda: wall)
    monkeypatch.setattr("time.monotonic_ns", lambda: since_boot)
    clock = Clock()
    for seconds in (0.5, 1.0, 5.0, 30.0):
        pause = clock.pause(seconds)
        assert seconds / 2 <= pause <= 1.5 * seconds
        end = since_boot + round(pause * 1e9)
        monkeypatch.setattr("time.monotonic_ns", lambda end=end: end)
        assert clock.now() % round(seconds * 1000) == 0
        assert clock.seconds_until(clock.now()) == 0
        monkeypatch.setattr("time.monotonic_ns", lambda: since_boot)


def test_a_deadline_is_met_to_the_nanosecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic_ns", lambda: 7_000_400_000)
    clock = Clock()
    assert clock.seconds_until(clock.now() + 500) == pytest.approx(0.4996, abs=1e-9)
    assert clock.seconds_until(clock.now() - 1) == 0
