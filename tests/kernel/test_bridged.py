"""MACs behind bridges: kernel/bridged.c under tap_pull.c, seal.c, open_packet.c and open_multicast.c."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import FOREVER, KEYS, NWID, REMOTE_A, REMOTE_B, A, B, Lab, Punt
from tests.kernel.strategies import body
from tests.kernel.test_guard import OBSERVER, ONLY_IP, policy
from tests.kernel.test_open import came, frames_of, packet
from tests.kernel.test_tap import TapLab
from tests.node.test_vl2_members import joined
from tests.node.test_vl2_multicast import meet, specialists
from tests.twins.frames import PLAIN_VNET, Frame, unfold
from ztpipe.kernel._kernel import lib
from ztpipe.node.actions import InstallBridged, WriteFrame
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of
from ztpipe.wire.armor import open_packet
from ztpipe.wire.netconf import ROLE_BRIDGE
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import ExtFrame, MulticastFrame

FAR, NEAR = 0x0A0000000005, 0x0E0000000007  # behind B, behind A
MAC_A, MAC_B = mac_of(A, NWID), mac_of(B, NWID)
DATAGRAM, FRAME, BRIDGED = lib.ZT_PUNT_DATAGRAM, lib.ZT_PUNT_FRAME, lib.ZT_PUNT_BRIDGED
STRANGER = 0x5555555555


def macs(to: int, source: int) -> bytes:
    return to.to_bytes(6, "big") + source.to_bytes(6, "big")


def plain(to: int, source: int, ethertype: bytes = b"\x08\x00") -> bytes:
    return PLAIN_VNET + macs(to, source) + ethertype + body(60)


def network(lab: Lab, *, bridge: bool = False, rules: bytes | None = None, nwid: int = NWID) -> None:
    own = mac_of(lab.address, nwid)
    how = {"accept_all": rules is None, "policy": rules, "multicast": True, "bridged": True}
    assert lab.tables.install_network(nwid, own, 2800, bridge=bridge, **how) is not None  # type: ignore[arg-type]


def behind(lab: Lab, mac: int, address: int, *, renew_at: int = FOREVER, until: int = FOREVER) -> None:
    assert lab.tables.install_bridged(NWID, mac, address, renew_at=renew_at, until=until)


@pytest.fixture
def a() -> Iterator[TapLab]:
    with TapLab() as lab:
        network(lab)
        yield lab


@pytest.fixture
def b() -> Iterator[Lab]:
    with Lab(B) as lab:
        network(lab)
        lab.meet(A, REMOTE_A)
        yield lab


# ---- out -----------------------------------------------------------------------------------------------------------


def sealed(lab: TapLab, *frames: bytes) -> list[ExtFrame]:
    """The packets that frames from the TAP become, all of them for B."""
    out = []
    for record in lab.seal(lab.pull(list(frames))):
        assert record.remote == REMOTE_B
        for datagram in record.datagrams():
            opened = open_packet(KEYS, datagram)
            assert (opened.verb, opened.source, opened.destination) == (Verb.EXT_FRAME, A, B)
            out.append(ExtFrame.decode(opened.payload))
    return out


def test_to_a_mac_behind_a_bridge(a: TapLab) -> None:
    assert sealed(a, plain(FAR, MAC_A)) == []
    behind(a, FAR, B)
    assert sealed(a, plain(FAR, MAC_A)) == [ExtFrame(NWID, FAR, MAC_A, 0x0800, body(60))]
    assert a.punts() == [Punt(FRAME, plain(FAR, MAC_A)[12:], nwid=NWID)]
    assert a.counts()["tap_bridged"] == 1


def test_between_what_is_behind_us_and_others(a: TapLab) -> None:
    behind(a, FAR, B)
    to = (FAR, MAC_B)
    assert sealed(a, *(plain(mac, NEAR) for mac in to)) == [] and len(a.punts()) == 2  # we are no bridge
    network(a, bridge=True)
    assert sealed(a, *(plain(mac, NEAR) for mac in to)) == [ExtFrame(NWID, mac, NEAR, 0x0800, body(60)) for mac in to]
    assert sealed(a, plain(FAR, NEAR | 1 << 40), plain(MAC_A, NEAR)) == [] and len(a.punts()) == 2


def test_one_that_begins_like_members_unless_there_is_such_a_member(a: TapLab) -> None:
    similar = mac_of(STRANGER, NWID)
    behind(a, similar, B)
    assert len(sealed(a, plain(similar, MAC_A))) == 1
    a.meet(STRANGER, REMOTE_A)
    (record,) = a.pull([plain(similar, MAC_A)])
    assert record.peer == a.tables.peer_index(STRANGER)


def test_when_the_time_is_over_or_the_mac_moves(a: TapLab) -> None:
    behind(a, FAR, B, until=a.tables.now() + 60_000)
    assert len(sealed(a, plain(FAR, MAC_A))) == 1
    behind(a, FAR, B, until=a.tables.now() + 120_000)
    a.tables.set_clock(1_000_000 + 100_000)
    assert len(sealed(a, plain(FAR, MAC_A))) == 1  # its new times are seen, though the epoch is the same
    a.tables.set_clock(1_000_000 + 121_000)
    assert a.pull([plain(FAR, MAC_A)]) == []
    behind(a, FAR, STRANGER)
    assert a.pull([plain(FAR, MAC_A)]) == []
    behind(a, FAR, B)
    assert len(sealed(a, plain(FAR, MAC_A))) == 1
    a.tables.bridged.remove((NWID, FAR))
    assert a.pull([plain(FAR, MAC_A)]) == []
    behind(a, FAR, a.address)
    assert a.pull([plain(FAR, MAC_A)]) == [] and len(a.punts()) == 4


def test_a_super_frame_crosses_between_lans(a: TapLab, b: Lab) -> None:
    network(a, bridge=True)
    network(b, bridge=True)
    behind(a, FAR, B)
    behind(b, NEAR, A)
    frame = Frame(macs=macs(FAR, NEAR), payload=body(1400 * 30), options=bytes(12))
    sent = a.seal(a.pull([frame.vnet(1400) + frame.partial()]))
    got = b.open([replace(record, remote=REMOTE_A) for record in sent])
    assert [record.data for record in got] == [frame.vnet(1400) + frame.partial()]
    assert b.counts()["open_bridged"] == 30 and not b.punts() and not a.punts()


def test_rules_are_asked_for_nobody_and_for_the_bridge(a: TapLab) -> None:
    behind(a, FAR, B)
    for rules, carried, punted, dropped in (
        (ONLY_IP, 1, 0, 0),
        ("0000", 0, 0, 1),
        (f"1905{B:010x} 0000 0100", 0, 0, 1),  # drop what is for the bridge
        (f"020e {OBSERVER:016x} 00000000 0000 0100", 0, 1, 0),  # copied by the slow path
        (f"1905{B:010x} 020e {OBSERVER:016x} 00000000 0000 0100", 1, 0, 0),  # copied only while it is for nobody
    ):
        network(a, rules=policy(rules))
        before = a.counts().get("drop_outbound_filter", 0)
        assert len(a.pull([plain(FAR, MAC_A)])) == carried, rules
        assert (len(a.punts()), a.counts().get("drop_outbound_filter", 0) - before) == (punted, dropped), rules


def test_an_index_that_was_given_to_somebody_else(a: TapLab) -> None:
    behind(a, FAR, B)
    (record,) = a.pull([plain(FAR, MAC_A)])
    a.tables.remove_peer(B)
    assert a.meet(STRANGER, REMOTE_B) >= 0
    a.from_tap.put([replace(record, peer=a.tables.peer_index(STRANGER) or 0)])
    assert lib.zt_seal(a.crypto, 8) and not a.to_peer.take()
    assert a.counts()["drop_no_session"] == 1


# ---- in ------------------------------------------------------------------------------------------------------------


def ext(to: int, source: int, flags: int = 0) -> bytes:
    return packet(Verb.EXT_FRAME, ExtFrame(NWID, to, source, 0x0800, body(60), flags=flags).encode())


def test_from_a_mac_behind_the_sender(b: Lab) -> None:
    data = ext(MAC_B, NEAR)
    assert b.open([came(data)]) == []
    behind(b, NEAR, A)
    for to in (MAC_B, FAR, BROADCAST_MAC):  # what it is for is nobody's business then (vl2 §5.7)
        assert frames_of(b.open([came(ext(to, NEAR))])) == [macs(to, NEAR) + b"\x08\x00" + body(60)]
    behind(b, NEAR, STRANGER)
    assert b.open([came(data)]) == []
    assert b.punts() == [Punt(DATAGRAM, data, 0, REMOTE_A)] * 2


def test_from_a_member_to_what_is_behind_us(b: Lab) -> None:
    data = ext(FAR, MAC_A)
    assert b.open([came(data)]) == [] and b.punts() == [Punt(DATAGRAM, data, 0, REMOTE_A)]
    network(b, bridge=True)
    assert frames_of(b.open([came(data)])) == [macs(FAR, MAC_A) + b"\x08\x00" + body(60)]
    assert b.open([came(ext(FAR, MAC_A, flags=0x10))]) == [] and len(b.punts()) == 1


def test_a_group_from_behind_a_bridge(b: Lab) -> None:
    group = MulticastGroup(0x01005E0000FB, 0)
    frame = MulticastFrame(NWID, group, 0x0800, body(60), source=NEAR).encode()
    data = packet(Verb.MULTICAST_FRAME, frame)
    assert b.open([came(data)]) == [] and len(b.punts()) == 1
    behind(b, NEAR, A)
    assert frames_of(b.open([came(data)])) == [macs(group.mac, NEAR) + b"\x08\x00" + body(60)]


def test_in_use_is_told_once_a_second_until_it_is_renewed(b: Lab) -> None:
    behind(b, NEAR, A, renew_at=b.tables.now() + 60_000)
    told = Punt(BRIDGED, NEAR.to_bytes(8, sys.byteorder), nwid=NWID, address=A)
    data = ext(MAC_B, NEAR)
    b.open([came(data)] * 3)
    assert b.punts() == []
    b.tables.set_clock(1_000_000 + 60_000)
    b.open([came(data)] * 3)
    assert b.punts() == [told]
    b.tables.set_clock(1_000_000 + 61_000)
    b.open([came(data)] * 3)
    assert b.punts() == [told]
    behind(b, NEAR, A, renew_at=b.tables.now() + 60_000)
    b.tables.set_clock(1_000_000 + 63_000)
    b.open([came(data)] * 3)
    assert b.punts() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from((0, A, STRANGER, B))), max_size=60))
def test_entries_do_not_mix(b: Lab, changes: list[tuple[int, int]]) -> None:
    """Whatever is written and taken away: each MAC is let in if its last word says that it is behind the sender."""
    for number in range(41):
        b.tables.bridged.remove((NWID, NEAR + 0x100 + number))
    twins: dict[int, int] = {}
    for number, address in changes:
        mac = NEAR + 0x100 + number
        twins[mac] = address
        if address:
            behind(b, mac, address)
        else:
            b.tables.bridged.remove((NWID, mac))
        for other in (mac, NEAR + 0x100 + (number * 7 + 3) % 41):
            assert len(b.open([came(ext(MAC_B, other))])) == (twins.get(other) == A)
            b.punts()


def test_more_than_there_is_room_for_is_refused() -> None:
    with Lab(A) as lab:
        network(lab)
        refused = 0
        for number in range(4_000):
            refused += not lab.tables.install_bridged(NWID, NEAR + (number << 8), B, renew_at=0, until=FOREVER)
        assert refused == 0 and len(lab.tables.bridged) == 4_000
        lab.tables.remove_network(NWID)
        assert len(lab.tables.bridged) == 0
        assert not lab.tables.install_bridged(NWID, NEAR, B, renew_at=0, until=FOREVER)


# ---- the twin ------------------------------------------------------------------------------------------------------

LAB = joined(3)
specialists(LAB, m1=ROLE_BRIDGE)
ONE, TWO = LAB.member(1), LAB.member(2)
meet(LAB)
OWN, PEERS = mac_of(TWO.address, LAB.nwid), mac_of(ONE.address, LAB.nwid)
THIRD = mac_of(LAB.member(3).address, LAB.nwid)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from((OWN, PEERS, THIRD, FAR, BROADCAST_MAC, 0)),
    st.sampled_from((OWN, PEERS, THIRD, NEAR, NEAR, FAR, NEAR | 1 << 40, 0)),
    st.sampled_from((0, 0, 0, 0x10)),
    st.sampled_from((b"", b"x", body(2800), body(2801))),
)
def test_as_the_slow_path_has_it(to: int, source: int, flags: int, payload: bytes) -> None:
    """What Python writes to the TAP, C writes too once Python has said what it learned; and nothing else."""
    packed = ExtFrame(LAB.nwid, to, source, 0x0800, payload, flags=flags).encode()
    TWO.vl1.actions.clear()
    TWO.receive(TWO.context(LAB.now, ONE.identity, Verb.EXT_FRAME, packed))
    learned = TWO.vl1.take(InstallBridged)
    TWO.receive(TWO.context(LAB.now, ONE.identity, Verb.EXT_FRAME, packed))
    expected = [macs(f.destination, f.source) + b"\x08\x00" + f.payload for f in TWO.vl1.take(WriteFrame)]
    with Lab(TWO.address) as lab:
        network(lab, nwid=LAB.nwid)
        lab.meet(ONE.address, REMOTE_A, nwid=LAB.nwid)
        for entry in learned:
            assert lab.tables.install_bridged(LAB.nwid, entry.mac, entry.address, renew_at=FOREVER, until=FOREVER)
        data = packet(Verb.EXT_FRAME, packed, source=ONE.address, destination=TWO.address, mtu=9000)
        got = [whole for record in lab.open([came(data)]) for whole in unfold(record.data)]
        punts = lab.punts()
        assert got == expected[:1] if not punts else punts[0].data == data and not got
        # what is new, odd, or wants an answer is Python's; the rest is not
        known = bool(learned) or (source == PEERS and to in (OWN, BROADCAST_MAC))
        assert not (punts and known and payload and not flags)
