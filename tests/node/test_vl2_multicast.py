"""Multicast, replicators, bridges, neighbour discovery (vl2 §5.3, §5.4, §5.9, §6)."""

from __future__ import annotations

import pytest

from tests.node.test_vl2_members import ARP, IPV4, arp, ip_of, joined, mac, tap
from tests.node.vl2_lab import FakePeer, Host, Lab, frames, some_identities
from ztpipe.node.bridge import MAX_ROUTES, ROUTE_TIMEOUT_MS, BridgeTable
from ztpipe.node.groups import MEMBER_TIMEOUT_MS, GroupTable
from ztpipe.node.ndp import emulated_answer
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of, rfc4193, sixplane
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import ROLE_ANCHOR, ROLE_BRIDGE, ROLE_REPLICATOR
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import (
    ExtFrame,
    Like,
    MulticastFrame,
    MulticastGather,
    MulticastLike,
    Ok,
    OkMulticastGather,
    UnwantedMulticast,
)

IDENTITIES = some_identities()
ALL_HOSTS = 0x01005E000001
GROUP = MulticastGroup(ALL_HOSTS, 0)


def like(host: Host, lab: Lab, source: int, group: MulticastGroup = GROUP) -> None:
    """`source` is a root's word for a member that likes a group: delivered from the member itself."""
    identity = next(i for i in IDENTITIES if i.address == source)
    host.receive(host.context(lab.now, identity, Verb.MULTICAST_LIKE, MulticastLike((Like(lab.nwid, group),)).encode()))


def meet(lab: Lab) -> None:
    """Every member has had a frame of every other, with credentials."""
    hosts = list(lab.hosts.values())[1:]
    for one in hosts:
        for two in hosts:
            if one is not two:
                tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(3_000)
    for host in lab.hosts.values():
        host.vl1.sent.clear()
        host.vl1.actions.clear()


# --- sending -------------------------------------------------------------------------------------------------


def test_a_frame_waits_five_seconds_for_members_and_each_gets_it_once() -> None:
    lab = joined(4)
    meet(lab)
    one, two, three, four = (lab.member(i) for i in range(1, 5))
    tap(lab, one, ALL_HOSTS, IPV4, b"to all")
    assert {sent.verb for sent in one.vl1.take_sent()} == {Verb.MULTICAST_GATHER}
    like(one, lab, two.address)
    like(one, lab, two.address)
    lab.now += 4_999
    like(one, lab, three.address)
    lab.now += 1
    like(one, lab, four.address)
    sent = one.vl1.take_sent(Verb.MULTICAST_FRAME)
    assert [s.destination for s in sent] == [two.address, three.address]
    packet = MulticastFrame.decode(sent[0].payload)
    assert (packet.group, packet.source, packet.gather_limit, packet.payload) == (GROUP, None, 33, b"to all")


def test_a_full_group_is_served_in_one_pass_up_to_the_limit() -> None:
    lab = joined(4, multicast_limit=2)
    meet(lab)
    one = lab.member(1)
    for index in (2, 3, 4):
        like(one, lab, lab.member(index).address)
    tap(lab, one, ALL_HOSTS, IPV4, b"to two")
    sent = one.vl1.take_sent()
    assert [s.verb for s in sent] == [Verb.MULTICAST_FRAME] * 2 and len({s.destination for s in sent}) == 2
    assert {MulticastFrame.decode(s.payload).gather_limit for s in sent} == {1}


def test_a_limit_of_zero_disables_multicast_both_ways() -> None:
    lab = joined(2, multicast_limit=0)
    meet(lab)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, BROADCAST_MAC, ARP, arp(lab, 1, one, 0, ip_of(two)))
    assert one.vl1.drops() == ["multicast_disabled"] and not one.vl1.sent
    packet = MulticastFrame(lab.nwid, GROUP, IPV4, b"x").encode()
    two.receive(two.context(lab.now, one.identity, Verb.MULTICAST_FRAME, packet))
    assert two.vl1.drops() == ["multicast_disabled"] and not frames(two)


@pytest.mark.parametrize(
    ("source", "reason"),
    [(0, "bad_source_mac"), (BROADCAST_MAC, "bad_source_mac"), (0x02AABBCCDDEE, "peer_not_a_bridge")],
)
def test_bad_sources_of_multicast_frames(source: int, reason: str) -> None:
    lab = joined(2)
    meet(lab)
    one, two = lab.member(1), lab.member(2)
    packet = MulticastFrame(lab.nwid, GROUP, IPV4, b"x", source=source).encode()
    two.receive(two.context(lab.now, one.identity, Verb.MULTICAST_FRAME, packet))
    assert two.vl1.drops() == [reason] and not frames(two)


def test_a_gather_on_a_frame_is_answered_even_if_rules_drop_it() -> None:
    lab = joined(3)
    meet(lab)
    one, two, three = (lab.member(i) for i in (1, 2, 3))
    like(two, lab, three.address)
    like(two, lab, one.address)
    two.engine.set_multicast_groups(lab.now, lab.nwid, {GROUP})
    two.vl1.take_sent()
    packet = MulticastFrame(lab.nwid, GROUP, IPV4, b"x", gather_limit=10).encode()
    two.receive(two.context(lab.now, one.identity, Verb.MULTICAST_FRAME, packet, packet_id=99))
    ok = Ok.decode(two.vl1.take_sent(Verb.OK)[0].payload)
    assert (ok.in_re_verb, ok.in_re_id) == (Verb.MULTICAST_FRAME, 99)
    one.receive(one.context(lab.now, two.identity, Verb.OK, ok.encode()))
    tap(lab, one, ALL_HOSTS, IPV4, b"now known")
    recipients = [s.destination for s in one.vl1.take_sent(Verb.MULTICAST_FRAME)]
    assert sorted(recipients) == sorted([two.address, three.address])


# --- gathering -----------------------------------------------------------------------------------------------


def gather(host: Host, lab: Lab, asker: int, limit: int = 100) -> OkMulticastGather | None:
    identity = next(i for i in IDENTITIES if i.address == asker)
    host.vl1.take_sent()
    request = MulticastGather(lab.nwid, GROUP, limit).encode()
    host.receive(host.context(lab.now, identity, Verb.MULTICAST_GATHER, request))
    sent = host.vl1.take_sent(Verb.OK)
    return OkMulticastGather.decode(Ok.decode(sent[0].payload).body) if sent else None


def test_roots_answer_for_networks_they_are_not_in() -> None:
    lab = joined(3)
    root, one, two = lab.hub, lab.member(1), lab.member(2)
    assert gather(root, lab, one.address) is None
    like(root, lab, one.address)
    like(root, lab, two.address)
    answer = gather(root, lab, one.address)
    assert answer is not None and (answer.total, answer.members) == (2, (two.address,))
    assert gather(root, lab, one.address, limit=0) is None


def test_a_controller_that_is_no_root_serves_those_it_answered_of_late() -> None:
    lab = joined(2)
    lab.hub.vl1.root = False
    one, two = lab.member(1), lab.member(2)
    like(lab.hub, lab, two.address)
    assert gather(lab.hub, lab, one.address) is not None
    lab.now += 180_000
    assert gather(lab.hub, lab, one.address) is None
    assert "gather_not_admitted" in lab.hub.vl1.drops()


def test_a_member_that_wants_no_more_is_forgotten() -> None:
    lab = joined(2)
    meet(lab)
    one, two = lab.member(1), lab.member(2)
    like(one, lab, two.address)
    body = UnwantedMulticast(lab.nwid, GROUP).encode()
    error = bytes((Verb.MULTICAST_FRAME,)) + bytes(8) + b"\x08" + body
    one.receive(one.context(lab.now, two.identity, Verb.ERROR, error))
    tap(lab, one, ALL_HOSTS, IPV4, b"nobody")
    assert not [s for s in one.vl1.take_sent() if s.verb is Verb.MULTICAST_FRAME]


def test_new_groups_are_announced_at_once_and_all_of_them_every_minute() -> None:
    lab = joined(2)
    meet(lab)
    one, two = lab.member(1), lab.member(2)
    one.engine.set_multicast_groups(lab.now, lab.nwid, {GROUP})
    sent = one.vl1.take_sent(Verb.MULTICAST_LIKE)
    assert {s.destination for s in sent} == {lab.hub.address, two.address}
    assert all(MulticastLike.decode(s.payload).likes == (Like(lab.nwid, GROUP),) for s in sent)
    one.engine.set_multicast_groups(lab.now, lab.nwid, {GROUP})
    assert not one.vl1.take_sent()
    lab.run(61_000)
    every = [MulticastLike.decode(s.payload) for s in one.vl1.take_sent(Verb.MULTICAST_LIKE)]
    assert [len(packet.likes) for packet in every if len(packet.likes) > 1] == [3, 3]


def test_the_group_table_is_bounded_and_forgets() -> None:
    table = GroupTable(max_entries=3, max_per_member=2)
    groups = [MulticastGroup(ALL_HOSTS, adi) for adi in range(4)]
    assert [table.add(0, 1, group, 7) for group in groups] == [True, True, False, False]
    assert table.add(0, 1, groups[0], 8) and not table.add(0, 1, groups[0], 9)
    assert table.add(1, 1, groups[0], 8), "known already"
    table.expire(MEMBER_TIMEOUT_MS)
    assert table.members(1, groups[0]) == [8] and len(table) == 1
    table.forget_network(1)
    assert len(table) == 0


# --- replicators ---------------------------------------------------------------------------------------------


def specialists(lab: Lab, **roles: int) -> None:
    words = tuple(lab.member(int(name[1:])).address | role for name, role in roles.items())
    lab.controller.common["specialists"] = words
    for host in list(lab.hosts.values())[1:]:
        lab.push(host.address)
    lab.run(100)
    meet(lab)


def test_members_upload_to_the_nearest_replicator_which_distributes() -> None:
    lab = joined(3)
    specialists(lab, m3=ROLE_REPLICATOR | ROLE_BRIDGE)
    one, two, three = (lab.member(i) for i in (1, 2, 3))
    like(three, lab, two.address)
    like(three, lab, one.address)
    tap(lab, one, ALL_HOSTS, IPV4, b"spread")
    (sent,) = one.vl1.take_sent()
    packet = MulticastFrame.decode(sent.payload)
    assert sent.destination == three.address
    assert (packet.replicate, packet.source, packet.gather_limit) == (True, mac(one, lab), 0)
    lab.run(100)
    assert [f.payload for f in frames(three)] == [b"spread"]
    assert [(f.payload, f.source) for f in frames(two)] == [(b"spread", mac(one, lab))]
    assert not frames(one)


def test_whoever_wants_a_frame_replicated_counts_towards_the_limit() -> None:
    lab = joined(3, multicast_limit=1)
    specialists(lab, m3=ROLE_REPLICATOR)
    one, two, three = (lab.member(i) for i in (1, 2, 3))
    packet = MulticastFrame(lab.nwid, GROUP, IPV4, b"spread", source=mac(one, lab), replicate=True).encode()
    three.receive(three.context(lab.now, one.identity, Verb.MULTICAST_FRAME, packet))
    like(three, lab, two.address)
    assert not three.vl1.take_sent(Verb.MULTICAST_FRAME)
    assert [f.payload for f in frames(three)] == [b"spread"]


def test_an_unreachable_replicator_is_not_used() -> None:
    lab = joined(3)
    specialists(lab, m3=ROLE_REPLICATOR)
    one, three = lab.member(1), lab.member(3)
    one.vl1.known[three.address] = FakePeer(three.identity, direct=False)
    tap(lab, one, ALL_HOSTS, IPV4, b"spread")
    assert not [s for s in one.vl1.take_sent() if s.verb is Verb.MULTICAST_FRAME]


def test_anchors_are_told_and_asked() -> None:
    lab = joined(3)
    specialists(lab, m3=ROLE_ANCHOR)
    one, three = lab.member(1), lab.member(3)
    assert one.engine.always_contact() == {three.address} and three.engine.always_contact() == set()
    tap(lab, one, ALL_HOSTS, IPV4, b"x")
    assert {s.destination for s in one.vl1.take_sent(Verb.MULTICAST_GATHER)} == {lab.hub.address, three.address}


# --- bridges -------------------------------------------------------------------------------------------------

OUTSIDE = 0x0A0000000005


def test_frames_to_unknown_macs_go_to_bridges_and_answers_teach_the_way() -> None:
    lab = joined(4)
    specialists(lab, m2=ROLE_BRIDGE, m3=ROLE_BRIDGE)
    one, two, three = (lab.member(i) for i in (1, 2, 3))
    tap(lab, one, OUTSIDE, IPV4, b"who is there")
    assert sorted(s.destination for s in one.vl1.take_sent(Verb.EXT_FRAME)) == sorted([two.address, three.address])
    lab.run(100)
    assert [(f.destination, f.source) for f in frames(three)] == [(OUTSIDE, mac(one, lab))]
    tap(lab, three, mac(one, lab), IPV4, b"me", mac_source=OUTSIDE)
    lab.run(100)
    assert [(f.source, f.payload) for f in frames(one)] == [(OUTSIDE, b"me")]
    tap(lab, one, OUTSIDE, IPV4, b"there you are")
    assert [s.destination for s in one.vl1.take_sent(Verb.EXT_FRAME)] == [three.address]


def test_a_bridged_mac_that_begins_like_those_of_members_is_reached() -> None:
    """One network card in 64 has the network's first octet; the reference takes its MAC for a member's."""
    lab = joined(4)
    specialists(lab, m2=ROLE_BRIDGE, m3=ROLE_BRIDGE)
    one, three = lab.member(1), lab.member(3)
    outside = mac(one, lab) & 0xFF << 40 | 0x5566778899
    tap(lab, three, mac(one, lab), IPV4, b"me", mac_source=outside)
    lab.run(100)
    one.vl1.take_sent()
    tap(lab, one, outside, IPV4, b"there you are")
    assert [(s.verb, s.destination) for s in one.vl1.take_sent()] == [(Verb.EXT_FRAME, three.address)]


def test_a_bridge_cannot_take_the_place_of_a_member() -> None:
    lab = joined(4)
    specialists(lab, m3=ROLE_BRIDGE)
    one, two, three = (lab.member(i) for i in (1, 2, 3))
    meet(lab)
    tap(lab, three, mac(one, lab), IPV4, b"I am two", mac_source=mac(two, lab))
    lab.run(100)
    one.vl1.take_sent()
    tap(lab, one, mac(two, lab), IPV4, b"for two")
    assert [(s.verb, s.destination) for s in one.vl1.take_sent()] == [(Verb.FRAME, two.address)]


def test_who_is_no_bridge_neither_sends_nor_is_believed_nor_delivers() -> None:
    lab = joined(3)
    specialists(lab, m3=ROLE_BRIDGE)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"x", mac_source=OUTSIDE)
    assert one.vl1.drops() == ["not_a_bridge"]
    for destination, source, reason in (
        (mac(two, lab), OUTSIDE, "peer_not_a_bridge"),
        (OUTSIDE, mac(one, lab), "not_a_bridge"),
        (mac(two, lab), mac(two, lab), "bad_source_mac"),
        (mac(two, lab), 0, "bad_source_mac"),
    ):
        packet = ExtFrame(lab.nwid, destination, source, IPV4, b"x", flags=0x10).encode()
        two.receive(two.context(lab.now, one.identity, Verb.EXT_FRAME, packet))
        assert two.vl1.drops() == [reason]
    assert not frames(two) and not two.vl1.take_sent(Verb.OK)


def test_groups_behind_a_bridge_are_announced_once() -> None:
    lab = joined(3)
    specialists(lab, m2=ROLE_BRIDGE)
    two = lab.member(2)
    for _ in range(2):
        tap(lab, two, ALL_HOSTS, IPV4, b"x", mac_source=OUTSIDE)
    likes = [MulticastLike.decode(s.payload).likes for s in two.vl1.sent if s.verb is Verb.MULTICAST_LIKE]
    assert len(likes) == 3 and set(likes) == {(Like(lab.nwid, GROUP),)}  # the root and two members
    like(two, lab, lab.member(1).address)
    (sent,) = {s.payload for s in two.vl1.take_sent(Verb.MULTICAST_FRAME)}
    assert MulticastFrame.decode(sent).source == OUTSIDE


def test_the_bridge_table_is_bounded_and_ages() -> None:
    table = BridgeTable(max_routes=3, max_groups=2)
    for number in range(5):
        table.learn(number, number, 100 + number)
    assert len(table) == 3 and table.route(5, 0) is None and table.route(5, 4) == 104
    table.learn(6, 2, 999)
    assert table.route(6, 2) == 999
    assert table.route(4 + ROUTE_TIMEOUT_MS, 4) is None
    assert [table.see_group(0, MulticastGroup(1, adi)) for adi in (1, 1, 2, 3)] == [True, False, True, True]
    assert len(table.groups) == 2
    table.expire(6 + ROUTE_TIMEOUT_MS)
    assert len(table) == 0 and not table.groups and MAX_ROUTES > 10_000


# --- neighbour discovery -------------------------------------------------------------------------------------


def solicitation(target: bytes) -> bytes:
    return b"\x60" + bytes(3) + b"\x00\x18\x3a\xff" + bytes(32) + b"\x87\x00\x00\x00" + bytes(4) + target


def checksum_ok(packet: bytes) -> bool:
    data = packet[8:40] + (len(packet) - 40).to_bytes(4, "big") + b"\0\0\0\x3a" + packet[40:]
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@pytest.mark.parametrize("embed", [rfc4193, sixplane])
def test_solicitations_for_embedded_addresses_are_answered_here(embed) -> None:  # type: ignore[no-untyped-def]
    nwid, own, other = 0x8056C2E21C000001, 0x89E92CEEE5, 0x1122334455
    mine, target = embed(nwid, own), embed(nwid, other).ip
    answer = emulated_answer(0x86DD, solicitation(target), nwid=nwid, own_address=own, static_ips=(mine,))
    assert answer is not None
    source, packet = answer
    assert source == mac_of(other, nwid) and len(packet) == 72 and checksum_ok(packet)
    assert (packet[:8].hex(), packet[8:24], packet[24:40]) == ("6000000000203aff", target, mine.ip)
    assert packet[40:42] == b"\x88\0" and packet[44:48].hex() == "60000000"
    assert packet[48:64] == target and packet[64:] == b"\x02\x01" + source.to_bytes(6, "big")
    for silent in (mine.ip, bytes(16), InetAddress.parse("fd00::1/64").ip):
        assert emulated_answer(0x86DD, solicitation(silent), nwid=nwid, own_address=own, static_ips=(mine,)) is None


def test_an_emulated_answer_consumes_the_solicitation() -> None:
    lab = joined(2, flags=0x04)
    one, two = lab.member(1), lab.member(2)
    lab.controller.members[one.address]["static_ips"] = (rfc4193(lab.nwid, one.address),)
    lab.push(one.address)
    lab.run(100)
    one.vl1.sent.clear()
    target = rfc4193(lab.nwid, two.address).ip
    tap(lab, one, 0x3333FF000001, 0x86DD, solicitation(target))
    (frame,) = frames(one)
    assert (frame.source, frame.destination) == (mac(two, lab), mac(one, lab)) and not one.vl1.sent
    tap(lab, one, 0x3333FF000001, 0x86DD, solicitation(bytes(16)))
    assert not frames(one) and one.vl1.sent
