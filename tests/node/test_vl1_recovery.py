"""Dead paths, sockets that come and go, rebinding NATs, suspend: how soon traffic flows again, and at what cost."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.node.sim import Sim
from tests.node.test_vl1_meeting import message, messages
from tests.node.test_vl1_time import active_pair, times, verbs_sent
from ztpipe.node.recovery import PROBE_INTERVAL_MS
from ztpipe.node.settings import Binding
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Verb


def talk(sim, a, b, duration, *, each=100):
    """A and B say something to each other every `each` ms; the longest time that nothing arrived, per listener."""
    gaps = {a.name: 0, b.name: 0}
    heard = {host.name: (sim.now, len(messages(host))) for host in (a, b)}
    end = sim.now + duration
    while sim.now < end:
        message(sim, a, b)
        message(sim, b, a)
        sim.run(each)
        for host in (a, b):
            at, count = heard[host.name]
            if len(messages(host)) > count:
                gaps[host.name] = max(gaps[host.name], sim.now - at)
                heard[host.name] = (sim.now, len(messages(host)))
    for host in (a, b):
        gaps[host.name] = max(gaps[host.name], sim.now - heard[host.name][0])
    return gaps


def test_dead_path_is_doubted_within_2_s_and_replaced_within_5_s_in_both_directions():
    sim, a, b = active_pair()
    talk(sim, a, b, 3_000)
    sim.wall(a, b)
    since = sim.now
    gaps = talk(sim, a, b, 10_000)
    assert max(gaps.values()) < 2_500, gaps
    assert a.events["path_doubted"] and b.events["path_doubted"]
    assert sim.now - since == 10_000
    sim.unwall(a, b)
    back = sim.run_until(lambda: all(x.plane.peers[y.address].direct for x, y in ((a, b), (b, a))), limit=5_000)
    assert back <= 5_000


def test_the_quiet_side_changes_over_too():
    """Only A begins; B answers. B sees that A's packets come by the root, and asks the path it would use."""
    sim, a, b = active_pair()
    sim.wall(a, b)
    answered = len(messages(a))
    start = sim.now
    while len(messages(a)) == answered:
        assert sim.now - start < 5_000
        heard = len(messages(b))
        message(sim, a, b)
        sim.run(100)
        if len(messages(b)) > heard:
            message(sim, b, a)
            sim.run(100)


def test_probes_stay_within_the_gate_of_the_peer():
    sim, a, b = active_pair()
    sim.wall(a, b)
    since = sim.now
    talk(sim, a, b, 60_000)
    echos = times(verbs_sent(sim, a, b, since), Verb.ECHO)
    assert all(later - earlier >= PROBE_INTERVAL_MS > 166 for earlier, later in pairwise(echos))
    assert len(echos) <= 40


def test_one_way_traffic_costs_at_most_two_echos_a_second_and_no_doubt():
    sim, a, b = active_pair()
    binding, remote = next(iter(a.bindings)), b.endpoints[0]
    since = sim.now
    for _ in range(100):
        sim.run(100)
        a.node.path_activity(sim.now, b.address, binding, remote, 0, sim.now)
        a.after_event()
    assert len(times(verbs_sent(sim, a, b, since), Verb.ECHO)) <= 20
    assert not a.events["path_doubted"]


@pytest.mark.parametrize("latency", [10, 300, 600])
def test_long_latency_is_no_reason_for_doubt(latency):
    sim, a, b = active_pair(latency=latency)
    talk(sim, a, b, 30_000)
    assert not a.events["path_doubted"] and not b.events["path_doubted"]


def test_loss_of_a_fifth_is_no_reason_for_doubt():
    sim, a, b = active_pair()
    sim.loss = 0.2
    talk(sim, a, b, 30_000)
    for host, other in ((a, b), (b, a)):
        assert other.address not in [event["peer"] for event in host.events["path_doubted"]]


def readdress(sim, host, ip):
    """The host's address changes: its sockets close, others open."""
    for binding in host.bindings.values():
        sim._sockets.pop(binding.local, None)
    number = max(host.bindings) + 100
    fresh = Binding(number, InetAddress(ip, 9993), "eth0")
    host.bindings = {number: fresh}
    sim._sockets[fresh.local] = (host, number)
    host.node.set_bindings(sim.now, [fresh])
    host.after_event()


def test_change_of_our_address_is_over_in_seconds():
    sim, a, b = active_pair()
    readdress(sim, a, bytes((10, 1, 77, 1)))
    gaps = talk(sim, a, b, 8_000)
    assert max(gaps.values()) < 3_000, gaps
    assert a.plane.peers[b.address].direct and b.plane.peers[a.address].direct
    assert b.plane.peers[a.address].remote.ip == bytes((10, 1, 77, 1))


def test_sockets_gone_for_a_minute_and_back():
    sim, a, b = active_pair()
    kept = dict(a.bindings)
    a.node.set_bindings(sim.now, [])
    a.bindings = {}
    a.after_event()
    sim.run(60_000)
    assert b.address not in a.plane.peers
    a.bindings = {number + 50: binding._replace(id=number + 50) for number, binding in kept.items()}
    for number, binding in a.bindings.items():
        sim._sockets[binding.local] = (a, number)
    a.node.set_bindings(sim.now, list(a.bindings.values()))
    a.after_event()
    gaps = talk(sim, a, b, 6_000)
    assert max(gaps.values()) < 5_000, gaps
    assert a.plane.peers[b.address].direct


def test_first_greetings_that_get_lost_are_repeated_every_second():
    """A link that has just come up often swallows what is sent at once."""
    sim, a, b = active_pair()
    sim.loss = 1.0
    readdress(sim, a, bytes((10, 1, 77, 1)))
    sim.run(1_500)
    sim.loss = 0.0
    gaps = talk(sim, a, b, 5_000)
    assert max(gaps.values()) < 3_000, gaps


def test_rebinding_nat_is_followed():
    """A's datagrams suddenly come from another port, and nothing sent to the old one arrives."""
    sim, a, b = active_pair()
    ((number, binding),) = a.bindings.items()
    del sim._sockets[binding.local]
    mapped = binding._replace(local=binding.local._replace(port=40_000))
    a.bindings[number] = mapped
    sim._sockets[mapped.local] = (a, number)
    gaps = talk(sim, a, b, 8_000)
    assert max(gaps.values()) < 5_000, gaps
    assert b.plane.peers[a.address].remote.port == 40_000


def test_waking_up_asks_every_path_in_use_at_once():
    sim, a, b = active_pair()
    sim.run(100)
    sim.wall(a, b)
    since = sim.now
    a.node.resumed(sim.now)
    a.after_event()
    assert times(verbs_sent(sim, a, b, since), Verb.ECHO) == [0]
    sim.run(2_000)
    assert not a.plane.peers[b.address].direct  # found out without any traffic


def test_a_link_that_comes_back_is_tried_at_once():
    sim, a, b = active_pair()
    sim.wall(a, b)
    talk(sim, a, b, 5_000)
    sim.unwall(a, b)
    a.node.links_changed(sim.now)
    a.after_event()
    sim.run(400)
    assert a.plane.peers[b.address].direct


def test_dead_root_gives_way_to_the_other_in_seconds():
    sim = Sim()
    roots = sim.roots("R1", "R2")
    a, b = sim.leaf("A"), sim.leaf("B")
    sim.wall(a, b)
    sim.run(10_000)
    talk(sim, a, b, 3_000)
    used = a.plane.peers[b.address].remote
    next(root for root in roots if root.endpoints[0] == used).stop()
    gaps = talk(sim, a, b, 15_000)
    assert max(gaps.values()) < 5_000, gaps
