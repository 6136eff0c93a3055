"""The supervisor: the data plane of one node as control handles it: workers, their devices, what they say.

It keeps its own copies of every TAP and socket descriptor, so a restarted worker gets the same ones, the packets queued
in the kernel included. The number of workers can change while frames flow (`reshape`): the new crew is started beside
the old one, which then takes nothing more in, hands on what it has, and gives its devices up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ztpipe import log
from ztpipe.config import Config
from ztpipe.crew import Crew, SupervisorError, WorkerStatus
from ztpipe.hub import Hub
from ztpipe.ipc import Command, MessageKind, endpoint
from ztpipe.mesh import Mesh, Plan, Seat, offload_flags, plan
from ztpipe.shm.counters import Counters
from ztpipe.shm.tables import Tables

__all__ = ["Supervisor", "SupervisorError", "WorkerStatus"]

_READY_TIMEOUT_S: Final = 15.0
#: In which workers surely come to read what is in their queues.
_READ_S: Final = 0.005
#: Between two looks at the workers.
_WATCH_S: Final = 1.0


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
    """Use it in one asyncio loop, on the main thread."""

    def __init__(
        self,
        config: Config,
        tables: Tables,
        *,
        on_punts: Callable[[bytes], None],
        on_event: Callable[[str, str, dict[str, object]], None] | None = None,
        shape: Plan | None = None,
        offload: int | None = None,
        spin_us: int | None = None,
        pause: Callable[[float], float] = lambda seconds: seconds,
    ) -> None:
        """`on_punts(blob)` gets each flush of punts (see `ipc.iter_punts`); `on_event(worker, name, fields)`.

        `offload` (ZT_OFFLOAD_*): what a probe found to work; by default what `config` allows. `spin_us`: how long an
        idle worker yields before it sleeps; by default what `config` says. `pause(seconds)`: how long to wait between
        two rounds of what is done every so many seconds.
        """
        self._tables, self._offload, self._spin_us, self._pause = tables, offload, spin_us, pause
        self._on_punts = on_punts
        self._on_event = on_event or (lambda *_: None)
        self._run_dir = config.run_dir
        config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.run_dir.chmod(0o700)
        self._generations = itertools.count(1)
        self._crew = self._new_crew(config, shape or plan(config))
        self._others: list[Crew] = []  # coming or going
        self._past: dict[str, Counter[str]] = {}  # worker name -> what its predecessors in earlier crews counted
        self._devices: dict[tuple[str, int], _Device] = {}
        self._hub: Hub | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def _new_crew(self, config: Config, shape: Plan) -> Crew:
        offload = offload_flags(config) if self._offload is None else self._offload
        spin = config.busy_poll if self._spin_us is None else self._spin_us
        mesh = Mesh(config, shape, self._tables, offload, spin)
        crew: Crew
        crew = Crew(
            mesh,
            self._generations,
            on_punts=self._on_punts,
            on_event=self._on_event,
            equip=lambda seat: list(self._equipment(crew, seat)),
        )
        return crew

    def _equipment(self, crew: Crew, seat: Seat) -> Iterator[tuple[Command, tuple[int, ...], int]]:
        for device in self._devices.values() if crew is self._crew else ():
            yield from ((device.command, device.arguments, fd) for name, fd in device.fds if name == seat.name)

    # ---- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every worker, inside a running asyncio loop; devices may be added at once. See `ready`."""
        with contextlib.suppress(FileNotFoundError):  # left behind by a control that was killed
            (self._run_dir / "control.sock").unlink()
        self._hub = Hub(endpoint(self._run_dir))
        self._tasks = [asyncio.create_task(self._listen(self._hub)), asyncio.create_task(self._watch())]
        self._crew.start()

    async def ready(self, timeout: float = _READY_TIMEOUT_S) -> None:
        """Wait until every worker loops. Raises `SupervisorError`, naming those that do not."""
        await self._crew.ready(timeout)

    async def stop(self) -> None:
        """End all workers, within about a second, by force if need be; then release everything."""
        if self._stopping:
            return
        self._stopping = True
        crews = [self._crew, *self._others]
        await asyncio.gather(*[crew.stop() for crew in crews])
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget_devices()
        if self._hub is not None:
            self._hub.close()
        for crew in crews:
            crew.close()

    async def reshape(self, config: Config, widen: Callable[[Plan], None], hand_out: Callable[[], None]) -> None:
        """Go on with the workers that `config` asks for, losing nothing that has come in.

        `widen(plan)` opens the queues and sockets that the plan needs and that there are not; the kernel spreads over
        them at once, and a moment later the present workers have read everything older. `hand_out()` is called while
        nobody works on any device, and adds all of them anew. What arrives meanwhile waits in the kernel. Raises
        `SupervisorError` with the present workers still at work when the new ones do not start. One call at a time.
        """
        successor = self._new_crew(config, plan(config))
        self._others.append(successor)
        successor.start()
        try:
            await successor.ready(_READY_TIMEOUT_S)
        except BaseException:
            await self._dismiss(successor)
            raise
        widen(successor.mesh.plan)
        await asyncio.sleep(_READ_S)
        if not await self._crew.drain():
            log.get().warning("frames dropped while the workers changed", waiting=self._crew.mesh.waiting())
        former, self._crew = self._crew, successor
        self._others[self._others.index(successor)] = former
        self._forget_devices()
        hand_out()
        await self._dismiss(former)

    async def _dismiss(self, crew: Crew) -> None:
        """Stop a crew that has no devices any more; what it counted is kept."""
        await crew.stop()
        if self._stopping or crew not in self._others:
            return  # then `stop` closes it
        self._others.remove(crew)
        self._crew.take_over(crew)
        names = self.counters.workers
        for name, counters in crew.mesh.counters.snapshot().items():
            before = self._past.pop(name, Counter())
            before.update(counters)
            heir = name if name in names else names[0]  # so that no sum goes back
            self._past[heir] = self._past.get(heir, Counter()) + before
        crew.close()

    # ---- devices -----------------------------------------------------------------------------------------------

    def add_tap(self, network: int, fds: Sequence[int]) -> None:
        """Hand the TAP queues of network index `network` out: queue q to tap (or fused) worker q % N.

        There must be at least as many queues as workers. The descriptors stay the caller's: copies are made.
        """
        self._add(("tap", network), Command.ADD_TAP, (network,), fds, self._crew.mesh.of("tap", "fused"))

    def remove_tap(self, network: int) -> None:
        """Take a network's queues away; the workers close theirs (see `settled`)."""
        self._remove(("tap", network), Command.REMOVE_TAP)

    def add_binding(self, binding: int, family: int, fds: Sequence[int]) -> None:
        """Hand the sockets of a binding out like TAP queues, to peer (or fused) workers; `family`: 4 or 6."""
        seats = self._crew.mesh.of("peer", "fused")
        self._add(("binding", binding), Command.ADD_BINDING, (binding, family), fds, seats)

    def remove_binding(self, binding: int) -> None:
        """Take a binding's sockets away."""
        self._remove(("binding", binding), Command.REMOVE_BINDING)

    async def settled(self, timeout: float = 2.0) -> bool:
        """Wait until every worker has carried out what it was told. False: one has not within `timeout` seconds."""
        return await self._crew.settled(timeout)

    def _add(
        self,
        key: tuple[str, int],
        command: Command,
        arguments: tuple[int, ...],
        fds: Sequence[int],
        seats: Sequence[Seat],
    ) -> None:
        if len(fds) < len(seats):
            raise ValueError(f"{key[0]} {key[1]}: {len(fds)} descriptors for {len(seats)} workers")
        if key in self._devices:
            self._remove(key, Command.REMOVE_TAP if key[0] == "tap" else Command.REMOVE_BINDING)
        shares = tuple((seats[q % len(seats)].name, os.dup(fd)) for q, fd in enumerate(fds))
        device = self._devices[key] = _Device(command, arguments, shares)
        for name, fd in device.fds:
            self._crew.send(name, device.command, *device.arguments, fds=(fd,))

    def _remove(self, key: tuple[str, int], command: Command) -> None:
        device = self._devices.pop(key, None)
        if device is not None:
            for name in dict.fromkeys(name for name, _ in device.fds):
                self._crew.send(name, command, key[1])
            device.close()

    def _forget_devices(self) -> None:
        for device in self._devices.values():
            device.close()
        self._devices.clear()

    # ---- what is known ------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The workers that there are."""
        return self._crew.mesh.plan

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
        """The counters of the present workers; a restarted worker goes on in its block."""
        return self._crew.mesh.counters

    def status(self) -> list[WorkerStatus]:
        """Every worker, in order of id."""
        return self._crew.status()

    def reports(self) -> list[dict[str, object]]:
        """`status` with the counters of each worker, for the API: no counter goes back when the workers change."""
        counters = self.counters.snapshot()
        for name, before in self._past.items():
            if name in counters:
                counters[name] = {key: value + before[key] for key, value in counters[name].items()}
        return [status._asdict() | {"counters": counters[status.name]} for status in self.status()]

    def waiting(self) -> dict[str, int]:
        """Slots that wait in each ring."""
        return self._crew.mesh.waiting()

    # ---- messages ------------------------------------------------------------------------------------------------

    async def _listen(self, hub: Hub) -> None:
        while True:
            message = await hub.receive()
            heard = any(crew.hear(message) for crew in (self._crew, *self._others))
            if not heard and message.kind is MessageKind.PUNTS:
                self._on_punts(message.fields[1])  # the last words of a worker that has ended

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._pause(_WATCH_S))
            for crew in (self._crew, *self._others):
                crew.watch()
