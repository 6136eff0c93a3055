"""The accounting behind `tests.bench.waits`."""

import pytest

from tests.bench.waits import shares

_SWITCH = (
    "x [00{cpu}] {at}: sched:sched_switch: prev_comm={a} prev_pid={p} prev_prio=120 prev_state={s} ==> "
    "next_comm={b} next_pid={n} next_prio=120"
)


def switch(at: float, cpu: int, before: tuple[str, int], state: str, after: tuple[str, int]) -> str:
    return _SWITCH.format(at=at, cpu=cpu, a=before[0], p=before[1], s=state, b=after[0], n=after[1])


def test_idle_time_counts_as_usable_while_somebody_waits_for_another_cpu() -> None:
    idle, one, two = ("swapper", 0), ("zt fused-0", 7), ("iperf3", 8)
    lines = [
        switch(1.0, 0, idle, "R", one),
        switch(1.0, 1, idle, "R", two),
        switch(2.0, 1, two, "S", idle),  # CPU 1 idle from 2; nobody waits
        "x [000] 3.0: sched:sched_wakeup: comm=iperf3 pid=8 prio=120 target_cpu=000",  # waits behind `one` from 3
        switch(5.0, 0, one, "R", two),  # now `one` waits, until 6
        switch(6.0, 0, two, "S", one),
        switch(7.0, 0, one, "S", idle),
        "x [000] 7.0: sched:sched_wakeup: comm=iperf3 pid=8 prio=120 target_cpu=001",  # which is idle: not usable
        switch(7.5, 1, idle, "R", two),
    ]
    found = shares(lines, 2, {7: "A: fused-0"})
    assert found.total == pytest.approx(13.0)
    assert found.idle == pytest.approx(6.0)
    assert found.usable == pytest.approx(3.0)
    assert found.ran == {"A: fused-0": pytest.approx(5.0), "iperf3": pytest.approx(2.0)}
    assert found.waited == {"iperf3": pytest.approx(2.5), "A: fused-0": pytest.approx(1.0)}
