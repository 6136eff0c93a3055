"""The end of a turn (kernel/pace.c): when it sleeps, what wakes it, and what it leaves to Python."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.bells import Bells
from ztpipe.shm.counters import INDEX, Counters
from ztpipe.shm.region import Region
from ztpipe.shm.rings import RingRegion, RingSet

_READ = select.EPOLLIN


@dataclass
class Bench:
    """One worker's pacing: an input ring filled by worker 0, a source with an output ring emptied by worker 2."""

    pace: Any
    epoll: select.epoll
    bells: Bells
    producer: Any
    consumer: Any
    source_out: Any
    drain: Any
    commands: int  # where control writes
    data: int  # what makes the source readable
    source_fd: int
    counts: Any
    keep: list[Any]

    def turn(self, handled: int = 0) -> int:
        return int(lib.zt_pace(self.pace, handled))

    def publish(self) -> None:
        assert lib.zt_ring_reserve(self.producer)
        lib.zt_ring_publish(self.producer)

    def count(self, name: str) -> int:
        return int(self.counts[INDEX[name]])


def _ring(slots: int, bells: Bells, producer: int, consumer: int) -> tuple[RingSet, RingSet]:
    ring = RingRegion.create("test", slots, producer, consumer)
    ends = RingSet(), RingSet()
    ends[0].add(ring, bells.flag(consumer), bells.fds[consumer])
    ends[1].add(ring, bells.flag(producer), bells.fds[producer])
    return ends


@pytest.fixture
def bench() -> Iterator[Bench]:
    bells, counters = Bells.create(3), Counters.create(["a", "b", "c"])
    tables = Region.private(lib.zt_tables_size(2, 2, 2, 2, 0))
    into, out = _ring(4, bells, 0, 1), _ring(2, bells, 1, 2)
    context = lib.zt_context_new(
        ffi.cast("struct zt_tables *", tables.pointer), ffi.NULL, counters.block(1), bells.flag(1), 0
    )
    epoll = select.epoll()
    (commands, control), (source, data) = os.pipe(), os.pipe()
    epoll.register(bells.fds[1], _READ | select.EPOLLET)
    epoll.register(commands, _READ)
    epoll.register(source, _READ)
    pace = ffi.new("struct zt_pace *")
    pace.c, pace.epoll, pace.bell, pace.commands = context, epoll.fileno(), bells.fds[1], commands
    pace.stages = pace.sources = 1
    setattr(pace.stage[0], "in", into[1].pointer)
    pace.source[0].out, pace.source[0].armed = out[0].pointer, True
    pace.next_beat = lib.zt_microseconds() + 20_000_000
    made = Bench(
        pace, epoll, bells, into[0].end(0), into[1].end(0), out[0].end(0), out[1].end(0), control, data, source,
        counters.block(1), [into, out, tables, counters],
    )  # fmt: skip
    yield made
    lib.zt_context_free(context)
    epoll.close()
    for fd in (commands, control, source, made.data):
        os.close(fd)


def test_a_turn_with_work_goes_on_and_looks_at_descriptors_now_and_then(bench: Bench) -> None:
    os.write(bench.commands, b"x")
    turns = 1
    while not bench.turn(1):
        turns += 1
        assert turns < 1000
    assert turns > 1
    assert bench.count("turns") == turns
    assert bench.count("sleeps") == 0


@pytest.mark.parametrize("spin_us", [0, 200])
def test_an_idle_worker_sleeps_until_the_bell_rings(bench: Bench, spin_us: int) -> None:
    bench.pace.spin_us = spin_us
    asleep = threading.Timer(0.1, bench.publish)
    asleep.start()
    before = time.thread_time()
    assert bench.turn(0) == 0
    asleep.join()
    assert time.thread_time() - before < 0.05, "it slept rather than spun"
    assert lib.zt_ring_peek(bench.consumer)
    assert (bench.count("sleeps"), bench.count("bells")) == (1, 1)


def test_the_bell_of_an_earlier_sleep_is_reported_once(bench: Bench) -> None:
    bench.bells.ring(1)
    assert bench.turn(0) == 0
    threading.Timer(0.05, bench.publish).start()
    assert bench.turn(0) == 0
    assert bench.count("bells") == 2, "the second sleep lasted until the second bell"


def test_work_that_came_before_the_sleep_prevents_it(bench: Bench) -> None:
    bench.publish()
    assert bench.turn(0) == 0
    assert bench.count("sleeps") == 0
    assert bench.turn(0) == 0
    assert bench.count("sleeps") == 1, "work that a turn could not do is tried again after a pause, not at once"


def test_what_python_does_is_said(bench: Bench) -> None:
    os.write(bench.commands, b"x")
    assert bench.turn(0) == lib.ZT_PACE_COMMANDS
    head = ffi.new("struct zt_punt *", {"kind": 1})
    assert lib.zt_punt_add(bench.pace.c, head, b"abc", 3)
    assert bench.turn(1) == lib.ZT_PACE_PUNTS
    assert bench.turn(0) == lib.ZT_PACE_PUNTS, "no sleep over punts"
    _hand_over(bench)
    bench.pace.next_beat = 0
    assert bench.turn(0) == lib.ZT_PACE_BEAT


def _hand_over(bench: Bench) -> None:
    """As the worker does with what was punted."""
    punts = bench.pace.c.punts
    punts.count = punts.used = punts.urgent = 0


def test_strangers_wait_for_each_other_but_only_after_the_first(bench: Bench) -> None:
    head = ffi.new("struct zt_punt *", {"kind": 1})
    assert lib.zt_punt_add_patient(bench.pace.c, head, b"abc", 3)
    assert bench.turn(1) == lib.ZT_PACE_PUNTS, "one after a pause: at once"
    _hand_over(bench)
    bench.pace.patient_until = lib.zt_microseconds() + 10_000_000  # whatever else this machine does meanwhile
    assert lib.zt_punt_add_patient(bench.pace.c, head, b"abc", 3)
    assert bench.turn(1) == 0, "the next one waits"
    assert lib.zt_punt_add(bench.pace.c, head, b"abc", 3)
    assert bench.turn(1) == lib.ZT_PACE_PUNTS, "until there is one that does not"
    assert bench.pace.c.punts.count == 2
    _hand_over(bench)
    assert lib.zt_punt_add_patient(bench.pace.c, head, bytes(lib.ZT_PUNT_BYTES // 2), lib.ZT_PUNT_BYTES // 2)
    assert bench.turn(1) == lib.ZT_PACE_PUNTS, "or until they fill half of the buffer"


def test_an_idle_worker_wakes_for_strangers_who_have_waited_long_enough(bench: Bench) -> None:
    head = ffi.new("struct zt_punt *", {"kind": 1})
    bench.pace.patient_until = lib.zt_microseconds() + 100_000
    assert lib.zt_punt_add_patient(bench.pace.c, head, b"abc", 3)
    started, turns = time.monotonic(), 1
    while bench.turn(0) != lib.ZT_PACE_PUNTS:
        turns += 1
        assert turns < 50, "it does not spin until then"
    assert time.monotonic() - started < 10, "and not until the next heartbeat, in 20 s"


def test_a_source_without_room_is_not_listened_to(bench: Bench) -> None:
    os.write(bench.data, b"x")
    assert bench.turn(0) == 0, "awake: the source is readable"
    while lib.zt_ring_reserve(bench.source_out):
        lib.zt_ring_publish(bench.source_out)
    assert bench.turn(0) == lib.ZT_PACE_ARM
    bench.pace.source[0].armed = False
    bench.epoll.modify(bench.source_fd, 0)

    def release() -> None:
        lib.zt_ring_peek(bench.drain)
        lib.zt_ring_release(bench.drain)

    threading.Timer(0.05, release).start()
    assert bench.turn(0) == 0
    assert bench.count("bells") == 1, "the consumer rang when there was room"
    assert bench.turn(0) == lib.ZT_PACE_ARM


def test_a_broken_descriptor_is_named(bench: Bench) -> None:
    os.close(bench.data)
    bench.data = os.open(os.devnull, os.O_RDONLY)
    assert bench.turn(0) == lib.ZT_PACE_BROKEN
    assert bench.pace.broken == bench.source_fd


def test_turns_end_when_something_is_pythons(bench: Bench) -> None:
    stages = ffi.new("struct zt_turn *")
    threading.Timer(0.05, bench.publish).start()  # wakes, and is not Python's
    threading.Timer(0.15, lambda: os.write(bench.commands, b"x")).start()
    assert lib.zt_turns(stages, bench.pace, 32) == lib.ZT_PACE_COMMANDS
    assert bench.count("bells") == 1
    assert bench.count("turns") > 1


_STOPPED = """
import os, select, signal, sys
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.bells import Bells
from ztpipe.shm.counters import Counters
from ztpipe.shm.region import Region
bells, counters, tables = Bells.create(1), Counters.create(["a"]), Region.private(lib.zt_tables_size(2, 2, 2, 2, 0))
context = lib.zt_context_new(
    ffi.cast("struct zt_tables *", tables.pointer), ffi.NULL, counters.block(0), bells.flag(0), 0
)
epoll = select.epoll()
epoll.register(bells.fds[0], select.EPOLLIN | select.EPOLLET)
pace, stages = ffi.new("struct zt_pace *"), ffi.new("struct zt_turn *")
pace.c, pace.epoll, pace.bell, pace.commands = context, epoll.fileno(), bells.fds[0], -1
pace.next_beat = lib.zt_microseconds() + 60_000_000
assert lib.zt_stop_at_sigterm(bells.fds[0]) == 0
if sys.argv[1] == "before":
    os.kill(os.getpid(), signal.SIGTERM)
print("here", flush=True)
assert lib.zt_turns(stages, pace, 32) == lib.ZT_PACE_STOP
assert lib.zt_turns(stages, pace, 32) == lib.ZT_PACE_STOP
"""


@pytest.mark.parametrize("when", ["before", "asleep"])
def test_sigterm_ends_the_turns(when: str) -> None:
    command = [sys.executable, "-c", _STOPPED, when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
        if when == "asleep":
            time.sleep(0.2)
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
