"""Prometheus text: the counters of every process, the peers, the networks (service §5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ztpipe.control import Control

Sample = tuple[dict[str, str], float]


def render(control: Control) -> str:
    """All families, in a fixed order. Costs one pass over peers and counter blocks; nothing is kept between calls."""
    return "".join(_family(*family) for family in _families(control))


def _families(control: Control) -> Iterator[tuple[str, str, str, list[Sample]]]:
    now = control.clock.now()
    yield from _reference_families(control, now)
    yield from _worker_families(control.worker_reports())


def _reference_families(control: Control, now: int) -> Iterator[tuple[str, str, str, list[Sample]]]:
    statuses = control.node.network_statuses()
    reports = [report["counters"] for report in control.worker_reports()]

    def total(name: str) -> int:
        return sum(int(counters.get(name, 0)) for counters in reports if isinstance(counters, dict))

    yield (
        "zt_data",
        "counter",
        "number of bytes ZT has transmitted or received",
        [
            ({"direction": "rx", "protocol": "udp"}, total("udp_receive_bytes")),
            ({"direction": "tx", "protocol": "udp"}, total("udp_send_bytes") + total("sent_bytes")),
        ],
    )
    yield "zt_num_networks", "gauge", "number of networks this instance is joined to", [({}, len(statuses))]
    yield (
        "zt_network_multicast_groups_subscribed",
        "gauge",
        "number of multicast groups networks are subscribed to",
        [({"network_id": f"{record.nwid:016x}"}, len(record.multicast_groups)) for record in statuses],
    )
    yield (
        "zt_peer_path_count",
        "gauge",
        "number of paths to peer",
        [({"node_id": f"{peer.address:010x}", "status": "alive"}, len(peer.paths)) for peer in control.node.peers(now)],
    )
    yield (
        "ztpipe_peer_latency_milliseconds",
        "gauge",
        "round trip of the best path",
        [({"node_id": f"{peer.address:010x}"}, peer.latency) for peer in control.node.peers(now) if peer.latency >= 0],
    )


def _worker_families(reports: list[dict[str, object]]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    restarts: list[Sample] = []
    events: list[Sample] = []
    drops: list[Sample] = []
    for report in reports:
        worker = {"worker": str(report["name"])}
        restarts.append((worker, float(str(report["restarts"]))))
        counters = report["counters"]
        assert isinstance(counters, dict)
        for name, count in sorted(counters.items()):
            if name.startswith("drop_"):
                drops.append(({**worker, "reason": name[5:]}, count))
            else:
                events.append(({**worker, "event": name}, count))
    yield "ztpipe_worker_restarts_total", "counter", "times a worker was restarted", restarts
    yield "ztpipe_events_total", "counter", "what a worker handled, by stage and kind", events
    yield "ztpipe_drops_total", "counter", "what a worker dropped, by reason", drops


def _family(name: str, kind: str, text: str, samples: list[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inner = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        lines.append(
            f"{name}{{{inner}}} {value:g}" if not float(value).is_integer() else _sample(name, inner, int(value))
        )
    return "\n".join(lines) + "\n"


def _sample(name: str, labels: str, value: int) -> str:
    return f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"
