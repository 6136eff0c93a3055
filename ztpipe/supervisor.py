"""The supervisor: starts the workers, gives them their descriptors, restarts each one that ends, stops them all.

It keeps its own copies of every TAP and socket descriptor, so a restarted worker gets the same ones, the packets queued
in the kernel included; rings and tables outlive workers anyhow. A worker that was killed by a fault of its own (a
segmentation fault, say) finds its input rings emptied, since the cause may be in there.

Use it in one asyncio loop, on the main thread: workers die with the thread that started them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.context import SpawnProcess
from typing import Final, NamedTuple

from ztpipe import log
from ztpipe.config import Config
from ztpipe.ipc import Command, CommandWriter, Hub, Message, MessageKind, endpoint
from ztpipe.mesh import Mesh, Plan, Seat, offload_flags, plan
from ztpipe.shm.counters import Counters
from ztpipe.shm.tables import Tables
from ztpipe.worker import launch

__all__ = ["Supervisor", "SupervisorError", "WorkerStatus"]

_READY_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 0.7
#: A worker that has said nothing for this long hangs, and is killed.
_SILENCE_S: Final = 10.0
#: A worker that lived shorter than this is restarted after a pause, which doubles up to a limit.
_YOUNG_S: Final = 2.0
_PAUSE_S: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Ends that a worker's own memory accesses cause.
_FAULTS: Final = frozenset({-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE})


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
    process: SpawnProcess | None = None
    commands: CommandWriter = field(default_factory=CommandWriter)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: int = 0
    born: float = 0.0
    heard: float = 0.0
    restarts: int = 0
    early_deaths: int = 0
    restart_timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True)
class _Device:
    """Descriptors of a network or binding, our own copies, by the seat that works with each."""

    command: Command
    arguments: tuple[int, ...]
    fds: tuple[tuple[str, int], ...]  # (seat name, fd)

    def close(self) -> None:
        for _, fd in self.fds:
            os.close(fd)


class Supervisor:
    """The data plane of one node as control handles it."""

    def __init__(
        self,
        config: Config,
        tables: Tables,
        *,
        on_punts: Callable[[bytes], None],
        on_event: Callable[[str, str, dict[str, object]], None] | None = None,
        shape: Plan | None = None,
        offload: int | None = None,
        spin_us: int = 0,
    ) -> None:
        """`on_punts(blob)` gets each flush of punts (see `ipc.iter_punts`); `on_event(worker, name, fields)`.

        `offload` (ZT_OFFLOAD_*): what a probe found to work; by default what `config` allows. `spin_us`: how long an
        idle worker yields before it sleeps.
        """
        self._config = config
        self._on_punts = on_punts
        self._on_event = on_event or (lambda *_: None)
        self._log = log.get()
        config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.run_dir.chmod(0o700)
        self.plan = shape or plan(config)
        self._mesh = Mesh(config, self.plan, tables, offload_flags(config) if offload is None else offload, spin_us)
        self._workers = {seat.name: _Seated(seat) for seat in self._mesh.seats}
        self._devices: dict[tuple[str, int], _Device] = {}
        self._hub: Hub | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._spawn = multiprocessing.get_context("spawn")

    # ---- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every worker, inside a running asyncio loop; devices may be added at once. See `ready`."""
        with contextlib.suppress(FileNotFoundError):  # left behind by a control that was killed
            (self._config.run_dir / "control.sock").unlink()
        self._hub = Hub(endpoint(self._config.run_dir))
        self._tasks = [asyncio.create_task(self._listen(self._hub)), asyncio.create_task(self._watch())]
        for worker in self._workers.values():
            self._start_worker(worker)

    async def ready(self, timeout: float = _READY_TIMEOUT_S) -> None:
        """Wait until every worker loops. Raises `SupervisorError`, naming those that do not."""
        try:
            async with asyncio.timeout(timeout):
                for worker in self._workers.values():
                    await worker.ready.wait()
        except TimeoutError:
            late = [name for name, worker in self._workers.items() if not worker.ready.is_set()]
            raise SupervisorError(f"not ready after {timeout} s: {', '.join(late)}") from None

    async def stop(self) -> None:
        """End all workers, within about a second, by force if need be; then release everything."""
        if self._stopping:
            return
        self._stopping = True
        for worker in self._workers.values():
            if worker.restart_timer is not None:
                worker.restart_timer.cancel()
            if worker.process is not None:
                worker.commands.send(Command.STOP)
        until = time.monotonic() + _STOP_TIMEOUT_S
        while any(worker.process is not None for worker in self._workers.values()):
            if time.monotonic() > until:
                self._kill_all()
            await asyncio.sleep(0.005)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers.values():
            worker.commands.close()
        for device in self._devices.values():
            device.close()
        self._devices.clear()
        if self._hub is not None:
            self._hub.close()
        self._mesh.close()

    # ---- devices -----------------------------------------------------------------------------------------------

    def add_tap(self, network: int, fds: Sequence[int]) -> None:
        """Hand the TAP queues of network index `network` out: queue q to tap (or fused) worker q % N.

        There must be at least as many queues as workers. The descriptors stay the caller's: copies are made.
        """
        seats = self._mesh.of("tap", "fused")
        if len(fds) < len(seats):
            raise ValueError(f"{len(fds)} TAP queues for {len(seats)} workers")
        shares = tuple((seats[q % len(seats)].name, os.dup(fd)) for q, fd in enumerate(fds))
        self._add(("tap", network), _Device(Command.ADD_TAP, (network,), shares))

    def remove_tap(self, network: int) -> None:
        """Take a network's queues away; the workers close theirs (see `settled`)."""
        self._remove(("tap", network), Command.REMOVE_TAP)

    def add_binding(self, binding: int, family: int, fds: Sequence[int]) -> None:
        """Hand the sockets of a binding out, one to each peer (or fused) worker; `family`: 4 or 6. Copies are made."""
        seats = self._mesh.of("peer", "fused")
        if len(fds) != len(seats):
            raise ValueError(f"{len(fds)} sockets for {len(seats)} workers")
        shares = tuple((seat.name, os.dup(fd)) for seat, fd in zip(seats, fds, strict=True))
        self._add(("binding", binding), _Device(Command.ADD_BINDING, (binding, family), shares))

    def remove_binding(self, binding: int) -> None:
        """Take a binding's sockets away."""
        self._remove(("binding", binding), Command.REMOVE_BINDING)

    async def settled(self, timeout: float = 2.0) -> bool:
        """Wait until every worker has carried out what it was told. False: one has not within `timeout` seconds."""
        until = time.monotonic() + timeout
        while any(worker.acknowledged < worker.commands.sequence for worker in self._workers.values()):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.002)
        return True

    def _add(self, key: tuple[str, int], device: _Device) -> None:
        if key in self._devices:
            self._remove(key, Command.REMOVE_TAP if key[0] == "tap" else Command.REMOVE_BINDING)
        self._devices[key] = device
        for name, fd in device.fds:
            self._send(self._workers[name], device.command, *device.arguments, fds=(fd,))

    def _remove(self, key: tuple[str, int], command: Command) -> None:
        device = self._devices.pop(key, None)
        if device is not None:
            for name in dict.fromkeys(name for name, _ in device.fds):
                self._send(self._workers[name], command, key[1])
            device.close()

    def _send(self, worker: _Seated, command: Command, *arguments: int, fds: Sequence[int] = ()) -> None:
        if worker.process is not None:  # else it gets everything when it starts
            worker.commands.send(command, *arguments, fds=fds)

    # ---- what is known ------------------------------------------------------------------------------------------

    @property
    def tap_queues(self) -> int:
        """Queues that each TAP needs at least."""
        return self.plan.taps

    @property
    def socket_workers(self) -> int:
        """Sockets that each binding needs."""
        return self.plan.sockets

    @property
    def counters(self) -> Counters:
        """The workers' counters; a restarted worker goes on in its block."""
        return self._mesh.counters

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

    def reports(self) -> list[dict[str, object]]:
        """`status` with the counters of each worker, for the API."""
        counters = self.counters.snapshot()
        return [status._asdict() | {"counters": counters[status.name]} for status in self.status()]

    def waiting(self) -> dict[str, int]:
        """Slots that wait in each ring."""
        return self._mesh.waiting()

    # ---- processes -----------------------------------------------------------------------------------------------

    def _start_worker(self, worker: _Seated) -> None:
        worker.restart_timer = None
        worker.generation += 1
        worker.commands.close()
        worker.commands = CommandWriter()
        worker.acknowledged = 0
        worker.ready.clear()
        boot = self._mesh.boot(worker.seat, worker.generation, worker.commands.worker_fd)
        loop = import_module(f"ztpipe.{worker.seat.role}worker").loop
        process = self._spawn.Process(target=launch, args=(loop, boot, boot.passed()), name=boot.name, daemon=True)
        process.start()
        worker.commands.started()
        worker.process = process
        worker.born = worker.heard = time.monotonic()
        asyncio.get_running_loop().add_reader(process.sentinel, self._ended, worker, process)
        for device in self._devices.values():
            for name, fd in device.fds:
                if name == worker.seat.name:
                    self._send(worker, device.command, *device.arguments, fds=(fd,))

    def _ended(self, worker: _Seated, process: SpawnProcess) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        code = process.exitcode
        process.close()
        worker.process = None
        worker.ready.clear()
        if self._stopping:
            return
        worker.restarts += 1
        swept = self._mesh.sweep(worker.seat) if code in _FAULTS else 0
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

    async def _listen(self, hub: Hub) -> None:
        while True:
            message = await hub.receive()
            worker = self._workers.get(message.worker)
            if worker is not None and message.generation == worker.generation:
                worker.heard = time.monotonic()
                self._handle(worker, message)
            elif worker is not None and message.kind is MessageKind.PUNTS:
                self._on_punts(message.fields[1])  # the last words of a worker that has ended

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
                if code:
                    name = errno.errorcode.get(code, str(code))
                    self._log.error("command failed", worker=message.worker, sequence=sequence, error=name)
                    self._on_event(message.worker, "command_failed", {"sequence": sequence, "errno": code})
            case MessageKind.EVENT, (name, fields):
                self._log.info("worker event", worker=message.worker, event_name=name, **fields)
                self._on_event(message.worker, name, fields)

    async def _watch(self) -> None:
        """Push waiting commands on, and kill workers that hang."""
        while True:
            await asyncio.sleep(0.25)
            for worker in self._workers.values():
                worker.commands.flush()
                silent = time.monotonic() - worker.heard > _SILENCE_S
                if worker.process is not None and silent:
                    self._log.error("worker hangs", worker=worker.seat.name)
                    worker.process.kill()
