"""The crew: the worker processes on the seats of one mesh, each restarted when it ends, until the crew is stopped.

Rings and tables outlive workers. One that was killed by a fault of its own (a segmentation fault, say) finds its input
rings emptied, since the cause may be in there.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ztpipe import log
from ztpipe.ipc import Command, CommandWriter, Message, MessageKind
from ztpipe.mesh import Mesh, Seat
from ztpipe.shm.counters import INDEX
from ztpipe.spawn import Spawned

__all__ = ["Crew", "SupervisorError", "WorkerStatus"]

STOP_TIMEOUT_S: Final = 0.7
#: A worker whose beats (one a second) have not been counted on for this long hangs, and is killed.
_SILENCE_S: Final = 10.0
_ABSENCE_S: Final = 3.0
#: After which a command that did not get into its socket is tried again.
_PUSH_S: Final = 0.1
_BEATS: Final = INDEX["beats"]
#: A worker that lived shorter than this is restarted after a pause, which doubles up to a limit.
_YOUNG_S: Final = 2.0
_PAUSE_S: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Ends that a worker's own memory accesses cause.
_FAULTS: Final = frozenset({-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE})
#: How long what a held crew has taken in may take to leave it.
_DRAIN_S: Final = 0.5


class SupervisorError(Exception):
    """The workers could not be started."""


class WorkerStatus(NamedTuple):
    """What the API shows about a worker."""

    name: str
    role: str
    pid: int | None
    ready: bool
    restarts: int
    heartbeat_age: float  # seconds


@dataclass
class _Seated:
    """A seat and the process on it."""

    seat: Seat
    generation: int = 0
    process: Spawned | None = None
    commands: CommandWriter = field(default_factory=CommandWriter)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: int = 0
    answer: int = 0  # to the last command: 0 or an errno
    born: float = 0.0
    heard: float = 0.0
    beats: int = 0
    push_timer: asyncio.TimerHandle | None = None
    restarts: int = 0
    early_deaths: int = 0
    restart_timer: asyncio.TimerHandle | None = None


class Crew:
    """Use it in one asyncio loop, on the main thread: workers die with the thread that started them."""

    def __init__(
        self,
        mesh: Mesh,
        generations: Iterator[int],
        *,
        on_punts: Callable[[bytes], None],
        on_event: Callable[[str, str, dict[str, object]], None],
        equip: Callable[[Seat], Sequence[tuple[Command, tuple[int, ...], int]]],
    ) -> None:
        """`generations` gives every process a number of its own. `equip(seat)`: command, arguments and descriptor of
        each device that a process which starts on that seat is to get."""
        self.mesh = mesh
        self._generations = generations
        self._on_punts = on_punts
        self._on_event = on_event
        self._equip = equip
        self._log = log.get()
        self._workers = {seat.name: _Seated(seat) for seat in mesh.seats}
        self._stopping = False
        self._watched = time.monotonic()

    # ---- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every worker, inside a running asyncio loop; see `ready`."""
        for worker in self._workers.values():
            self._start_worker(worker)

    async def ready(self, timeout: float) -> None:
        """Wait until every worker loops. Raises `SupervisorError`, naming those that do not."""
        try:
            async with asyncio.timeout(timeout):
                for worker in self._workers.values():
                    await worker.ready.wait()
        except TimeoutError:
            late = [name for name, worker in self._workers.items() if not worker.ready.is_set()]
            raise SupervisorError(f"not ready after {timeout} s: {', '.join(late)}") from None

    async def drain(self) -> bool:
        """Let nothing more in, and wait until what is inside has left. False: something stays, after half a second.

        A worker answers between its turns, when all that it holds lies in rings. So rings that are empty at two
        answers running have nothing between them either.
        """
        until = time.monotonic() + _DRAIN_S
        empty = 0
        while empty < 2:
            if time.monotonic() > until:
                return False
            for worker in self._workers.values():
                self._send(worker, Command.HOLD)
            await self.settled(until - time.monotonic())
            busy = any(worker.answer == errno.EBUSY for worker in self._workers.values())
            empty = 0 if busy or any(self.mesh.waiting().values()) else empty + 1
        return True

    async def stop(self) -> None:
        """End all workers, within about a second, by force if need be; then unmap what they shared."""
        if self._stopping:
            return
        self._stopping = True
        for worker in self._workers.values():
            if worker.restart_timer is not None:
                worker.restart_timer.cancel()
            if worker.process is not None:
                self._send(worker, Command.STOP)
        until = time.monotonic() + STOP_TIMEOUT_S
        while any(worker.process is not None for worker in self._workers.values()):
            if time.monotonic() > until:
                self._kill_all()
            await asyncio.sleep(0.005)

    def close(self) -> None:
        """Release what a stopped crew held."""
        for worker in self._workers.values():
            if worker.push_timer is not None:
                worker.push_timer.cancel()
            worker.commands.close()
        self.mesh.close()

    # ---- commands ----------------------------------------------------------------------------------------------

    def send(self, name: str, command: Command, *arguments: int, fds: Sequence[int] = ()) -> None:
        """Tell a worker something; one that does not run is equipped when it starts."""
        self._send(self._workers[name], command, *arguments, fds=fds)

    def _send(self, worker: _Seated, command: Command, *arguments: int, fds: Sequence[int] = ()) -> None:
        if worker.process is not None:
            worker.commands.send(command, *arguments, fds=fds)
            self._push(worker)

    def _push(self, worker: _Seated) -> None:
        """Send what waits, now and again until all has gone."""
        if worker.push_timer is not None:
            worker.push_timer.cancel()
        sent = worker.commands.flush()
        loop = asyncio.get_running_loop()
        worker.push_timer = None if sent else loop.call_later(_PUSH_S, self._push, worker)

    async def settled(self, timeout: float) -> bool:
        """Wait until every worker has carried out what it was told. False: one has not within `timeout` seconds."""
        until = time.monotonic() + timeout
        while any(worker.acknowledged < worker.commands.sequence for worker in self._workers.values()):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.0005)
        return True

    def status(self) -> list[WorkerStatus]:
        """Every worker, in order of id."""
        now = time.monotonic()
        return [
            WorkerStatus(
                name=worker.seat.name,
                role=worker.seat.role,
                pid=worker.process.pid if worker.process is not None else None,
                ready=worker.ready.is_set(),
                restarts=worker.restarts,
                heartbeat_age=now - worker.heard,
            )
            for worker in self._workers.values()
        ]

    def take_over(self, predecessor: Crew) -> None:
        """Go on counting restarts where the workers of the same name stopped."""
        for name, worker in self._workers.items():
            if name in predecessor._workers:
                worker.restarts += predecessor._workers[name].restarts

    # ---- processes -----------------------------------------------------------------------------------------------

    def _start_worker(self, worker: _Seated) -> None:
        worker.restart_timer = None
        worker.generation = next(self._generations)
        worker.commands.close()
        worker.commands = CommandWriter()
        worker.acknowledged = 0
        worker.ready.clear()
        boot = self.mesh.boot(worker.seat, worker.generation, worker.commands.worker_fd)
        process = Spawned("ztpipe.worker", boot.pack(), boot.passed(), name=boot.name)
        worker.commands.started()
        worker.process = process
        worker.born = worker.heard = time.monotonic()
        asyncio.get_running_loop().add_reader(process.sentinel, self._ended, worker, process)
        for command, arguments, fd in self._equip(worker.seat):
            self._send(worker, command, *arguments, fds=(fd,))

    def _ended(self, worker: _Seated, process: Spawned) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        code = process.join()
        worker.process = None
        worker.ready.clear()
        if self._stopping:
            return
        worker.restarts += 1
        swept = self.mesh.sweep(worker.seat) if code in _FAULTS else 0
        young = time.monotonic() - worker.born < _YOUNG_S
        pause = _PAUSE_S[min(worker.early_deaths, len(_PAUSE_S) - 1)] if young else 0.0
        worker.early_deaths = worker.early_deaths + 1 if young else 0
        self._log.warning("worker ended", worker=worker.seat.name, code=code, swept=swept, restart_in=pause)
        self._on_event(worker.seat.name, "ended", {"code": code, "swept": swept})
        worker.restart_timer = asyncio.get_running_loop().call_later(pause, self._start_worker, worker)

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            if worker.process is not None:
                worker.process.kill()

    # ---- messages ------------------------------------------------------------------------------------------------

    def hear(self, message: Message) -> bool:
        """A message that may come from one of our processes; False if not."""
        worker = self._workers.get(message.worker)
        if worker is None or message.generation != worker.generation:
            return False
        worker.heard = time.monotonic()
        self._handle(worker, message)
        return True

    def _handle(self, worker: _Seated, message: Message) -> None:
        match message.kind, message.fields:
            case MessageKind.PUNTS, (_, blob):
                self._on_punts(blob)
            case MessageKind.READY, _:
                worker.ready.set()
                if worker.restarts:
                    self._log.info("worker restarted", worker=worker.seat.name, restarts=worker.restarts)
            case MessageKind.HEARTBEAT, (sequence,):
                worker.acknowledged = max(worker.acknowledged, sequence)
            case MessageKind.DONE, (sequence, code):
                worker.acknowledged = max(worker.acknowledged, sequence)
                worker.answer = code
                if code and code != errno.EBUSY:
                    name = errno.errorcode.get(code, str(code))
                    self._log.error("command failed", worker=message.worker, sequence=sequence, error=name)
                    self._on_event(message.worker, "command_failed", {"sequence": sequence, "errno": code})
            case MessageKind.EVENT, (name, fields):
                self._log.info("worker event", worker=message.worker, event_name=name, **fields)
                self._on_event(message.worker, name, fields)

    def watch(self) -> None:
        """See whose beats go on, and kill workers that hang; to be called about every second.

        If we have not looked for seconds, it was us who stood still (a frozen container, a debugger): what the workers
        said meanwhile has not been read yet.
        """
        now = time.monotonic()
        absent, self._watched = now - self._watched > _ABSENCE_S, now
        for worker in self._workers.values():
            beats = int(self.mesh.counters.block(worker.seat.id)[_BEATS])
            if absent or beats != worker.beats:
                worker.heard, worker.beats = now, beats
            silent = now - worker.heard > _SILENCE_S
            if worker.process is not None and silent:
                self._log.error("worker hangs", worker=worker.seat.name)
                worker.process.kill()
