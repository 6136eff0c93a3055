"""What happens over time: keep-alive as observed of the reference, recovery, a day's work, bounded memory."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.node.sim import START, Sim
from tests.node.test_vl1_meeting import message, messages
from ztpipe.node.settings import NodeSettings
from ztpipe.wire.armor import SessionKeys, open_packet
from ztpipe.wire.protocol import Verb


def verbs_sent(sim, source, destination, since=0):
    """[(ms since `since`, verb)] of what `source` sent straight to `destination` and for it."""
    keys = SessionKeys(source.identity.agree(destination.identity))
    found = []
    for sent in sim.between(source, destination, since):
        if len(sent.data) >= 28 and sent.data[8:13] == destination.address.to_bytes(5, "big"):
            found.append((sent.time - since, open_packet(keys, sent.data).verb))
    return found


def times(verbs, wanted):
    return [time for time, verb in verbs if verb is wanted]


@pytest.fixture
def quiet_leaf():
    sim = Sim()
    root, leaf = sim.root("R"), sim.leaf("A")
    return sim, root, leaf


def test_root_is_greeted_at_the_start_and_every_225_s(quiet_leaf):
    """OBSERVED (vl1-behaviour §1.3): a full HELLO at t = 0 and t = 225.0 s only; a WHOIS every 5.00 s."""
    sim, root, leaf = quiet_leaf
    sim.run(460_000)
    verbs = verbs_sent(sim, leaf, root, START)
    hellos = times(verbs, Verb.HELLO)
    assert [time for time in hellos if time > 1_000] == [225_000, 450_000]
    assert 1 <= len([time for time in hellos if time <= 1_000]) <= 2
    whois = times(verbs, Verb.WHOIS)
    assert all(later - earlier == 5_000 for earlier, later in pairwise(whois) if later < 220_000)
    assert len(whois) >= 85


def test_whois_of_the_root_is_answered(quiet_leaf):
    sim, root, leaf = quiet_leaf
    sim.run(62_000)
    answers = [s for s in sim.between(root, leaf, START + 1_000) if len(s.data) == 108]
    questions = [s for s in sim.between(leaf, root, START + 1_000) if len(s.data) == 33]
    assert len(questions) == len(answers) == 12  # 33 and 108 bytes are OBSERVED sizes


def test_active_peer_is_kept_alive_with_hello_and_echo():
    """OBSERVED (vl1-behaviour §2.4): HELLO, ECHO at +15, +30, +45, HELLO at +60."""
    sim, a, b = active_pair()
    since = sim.now
    sim.run(300_000)
    verbs = verbs_sent(sim, a, b, since)
    hellos, echos = times(verbs, Verb.HELLO), times(verbs, Verb.ECHO)
    assert {later - earlier for earlier, later in pairwise(hellos)} == {60_000}
    assert len(hellos) == 5
    for hello in hellos[:-1]:
        assert [time - hello for time in echos if hello < time < hello + 60_000] == [15_000, 30_000, 45_000]


def active_pair(*, keep_peers=False, **options):
    """A and B with a direct path, both active: each got a non-trivial packet of the other."""
    sim = Sim(**options)
    sim.root("R")
    a, b = sim.leaf("A", keep_peers=keep_peers), sim.leaf("B")
    sim.run(10_000)
    message(sim, a, b)
    sim.run(2_000)
    message(sim, b, a)
    sim.run(2_000)
    for one, other in ((a, b), (b, a)):
        one.node.peer_activity(sim.now, other.address, 1, sim.now)
        one.after_event()
    return sim, a, b


def test_inactive_peer_is_forgotten_after_500_s_and_saved():
    sim, a, b = active_pair()
    sim.run(495_000)
    assert a.paths_to(b)
    sim.run(600_000)
    assert not a.knows(b)
    assert b.address not in a.plane.peers
    assert a.saved["peer", b.address]
    assert not [path for path in a.plane.paths if path[0] == b.address]


def test_cached_peer_is_contacted_at_its_old_address_without_the_root():
    sim, a, b = active_pair(keep_peers=True)
    a.node.stop(sim.now)
    a.after_event()
    a.stop()
    sim.hosts[0].stop()
    a.start()
    sim.run(1_000)
    message(sim, a, b, b"from the cache")
    sim.run(6_000)
    assert messages(b)[-1] == b"from the cache"


def test_dead_direct_path_gives_way_to_the_root_in_seconds():
    """Our addition: the reference would go on for up to 243 s."""
    sim, a, b = active_pair()
    sim.wall(a, b)
    start = sim.now
    while messages(b)[-1] != b"through":
        message(sim, a, b, b"through")
        sim.run(500)
        assert sim.now - start < 15_000
    assert not a.plane.peers[b.address].direct
    sim.unwall(a, b)
    sim.run_until(lambda: a.plane.peers[b.address].direct, limit=61_000)


def test_idle_paths_are_never_doubted():
    sim, a, b = active_pair()
    sim.run(120_000)
    assert not a.events["path_doubted"] and not b.events["path_doubted"]


def test_data_plane_traffic_counts_as_ours():
    """A path that carries frames gets no ECHO; one that only sends and hears nothing is probed, then doubted."""
    sim, a, b = active_pair()
    binding, remote = next(iter(a.bindings)), b.endpoints[0]
    since = sim.now
    for _ in range(100):
        sim.run(500)
        a.node.path_activity(sim.now, b.address, binding, remote, sim.now, sim.now)
        a.node.peer_activity(sim.now, b.address, 1, sim.now)
        a.after_event()
    assert times(verbs_sent(sim, a, b, since), Verb.ECHO) == []
    sim.wall(a, b)
    heard = sim.now
    for _ in range(30):
        sim.run(500)
        a.node.path_activity(sim.now, b.address, binding, remote, heard, sim.now)
        a.after_event()
    assert a.events["path_doubted"]
    assert not a.plane.peers[b.address].direct


def test_restarted_root_knows_its_leaves_again_soon():
    sim, a, _b = active_pair()
    root = sim.hosts[0]
    root.stop()
    sim.run(3_000)
    root.start()
    assert not root.knows(a)
    assert sim.run_until(lambda: bool(root.paths_to(a)), limit=40_000) < 40_000
    sim.run(20_000)
    assert not a.events["offline"]


def test_restarted_root_is_used_to_meet_again():
    sim, a, _b = active_pair()
    root = sim.hosts[0]
    c = sim.leaf("C")
    sim.run(10_000)
    root.stop()
    sim.run(1_000)
    root.start()
    sim.run(45_000)
    message(sim, a, c, b"hi")
    sim.run(2_000)
    assert messages(c) == [b"hi"]


def test_offline_after_500_s_without_roots_and_online_again():
    sim, a, _b = active_pair()
    root = sim.hosts[0]
    root.stop()
    sim.run(490_000)
    assert not a.events["offline"]
    sim.run(20_000)
    assert len(a.events["offline"]) == 1
    root.start()
    sim.run(30_000)
    assert len(a.events["online"]) == 2


def test_best_of_two_roots_takes_over():
    sim = Sim()
    first, second = sim.roots("R1", "R2")
    a, b = sim.leaf("A"), sim.leaf("B")
    sim.run(20_000)
    sim.wall(a, b)
    message(sim, a, b, b"1")
    sim.run(2_000)
    message(sim, b, a, b"1")
    sim.run(2_000)
    used = a.plane.peers[b.address].remote
    best = first if used in first.endpoints else second
    other = second if best is first else first
    best.stop()
    sim.run_until(lambda: a.plane.peers[b.address].remote in other.endpoints, limit=40_000)
    sim.run(30_000)
    message(sim, a, b, b"2")
    sim.run(2_000)
    assert messages(b)[-1] == b"2"


def test_loss_does_not_keep_nodes_apart():
    sim, a, b = active_pair(loss=0.0)
    sim.loss = 0.3
    sim.run(600_000)
    for one, other in ((a, b), (b, a)):
        one.node.peer_activity(sim.now, other.address, 1, sim.now)
    sim.run(10_000)
    assert a.node.status(sim.now).online and b.node.status(sim.now).online
    got = len(messages(b))
    for _ in range(40):
        message(sim, a, b, b"x")
        sim.run(500)
    assert len(messages(b)) - got > 10


def test_bindings_that_go_take_their_paths_along():
    sim, a, b = active_pair()
    assert a.plane.peers[b.address].direct
    a.node.set_bindings(sim.now, [])
    a.after_event()
    assert a.paths_to(b) == []
    assert b.address not in a.plane.peers


def test_low_bandwidth_mode_is_quieter(quiet_leaf):
    sim, root, _ = quiet_leaf
    frugal = sim.leaf("F", settings=NodeSettings(low_bandwidth=True))
    sim.run(300_000)
    assert frugal.paths_to(root)
    assert len(times(verbs_sent(sim, frugal, root, START), Verb.WHOIS)) <= 13


def test_a_day_passes_and_memory_stays_bounded():
    sim, a, b = active_pair(record=False)
    core = a.node._vl1
    for _ in range(24):
        sim.run(3_600_000)
        message(sim, a, b, b"hourly")
        sim.run(5_000)
        a.node.peer_activity(sim.now, b.address, 1, sim.now)
        b.node.peer_activity(sim.now, a.address, 1, sim.now)
        assert len(core.paths) <= 4
        assert len(core.replies) < 100
        assert len(core.surface) <= 4
        assert len(core.inbound.deferral) == 0 and core.switch.queued == 0
        assert len(core.recovery.suspects) <= 2
    assert messages(b).count(b"hourly") == 24
    assert not a.events["offline"]
    assert a.plane.changes < 24 * 40
