"""Frames of others that we replicate: kernel/open_multicast.c with fanout.c and the sealer, and Python beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import FOREVER, KEYS, NWID, REMOTE_A, A, B, Lab, Punt
from tests.kernel.strategies import body
from tests.kernel.test_guard import ONLY_IP, policy
from tests.kernel.test_open import came, frames_of, packet
from tests.node.test_vl2_members import joined
from tests.node.test_vl2_multicast import GROUP as ALL_HOSTS
from tests.node.test_vl2_multicast import like, specialists
from ztpipe.kernel._kernel import lib
from ztpipe.node.actions import WriteFrame
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of
from ztpipe.wire.armor import open_packet
from ztpipe.wire.netconf import ROLE_REPLICATOR
from ztpipe.wire.packet import Reassembler, is_fragment
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import MulticastFrame

MDNS = MulticastGroup(0x01005E0000FB, 0)
OTHERS = [0x1000000001 + n for n in range(6)]
FROM_A = mac_of(A, NWID)
NEAR = 0x0E0000000007
DATAGRAM, GROUP = lib.ZT_PUNT_DATAGRAM, lib.ZT_PUNT_GROUP


def remote_of(number: int) -> tuple[bytes, int]:
    return bytes((10, 55, 2, number)), 9993


def join(lab: Lab, *, rules: bytes | None = None, nwid: int = NWID) -> None:
    own = mac_of(lab.address, nwid)
    lab.tables.install_network(
        nwid, own, 2800, accept_all=rules is None, bridge=False, multicast=True, replicator=True, policy=rules
    )


@pytest.fixture
def b() -> Iterator[Lab]:
    with Lab(B, slots=8) as lab:
        join(lab)
        lab.meet(A, REMOTE_A)
        for number, address in enumerate(OTHERS):
            lab.meet(address, remote_of(number))
        yield lab


def group(lab: Lab, recipients: list[int], *, limit: int = 32, first: int = 0, renew_at: int = FOREVER) -> None:
    how = {"first": first, "limit": limit, "replicated": False, "renew_at": renew_at, "until": FOREVER}
    assert lab.tables.install_group(NWID, MDNS.mac, 0, recipients, **how)


def upload(n: int = 60, **fields: object) -> bytes:
    """A frame that A wants us to replicate, as it comes."""
    how = {"group": MDNS, "ethertype": 0x0800, "payload": body(n), "source": FROM_A, "replicate": True, **fields}
    return packet(Verb.MULTICAST_FRAME, MulticastFrame(NWID, **how).encode(), mtu=9000)  # type: ignore[arg-type]


def copies(lab: Lab) -> list[tuple[int, MulticastFrame]]:
    """(destination, packet) of all that went out."""
    reassembler, out = Reassembler(64, 1000), []
    for record in lab.to_peer.take():
        for datagram in record.datagrams():
            whole = reassembler.add(0, datagram) if is_fragment(datagram) or datagram[18] & 0x40 else datagram
            if whole is not None:
                opened = open_packet(KEYS, whole)
                assert (opened.verb, opened.source) == (Verb.MULTICAST_FRAME, lab.address)
                out.append((opened.destination, MulticastFrame.decode(opened.payload)))
    return out


@pytest.mark.parametrize("n", [1, 60, 1400, 2800])
def test_to_the_group_but_not_back_and_to_our_own_tap(b: Lab, n: int) -> None:
    group(b, [OTHERS[0], A, *OTHERS[1:4]])
    got = b.open([came(upload(n))])
    assert frames_of(got) == [MDNS.mac.to_bytes(6, "big") + FROM_A.to_bytes(6, "big") + b"\x08\x00" + body(n)]
    expected = MulticastFrame(NWID, MDNS, 0x0800, body(n), source=FROM_A)
    assert copies(b) == [(address, expected) for address in OTHERS[:4]]
    counts = b.counts()
    assert (counts["open_replicated"], counts["open_copies"], counts["open_multicasts"]) == (1, 4, 1)
    assert b.punts() == []


def test_only_what_is_asked_for_and_only_where_we_are_one(b: Lab) -> None:
    group(b, OTHERS)
    assert len(b.open([came(upload(replicate=False))])) == 1 and copies(b) == []
    b.tables.install_network(NWID, mac_of(B, NWID), 2800, accept_all=True, bridge=False, multicast=True)
    assert len(b.open([came(upload())])) == 1 and copies(b) == []


def test_the_limit_counts_without_the_origin(b: Lab) -> None:
    group(b, [A, *OTHERS], limit=3, first=1)
    for _ in range(20):
        b.open([came(upload())])
        to = [address for address, _ in copies(b)]
        assert len(set(to)) == 3 and A not in to


def test_without_an_entry_it_is_the_slow_paths_within_a_budget(b: Lab) -> None:
    data = upload()
    assert b.open([came(data)]) == [] and b.punts() == [Punt(DATAGRAM, data, 0, REMOTE_A)]
    for _ in range(20):
        b.open([came(data)] * 100)
    punted, dropped = len(b.punts()), b.counts()["drop_group_budget"]
    assert punted + dropped == 2000 and 590 <= punted < 1500


@pytest.mark.parametrize(
    "fields",
    [
        {"group": MulticastGroup(BROADCAST_MAC, 0x0A090001), "ethertype": 0x0806},
        {"ethertype": 0x86DD, "payload": bytes(6) + b"\x3a\xff" + bytes(32) + b"\x87" + bytes(23)},
        {"source": NEAR},
    ],
)
def test_what_python_knows_better(b: Lab, fields: dict[str, object]) -> None:
    group(b, OTHERS)
    data = upload(**fields)
    assert b.open([came(data)]) == [] and copies(b) == []
    assert b.punts() == [Punt(DATAGRAM, data, 0, REMOTE_A)]


def test_from_behind_a_bridge(b: Lab) -> None:
    group(b, OTHERS[:1])
    assert b.tables.install_bridged(NWID, NEAR, A, renew_at=FOREVER, until=FOREVER)
    b.open([came(upload(source=NEAR))])
    ((to, frame),) = copies(b)
    assert (to, frame.source) == (OTHERS[0], NEAR)


def test_rules_are_asked_for_each_and_drop_our_own_copy_alone(b: Lab) -> None:
    join(b, rules=policy(f"1905{OTHERS[1]:010x} 0000 {ONLY_IP}"))
    group(b, OTHERS[:3])
    assert len(b.open([came(upload()), came(upload(ethertype=0x88B5))])) == 1
    assert [to for to, _ in copies(b)] == [OTHERS[0], OTHERS[2]]
    counts = b.counts()
    assert (counts["drop_recipient_filter"], counts["drop_inbound_filter"]) == (4, 1)


def test_in_use_is_told_with_the_origin(b: Lab) -> None:
    group(b, OTHERS[:1], renew_at=b.tables.now())
    b.open([came(upload())] * 3)
    frame = MDNS.mac.to_bytes(6, "big") + FROM_A.to_bytes(6, "big") + b"\x08\x00" + body(60)
    assert b.punts() == [Punt(GROUP, frame, nwid=NWID, address=A)]


def test_what_finds_no_room_is_counted_and_unicast_is_not_held_up(b: Lab) -> None:
    """Nobody takes from the ring to the peers: copies are lost, everything else goes on."""
    group(b, OTHERS)
    large = came(upload(2800))
    for _ in range(40):
        b.open([large] * 10 + [came(packet())] * 10)
    counts = b.counts()
    assert counts["open_frames"] == 40 * 20
    lost = counts["drop_no_room"]
    assert lost > 0 and counts["seal_packets"] + lost == counts["open_copies"] == 400 * len(OTHERS)


# ---- the twin ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=3, max_size=3), st.integers(1, 5), st.booleans())
def test_as_the_slow_path_has_it(liked: list[bool], limit: int, ethernet: bool) -> None:
    """By the entry that Python makes, C sends what Python sends: to the same members, the same packets."""
    world = joined(4, multicast_limit=limit)
    specialists(world, m2=ROLE_REPLICATOR)
    two, one = world.member(2), world.member(1)
    for index, likes in zip((1, 3, 4), liked, strict=True):
        if likes:
            like(two, world, world.member(index).address)
    source = mac_of(one.address, world.nwid)
    ethertype = 0x88B5 if ethernet else 0x0800
    frame = MulticastFrame(world.nwid, ALL_HOSTS, ethertype, body(50), source=source, replicate=True).encode()
    two.vl1.take_sent()
    two.vl1.actions.clear()
    for _ in range(5):
        two.vl1.take_sent()
        two.receive(two.context(world.now, one.identity, Verb.MULTICAST_FRAME, frame))
    by_python = [(sent.destination, sent.payload) for sent in two.vl1.take_sent(Verb.MULTICAST_FRAME)]
    assert len(two.vl1.take(WriteFrame)) == 5
    entries = [a for a in two.vl1.actions if type(a).__name__ == "InstallGroup"]
    with Lab(two.address) as lab:
        join(lab, nwid=world.nwid)
        for host in (one, world.member(3), world.member(4)):
            lab.meet(host.address, REMOTE_A, nwid=world.nwid)
        e = entries[-1]
        how = {"first": e.first, "limit": e.limit, "replicated": e.replicated, "renew_at": FOREVER, "until": FOREVER}
        assert lab.tables.install_group(e.nwid, e.mac, e.adi, e.recipients, **how)
        data = packet(Verb.MULTICAST_FRAME, frame, source=one.address, destination=two.address, mtu=9000)
        assert len(lab.open([came(data)])) == 1
        by_c = copies(lab)
    everybody = {m.address for m, likes in zip((world.member(3), world.member(4)), liked[1:], strict=True) if likes}
    assert len(by_c) == min(limit, len(everybody)) and {to for to, _ in by_c} <= everybody
    # the origin, if it is in the group, counts toward the limit while members are looked for
    assert len(by_c) - 1 <= len(by_python) <= len(by_c)
    assert all(replace(MulticastFrame.decode(payload), gather_limit=0) == by_c[0][1] for _, payload in by_python)
