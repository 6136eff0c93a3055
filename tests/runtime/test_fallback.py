"""When the TCP relay is used: the times of vl1-behaviour §6.6 under a clock of our own."""

from __future__ import annotations

from ztpipe.runtime.fallback import Fallback, carries
from ztpipe.wire.inetaddress import InetAddress

ROOT = InetAddress.parse("44.128.0.1/9993")
LAN = InetAddress.parse("192.168.1.1/9993")
START = 1_000_000


def test_what_it_carries() -> None:
    assert carries(ROOT, 16)
    assert not carries(ROOT, 15)
    assert not carries(LAN, 100)
    assert not carries(InetAddress.parse("2001:db8::1/9993"), 100)


def test_a_minute_of_silence_engages_it_and_a_rhythm_connects() -> None:
    fallback = Fallback(START, allowed=True, forced=False)
    assert [fallback.sent(START + at, ROOT, 100) for at in range(0, 60_001, 5_000)] == [False] * 13
    assert fallback.sent(START + 65_000, ROOT, 100)
    assert not fallback.sent(START + 65_001, ROOT, 100)  # of a burst the first one counts
    assert not fallback.sent(START + 70_000, LAN, 100)
    assert fallback.engaged(START + 70_000)
    assert not fallback.only_tcp()


def test_an_answer_from_a_global_address_keeps_it_away() -> None:
    fallback = Fallback(START, allowed=True, forced=False)
    fallback.received(START + 30_000, ROOT)
    fallback.received(START + 80_000, LAN)
    assert not fallback.engaged(START + 90_000)
    assert fallback.engaged(START + 90_001)


def test_it_ends_when_udp_works_again() -> None:
    fallback = Fallback(START, allowed=True, forced=False)
    assert not fallback.over(START + 100_000)
    fallback.received(START + 100_000, ROOT)
    assert fallback.over(START + 100_001)
    assert not fallback.over(START + 130_000)


def test_after_sleep_udp_gets_its_time_again() -> None:
    fallback = Fallback(START, allowed=True, forced=False)
    fallback.restarted(START + 500_000)
    assert not fallback.engaged(START + 560_000)
    assert fallback.engaged(START + 560_001)


def test_forced_and_forbidden() -> None:
    forced = Fallback(START, allowed=True, forced=True)
    assert forced.sent(START, ROOT, 100)
    assert forced.only_tcp()
    forced.received(START, ROOT)
    assert not forced.over(START + 1)
    forbidden = Fallback(START, allowed=False, forced=True)
    assert not forbidden.sent(START, ROOT, 100)
    assert not forbidden.only_tcp()
    assert forbidden.over(START)
