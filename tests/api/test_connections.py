"""How many connections the API takes, and from whom."""

from __future__ import annotations

from ztpipe.api.connections import MAX_CONNECTIONS, Admission, Source


def entered(admission: Admission, source: Source, now: float, tries: int = 2_000) -> int:
    return sum(admission.enter(now, source) for _ in range(tries))


def test_strangers_get_few_connections_and_few_new_ones() -> None:
    admission = Admission()
    budget = admission.budgets[Source.STRANGER]
    assert entered(admission, Source.STRANGER, 100.0) == budget.most
    for _ in range(budget.most):
        admission.leave(Source.STRANGER)
    assert entered(admission, Source.STRANGER, 100.0) == 0, "nothing left for this second"
    assert entered(admission, Source.STRANGER, 101.0) == budget.rate
    assert entered(admission, Source.STRANGER, 1_000.0) == budget.most - budget.rate, "those are open still"


def test_nobody_takes_the_places_of_the_others() -> None:
    admission = Admission()
    taken = entered(admission, Source.STRANGER, 5.0)
    managing = entered(admission, Source.MANAGEMENT, 5.0)
    assert managing == admission.budgets[Source.MANAGEMENT].most
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
