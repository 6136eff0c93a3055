"""Metric families of our own: processes, stages, rings, paths."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ztpipe import __version__
from ztpipe.cli.version import REFERENCE_VERSION
from ztpipe.runtime.exposition import Family, Sample, family, labels, single

if TYPE_CHECKING:
    from ztpipe.runtime.metrics import Snapshot, WorkerMetrics
    from ztpipe.wire.inetaddress import InetAddress

#: Counter -> stage and direction, of those that count units of data; every other counter is an event.
_FRAMES: Final = {
    "tap_read_frames": ("tap", "read"),
    "tap_write_frames": ("tap", "write"),
    "seal_frames": ("crypto", "seal"),
    "open_frames": ("crypto", "open"),
    "written_frames": ("control", "write"),
}
_PACKETS: Final = {
    "seal_packets": ("crypto", "seal"),
    "open_packets": ("crypto", "open"),
    "open_joined": ("crypto", "join"),
    "open_datagrams": ("crypto", "take"),
    "udp_receive_datagrams": ("peer", "receive"),
    "udp_send_datagrams": ("peer", "send"),
    "sent_datagrams": ("control", "send"),
    "node_handled": ("control", "handle"),
    "node_joined": ("control", "join"),
}
_BYTES: Final = {
    "tap_read_bytes": ("tap", "read"),
    "tap_write_bytes": ("tap", "write"),
    "udp_receive_bytes": ("peer", "receive"),
    "udp_send_bytes": ("peer", "send"),
    "sent_bytes": ("control", "send"),
}
_PUNTS: Final = {
    "tap_punted": ("tap", "punt"),
    "open_punted": ("crypto", "punt"),
    "udp_punted": ("peer", "punt"),
    "punts": ("control", "take"),
}
_LOOP: Final = {
    "turns": "turns of a worker's loop; units of data divided by turns are the mean batch",
    "sleeps": "times a worker slept",
    "bells": "times a worker was woken by a doorbell",
    "beats": "signs of life of a worker, about one a second",
    "ring_full": "times a stage had to wait for a slot",
}
_NAMED: Final = {*_FRAMES, *_PACKETS, *_BYTES, *_PUNTS, *_LOOP}


def families(snapshot: Snapshot) -> Iterator[Family]:
    """All of them."""
    yield family(
        "ztpipe_build_info",
        "gauge",
        "versions, as labels",
        [(labels(version=__version__, compatible=REFERENCE_VERSION, node_id=f"{snapshot.address:010x}"), 1)],
    )
    yield single("ztpipe_start_time_seconds", "gauge", "when control started, since the epoch", snapshot.started)
    yield single("ztpipe_online", "gauge", "1 if a root was heard lately", snapshot.online)
    yield family(
        "ztpipe_network_status",
        "gauge",
        "1, with the state of a joined network as a label",
        [(labels(network_id=f"{n.nwid:016x}", status=n.status), 1) for n in snapshot.networks],
    )
    yield from _peers(snapshot)
    yield from _workers(snapshot)
    yield from _rings(snapshot)


def _peers(snapshot: Snapshot) -> Iterator[Family]:
    nodes = [(f'node_id="{peer.address:010x}"', peer) for peer in snapshot.peers]
    yield Family(
        "ztpipe_peer_latency_milliseconds",
        "gauge",
        "round trip of the best path, where it was measured",
        "".join(
            [f"ztpipe_peer_latency_milliseconds{{{n}}} {peer.latency}\n" for n, peer in nodes if peer.latency >= 0]
        ),
    )
    yield Family(
        "ztpipe_peer_direct",
        "gauge",
        "1 if there is a direct path to the peer, 0 if it is reached through a root",
        "".join([f"ztpipe_peer_direct{{{n}}} {int(peer.remote is not None)}\n" for n, peer in nodes]),
    )
    yield Family(
        "ztpipe_peer_path_info",
        "gauge",
        "1, with the remote end of the path in use as a label",
        "".join(
            [
                f'ztpipe_peer_path_info{{{n},remote="{_text(peer.remote)}"}} 1\n'
                for n, peer in nodes
                if peer.remote is not None
            ]
        ),
    )
    yield Family(
        "ztpipe_peer_unanswered_probes",
        "gauge",
        "probes in a row without an answer on the path in use",
        "".join([f"ztpipe_peer_unanswered_probes{{{n}}} {peer.unanswered}\n" for n, peer in nodes]),
    )


@lru_cache(maxsize=4096)
def _text(remote: InetAddress) -> str:
    return remote.text()


def _workers(snapshot: Snapshot) -> Iterator[Family]:
    workers = [(labels(worker=worker.name), worker) for worker in snapshot.workers]
    yield family(
        "ztpipe_worker_up", "gauge", "1 if the process answers", [(label, worker.ready) for label, worker in workers]
    )
    yield family(
        "ztpipe_worker_restarts_total",
        "counter",
        "times a worker was restarted",
        [(label, worker.restarts) for label, worker in workers],
    )
    yield family(
        "ztpipe_worker_cpu_seconds_total",
        "counter",
        "processor time of a process",
        [(label, worker.cpu_seconds) for label, worker in workers],
    )
    for name, text, counters in (
        ("ztpipe_frames_total", "Ethernet frames or super-frames, by stage and direction", _FRAMES),
        ("ztpipe_packets_total", "packets or datagrams, by stage and direction", _PACKETS),
        ("ztpipe_bytes_total", "bytes, by stage and direction", _BYTES),
        ("ztpipe_punts_total", "what the data plane gave to the slow path, by stage", _PUNTS),
    ):
        yield family(name, "counter", text, _staged(snapshot, counters))
    for counter, text in _LOOP.items():
        samples = [(label, worker.counters[counter]) for label, worker in workers if counter in worker.counters]
        yield family(f"ztpipe_worker_{counter}_total", "counter", text, samples)
    yield family("ztpipe_drops_total", "counter", "what was dropped, by reason", _drops(snapshot))
    yield family("ztpipe_events_total", "counter", "other events, by name", _events(snapshot))


def _staged(snapshot: Snapshot, counters: dict[str, tuple[str, str]]) -> list[Sample]:
    return [
        (labels(worker=worker.name, stage=stage, direction=direction), worker.counters[name])
        for worker in snapshot.workers
        for name, (stage, direction) in counters.items()
        if _belongs(worker, name, stage)
    ]


def _belongs(worker: WorkerMetrics, name: str, stage: str) -> bool:
    """A worker's block has every counter; only those of its stages are shown, and any that is not 0."""
    return name in worker.counters and (worker.counters[name] > 0 or worker.name.startswith(stage))


def _drops(snapshot: Snapshot) -> list[Sample]:
    """Reasons that did not occur too: a rate needs the 0 before the first."""
    return [
        (labels(worker=worker.name, reason=name.removeprefix("drop_")), count)
        for worker in snapshot.workers
        for name, count in sorted(worker.counters.items())
        if name.startswith("drop_")
    ]


def _events(snapshot: Snapshot) -> list[Sample]:
    return [
        (labels(worker=worker.name, event=name), count)
        for worker in snapshot.workers
        for name, count in sorted(worker.counters.items())
        if name not in _NAMED and not name.startswith("drop_")
    ]


def _rings(snapshot: Snapshot) -> Iterator[Family]:
    yield family(
        "ztpipe_ring_used_slots",
        "gauge",
        "slots that wait in a ring",
        [
            (labels(producer=name.partition(">")[0], consumer=name.partition(">")[2]), used)
            for name, used in snapshot.waiting.items()
        ],
    )
    yield single("ztpipe_ring_slots", "gauge", "slots of each ring", snapshot.ring_slots)
