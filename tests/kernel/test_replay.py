"""kernel/replay.c: every packet once, whatever the order, the worker and the time; compared with its twin."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import KEYS, REMOTE_A, REMOTE_B, A, B, Lab
from tests.kernel.test_open import NETWORK, came, frames_of, packet
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.node.replay import ReplayGuard, packet_hash
from ztpipe.shm.replay import SharedReplay
from ztpipe.shm.tables import Sizes, Tables
from ztpipe.wire.armor import seal
from ztpipe.wire.packet import split, with_hops
from ztpipe.wire.protocol import Verb

NOW = 1_700_000_000_000


@pytest.fixture
def b():
    with Lab(B, replay_sets=1024) as lab:
        lab.join()
        lab.meet(A, REMOTE_A)
        yield lab


def tables(sets: int) -> Tables:
    return Tables.create(1, Sizes(2, 2, 2, 2, sets))


def frame(number: int, size: int = 60, suite: int = 3) -> bytes:
    payload = NETWORK + b"\x88\xb5" + number.to_bytes(8, "big") + bytes(size)
    return seal(
        KEYS, destination=B, source=A, verb=Verb.FRAME, payload=payload, packet_id=number, suite=suite, mtu=1432
    )


# ---- the twin --------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    sets=st.sampled_from([1, 2, 8]),
    seed=st.integers(0, 2**64 - 1),
    packets=st.lists(st.tuples(st.integers(0, 40), st.integers(-500_000_000, 500_000_000)), max_size=120),
)
def test_as_its_twin(sets: int, seed: int, packets: list[tuple[int, int]]) -> None:
    """Few sets, many copies, a clock that jumps by days: the same answers."""
    real, twin = tables(sets), ReplayGuard(0, sets)
    hashes = [packet_hash(seed, n.to_bytes(8, "big") + bytes(20)) for n in range(41)]
    try:
        for n, offset in packets:
            now = NOW + offset
            assert bool(lib.zt_replay_seen(real.pointer, hashes[n], now)) == twin.seen_hash(now, hashes[n])
    finally:
        real.close()


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=28, max_size=28), st.integers(0, 2**64 - 1))
def test_hash_as_its_twin(data: bytes, place: int) -> None:
    real = tables(2)
    seed = struct_seed(real)
    assert lib.zt_replay_hash(real.pointer, data, place) == packet_hash(seed, data, place)
    real.close()


def struct_seed(real: Tables) -> int:
    """The seed, by undoing the hash of a packet of zeros: mix64 is a bijection."""
    return unmix(unmix(lib.zt_replay_hash(real.pointer, bytes(28), 0)))


def unmix(x: int) -> int:
    word = (1 << 64) - 1
    x ^= x >> 31 ^ x >> 62
    x = x * pow(0x94D049BB133111EB, -1, 1 << 64) & word
    x ^= x >> 27 ^ x >> 54
    x = x * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & word
    return x ^ x >> 30 ^ x >> 60


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_the_last_packets_are_remembered_and_none_is_mistaken() -> None:
    """A million packets, not one taken for a copy; of the last eighth of a table's length each is known again."""
    sets = 16_384
    real, rng = tables(sets), random.Random(1)
    hashes = [rng.getrandbits(64) for _ in range(1_000_000)]
    for turn, start in enumerate(range(0, len(hashes), 2000)):
        assert not any(run(real, hashes[start : start + 2000], NOW + 64 * turn))
    assert all(run(real, hashes[-sets:], NOW + 1_000_000))
    real.close()


def run(real: Tables, hashes: list[int], now: int) -> bytes:
    seen = ffi.new("uint8_t[]", len(hashes))
    lib.zt_bench_replay(real.pointer, ffi.new("uint64_t[]", hashes), seen, len(hashes), now)
    return bytes(ffi.buffer(seen))


def test_workers_that_ask_at_the_same_time_never_both_get_a_packet() -> None:
    """Four threads, all asking about the same packets, in their own order within small groups."""
    real, rng = tables(16_384), random.Random(2)
    hashes = [rng.getrandbits(64) for _ in range(200_000)]
    orders, answers = [], {}
    for _ in range(4):
        order = list(range(len(hashes)))
        for start in range(0, len(order), 16):
            part = order[start : start + 16]
            rng.shuffle(part)
            order[start : start + 16] = part
        orders.append(order)
    gate = threading.Barrier(4)

    def ask(number: int) -> None:
        mine = [hashes[i] for i in orders[number]]
        gate.wait()
        for start in range(0, len(mine), 4096):  # so that no thread is a table's length ahead of the others
            answers[number, start] = run(real, mine[start : start + 4096], NOW + start)
            gate.wait()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = Counter(
        orders[n][start + i] for (n, start), seen in answers.items() for i, was in enumerate(seen) if not was
    )
    assert set(fresh.values()) == {1}
    assert len(fresh) == len(hashes)
    real.close()


# ---- packets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [1, 3])
def test_copies_are_dropped_in_whatever_order(b: Lab, suite: int) -> None:
    """Reordered by hundreds, each up to three times: each is delivered once."""
    rng = random.Random(3)
    sent = [frame(n, suite=suite) for n in range(300)]
    arriving = sent * 3
    rng.shuffle(arriving)
    got = []
    for start in range(0, len(arriving), 50):
        got += frames_of(b.open([came(data) for data in arriving[start : start + 50]]))
    assert len(got) == len(sent)
    assert len(set(got)) == len(sent)
    assert b.counts()["drop_replayed"] == 2 * len(sent)
    assert b.punts() == []


def test_a_copy_in_pieces_is_one_too(b: Lab) -> None:
    pieces = split(frame(1, 2000), 1432)
    assert len(frames_of(b.open([came(piece) for piece in pieces]))) == 1
    assert b.open([came(piece) for piece in reversed(pieces)]) == []
    assert b.counts()["drop_replayed"] == 1


def test_a_copy_from_elsewhere_or_behind_a_relay_says_nothing_about_paths(b: Lab) -> None:
    b.open([came(frame(1))])
    list(b.tables.activity())
    b.tables.set_clock(1_005_000)
    assert b.open([came(frame(1), REMOTE_B), came(with_hops(frame(1), 1)), came(frame(1))]) == []
    assert b.punts() == []
    assert list(b.tables.activity()) == []
    assert b.counts()["drop_replayed"] == 3


def test_what_is_not_authentic_is_not_remembered(b: Lab) -> None:
    good = frame(1)
    forged = bytearray(good)
    forged[-1] ^= 1
    b.open([came(bytes(forged))])
    assert len(b.open([came(good)])) == 1


def test_control_knows_what_a_worker_has_seen_and_the_other_way_round(b: Lab) -> None:
    guard, here = SharedReplay(b.tables), b.tables.now()
    b.open([came(frame(1))])
    assert guard.seen(here, frame(1), None)
    assert not guard.seen(here, frame(2), None)
    assert b.open([came(frame(2))]) == []


def test_a_place_makes_another_packet_of_it(b: Lab) -> None:
    guard, now = SharedReplay(b.tables), b.tables.now()
    places = [(0, REMOTE_A), (1, REMOTE_A), (0, REMOTE_B)]
    assert [guard.seen(now, frame(1), place) for place in places * 2] == [False] * 3 + [True] * 3


def test_what_is_punted_after_opening_is_control_s_to_remember(b: Lab) -> None:
    bridged = packet(Verb.EXT_FRAME, NETWORK + b"\0" + b"\x02" * 12 + b"\x88\xb5" + bytes(60))
    assert b.open([came(bridged)]) == []
    assert len(b.punts()) == 1
    assert not SharedReplay(b.tables).seen(b.tables.now(), bridged, None)


def test_without_sets_nothing_is_a_copy() -> None:
    with Lab(B) as lab:
        lab.join()
        lab.meet(A, REMOTE_A)
        assert len(frames_of(lab.open([came(frame(1)), came(frame(1))]))) == 2
