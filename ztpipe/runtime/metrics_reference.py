"""The metric families of the reference, with its names, labels and order (service §5).

Frames of the data plane count as FRAME in `zt_packet`. `zt_peer_packets` holds what passed the node itself: handshakes,
configuration, multicast and the first frames of a conversation; the data plane counts by worker, not by peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from ztpipe.node.tally import LATENCY_BOUNDS
from ztpipe.runtime.exposition import Family, Sample, family, labels, single
from ztpipe.wire.protocol import ErrorCode, Verb

if TYPE_CHECKING:
    from ztpipe.node.status import PeerTraffic
    from ztpipe.runtime.metrics import Snapshot

_VERBS: Final = {verb: "qos" if verb is Verb.QOS_MEASUREMENT else verb.name.lower() for verb in Verb}
_ERRORS: Final = {
    ErrorCode.OBJ_NOT_FOUND: "obj_not_found",
    ErrorCode.UNSUPPORTED_OPERATION: "unsupported_operation",
    ErrorCode.IDENTITY_COLLISION: "identity_collision",
    ErrorCode.NEED_MEMBERSHIP_CERTIFICATE: "need_membership_certificate",
    ErrorCode.NETWORK_ACCESS_DENIED: "network_access_denied",
    ErrorCode.UNWANTED_MULTICAST: "unwanted_multicast",
    ErrorCode.NETWORK_AUTHENTICATION_REQUIRED: "authentication_required",
    ErrorCode.INVALID_REQUEST: "internal_server_error",
}
#: Name, kind, text and the key in the controller's counters; requests are answered at once, so none ever waits.
_CONTROLLER: Final = (
    ("controller_network_count", "gauge", "number of networks the controller is serving"),
    ("controller_member_count", "gauge", "number of network members the controller is serving"),
    ("controller_network_change_count", "counter", "number of times a network configuration is changed"),
    ("controller_member_change_count", "counter", "number of times a network member configuration is changed"),
    ("controller_member_auth_count", "counter", "number of network member auths"),
    ("controller_member_deauth_count", "counter", "number of network member deauths"),
    (
        "controller_network_config_request_queue",
        "gauge",
        "number of entries in the request queue for network configurations",
    ),
    ("controller_sso_expiration_checks", "counter", "number of sso expiration checks done"),
    ("controller_sso_timeouts", "counter", "number of sso timeouts"),
    ("controller_network_config_request", "counter", "count of config requests handled"),
    ("controller_network_config_request_threads", "gauge", "number of active network config handling threads"),
)
#: Family -> counter of the controller. The capital K is the reference's, and dashboards depend on it.
_DATABASE: Final = {
    "controller_db_get_network": "db_get_network",
    "controller_db_get_network_and_member": "db_get_network_and_member",
    "controller_db_get_networK_and_member_summary": "db_get_network_and_member_summary",
    "controller_db_get_member_list": "db_get_member_list",
    "controller_db_get_network_list": "db_get_network_list",
    "controller_db_member_change": "member_change",
    "controller_db_network_change": "network_change",
}


def families(snapshot: Snapshot) -> Iterator[Family]:
    """All of them, in the reference's order."""
    yield _packets(snapshot)
    yield _errors(snapshot)
    yield _data(snapshot)
    yield single("zt_num_networks", "gauge", "number of networks this instance is joined to", len(snapshot.networks))
    yield from _networks(snapshot)
    yield from _peers(snapshot.peers)
    yield from _controller(snapshot)


def _packets(snapshot: Snapshot) -> Family:
    received, sent = list(snapshot.tally.received), list(snapshot.tally.sent)
    received[Verb.FRAME] += snapshot.total("open_packets")
    sent[Verb.FRAME] += snapshot.total("seal_packets")
    samples = [
        (labels(direction=direction, packet_type=name), counts[verb])
        for direction, counts in (("rx", received), ("tx", sent))
        for verb, name in _VERBS.items()
    ]
    return family("zt_packet", "counter", "ZeroTier packet type counts", samples)


def _errors(snapshot: Snapshot) -> Family:
    tally = snapshot.tally
    samples = [
        (labels(direction=direction, error_type=name), counts[code])
        for direction, counts in (("rx", tally.errors_received), ("tx", tally.errors_sent))
        for code, name in _ERRORS.items()
    ]
    return family("zt_packet_error", "counter", "ZeroTier packet errors", samples)


def _data(snapshot: Snapshot) -> Family:
    """`tcp`: through a TCP relay."""
    total = snapshot.total
    samples = [
        (labels(direction="rx", protocol="udp"), total("udp_receive_bytes")),
        (labels(direction="tx", protocol="udp"), total("udp_send_bytes") + total("sent_bytes")),
        (labels(direction="rx", protocol="tcp"), total("tcp_received_bytes")),
        (labels(direction="tx", protocol="tcp"), total("tcp_sent_bytes")),
    ]
    return family("zt_data", "counter", "number of bytes ZeroTier has transmitted or received", samples)


def _networks(snapshot: Snapshot) -> Iterator[Family]:
    yield family(
        "zt_network_multicast_groups_subscribed",
        "gauge",
        "number of multicast groups networks are subscribed to",
        [(labels(network_id=f"{network.nwid:016x}"), network.groups) for network in snapshot.networks],
    )
    samples: list[Sample] = []
    for network in snapshot.networks:
        for direction, passed, refused in (
            ("rx", network.received, network.refused_received),
            ("tx", max(network.sent - network.refused_sent, 0), network.refused_sent),
        ):
            for accepted, count in (("yes", passed), ("no", refused)):
                samples.append(
                    (labels(accepted=accepted, direction=direction, network_id=f"{network.nwid:016x}"), count)
                )
    yield family("zt_network_packets", "counter", "number of incoming/outgoing packets per network", samples)


def _peers(peers: Sequence[PeerTraffic]) -> Iterator[Family]:
    """There may be thousands: lines are made directly, one format operation for each peer and family."""
    nodes = [(f'node_id="{peer.address:010x}"', peer) for peer in peers]

    def lines(name: str, kind: str, text: str, line: Callable[[str, PeerTraffic], str]) -> Family:
        return Family(name, kind, text, "".join([line(node, peer) for node, peer in nodes]))

    yield lines("zt_peer_latency", "histogram", "peer latency (ms)", _histogram)
    yield lines(
        "zt_peer_path_count",
        "gauge",
        "number of paths to peer",
        lambda node, peer: (
            f'zt_peer_path_count{{{node},status="alive"}} {peer.alive}\n'
            f'zt_peer_path_count{{{node},status="dead"}} {peer.dead}\n'
        ),
    )
    yield lines(
        "zt_peer_packets",
        "counter",
        "number of packets to/from a peer",
        lambda node, peer: (
            f'zt_peer_packets{{direction="rx",{node}}} {peer.traffic.received}\n'
            f'zt_peer_packets{{direction="tx",{node}}} {peer.traffic.sent}\n'
        ),
    )
    yield lines(
        "zt_peer_packet_errors",
        "counter",
        "number of incoming packet errors from a peer",
        lambda node, peer: f"zt_peer_packet_errors{{{node}}} {peer.traffic.refused}\n",
    )


_BOUNDS: Final = [str(bound) for bound in LATENCY_BOUNDS] + ["+Inf"]


def _histogram(node: str, peer: PeerTraffic) -> str:
    cumulative = tuple(accumulate(peer.traffic.latencies))
    return _histogram_form(node) % (cumulative[-1], peer.traffic.latency_sum, *cumulative)


@lru_cache(maxsize=4096)
def _histogram_form(node: str) -> str:
    """The thirteen lines of a peer but for their numbers: half of what a scrape costs, if made every time."""
    return f"zt_peer_latency_count{{{node}}} %d\nzt_peer_latency_sum{{{node}}} %d\n" + "".join(
        f'zt_peer_latency_bucket{{{node},le="{bound}"}} %d\n' for bound in _BOUNDS
    )


def _controller(snapshot: Snapshot) -> Iterator[Family]:
    counted = {"controller_network_config_request_threads": 1, **snapshot.controller}
    for name, kind, text in _CONTROLLER:
        yield single(name, kind, text, counted.get(name, 0))
    for name, key in _DATABASE.items():
        yield single(name, "counter", "counter", counted.get(key, 0))
