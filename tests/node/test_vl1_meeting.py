"""Two leaves and a root: first contact, relaying, the direct path, and what the data plane is told about it."""

from __future__ import annotations

import pytest

from tests.node.sim import Sim
from ztpipe.node.actions import AllowRelay
from ztpipe.node.settings import NodeSettings
from ztpipe.wire.protocol import Verb


def message(sim, source, destination, data=b"hello"):
    source.node.send_verb(sim.now, destination.address, Verb.USER_MESSAGE, (70_000).to_bytes(8, "big") + data)
    source.after_event()


def messages(host):
    return [event["data"] for event in host.events["user_message"]]


@pytest.fixture
def trio():
    sim = Sim()
    root, a, b = sim.root("R"), sim.leaf("A"), sim.leaf("B")
    sim.run(10_000)
    return sim, root, a, b


def test_leaves_reach_the_root(trio):
    _, root, a, b = trio
    for leaf in (a, b):
        assert leaf.paths_to(root) == root.endpoints
        assert root.paths_to(leaf) == leaf.endpoints
        assert leaf.node.status(0).online
    assert not a.knows(b)


def test_first_message_is_relayed_and_then_the_path_is_direct(trio):
    sim, _root, a, b = trio
    message(sim, a, b)
    took = sim.run_until(lambda: messages(b) == [b"hello"], limit=1_000)
    assert took <= 8 * sim.latency  # WHOIS and OK, two hops, WHOIS and OK at the receiver
    sim.run_until(lambda: bool(a.paths_to(b) and b.paths_to(a)), limit=1_000)
    since = sim.now
    message(sim, a, b, b"again")
    sim.run(sim.latency)
    assert messages(b) == [b"hello", b"again"]
    assert len(sim.between(a, b, since)) == 1


def test_the_data_plane_forwards_for_a_root_only(trio):
    _, root, a, b = trio
    assert [host.actions[AllowRelay] for host in (root, a, b)] == [[AllowRelay(True)], [], []]


def test_without_a_direct_way_traffic_stays_relayed(trio):
    sim, _root, a, b = trio
    sim.wall(a, b)
    for number in range(5):
        message(sim, a, b, bytes((number,)))
        sim.run(1_000)
    assert messages(b) == [bytes((number,)) for number in range(5)]
    assert a.paths_to(b) == b.paths_to(a) == []


def test_data_plane_hears_of_relay_then_direct(trio):
    sim, root, a, b = trio
    changes = []
    a.on_action = lambda action: changes.append(action) if getattr(action, "address", 0) == b.address else None
    sim.wall(a, b)
    message(sim, a, b)
    sim.run(1_000)
    message(sim, b, a)
    sim.run(1_000)
    assert [(change.direct, change.remote) for change in changes] == [(False, root.endpoints[0])]
    sim.unwall(a, b)
    sim.run(31_000)  # the root introduces a pair once per 30 s
    message(sim, a, b)
    sim.run(1_000)
    assert a.plane.peers[b.address].direct
    assert a.plane.peers[b.address].remote == b.endpoints[0]
    assert a.plane.peers[b.address].suite == 3
    assert (b.address, next(iter(a.bindings)), b.endpoints[0]) in a.plane.paths


def test_keys_installed_are_those_both_ends_agree_on(trio):
    sim, _root, a, b = trio
    message(sim, a, b)
    sim.run(1_000)
    ours, theirs = a.plane.peers[b.address], b.plane.peers[a.address]
    assert (ours.salsa_key, ours.k0, ours.k1) == (theirs.salsa_key, theirs.k0, theirs.k1)


@pytest.mark.parametrize("version", [10, 11])
def test_announcing_an_older_protocol_makes_others_speak_salsa(version):
    sim = Sim()
    root = sim.root("R")
    a = sim.leaf("A", settings=NodeSettings(protocol_version=version, max_suite=1))
    b = sim.leaf("B")
    sim.run(10_000)
    message(sim, a, b)
    sim.run(2_000)
    message(sim, b, a)
    sim.run(2_000)
    assert messages(b) and messages(a)
    to_a = [s.data for s in sim.sent if len(s.data) >= 28 and s.data[8:13] == a.address.to_bytes(5, "big")]
    suites = {(data[18] >> 3) & 7 for data in to_a}
    assert suites <= {0, 1}
    assert b.plane.peers[a.address].suite == 1
    assert a.plane.peers[b.address].suite == 1
    assert b.plane.peers[root.address].suite == 3


def test_long_messages_are_fragmented_and_arrive(trio):
    sim, _root, a, b = trio
    long = sim.random.randbytes(9_000)
    message(sim, a, b, long)
    sim.run(1_000)
    assert messages(b) == [long]
    message(sim, a, b, sim.random.randbytes(20_000))
    sim.run(100)
    assert a.drops["send_oversize"] == 1


def test_several_sockets_give_several_paths():
    sim = Sim()
    sim.root("R")
    a, b = sim.leaf("A", ports=3), sim.leaf("B", ports=3)
    sim.run(10_000)
    message(sim, a, b)
    sim.run(5_000)
    message(sim, b, a)
    sim.run(5_000)
    assert len(a.paths_to(b)) == 3  # one per local socket (vl1-behaviour §2.5)


def test_early_introduction_is_remembered(trio):
    """The passive side gets its RENDEZVOUS before it knows the peer, and follows it all the same (vl1-wire §9.6)."""
    sim, _root, a, b = trio
    since = sim.now
    message(sim, a, b)
    sim.run(1_000)
    openers = [s for s in sim.between(b, a, since) if len(s.data) == 4]
    assert [s.ttl for s in openers] == [2]
