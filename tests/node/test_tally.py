"""Packets, errors and latencies as the node counts them."""

from __future__ import annotations

import pytest

from tests.node.puppet import Bench
from tests.node.sim import Host, Sim
from ztpipe.node.status import PeerTraffic
from ztpipe.node.tally import LATENCY_BOUNDS, Tally, Traffic
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.verbs import Error


def traffic_with(host: Host, other: Host) -> PeerTraffic:
    return next(peer for peer in host.node.peer_traffic(host.sim.now) if peer.address == other.address)


def test_what_one_counts_as_sent_the_other_counts_as_received() -> None:
    """On a network that loses nothing; a packet in transit at the end is not there yet."""
    sim = Sim()
    root, leaf = sim.root(), sim.leaf("A")
    sim.run(30_000)
    leaf.node.send_verb(sim.now, root.address, Verb.ECHO, b"x" * 4_000)  # in fragments, and still one packet
    leaf.after_event()
    sim.run(2 * sim.latency)
    assert leaf.node.tally.sent == root.node.tally.received
    assert root.node.tally.sent == leaf.node.tally.received
    assert leaf.node.tally.sent[Verb.ECHO] > 0
    assert leaf.node.tally.sent[Verb.HELLO] > 0
    mine, theirs = traffic_with(leaf, root).traffic, traffic_with(root, leaf).traffic
    assert (mine.sent, mine.received) == (theirs.received, theirs.sent)
    assert mine.sent == sum(leaf.node.tally.sent)
    assert mine.refused == 0


def test_latency_is_observed_and_unknown_latency_is_not() -> None:
    sim = Sim(latency=20)
    root, leaf = sim.root(), sim.leaf("A")
    sim.run(70_000)
    seen = traffic_with(leaf, root)
    assert seen.latency == 40
    bucket = LATENCY_BOUNDS.index(60)
    assert seen.traffic.latencies[bucket] == sum(seen.traffic.latencies) > 0
    assert seen.traffic.latency_sum == 40 * seen.traffic.latencies[bucket]
    assert (seen.alive, seen.dead, seen.remote) == (1, 0, root.endpoints[0])
    root.stop()
    sim.run(25_000)
    seen = traffic_with(leaf, root)
    assert (seen.alive, seen.dead) == (0, 1)
    assert seen.unanswered > 0


@pytest.mark.parametrize(
    ("latency", "bucket"), [(0, 0), (1, 0), (2, 1), (3, 1), (10, 3), (11, 4), (1_000, 9), (1_001, 10), (60_000, 10)]
)
def test_buckets_hold_what_is_at_most_their_bound(latency: int, bucket: int) -> None:
    traffic = Traffic()
    traffic.observe(latency)
    traffic.observe(-1)
    assert [at for at, count in enumerate(traffic.latencies) if count] == [bucket]
    assert traffic.latency_sum == latency


def test_errors_are_counted_by_code_in_both_directions() -> None:
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.say(peer, Verb.ERROR, Error(Verb.NETWORK_CONFIG_REQUEST, 1, ErrorCode.NETWORK_ACCESS_DENIED, b"").encode())
    assert bench.node.tally.errors_received[ErrorCode.NETWORK_ACCESS_DENIED] == 1
    bench.node.send_verb(
        bench.now, peer.address, Verb.ERROR, Error(Verb.WHOIS, 1, ErrorCode.OBJ_NOT_FOUND, b"").encode()
    )
    assert bench.node.tally.errors_sent[ErrorCode.OBJ_NOT_FOUND] == 1
    assert bench.node.tally.sent[Verb.ERROR] == bench.node.tally.received[Verb.ERROR] == 1


def test_forged_packets_of_a_known_peer_are_counted_as_refused() -> None:
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    packet = bytearray(bench.packet(peer, Verb.ECHO, b"hello"))
    packet[-1] ^= 1
    received = list(bench.node.tally.received)
    bench.datagram(bytes(packet), peer.remote)
    refused = {seen.address: seen.traffic.refused for seen in bench.node.peer_traffic(bench.now)}
    assert refused[peer.address] == 1
    assert bench.node.tally.received == received


@pytest.mark.parametrize("payload", [b"", bytes(9), bytes(9) + b"\x00", bytes(9) + b"\xff"])
def test_errors_without_a_known_code_are_counted_by_verb_only(payload: bytes) -> None:
    tally = Tally()
    tally.packet_received(Verb.ERROR, payload)
    assert tally.received[Verb.ERROR] == 1
    assert not any(tally.errors_received)
