"""kernel/strangers.c: what senders without a session may make the slow path do."""

from __future__ import annotations

import random

from tests.kernel.stages_lab import KEYS, REMOTE_A, A, B, Lab
from tests.kernel.test_open import came, packet
from ztpipe.kernel._kernel import lib
from ztpipe.wire.armor import SessionKeys, seal
from ztpipe.wire.packet import with_hops
from ztpipe.wire.protocol import Verb

PER_SOURCE, PER_S, BURST_S = lib.ZT_STRANGERS_PER_SOURCE, lib.ZT_STRANGERS_HELLOS_PER_S, lib.ZT_STRANGERS_BURST_S
OTHER_KEYS = SessionKeys(bytes(range(1, 49)))


def hello(source: int, keys: SessionKeys = OTHER_KEYS) -> bytes:
    return seal(keys, destination=B, source=source, verb=Verb.HELLO, payload=bytes(100), packet_id=source, suite=0)


def ip(number: int) -> tuple[bytes, int]:
    """Each number in a /24 of its own."""
    return bytes((11, number >> 8, number & 255, 1)), 9993


def flood(lab: Lab, packets: list[tuple[bytes, tuple[bytes, int]]]) -> int:
    """How many of them were punted."""
    punted = 0
    for start in range(0, len(packets), 100):
        lab.open([came(data, remote) for data, remote in packets[start : start + 100]])
        punted += len(lab.punts())
    return punted


def test_hellos_of_one_prefix(b: Lab) -> None:
    sources = [(hello(1000 + n), (bytes((11, 0, 0, n % 250)), 9993)) for n in range(200)]
    assert flood(b, sources) == PER_SOURCE
    assert b.counts()["drop_stranger_rate"] == 200 - PER_SOURCE
    b.tables.set_clock(1_000_000 + lib.ZT_STRANGERS_WINDOW)
    assert flood(b, sources) == PER_SOURCE


def test_hellos_from_everywhere(b: Lab) -> None:
    """Ten thousand in no time: the burst, and no more; after a second, a second's worth."""
    sources = [(hello(1000 + n), ip(n)) for n in range(10_000)]
    first = flood(b, sources)
    assert PER_S * BURST_S <= first < PER_S * BURST_S * 2  # a slow machine takes a moment
    assert b.counts()["drop_stranger_budget"] == 10_000 - first
    b.tables.set_clock(1_000_000 + 3_600_000)
    b.tables.set_relay(True)
    assert flood(b, sources) >= lib.ZT_STRANGERS_HELLOS_PER_S_ROOT * BURST_S


def test_other_packets_from_everywhere(b: Lab) -> None:
    """A budget of their own: HELLOs are still heard."""
    first = flood(b, [(packet(source=0x1000000 + n), ip(n)) for n in range(10_000)])
    assert lib.ZT_STRANGERS_PER_S * BURST_S <= first < lib.ZT_STRANGERS_PER_S * BURST_S * 2
    assert flood(b, [(hello(5), ip(5))]) == 1


def test_packets_of_one_unknown_address(b: Lab) -> None:
    """Relayed or not, from anywhere: by the address they claim."""
    assert flood(b, [(with_hops(packet(source=0x1122334455), n % 2), ip(n)) for n in range(200)]) == PER_SOURCE


def test_relayed_hellos_do_not_count_for_the_relay_s_prefix(b: Lab) -> None:
    assert flood(b, [(with_hops(hello(1000 + n), 1), REMOTE_A) for n in range(100)]) == 100


def test_known_senders_are_not_limited_and_pay_by_their_seal(b: Lab) -> None:
    echo = [packet(Verb.ECHO, n.to_bytes(8, "big"), suite=(0, 1, 3)[n % 3]) for n in range(300)]
    assert flood(b, [(data, REMOTE_A) for data in echo]) == 300
    rng = random.Random(1)
    forged = []
    for data in echo:
        changed = bytearray(data)
        changed[rng.randrange(19, len(changed))] ^= 1 + rng.randrange(255)
        forged.append((bytes(changed), REMOTE_A))
    assert flood(b, [(data, remote) for data, remote in forged if data[27] & 31 != Verb.HELLO]) == 0
    assert b.counts()["drop_bad_mac"] > 290


def test_a_hello_under_a_known_address_is_authentic_or_a_stranger_s(b: Lab) -> None:
    """An identity collision must be noticed, at the price of strangers."""
    assert flood(b, [(hello(A, KEYS), REMOTE_A)] * 100) == 100
    assert flood(b, [(hello(A, OTHER_KEYS), REMOTE_A)] * 100) == PER_SOURCE


def test_packets_for_others_and_of_suites_that_are_none(b: Lab) -> None:
    limit = lib.ZT_FOREIGN_PER_S * BURST_S
    assert limit <= flood(b, [(packet(destination=0x1122334455), ip(n)) for n in range(limit * 2)]) < limit * 1.5
    assert b.counts()["drop_foreign_budget"] > limit // 2
    for suite in (2, 4, 5, 6, 7):
        data = bytearray(packet())
        data[18] = suite << 3
        assert flood(b, [(bytes(data), REMOTE_A)]) <= 1


def test_a_clock_that_is_set_back_does_not_shut_anybody_out(b: Lab) -> None:
    flood(b, [(hello(1000 + n), ip(n)) for n in range(PER_S * BURST_S * 2)])
    b.tables.set_clock(1_000_000 - 86_400_000)
    flood(b, [(hello(5), ip(5))])
    b.tables.set_clock(1_000_000 - 86_400_000 + 2_000)
    assert flood(b, [(hello(6), ip(6))]) == 1
