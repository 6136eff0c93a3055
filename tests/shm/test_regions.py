"""Regions, rings, bells and counters: what is refused when a process attaches, and why."""

from __future__ import annotations

import os
import struct

import pytest

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.bells import Bells
from ztpipe.shm.counters import INDEX, NAMES, TEXTS, Counters
from ztpipe.shm.region import Region, RegionError
from ztpipe.shm.rings import RingRegion, RingSet
from ztpipe.shm.tables import Sizes, Tables

_SIZES = Sizes(2, 2, 2, 2)


def _poke(region: Region, offset: int, value: int) -> None:
    ffi.memmove(ffi.cast("char *", region.pointer) + offset, struct.pack("=I", value), 4)


def test_a_region_is_shared_and_its_size_is_sealed() -> None:
    one = Region.create("test", 4096)
    other = Region.attach(os.dup(one.fd))
    one.pointer[17] = b"x"
    assert other.pointer[17] == b"x"
    for size in (0, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(one.fd, size)
    other.close()
    one.close()


def test_a_descriptor_that_is_no_region_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    with open(tmp_path / "file", "rb") as file, pytest.raises(RegionError, match="not a shared region"):
        Region.attach(file.fileno())
    unsealed = os.memfd_create("unsealed")
    os.ftruncate(unsealed, 4096)
    with pytest.raises(RegionError, match="can still change"):
        Region.attach(unsealed)
    with pytest.raises(RegionError, match="not a shared region"):
        Region.attach(10**6)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, 0, "holds no tables"),
        (4, lib.ZT_ABI_VERSION + 1, "another ABI version"),
        (8, 1024, "do not fit the region"),  # max_networks
        (12, 3, "do not fit the region"),  # max_peers, not a power of two
        (16, 0, "do not fit the region"),  # max_paths
        (20, 1 << 30, "do not fit the region"),  # max_members
    ],
)
def test_tables_that_do_not_fit_are_refused(offset: int, value: int, message: str) -> None:
    tables = Tables.create(1, _SIZES)
    _poke(tables.region, offset, value)
    with pytest.raises(RegionError, match=message):
        Tables.attach(os.dup(tables.region.fd), None, writable=False)


def test_keys_of_other_tables_are_refused() -> None:
    tables, others = Tables.create(1, _SIZES), Tables.create(1, Sizes(2, 4, 2, 2))
    assert others.keys is not None
    with pytest.raises(RegionError, match="do not fit 2 peers"):
        Tables.attach(os.dup(tables.region.fd), os.dup(others.keys.fd), writable=False)


@pytest.mark.parametrize(
    "sizes", [Sizes(3, 2, 2, 2), Sizes(2, 0, 2, 2), Sizes(1 << 17, 2, 2, 2), Sizes(2, 2, 1 << 30, 2)]
)
def test_impossible_sizes_are_refused(sizes: Sizes) -> None:
    with pytest.raises(RegionError):
        Tables.create(1, sizes)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, 0, "no ring"),
        (4, lib.ZT_ABI_VERSION + 1, "another ABI version"),
        (8, 8, "do not fit together"),  # slots: more than the region has
        (8, 3, "do not fit together"),
        (12, 64, "do not fit together"),  # slot size
        (64, 5, "do not fit together"),  # head further from tail than the ring is long
    ],
)
def test_rings_that_do_not_fit_are_refused(offset: int, value: int, message: str) -> None:
    ring = RingRegion.create("test", 4, 0, 1)
    _poke(ring.region, offset, value)
    with pytest.raises(RegionError, match=message):
        RingRegion.attach(os.dup(ring.region.fd))


def test_a_region_of_another_kind_is_no_ring_and_no_table() -> None:
    ring, tables = RingRegion.create("test", 4, 0, 1), Tables.create(1, _SIZES)
    with pytest.raises(RegionError, match="no ring"):
        RingRegion.attach(os.dup(tables.region.fd))
    with pytest.raises(RegionError, match="no tables"):
        Tables.attach(os.dup(ring.region.fd), None, writable=False)


@pytest.mark.parametrize("slots", [0, 1, 3, 8192])
def test_impossible_rings_are_refused(slots: int) -> None:
    with pytest.raises(RegionError, match="power of two"):
        RingRegion.create("test", slots, 0, 1)


def _ends(ring: RingRegion) -> tuple[object, object, list[RingSet]]:
    sets = [RingSet(), RingSet()]
    for one in sets:
        one.add(ring)
    return sets[0].end(0), sets[1].end(0), sets


def test_a_ring_across_the_wrap_of_its_indices() -> None:
    ring = RingRegion.create("test", 2, 0, 1)
    for offset in (64, 128):  # head and tail
        _poke(ring.region, offset, 2**32 - 3)
    producer, consumer, _keep = _ends(ring)
    for n in range(8):
        slot = lib.zt_ring_reserve(producer)
        slot.nrec = n
        lib.zt_ring_publish(producer)
        assert ring.used == 1
        assert lib.zt_ring_peek(consumer).nrec == n
        lib.zt_ring_release(consumer)
    assert ring.used == 0


def test_a_full_ring_refuses_until_a_slot_comes_back() -> None:
    ring = RingRegion.create("test", 2, 0, 1)
    producer, consumer, sets = _ends(ring)
    for _ in range(2):
        assert lib.zt_ring_reserve(producer)
        lib.zt_ring_publish(producer)
    assert not lib.zt_rings_blocked(sets[0].pointer), "nobody has asked for a slot yet"
    assert not lib.zt_ring_reserve(producer)
    assert lib.zt_rings_blocked(sets[0].pointer)
    assert lib.zt_ring_peek(consumer)
    lib.zt_ring_release(consumer)
    assert not lib.zt_rings_blocked(sets[0].pointer)
    assert lib.zt_ring_reserve(producer)


def test_a_successor_goes_on_where_the_ring_stands() -> None:
    ring = RingRegion.create("test", 4, 0, 1)
    producer, consumer, _keep = _ends(ring)
    for n in range(3):
        lib.zt_ring_reserve(producer).nrec = n
        lib.zt_ring_publish(producer)
    lib.zt_ring_peek(consumer)
    lib.zt_ring_release(consumer)
    lib.zt_ring_peek(consumer)  # and dies before it releases
    successor = RingRegion.attach(os.dup(ring.region.fd))
    producer, consumer, _keep2 = _ends(successor)
    assert lib.zt_ring_peek(consumer).nrec == 1
    lib.zt_ring_reserve(producer).nrec = 3
    lib.zt_ring_publish(producer)
    seen = []
    while slot := lib.zt_ring_peek(consumer):
        seen.append(slot.nrec)
        lib.zt_ring_release(consumer)
    assert seen == [1, 2, 3]


def test_sweeping_gives_every_slot_back() -> None:
    ring = RingRegion.create("test", 4, 0, 1)
    producer, _, _keep = _ends(ring)
    while lib.zt_ring_reserve(producer):
        lib.zt_ring_publish(producer)
    assert ring.sweep() == 4
    assert ring.used == 0
    assert lib.zt_ring_reserve(producer)


def test_pending_means_input_that_can_be_handed_on() -> None:
    into, out = RingRegion.create("in", 2, 0, 1), RingRegion.create("out", 2, 1, 2)
    producer, _, in_sets = _ends(into)
    onward, drain, out_sets = _ends(out)
    stage = ffi.new("struct zt_stage[1]")
    setattr(stage[0], "in", in_sets[1].pointer)
    stage[0].out = out_sets[0].pointer
    assert lib.zt_rings_pending(stage, 1) == 0
    lib.zt_ring_reserve(producer)
    lib.zt_ring_publish(producer)
    assert lib.zt_rings_pending(stage, 1) == 1
    while lib.zt_ring_reserve(onward):
        lib.zt_ring_publish(onward)
    assert lib.zt_rings_pending(stage, 1) == 0, "no slot to hand it on in, and the consumer knows that we wait"
    lib.zt_ring_peek(drain)
    lib.zt_ring_release(drain)
    assert lib.zt_rings_pending(stage, 1) == 1


def test_a_bell_rings_only_for_a_sleeper_and_once() -> None:
    bells = Bells.create(2)
    ring = RingRegion.create("test", 4, 0, 1)
    producer = RingSet()
    producer.add(ring, bells.flag(1), bells.fds[1])
    end = producer.end(0)

    def publish() -> bool:
        lib.zt_ring_reserve(end)
        lib.zt_ring_publish(end)
        try:
            return os.eventfd_read(bells.fds[1]) > 0
        except BlockingIOError:
            return False

    assert not publish()
    lib.zt_bell_prepare(bells.flag(1))
    assert publish()
    assert not publish()
    with pytest.raises(RegionError, match="no worker 2"):
        bells.flag(2)


def test_counters_are_named_by_the_kernel_and_read_by_worker() -> None:
    counters = Counters.create(["tap-0", "crypto-0"])
    other = Counters.attach(os.dup(counters.region.fd), ["tap-0", "crypto-0"])
    other.block(1)[INDEX["drop_bad_mac"]] = 3
    assert counters.snapshot()["crypto-0"]["drop_bad_mac"] == 3
    assert sum(counters.snapshot()["tap-0"].values()) == 0
    assert len(set(NAMES)) == len(NAMES) == lib.ZT_COUNTERS
    assert all(TEXTS[name] for name in NAMES)
    with pytest.raises(RegionError, match="cannot hold 3"):
        Counters.attach(os.dup(counters.region.fd), ["a", "b", "c"])
