"""The metrics of a node: what is gathered for one scrape, and the text made of it (service §5).

Nothing is kept between scrapes: the counters live where things happen, in the node, the workers and the kernel.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ztpipe.log import get_logger
from ztpipe.runtime import metrics_own, metrics_reference

if TYPE_CHECKING:
    from ztpipe.control import Control
    from ztpipe.node.status import PeerTraffic
    from ztpipe.node.tally import Tally

log = get_logger("control")
_PROC_NET_DEV: Final = Path("/proc/net/dev")
_FEW_PEERS: Final = 64


@dataclass(frozen=True, slots=True)
class NetworkTraffic:
    """One joined network: its groups, and the frames (or super-frames) that came from it and went into it."""

    nwid: int
    status: str
    groups: int
    received: int = 0
    sent: int = 0
    refused_received: int = 0
    refused_sent: int = 0


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """One process: its counters by name, drops as ``drop_<reason>``."""

    name: str
    counters: Mapping[str, int]
    restarts: int = 0
    cpu_seconds: float = 0.0
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a scrape shows. `waiting`: slots in use of each ring, by ``producer>consumer``."""

    address: int
    online: bool
    tally: Tally
    peers: Sequence[PeerTraffic]
    networks: Sequence[NetworkTraffic]
    controller: Mapping[str, int]
    workers: Sequence[WorkerMetrics]
    waiting: Mapping[str, int]
    ring_slots: int
    started: float  # seconds since the epoch

    def total(self, counter: str) -> int:
        """A counter over all processes."""
        return sum(worker.counters.get(counter, 0) for worker in self.workers)


def render(snapshot: Snapshot) -> str:
    """All families, those of the reference first and in its order."""
    families = (*metrics_reference.families(snapshot), *metrics_own.families(snapshot))
    return "".join(family.render() for family in families)


def take(control: Control) -> Snapshot:
    """The state of the running node."""
    now = control.clock.now()
    node = control.node
    workers = [_worker(report) for report in control.worker_reports()]
    return Snapshot(
        address=control.identity.address,
        online=node.status(now).online,
        tally=node.tally,
        peers=node.peer_traffic(now),
        networks=with_filtered(_networks(control), workers),
        controller={**control.controller.counters, **control.controller.metrics()},
        workers=workers,
        waiting=control.supervisor.waiting(),
        ring_slots=control.config.ring_slots,
        started=control.started,
    )


class MetricsFile:
    """Keeps ``metrics.prom`` fresh. A file that cannot be written is reported once, not every 5 s."""

    def __init__(self, render_text: Callable[[], str], write: Callable[[str], None]) -> None:
        self._render_text, self._write = render_text, write
        self._failed = False

    async def refresh_aside(self, snapshot: Snapshot) -> None:
        """The same; in a thread if it takes a moment, in which packets must not wait: with thousands of peers."""
        if len(snapshot.peers) <= _FEW_PEERS:
            self._refresh(lambda: render(snapshot))
            return
        snapshot = replace(snapshot, tally=copy.deepcopy(snapshot.tally))  # counted on meanwhile
        text = await asyncio.to_thread(render, snapshot)
        self._refresh(lambda: text)

    def refresh(self) -> None:
        """Now."""
        self._refresh(self._render_text)

    def _refresh(self, render_text: Callable[[], str]) -> None:
        try:
            self._write(render_text())
        except OSError as error:
            if not self._failed:
                log.error("metrics.prom cannot be written", error=str(error))
            self._failed = True
        else:
            self._failed = False


def _networks(control: Control) -> list[NetworkTraffic]:
    """What the kernel counts on a TAP is what passed: frames the workers wrote are its receptions."""
    counted = device_frames(_PROC_NET_DEV.read_text())
    found = []
    for record in control.node.network_statuses():
        host = control.networks.by_id.get(record.nwid)
        received, sent = counted.get(host.device_name, (0, 0)) if host is not None else (0, 0)
        groups = len(record.multicast_groups)
        refused = record.refused_received, record.refused_sent
        found.append(NetworkTraffic(record.nwid, record.status.value, groups, received, sent, *refused))
    return found


def with_filtered(networks: list[NetworkTraffic], workers: Sequence[WorkerMetrics]) -> list[NetworkTraffic]:
    """What rules refused in the data plane is counted by worker: it is known whose it is while there is one network."""
    if len(networks) != 1:
        return networks
    (network,) = networks
    received = sum(worker.counters.get("drop_inbound_filter", 0) for worker in workers if worker.name != "control")
    sent = sum(worker.counters.get("drop_outbound_filter", 0) for worker in workers if worker.name != "control")
    received, sent = received + network.refused_received, sent + network.refused_sent
    return [replace(network, refused_received=received, refused_sent=sent)]


def device_frames(text: str) -> dict[str, tuple[int, int]]:
    """Frames received and sent by each interface, from the text of /proc/net/dev."""
    frames = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        columns = numbers.split()
        frames[name.strip()] = int(columns[1]), int(columns[9])
    return frames


def _worker(report: Mapping[str, object]) -> WorkerMetrics:
    counters = report["counters"]
    assert isinstance(counters, Mapping)
    return WorkerMetrics(
        name=str(report["name"]),
        counters=counters,
        restarts=int(str(report["restarts"])),
        cpu_seconds=float(str(report["cpu_seconds"])),
        ready=bool(report.get("ready", True)),
    )
