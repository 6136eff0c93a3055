"""What the worker loops share: attach, pace, sleep and wake, commands, heartbeat, punts, and dying with the parent.

A worker file is one visible loop::

    while w.running:
        w.turns(tap=tap)

In C, turn follows turn while there is work, and the worker sleeps without (kernel/turn.c, kernel/pace.c). `turns` comes
back when something is Python's: punts, a command, a heartbeat, a descriptor in error, SIGTERM.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Final, NamedTuple

import msgpack

from ztpipe.ipc import Command, CommandReader, Downlink, MessageKind, Uplink
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.bells import Bells
from ztpipe.shm.counters import INDEX, Counters
from ztpipe.shm.rings import RingRegion, RingSet
from ztpipe.shm.tables import Tables

__all__ = ["Boot", "End", "Source", "Worker", "main"]

#: Records that a stage handles in one turn.
_BATCH: Final = 32
#: Slots of a ring that one turn fills and empties: as few as keep the batches long, so that they stay in the cache.
_PRIVATE_SLOTS: Final = 4
_HEARTBEAT_US: Final = 1_000_000
#: Time slice, the shortest there is: whoever consumes what we deliver soon gets the CPU that we are on, before what we
#: go on delivering overflows its buffer. Turns are short, so nothing is lost by it.
_SLICE_US: Final = 100
_OVERFLOW: Final = INDEX["drop_punt_overflow"]
_BEATS: Final = INDEX["beats"]
_READ: Final = select.EPOLLIN


class End(NamedTuple):
    """One end of a ring: its region, and the bell of the worker at the other end."""

    ring_fd: int
    other: int  # worker id
    other_bell_fd: int


class Boot(NamedTuple):
    """All a worker process is started with; its descriptors keep their numbers (`ztpipe.spawn`)."""

    name: str
    role: str
    id: int
    generation: int
    parent: int  # pid of control
    batch: bool  # scheduling class
    cpu: int | None  # to be pinned to
    sandbox: bool
    offload: int  # ZT_OFFLOAD_*
    spin_us: int
    uplink: str
    workers: tuple[str, ...]  # all names, by id
    tables_fd: int
    keys_fd: int | None
    counters_fd: int
    bells_fd: int
    bell_fd: int
    commands_fd: int
    inputs: Mapping[str, Sequence[End]]  # by role of the worker at the other end
    outputs: Mapping[str, Sequence[End]]

    def passed(self) -> set[int]:
        """Every descriptor named in here."""
        fds = [self.tables_fd, self.counters_fd, self.bells_fd, self.bell_fd, self.commands_fd]
        fds += [] if self.keys_fd is None else [self.keys_fd]
        for ends in (*self.inputs.values(), *self.outputs.values()):
            fds += [fd for end in ends for fd in (end.ring_fd, end.other_bell_fd)]
        return set(fds)

    def pack(self) -> bytes:
        """For `main`."""
        return bytes(msgpack.packb(self))

    @classmethod
    def unpack(cls, data: bytes) -> Boot:
        """Made by `pack`."""
        boot = cls(*msgpack.unpackb(data, use_list=False))
        inputs, outputs = (
            {role: [End(*end) for end in ends] for role, ends in mapping.items()}
            for mapping in (boot.inputs, boot.outputs)
        )
        return boot._replace(inputs=inputs, outputs=outputs)


class Source:
    """The descriptors that one stage pulls from and pushes to, by network or binding, with their interest in epoll."""

    def __init__(self, epoll: select.epoll, state: Any, add: Callable[..., int], remove: Callable[[int], int]) -> None:
        """`state`: ``struct zt_source *`` by which zt_pace knows what epoll listens to."""
        self._epoll = epoll
        self._state = state
        self._add = add
        self._remove = remove
        self._fds: dict[int, list[int]] = {}
        self._resting: set[int] = set()
        state.armed = True

    def add(self, key: int, fd: int, *arguments: int) -> int:
        """Take over `fd`. Returns 0 or an errno, with `fd` closed."""
        os.set_blocking(fd, False)
        code = -int(self._add(fd, key, *arguments))
        if code:
            os.close(fd)
            return code
        self._fds.setdefault(key, []).append(fd)
        self._epoll.register(fd, self._events())
        return 0

    def remove(self, key: int) -> int:
        """Close the descriptors of a network or binding. Returns 0 or ENOENT."""
        if key not in self._fds:
            return errno.ENOENT
        code = -int(self._remove(key))
        for fd in self._fds.pop(key):
            self._resting.discard(fd)
            _unregister(self._epoll, fd)
            os.close(fd)
        return code

    def arm(self, *, held: bool) -> None:
        """Listen to the descriptors, or not while the stage behind them has no slot to read into, or may not read."""
        self._state.armed = not held and not lib.zt_rings_blocked(self._state.out)
        for fd in self._all():
            with contextlib.suppress(FileNotFoundError):  # rests
                self._epoll.modify(fd, self._events())

    def rest(self, fd: int) -> None:
        """Leave out a descriptor in error (its device is gone) until `revive`: epoll would report it without end."""
        if fd in self._all():
            self._resting.add(fd)
            _unregister(self._epoll, fd)

    def revive(self) -> None:
        """Listen again to what rests."""
        for fd in self._resting:
            with contextlib.suppress(FileExistsError):
                self._epoll.register(fd, self._events())
        self._resting.clear()

    def close(self) -> None:
        """Remove everything."""
        for key in list(self._fds):
            self.remove(key)

    def _all(self) -> list[int]:
        return [fd for fds in self._fds.values() for fd in fds]

    def _events(self) -> int:
        return _READ if self._state.armed else 0


class Worker:
    """A worker process from its first to its last turn; use as a context manager."""

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        self.running = True
        self._tables = Tables.attach(boot.tables_fd, boot.keys_fd, writable=boot.keys_fd is not None)
        self._counters = Counters.attach(boot.counters_fd, boot.workers)
        self._bells = Bells.attach(boot.bells_fd)
        self._count: Any = self._counters.block(boot.id)
        self._bell = self._bells.flag(boot.id)
        self._commands = CommandReader(boot.commands_fd)
        self._uplink = Uplink(boot.uplink, boot.name, boot.generation)
        self._epoll = select.epoll()
        self._epoll.register(boot.bell_fd, _READ | select.EPOLLET)  # rung once, reported once: nobody need read it
        self._epoll.register(self._commands.fileno(), _READ)
        self._sources: dict[str, Source] = {}
        self._rings: list[RingRegion] = []
        self._sets: list[RingSet] = []
        self._freed: list[Callable[[], None]] = []
        self._last_command = self._confirmed = 0
        #: ``struct zt_context *`` for the stages.
        self.context: Any = lib.zt_context_new(
            self._tables.pointer, self._tables.keys_pointer, self._count, self._bell, boot.offload
        )
        if not self.context:
            raise MemoryError
        self._punts: Any = self.context.punts
        self._pace: Any = ffi.new(
            "struct zt_pace *",
            {
                "c": self.context,
                "epoll": self._epoll.fileno(),
                "bell": boot.bell_fd,
                "commands": self._commands.fileno(),
                "spin_us": boot.spin_us,
            },
        )
        self._turn: Any = ffi.new("struct zt_turn *")
        lib.zt_bell_awake(self._bell)

    # ---- wiring ------------------------------------------------------------------------------------------------

    def inputs(self, role: str) -> RingSet:
        """The rings that workers of `role` fill for us."""
        return self._ring_set(self.boot.inputs[role])

    def outputs(self, role: str) -> RingSet:
        """The rings that we fill for workers of `role`."""
        return self._ring_set(self.boot.outputs[role])

    def private(self, name: str) -> tuple[RingSet, RingSet]:
        """Both ends (output, input) of a ring between two stages of this process; no bell."""
        ring = RingRegion.create(name, _PRIVATE_SLOTS, self.boot.id, self.boot.id, private=True)
        self._rings.append(ring)
        ends = RingSet(), RingSet()
        for end in ends:
            end.add(ring)
            self._sets.append(end)
        return ends

    def stage(self, new: Callable[..., Any], free: Callable[[Any], None], *sets: RingSet) -> Any:
        """Make a stage over `sets`, to be freed at the end."""
        made = new(self.context, *[s.pointer for s in sets])
        if not made:
            raise MemoryError(f"{self.boot.name}: no stage")
        self._freed.append(lambda: free(made))
        return made

    def watch(self, inputs: RingSet, outputs: RingSet | None = None) -> None:
        """Before sleeping, look at `inputs`, unless what takes from them waits for a slot of `outputs`."""
        stage = self._pace.stage[self._pace.stages]
        setattr(stage, "in", inputs.pointer)
        stage.out = outputs.pointer if outputs is not None else ffi.NULL
        self._pace.stages += 1

    def taps(self, tap: Any, out: RingSet) -> None:
        """Let commands add and remove TAP queues of the stage `tap`, which fills `out`."""
        add, remove = lib.zt_tap_add, lib.zt_tap_remove
        self._sources["tap"] = Source(
            self._epoll,
            self._source(out),
            lambda fd, network: add(tap, fd, network),
            lambda network: remove(tap, network),
        )

    def sockets(self, udp: Any, out: RingSet) -> None:
        """Let commands add and remove UDP sockets of the stage `udp`, which fills `out`."""
        add, remove = lib.zt_udp_add, lib.zt_udp_remove
        self._sources["udp"] = Source(
            self._epoll,
            self._source(out),
            lambda fd, binding, family: add(udp, fd, binding, family),
            lambda binding: remove(udp, binding),
        )

    def _source(self, out: RingSet) -> Any:
        source = ffi.addressof(self._pace.source, self._pace.sources)
        source.out = out.pointer
        self._pace.sources += 1
        return source

    def _ring_set(self, ends: Sequence[End]) -> RingSet:
        rings = RingSet()
        for end in ends:
            ring = RingRegion.attach(end.ring_fd)
            self._rings.append(ring)
            rings.add(ring, self._bells.flag(end.other), end.other_bell_fd)
        self._sets.append(rings)
        return rings

    # ---- the loop ----------------------------------------------------------------------------------------------

    def turns(self, *, tap: Any = ffi.NULL, crypto: Any = ffi.NULL, udp: Any = ffi.NULL) -> None:
        """Turns of these stages until one leaves something to Python, and that."""
        turn = self._turn
        turn.tap, turn.crypto, turn.udp = tap, crypto, udp
        self._attend(lib.zt_turns(turn, self._pace, _BATCH))

    def _attend(self, todo: int) -> None:
        """What a turn has left to Python: ZT_PACE_* bits."""
        if todo & lib.ZT_PACE_PUNTS:
            self._flush_punts()
        if todo & lib.ZT_PACE_COMMANDS:
            self._obey()
        if todo & lib.ZT_PACE_BROKEN:
            for source in self._sources.values():
                source.rest(self._pace.broken)
        if todo & lib.ZT_PACE_ARM:
            for source in self._sources.values():
                source.arm(held=self.context.held)
        if todo & lib.ZT_PACE_BEAT:
            self._beat()
        if todo & lib.ZT_PACE_STOP:
            self.running = False

    def _flush_punts(self) -> None:
        """Send what the stages punted in this turn to control, as one message."""
        punts = self._punts
        blob = ffi.buffer(punts.data, punts.used)[:]
        if not self._uplink.send(MessageKind.PUNTS, punts.count, blob):
            self._count[_OVERFLOW] += punts.count
        punts.count = punts.used = punts.urgent = 0

    def _beat(self) -> None:
        self._pace.next_beat = lib.zt_microseconds() + _HEARTBEAT_US
        self._count[_BEATS] += 1  # control looks there: a message each would wake it, and four threads on the way
        if self._last_command != self._confirmed and self._uplink.send(MessageKind.HEARTBEAT, self._last_command):
            self._confirmed = self._last_command
        for source in self._sources.values():
            source.revive()
        if os.getppid() != self.boot.parent:
            self.running = False

    # ---- commands ----------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        for order in self._commands.receive():
            code = self._carry_out(order)
            self._last_command = order.sequence
            self._uplink.send(MessageKind.DONE, order.sequence, code)
        if self._commands.closed:
            self.running = False

    def _carry_out(self, order: Downlink) -> int:
        """Returns 0 or an errno."""
        try:
            match order:
                case Downlink(command=Command.ADD_TAP, arguments=(network,), fds=(fd,)):
                    return self._sources["tap"].add(network, fd)
                case Downlink(command=Command.REMOVE_TAP, arguments=(network,)):
                    return self._sources["tap"].remove(network)
                case Downlink(command=Command.ADD_BINDING, arguments=(binding, family), fds=(fd,)):
                    return self._sources["udp"].add(binding, fd, family)
                case Downlink(command=Command.REMOVE_BINDING, arguments=(binding,)):
                    return self._sources["udp"].remove(binding)
                case Downlink(command=Command.PING):
                    return 0
                case Downlink(command=Command.HOLD):
                    self.context.held = True
                    return errno.EBUSY if lib.zt_rings_filled(self._pace.stage, self._pace.stages) else 0
                case Downlink(command=Command.STOP):
                    self.running = False
                    return 0
        except KeyError:
            pass  # not for a worker of this role
        except OSError as error:
            return error.errno or errno.EIO
        for fd in order.fds:
            os.close(fd)
        return errno.EINVAL

    def report(self, event: str, **fields: object) -> None:
        """Tell control, which logs it: a worker does without a logging library, that is, without its memory."""
        self._uplink.send(MessageKind.EVENT, event, fields)

    # ---- start and end -----------------------------------------------------------------------------------------

    def __enter__(self) -> Worker:
        if code := lib.zt_stop_at_sigterm(self.boot.bell_fd):
            raise OSError(-code, "no handler for SIGTERM")
        self._uplink.send(MessageKind.READY, os.getpid())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.report("crash", error=repr(error))
        if self._punts.count:
            self._flush_punts()
        for source in self._sources.values():
            source.close()
        for free in reversed(self._freed):
            free()
        lib.zt_context_free(self.context)
        self._epoll.close()
        self._commands.close()
        self._uplink.close()


def _unregister(epoll: select.epoll, fd: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # rests
        epoll.unregister(fd)


def main(fd: int) -> None:
    """First function of a worker process: set it up, attach, run the loop of its role until it is told to stop.

    `fd`: a file with what `Boot.pack` made.
    """
    with os.fdopen(fd, "rb") as file:
        boot = Boot.unpack(file.read())
    loop = import_module(f"ztpipe.{boot.role}worker").loop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C goes to the whole group; control decides
    if lib.zt_process_setup(boot.parent, f"zt {boot.name}".encode()) != 0:
        raise SystemExit("control is gone")
    problems = [*_schedule(boot), *_confine(boot)]
    with Worker(boot) as worker:
        for event, reason in problems:
            worker.report(event, reason=reason)
        loop(worker)


def _schedule(boot: Boot) -> Iterator[tuple[str, str]]:
    """Scheduling class, time slice and CPU of this process; yields what was refused, and why."""
    if code := lib.zt_process_schedule(boot.batch, _SLICE_US):
        yield "default scheduling", os.strerror(-code)
    if boot.cpu is not None:
        try:
            os.sched_setaffinity(0, {boot.cpu})
        except OSError as problem:
            yield f"not pinned to CPU {boot.cpu}", problem.strerror or ""


def _confine(boot: Boot) -> Iterator[tuple[str, str]]:
    """Give up every capability, whoever we run as, and most system calls; yields what was refused, and why.

    Before the first thread, so that all of them are bound by it.
    """
    if code := lib.zt_capabilities_keep(0):
        yield "capabilities kept", os.strerror(-code)
    elif boot.sandbox and (code := lib.zt_system_calls_of_a_worker()):
        yield "system calls not filtered", os.strerror(-code)
