"""The mesh: which workers there are, which rings run between them, and what each one is started with.

Pipeline, N x M x K workers: a ring each way between every tap and every crypto worker, and between every crypto and
every peer worker; each has one producer and one consumer. Fused: F workers with rings of their own, and none here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from ztpipe.config import Config, WorkerConfig
from ztpipe.ipc import endpoint
from ztpipe.kernel._kernel import lib
from ztpipe.shm.bells import Bells
from ztpipe.shm.counters import Counters
from ztpipe.shm.rings import RingRegion
from ztpipe.shm.tables import Tables
from ztpipe.worker import Boot, End

__all__ = ["Mesh", "Plan", "Seat", "offload_flags", "plan"]

#: Roles whose workers have rings between them.
_NEIGHBOURS: Final = (("tap", "crypto"), ("crypto", "tap"), ("crypto", "peer"), ("peer", "crypto"))
#: With fewer cores than this, ``auto`` means fused.
_CORES_FOR_PIPELINE: Final = 4


class Plan(NamedTuple):
    """Workers of each role."""

    tap: int = 0
    crypto: int = 0
    peer: int = 0
    fused: int = 0

    @property
    def taps(self) -> int:
        """Workers that have TAP queues: a network needs at least so many."""
        return self.tap + self.fused

    @property
    def sockets(self) -> int:
        """Workers that have UDP sockets: a binding needs exactly so many."""
        return self.peer + self.fused


class Seat(NamedTuple):
    """The place of one worker; who sits there changes when it is restarted."""

    id: int
    role: str
    number: int  # within the role

    @property
    def name(self) -> str:
        """For logs, metrics and ps."""
        return f"{self.role}-{self.number}"


def plan(config: Config, cores: int | None = None) -> Plan:
    """The workers that a configuration asks for; ``auto`` decides by the number of cores."""
    cores = cores or len(os.sched_getaffinity(0))
    layout = config.layout
    if layout == "auto":
        layout = "pipeline" if cores >= _CORES_FOR_PIPELINE else "fused"
    if layout == "fused":
        return Plan(fused=config.tap_workers)
    return Plan(config.tap_workers, config.crypto_workers, config.peer_workers)


def offload_flags(config: Config) -> int:
    """ZT_OFFLOAD_* that a configuration allows; TAPs always have vnet headers."""
    wanted = (
        (config.tso_offload, lib.ZT_OFFLOAD_TAP_TSO),
        (config.uso_offload, lib.ZT_OFFLOAD_TAP_USO),
        (config.gso_offload, lib.ZT_OFFLOAD_UDP_GSO),
        (config.gro_offload, lib.ZT_OFFLOAD_UDP_GRO),
    )
    return int(lib.ZT_OFFLOAD_TAP_VNET | sum(flag for wish, flag in wanted if wish))


@dataclass(frozen=True)
class _Ring:
    producer: Seat
    consumer: Seat
    region: RingRegion


class Mesh:
    """The shared regions of one plan. Lives as long as its workers; they come and go."""

    def __init__(self, config: Config, shape: Plan, tables: Tables, offload: int, spin_us: int = 0) -> None:
        self.plan = shape
        self.seats = tuple(_seats(shape))
        self.counters = Counters.create([seat.name for seat in self.seats])
        self.bells = Bells.create(len(self.seats))
        self._config = config
        self._tables = tables
        self._offload = offload
        self._spin_us = spin_us
        self._rings = list(self._make_rings())

    def of(self, *roles: str) -> list[Seat]:
        """The seats of some roles, in order."""
        return [seat for seat in self.seats if seat.role in roles]

    def boot(self, seat: Seat, generation: int, commands_fd: int) -> Boot:
        """What the `generation`-th worker on a seat is started with."""
        keys = self._tables.keys if seat.role in ("crypto", "fused") else None
        wanted = self._worker_config(seat)
        return Boot(
            name=seat.name,
            role=seat.role,
            id=seat.id,
            generation=generation,
            parent=os.getpid(),
            batch=wanted.sched == "batch",
            cpu=wanted.cpu,
            sandbox=wanted.sandbox,
            offload=self._offload,
            spin_us=self._spin_us,
            uplink=endpoint(self._config.run_dir),
            workers=self.counters.workers,
            tables_fd=self._tables.region.fd,
            keys_fd=keys.fd if keys is not None else None,
            counters_fd=self.counters.region.fd,
            bells_fd=self.bells.region.fd,
            bell_fd=self.bells.fds[seat.id],
            commands_fd=commands_fd,
            inputs=self._ends((ring.producer, ring) for ring in self._rings if ring.consumer == seat),
            outputs=self._ends((ring.consumer, ring) for ring in self._rings if ring.producer == seat),
        )

    def sweep(self, seat: Seat) -> int:
        """Drop what waits for a worker that is not running, lest it kill its successor too. Returns slots dropped.

        Wakes the producers: one may wait for a slot.
        """
        swept = 0
        for ring in self._rings:
            if ring.consumer == seat:
                swept += ring.region.sweep()
                self.bells.ring(ring.producer.id)
        return swept

    def waiting(self) -> dict[str, int]:
        """Slots that wait in each ring, by "producer>consumer"."""
        return {f"{ring.producer.name}>{ring.consumer.name}": ring.region.used for ring in self._rings}

    def close(self) -> None:
        """Unmap and close everything; after the workers have ended."""
        for ring in self._rings:
            ring.region.close()
        self.bells.close()
        self.counters.close()

    def _make_rings(self) -> Iterator[_Ring]:
        for producers, consumers in _NEIGHBOURS:
            for producer in self.of(producers):
                for consumer in self.of(consumers):
                    name = f"ztpipe-{producer.name}-{consumer.name}"
                    region = RingRegion.create(name, self._config.ring_slots, producer.id, consumer.id)
                    yield _Ring(producer, consumer, region)

    def _ends(self, pairs: Iterator[tuple[Seat, _Ring]]) -> dict[str, list[End]]:
        ends: dict[str, list[End]] = {}
        for other, ring in pairs:
            end = End(ring.region.region.fd, other.id, self.bells.fds[other.id])
            ends.setdefault(other.role, []).append(end)
        return ends

    def _worker_config(self, seat: Seat) -> WorkerConfig:
        match seat.role:
            case "crypto":
                return self._config.worker("crypto", seat.number)
            case "peer":
                return self._config.worker("peer", seat.number)
        return self._config.worker("tap", seat.number)


def _seats(shape: Plan) -> Iterator[Seat]:
    number = 0
    for role, count in shape._asdict().items():
        for place in range(count):
            yield Seat(number, role, place)
            number += 1
