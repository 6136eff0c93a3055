"""Another secondary port after two minutes offline, and no sooner."""

from __future__ import annotations

from ztpipe.runtime.secondaryport import SecondaryPort

SECOND = 1_000


def renewed(port: SecondaryPort, seconds: range, heard: int = 0) -> list[int]:
    """The seconds at which it changed; asked every 30 s, as the rebinding does. `heard`: when a peer was, last."""
    return [second for second in seconds if port.renew(second * SECOND, lambda: heard * SECOND)]


def test_it_changes_while_we_are_offline_and_not_too_often() -> None:
    found = iter([30_001, 30_002, 30_003])
    ports = [9993, 30_000, 40_000]
    port = SecondaryPort(0, ports, fixed=False, pick=lambda: next(found))
    assert renewed(port, range(0, 301, 30)) == [150, 300]
    assert ports == [9993, 30_002, 40_000]
    port.set_online(301 * SECOND, True)
    assert renewed(port, range(330, 3_000, 30)) == []
    port.set_online(3_000 * SECOND, False)
    assert renewed(port, range(3_000, 3_180, 30)) == [3_150]


def test_a_configured_one_stays() -> None:
    ports = [9993, 30_000, 0]
    assert renewed(SecondaryPort(0, ports, fixed=True, pick=lambda: 1), range(0, 1_000, 30)) == []
    assert ports == [9993, 30_000, 0]


def test_without_a_free_port_the_old_one_stays() -> None:
    ports = [9993, 30_000, 0]
    assert renewed(SecondaryPort(0, ports, fixed=False, pick=lambda: 0), range(0, 301, 30)) == []
    assert ports == [9993, 30_000, 0]


def test_whoever_is_heard_without_a_root_is_not_lost() -> None:
    ports = [9993, 30_000, 0]
    port = SecondaryPort(0, ports, fixed=False, pick=lambda: 40_000)
    assert renewed(port, range(0, 601, 30), heard=500) == []
    assert renewed(port, range(630, 700, 30), heard=500) == [630]
    assert ports == [9993, 40_000, 0]
