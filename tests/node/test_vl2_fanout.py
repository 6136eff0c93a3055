"""Which groups the data plane repeats by itself, and that it would send what the slow path sends (vl2 §6.5)."""

from __future__ import annotations

from typing import Any

from tests.node.test_vl2_members import IPV4, joined, mac, tap
from tests.node.test_vl2_multicast import ALL_HOSTS, GROUP, IDENTITIES, like, meet
from tests.node.vl2_lab import Host, Lab
from ztpipe.node.actions import InstallGroup, RemoveGroup
from ztpipe.node.fanout import BUSY_FRAMES, BUSY_MS, LIFETIME_MS, MAX_TRACKED, SETTLE_MS
from ztpipe.node.gate import PUSH_IDLE_MS
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup
from ztpipe.wire.netconf import ROLE_BRIDGE, ROLE_REPLICATOR
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import MulticastFrame


def ready(members: int = 4, **common: object) -> tuple[Lab, list[Host]]:
    """All of whom have met; the first knows who likes the group."""
    lab = joined(members, **common)
    meet(lab)
    hosts = [lab.member(index) for index in range(1, members + 1)]
    for other in hosts[1:]:
        like(hosts[0], lab, other.address)
    hosts[0].vl1.take_sent()
    return lab, hosts


def busy(lab: Lab, host: Host, destination: int = ALL_HOSTS, frames: int = BUSY_FRAMES, **how: Any) -> list[Any]:
    """The entries and removals that so many frames cause."""
    for _ in range(frames):
        tap(lab, host, destination, IPV4, b"to all", **how)
    return told(host)


def told(host: Host) -> list[Any]:
    actions = [a for a in host.vl1.actions if isinstance(a, InstallGroup | RemoveGroup)]
    host.vl1.actions.clear()
    return actions


def in_use(lab: Lab, host: Host, destination: int = ALL_HOSTS) -> list[Any]:
    host.vl1.take_sent()
    host.engine.group_in_use(lab.now, lab.nwid, destination, mac(host, lab), IPV4, b"sample")
    return told(host)


def test_a_busy_group_gets_an_entry_with_whom_the_slow_path_sends_to() -> None:
    lab, (one, *others) = ready()
    assert busy(lab, one, frames=BUSY_FRAMES - 1) == []
    one.vl1.take_sent()
    (entry,) = busy(lab, one, frames=1)
    served = {sent.destination for sent in one.vl1.take_sent(Verb.MULTICAST_FRAME)}
    assert set(entry.recipients) == served == {other.address for other in others}
    assert (entry.nwid, entry.mac, entry.adi, entry.first, entry.limit, entry.replicated) == (
        lab.nwid,
        ALL_HOSTS,
        0,
        0,
        32,
        False,
    )
    assert lab.now < entry.renew_at < entry.until == lab.now + LIFETIME_MS


def test_a_quiet_group_keeps_to_the_slow_path() -> None:
    lab, (one, *_) = ready()
    for _ in range(20):
        assert busy(lab, one, frames=1) == []
        lab.now += BUSY_MS // 3


def test_frames_on_their_way_do_not_make_it_anew() -> None:
    lab, (one, *_) = ready()
    assert len(busy(lab, one, frames=50)) == 1
    lab.now += SETTLE_MS
    assert len(busy(lab, one, frames=50)) == 1


def test_bridges_come_first() -> None:
    lab, (one, two, three, four) = ready()
    (entry,) = busy(lab, one)
    lab.controller.common["specialists"] = (three.address | ROLE_BRIDGE,)
    lab.run(130_000)
    assert one.engine.statuses()[0].config is not None
    for other in (two, three, four):
        like(one, lab, other.address)
    entry = busy(lab, one)[-1]
    assert entry.first == 1 and entry.recipients[0] == three.address and len(entry.recipients) == 3


def test_through_a_replicator() -> None:
    lab, (one, two, *_) = ready()
    lab.controller.common["specialists"] = (two.address | ROLE_REPLICATOR,)
    lab.run(130_000)
    (entry,) = busy(lab, one)
    assert (entry.recipients, entry.replicated) == ((two.address,), True)
    one.vl1.beyond_reach.add(two.address)
    lab.now += SETTLE_MS
    assert busy(lab, one) == [RemoveGroup(lab.nwid, ALL_HOSTS, 0)]


def test_who_turns_up_is_added_at_once() -> None:
    lab, (one, two, three, _) = ready()
    new = MulticastGroup(ALL_HOSTS + 1, 0)
    like(one, lab, two.address, new)
    (entry,) = busy(lab, one, new.mac)
    assert entry.recipients == (two.address,)
    like(one, lab, three.address, new)
    like(one, lab, two.address, new)
    (entry,) = told(one)
    assert set(entry.recipients) == {two.address, three.address}


def test_nobody_is_asked_for_again_soon() -> None:
    lab, (one, *_) = ready()
    (entry,) = busy(lab, one, ALL_HOSTS + 5)
    assert entry.recipients == () and entry.until == lab.now + BUSY_MS
    like(one, lab, lab.member(2).address, MulticastGroup(ALL_HOSTS + 5, 0))
    assert told(one)[-1].recipients == (lab.member(2).address,)


def test_whom_c_does_not_reach_gets_a_sample() -> None:
    lab, (one, two, three, four) = ready()
    one.vl1.beyond_reach.add(two.address)
    (entry,) = busy(lab, one)
    assert set(entry.recipients) == {three.address, four.address} and entry.renew_at == lab.now + 1_000
    (again,) = in_use(lab, one)
    assert set(again.recipients) == {three.address, four.address}
    (sent,) = one.vl1.take_sent(Verb.MULTICAST_FRAME)
    assert sent.destination == two.address and MulticastFrame.decode(sent.payload).payload == b"sample"
    one.vl1.beyond_reach.clear()
    assert len(in_use(lab, one)[0].recipients) == 3 and not one.vl1.take_sent(Verb.MULTICAST_FRAME)


def test_over_a_tunnel_only_the_slow_path_sends() -> None:
    lab, (one, two, *_) = ready()
    assert len(busy(lab, one)) == 1
    one.vl1.by_tunnel.add(two.address)
    assert in_use(lab, one) == [RemoveGroup(lab.nwid, ALL_HOSTS, 0)]
    assert busy(lab, one) == []


def test_in_use_asks_for_more_members_and_holds_on() -> None:
    lab, (one, *_) = ready()
    (entry,) = busy(lab, one)
    asked = 0
    for _ in range(15):
        lab.now += 5_000
        (entry,) = in_use(lab, one)
        asked += any(sent.verb is Verb.MULTICAST_GATHER for sent in one.vl1.take_sent())
        assert entry.until == lab.now + LIFETIME_MS
    assert 1 <= asked <= 2


def test_credentials_go_out_before_their_time_is_over() -> None:
    lab, (one, *_) = ready()
    busy(lab, one)
    lab.now += PUSH_IDLE_MS - LIFETIME_MS // 2
    (entry,) = in_use(lab, one)
    assert entry.until <= lab.now + LIFETIME_MS // 2
    lab.now = entry.until + 1
    one.vl1.take_sent()
    (entry,) = busy(lab, one)
    assert {sent.destination for sent in one.vl1.take_sent(Verb.NETWORK_CREDENTIALS)} >= set(entry.recipients)
    assert entry.until == lab.now + LIFETIME_MS


def test_a_new_configuration_counts_at_once() -> None:
    lab, (one, *_) = ready()
    busy(lab, one)
    busy(lab, one, BROADCAST_MAC)
    lab.controller.common["flags"] = 0  # no broadcast
    lab.controller.common["multicast_limit"] = 2
    lab.run(130_000)
    actions = told(one)
    assert RemoveGroup(lab.nwid, BROADCAST_MAC, 0) in actions
    assert [a.limit for a in actions if isinstance(a, InstallGroup) and a.mac == ALL_HOSTS][-1] == 2
    lab.controller.common["multicast_limit"] = 0
    lab.run(130_000)
    assert RemoveGroup(lab.nwid, ALL_HOSTS, 0) in told(one)


def test_what_is_not_used_is_forgotten() -> None:
    lab, (one, *_) = ready()
    busy(lab, one)
    lab.now += LIFETIME_MS
    one.engine.housekeeping(lab.now)
    assert told(one) == [RemoveGroup(lab.nwid, GROUP.mac, 0)]
    assert in_use(lab, one) == []
    busy(lab, one)
    one.engine.leave(lab.now, lab.nwid)
    assert len(one.engine._fanout) == 0


def test_what_is_tracked_is_bounded() -> None:
    lab, (one, *_) = ready()
    assert len(busy(lab, one)) == 1
    removed = []
    for number in range(MAX_TRACKED + 5):
        removed += busy(lab, one, ALL_HOSTS + 100 + number, frames=1)
    assert removed == [RemoveGroup(lab.nwid, ALL_HOSTS, 0)]
    assert len(one.engine._fanout) == MAX_TRACKED


def test_questions_for_addresses_get_no_entry() -> None:
    lab, (one, *_) = ready()
    target = MulticastGroup(BROADCAST_MAC, 0x0A090002)
    like(one, lab, IDENTITIES[2].address, target)
    request = b"\x00\x01\x08\x00\x06\x04\x00\x01" + bytes(16) + b"\x0a\x09\x00\x02"
    for _ in range(3 * BUSY_FRAMES):
        tap(lab, one, BROADCAST_MAC, 0x0806, request)
    assert told(one) == []
