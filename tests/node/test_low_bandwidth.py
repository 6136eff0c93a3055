"""Low-bandwidth mode, line by line of the table in vl1-behaviour §2.12. Its first line is in test_vl1_time.py."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.node.puppet import BINDING, LOCAL, Bench
from tests.node.test_vl1_gates import Recorder, pushed
from tests.node.test_vl2_members import IPV4, joined, mac, tap
from tests.node.test_vl2_multicast import ALL_HOSTS, GROUP, like, meet
from ztpipe.node.actions import SendDatagram
from ztpipe.node.settings import Binding, NodeSettings
from ztpipe.wire.protocol import Verb

FRUGAL = NodeSettings(low_bandwidth=True)


@pytest.mark.parametrize(("frugal", "apart"), [(False, 60_000), (True, 3_840_000)])
def test_configurations_are_asked_for_every_64_minutes(frugal: bool, apart: int) -> None:
    lab = joined(1)
    one = lab.member(1)
    one.vl1.settings = NodeSettings(low_bandwidth=frugal)
    one.vl1.take_sent()
    asked: list[int] = []
    for _ in range(3 * apart // 5_000):
        lab.run(5_000)
        asked += [sent.now for sent in one.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST)]
    assert 0 <= asked[1] - asked[0] - apart <= 5_000


def test_groups_are_announced_when_a_member_is_heard_only() -> None:
    lab = joined(2)
    meet(lab)
    one, two = lab.member(1), lab.member(2)
    one.vl1.settings = two.vl1.settings = FRUGAL
    one.engine.set_multicast_groups(lab.now, lab.nwid, {GROUP})
    one.vl1.take_sent()
    lab.run(300_000)
    assert not one.vl1.take_sent(Verb.MULTICAST_LIKE)
    tap(lab, two, mac(one, lab), IPV4, b"hello")
    lab.run(1_000)
    assert {sent.destination for sent in one.vl1.take_sent(Verb.MULTICAST_LIKE)} == {two.address}


@pytest.mark.parametrize(("frugal", "apart"), [(False, 60_000), (True, 180_000)])
def test_members_of_a_group_are_asked_for_every_three_minutes(frugal: bool, apart: int) -> None:
    lab = joined(2)
    meet(lab)
    one, two = lab.member(1), lab.member(2)
    one.vl1.settings = NodeSettings(low_bandwidth=frugal)
    like(one, lab, two.address)
    asked = []
    for _ in range(400):
        tap(lab, one, ALL_HOSTS, IPV4, b"to all")
        asked += [sent.now for sent in one.vl1.take_sent(Verb.MULTICAST_GATHER)][:1]
        lab.now += 1_000
        like(one, lab, two.address)
    assert {later - earlier for earlier, later in pairwise(asked)} == {apart}


@pytest.mark.parametrize(("frugal", "apart"), [(False, 120_000), (True, 1_920_000)])
def test_direct_peers_are_told_our_addresses_every_32_minutes(frugal: bool, apart: int) -> None:
    bench = Bench(vl2=Recorder, settings=NodeSettings(low_bandwidth=frugal))
    peer = bench.puppet(5)
    bench.meet(peer)
    times = []
    for _ in range(2 * apart // 10_000 + 1):
        times += [bench.now for _ in pushed(bench, peer, bench.say(peer, Verb.FRAME, b""))]
        bench.now += 10_000
    assert [time - times[0] for time in times] == [0, apart, 2 * apart]


def test_relayed_peers_are_told_as_often_as_ever() -> None:
    bench = Bench(vl2=Recorder, settings=FRUGAL)
    bench.meet(bench.root)
    peer = bench.puppet(5)
    bench.meet(peer)
    times = []
    for _ in range(40):
        if pushed(bench, peer, bench.say(peer, Verb.FRAME, b"", hops=1, remote=bench.root.remote)):
            times.append(bench.now)
        bench.now += 1_000
    assert [time - times[0] for time in times] == [0, 15_000, 30_000]


def test_a_hello_leaves_from_one_socket_or_from_all_if_none_is_meant() -> None:
    bench = Bench(settings=FRUGAL)
    bench.node.set_bindings(bench.now, [Binding(BINDING, LOCAL), Binding(2, LOCAL._replace(port=2))])
    start = [action for action in bench.pass_time(500) if isinstance(action, SendDatagram) and len(action.data) == 137]
    assert [action.binding for action in start] == [None]  # to a root that has no path yet
    peer = bench.puppet(5)
    actions = bench.hello(peer)  # from an unknown path: asked back by a HELLO where it came in
    hellos = [a.binding for a in actions if isinstance(a, SendDatagram) and bench.verbs(peer, [a]) == [Verb.HELLO]]
    assert hellos == [BINDING]


def test_paths_are_kept_as_ever() -> None:
    """Heartbeat and expiry are those of every node."""
    bench = Bench(settings=FRUGAL)
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.node.peer_activity(bench.now, peer.address, 1, bench.now)
    sent = [bench.verbs(peer, bench.pass_time(25_000)) for _ in range(6)]
    assert [Verb.ECHO in verbs or Verb.HELLO in verbs for verbs in sent] == [True] * 6
    assert bench.paths(peer) == [peer.remote]
