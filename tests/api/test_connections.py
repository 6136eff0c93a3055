"""How many connections the API takes, and from whom."""

from __future__ import annotations

import pytest

from ztpipe.api.connections import MAX_CONNECTIONS, Admission, Budget, Source


def entered(admission: Admission, source: Source, now: float, tries: int = 2_000) -> int:
    return sum(admission.enter(now, source) for _ in range(tries))


def test_strangers_get_few_connections_and_few_new_ones() -> None:
    admission = Admission()
    budget = admission.budgets[Source.STRANGER]
    assert entered(admission, Source.STRANGER, 100.0) == budget.burst
    for _ in range(int(budget.burst)):
        admission.leave(Source.STRANGER)
    assert entered(admission, Source.STRANGER, 100.0) == 0, "nothing left for this second"
    assert entered(admission, Source.STRANGER, 101.0) == budget.rate
    later = sum(entered(admission, Source.STRANGER, now) for now in (1_000.0, 1_010.0, 1_020.0, 1_030.0))
    assert later == budget.most - budget.rate, "those are open still"


def test_reading_is_slowed_down_to_the_rate_of_a_source() -> None:
    """At once as much as comes in two seconds; later, whoever reads a chunk waits until it is paid for."""
    budget = Budget(1, 1, 1, inflow=1_000.0)
    assert budget.read(50.0, 1_999) == 0
    assert budget.read(50.0, 501) == pytest.approx(0.5)
    assert budget.read(50.5, 1_000) == pytest.approx(1.0)
    assert budget.read(1_000.0, 2_000) == 0, "no more than one burst is saved up"
    assert budget.read(1_000.0, 100) == pytest.approx(0.1)


def test_nobody_takes_the_places_of_the_others() -> None:
    admission = Admission()
    taken = entered(admission, Source.STRANGER, 5.0)
    managing = entered(admission, Source.MANAGEMENT, 5.0)
    assert managing == admission.budgets[Source.MANAGEMENT].burst
    assert entered(admission, Source.LOCAL, 5.0) == MAX_CONNECTIONS - taken - managing > 100
    assert not admission.enter(5.0, Source.LOCAL)
    admission.leave(Source.STRANGER)
    assert admission.enter(5.0, Source.LOCAL)
    assert admission.refused > 0


def test_programs_on_this_host_have_no_rate() -> None:
    admission = Admission()
    for _ in range(10 * MAX_CONNECTIONS):
        assert admission.enter(7.0, Source.LOCAL)
        admission.leave(Source.LOCAL)
