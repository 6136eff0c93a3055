"""A node of any size, as a scrape sees it."""

from __future__ import annotations

from ztpipe.node.status import PeerTraffic
from ztpipe.node.tally import Tally, Traffic
from ztpipe.runtime.metrics import NetworkTraffic, Snapshot, WorkerMetrics
from ztpipe.shm.counters import NAMES
from ztpipe.wire.inetaddress import InetAddress

NWID = 0x142B028C0F90DC4A


def snapshot(*, peers: int = 3, networks: int = 1) -> Snapshot:
    """Peers of which every third is relayed; workers of every role, with each counter at a value of its own."""
    numbered = {name: number for number, name in enumerate(NAMES, start=1)}
    workers = [WorkerMetrics("control", {"punts": 5, "sent_bytes": 600, "node_handled": 4, "drop_bad_mac": 1})]
    for role in ("tap", "crypto", "peer"):
        workers.append(WorkerMetrics(f"{role}-0", numbered, restarts=1, cpu_seconds=0.25))
    return Snapshot(
        address=0x142B028C0F,
        online=True,
        tally=Tally(),
        peers=[_peer(number) for number in range(peers)],
        networks=[NetworkTraffic(NWID + number, "OK", 6, 5, 10, 2, 1) for number in range(networks)],
        controller={"controller_network_count": 1, "db_get_network": 7},
        workers=workers,
        waiting={"tap-0>crypto-0": 2, "crypto-0>tap-0": 0},
        ring_slots=32,
        started=1_795_456_400.5,
    )


def _peer(number: int) -> PeerTraffic:
    traffic = Traffic()
    traffic.received, traffic.sent, traffic.refused = 3 * number, 2 * number, number
    for latency in (1, 12, 5_000):
        traffic.observe(latency)
    remote = None if number % 3 == 2 else InetAddress(bytes((10, 0, number >> 8 & 255, number & 255)), 9993)
    return PeerTraffic(0x1000000000 + number, 12 if remote else -1, int(remote is not None), 1, remote, 0, traffic)
