"""Frames for groups: kernel/fanout.c under tap_pull.c, and what seal.c makes of them."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import FOREVER, KEYS, NWID, A, Lab, Punt, Record
from tests.kernel.strategies import body
from tests.kernel.test_guard import OBSERVER, ONLY_IP, policy
from tests.kernel.test_tap import TapLab
from tests.twins.frames import PLAIN_VNET, UDP, Frame
from ztpipe.kernel._kernel import lib
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of
from ztpipe.wire.armor import open_packet
from ztpipe.wire.packet import Reassembler, is_fragment
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import MulticastFrame

MAC_A = mac_of(A, NWID).to_bytes(6, "big")
MDNS = 0x01005E0000FB
TO_MDNS = MDNS.to_bytes(6, "big") + MAC_A
MEMBERS = [0x1000000001 + n for n in range(12)]
FRAME, GROUP = lib.ZT_PUNT_FRAME, lib.ZT_PUNT_GROUP


class GroupLab(TapLab):
    """A tap stage whose ring goes to a crypto stage; twelve members that can be reached."""

    def __init__(self, *, suite: int = 3) -> None:
        super().__init__()
        self.peers = {}
        for number, address in enumerate(MEMBERS):
            self.peers[address] = self.meet(address, remote_of(number), suite=suite)
        self.set_network()

    def set_network(self, *, bridge: bool = False, rules: bytes | None = None) -> None:
        accept_all = rules is None
        index = self.tables.install_network(
            NWID, mac_of(A, NWID), 2800, accept_all=accept_all, bridge=bridge, multicast=True, policy=rules
        )
        assert index == self.network

    def group(self, recipients: list[int], mac: int = MDNS, *, first: int = 0, limit: int = 32, adi: int = 0,
              replicated: bool = False, renew_at: int = FOREVER, until: int = FOREVER) -> None:  # fmt: skip
        assert self.tables.install_group(
            NWID, mac, adi, recipients, first=first, limit=limit, replicated=replicated, renew_at=renew_at, until=until
        )

    def sent(self, records: list[Record]) -> list[tuple[int, MulticastFrame]]:
        """(destination, packet) of every packet that the records become, by the Python implementation."""
        reassembler = Reassembler(64, 1000)
        out = []
        for sealed in self.seal(records):
            for datagram in sealed.datagrams():
                packet = reassembler.add(0, datagram) if is_fragment(datagram) or datagram[18] & 0x40 else datagram
                if packet is not None:
                    opened = open_packet(KEYS, packet)
                    assert (opened.verb, opened.source) == (Verb.MULTICAST_FRAME, A)
                    assert sealed.remote == remote_of(MEMBERS.index(opened.destination))
                    out.append((opened.destination, MulticastFrame.decode(opened.payload)))
        return out


def remote_of(number: int) -> tuple[bytes, int]:
    return bytes((10, 55, 1, number)), 9993


def plain(macs: bytes = TO_MDNS, n: int = 60, ethertype: bytes = b"\x08\x00") -> bytes:
    return PLAIN_VNET + macs + ethertype + body(n)


@pytest.fixture
def lab() -> Iterator[GroupLab]:
    with GroupLab() as made:
        yield made


# ---- who gets it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [1, 3])
@pytest.mark.parametrize("n", [1, 60, 1400, 2800])
def test_every_recipient_gets_one(suite: int, n: int) -> None:
    with GroupLab(suite=suite) as lab:
        lab.group(MEMBERS[:5])
        records = lab.pull([plain(n=n)])
        assert [(r.recipients, r.network) for r in records] == [(5, lab.network)]
        packet = MulticastFrame(NWID, MulticastGroup(MDNS, 0), 0x0800, body(n))
        assert lab.sent(records) == [(address, packet) for address in MEMBERS[:5]]
        assert lab.punts() == []
        counts = lab.counts()
        assert (counts["tap_multicasts"], counts["tap_copies"], counts["seal_packets"]) == (1, 5, 5)


def test_without_an_entry_or_after_its_time(lab: GroupLab) -> None:
    assert lab.pull([plain()]) == []
    lab.group(MEMBERS[:1], until=lab.tables.now())
    assert lab.pull([plain()]) == []
    lab.group(MEMBERS[:1], until=lab.tables.now() + 60_000)
    assert len(lab.pull([plain()])) == 1
    lab.tables.groups.remove((NWID, MDNS, 0))
    assert lab.pull([plain()]) == []
    assert lab.punts() == [Punt(FRAME, plain()[12:], nwid=NWID)] * 3


def test_nobody(lab: GroupLab) -> None:
    lab.group([])
    assert lab.pull([plain()]) == [] == lab.punts()
    assert lab.counts()["drop_no_recipients"] == 1


def test_a_recipient_that_cannot_be_reached_is_the_slow_paths(lab: GroupLab) -> None:
    lab.group(MEMBERS[:3])
    assert len(lab.pull([plain()])) == 1
    for change in (
        lambda: lab.tables.remove_peer(MEMBERS[1]),
        lambda: (lab.meet(MEMBERS[1], remote_of(1)), lab.tables.remove_member(NWID, MEMBERS[1])),
    ):
        change()
        assert lab.pull([plain()]) == []
    lab.tables.install_member(NWID, MEMBERS[1], True, FOREVER)
    assert len(lab.pull([plain()])) == 1


def test_the_limit_and_who_comes_first(lab: GroupLab) -> None:
    lab.group(MEMBERS, first=2, limit=5)
    chosen: Counter[int] = Counter()
    for _ in range(60):
        to = [address for address, _ in lab.sent(lab.pull([plain()]))]
        assert to[:2] == MEMBERS[:2] and len(set(to)) == 5
        chosen.update(to[2:])
    assert set(chosen) == set(MEMBERS[2:])
    lab.group(MEMBERS, first=8, limit=5)
    assert [address for address, _ in lab.sent(lab.pull([plain()]))] == MEMBERS[:5]


def test_a_replicator_gets_it_with_our_mac(lab: GroupLab) -> None:
    lab.tables.remove_member(NWID, MEMBERS[0])  # its credentials do not matter
    lab.set_network(rules=policy(ONLY_IP))
    lab.group(MEMBERS[:1], replicated=True)
    ((to, packet),) = lab.sent(lab.pull([plain(), plain(ethertype=b"\x88\xb5")]))
    assert (to, packet.source, packet.replicate, packet.gather_limit) == (MEMBERS[0], mac_of(A, NWID), True, 0)


def test_behind_a_bridge_the_source_goes_along(lab: GroupLab) -> None:
    lab.group(MEMBERS[:2])
    foreign = TO_MDNS[:6] + b"\x02\0\0\0\0\x07"
    assert lab.pull([plain(foreign)]) == []
    lab.set_network(bridge=True)
    packets = lab.sent(lab.pull([plain(foreign)]))
    assert [(to, p.source) for to, p in packets] == [(MEMBERS[0], 0x020000000007), (MEMBERS[1], 0x020000000007)]
    assert [p.source for _, p in lab.sent(lab.pull([plain()]))] == [None, None]
    assert lab.pull([plain(TO_MDNS[:6] + b"\x03\0\0\0\0\x07")]) == []


@pytest.mark.parametrize(
    "asking",
    [
        b"\xff" * 6 + MAC_A + b"\x08\x06" + body(28),
        b"\x33\x33\xff\0\0\1" + MAC_A + b"\x86\xdd" + bytes(6) + b"\x3a\xff" + bytes(32) + b"\x87" + bytes(23),
    ],
)
def test_questions_for_addresses_are_the_slow_paths(lab: GroupLab, asking: bytes) -> None:
    lab.group(MEMBERS, BROADCAST_MAC)
    lab.group(MEMBERS, 0x3333FF000001)
    assert lab.pull([PLAIN_VNET + asking]) == []
    assert lab.punts() == [Punt(FRAME, asking, nwid=NWID)]


def test_a_super_frame(lab: GroupLab) -> None:
    lab.group(MEMBERS[:3])
    frame = Frame(macs=TO_MDNS, proto=UDP, payload=body(5000))
    packets = lab.sent(lab.pull([frame.vnet(1400) + frame.partial()]))
    expected = [part.build()[14:] for part in frame.segments(1400)]
    for address in MEMBERS[:3]:
        assert [packet.payload for to, packet in packets if to == address] == expected
    assert len(packets) == 12


def test_in_use_is_told_once_a_second_with_a_frame(lab: GroupLab) -> None:
    lab.group(MEMBERS[:1], renew_at=lab.tables.now())
    assert len(lab.pull([plain(), plain(), plain()])) == 3
    assert lab.punts() == [Punt(GROUP, plain()[12:], nwid=NWID)]
    lab.tables.set_clock(1_000_000 + 1000)
    lab.pull([plain(), plain()])
    assert len(lab.punts()) == 1


def test_a_full_ring_stops_between_recipients_and_loses_nothing(lab: GroupLab) -> None:
    lab.group(MEMBERS)
    frame = Frame(macs=TO_MDNS, proto=UDP, payload=body(60000))
    (record,) = lab.pull([frame.vnet(2700) + frame.partial()])
    lab.from_tap.put([record])
    to: Counter[int] = Counter()
    while lib.zt_seal(lab.crypto, 1) or to.total() < 12 * 23:
        for sealed in lab.to_peer.take():
            for datagram in sealed.datagrams():
                if not is_fragment(datagram):
                    to[int.from_bytes(datagram[8:13], "big")] += 1
    assert to == Counter(dict.fromkeys(MEMBERS, 23))
    assert lab.counts()["seal_frames"] == 1


# ---- rules ---------------------------------------------------------------------------------------------------------


def test_rules_for_all_and_for_each(lab: GroupLab) -> None:
    lab.set_network(rules=policy(f"1905{MEMBERS[1]:010x} 0000 {ONLY_IP}"))  # drop to one; accept IP
    lab.group(MEMBERS[:3])
    packets = lab.sent(lab.pull([plain(), plain(ethertype=b"\x88\xb5")]))
    assert [to for to, _ in packets] == [MEMBERS[0], MEMBERS[2]]
    counts = lab.counts()
    assert (counts["drop_recipient_filter"], counts["drop_outbound_filter"], counts["tap_copies"]) == (1, 1, 2)


def test_a_copy_is_made_once_by_the_slow_path_and_a_redirection_too(lab: GroupLab) -> None:
    lab.group(MEMBERS[:3])
    for what, fast in (
        (f"020e {OBSERVER:016x} 00000000 0000", 0),  # to nobody in particular
        (f"1905{MEMBERS[1]:010x} 020e {OBSERVER:016x} 00000000 0000", 1),  # only to one: never made
        (f"1905{MEMBERS[1]:010x} 040e {OBSERVER:016x} 00000000 0000", 0),
    ):
        lab.set_network(rules=policy(f"{what} 0100"))
        assert len(lab.pull([plain()])) == fast
        assert len(lab.punts()) == 1 - fast


def test_a_member_whose_credentials_c_does_not_know(lab: GroupLab) -> None:
    lab.set_network(rules=policy(ONLY_IP))
    lab.group(MEMBERS[:3])
    lab.tables.install_credentials(NWID, MEMBERS[2], None)
    assert lab.pull([plain()]) == [] and len(lab.punts()) == 1
    lab.tables.install_credentials(NWID, MEMBERS[2], b"")
    assert len(lab.pull([plain()])) == 1


# ---- budgets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("macs", "ethertype", "reason", "bridged"),
    [
        (TO_MDNS, b"\x08\x00", "group", 0),
        (b"\xff" * 6 + MAC_A, b"\x08\x06", "address", 0),
        (mac_of(0x1122334455, NWID).to_bytes(6, "big") + MAC_A, b"\x08\x00", "unknown", 0),
        (b"\x0e\0\0\0\0\x01" + MAC_A, b"\x08\x00", "unknown", 0),
        (b"\x0e\0\0\0\0\x01" + MAC_A, b"\x08\x00", "unknown", 1),
        (mac_of(MEMBERS[0], NWID).to_bytes(6, "big") + MAC_A, b"\x08\x00", "", 0),
        (mac_of(MEMBERS[0], NWID).to_bytes(6, "big") + b"\x02\0\0\0\0\x01", b"\x08\x00", "unknown", 0),
    ],
)
def test_floods_have_a_budget(lab: GroupLab, macs: bytes, ethertype: bytes, reason: str, bridged: int) -> None:
    lab.tables.install_network(NWID, mac_of(A, NWID), 2800, accept_all=True, bridge=False, bridged=bool(bridged))
    lab.tables.install_member(NWID, MEMBERS[0], True, 0)  # credentials due: rightly punted
    punted, begin = 0, lab.tables.now()
    for _ in range(30):
        assert lab.pull([plain(macs, ethertype=ethertype)] * 100) == []
        punted += len(lab.punts())
    dropped = lab.counts().get(f"drop_{reason}_budget", 0)
    assert punted + dropped == 3000
    seconds = (lab.tables.now() - begin) / 1000
    assert (100 <= punted <= 302 + 300 * seconds) if reason else punted == 3000


def test_strangers_that_a_tunnel_may_reach(lab: GroupLab) -> None:
    lab.tables.set_tunnel(True)
    macs = mac_of(0x1122334455, NWID).to_bytes(6, "big") + MAC_A
    for _ in range(30):
        lab.pull([plain(macs)] * 100)
        assert len(lab.punts()) == 100


# ---- nothing does harm ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 70), st.integers(0, 1100) | st.integers(0, 0xFFFF), st.integers(0, 255))
def test_no_record_does_harm(data: bytes, cut: int, recipients: int, multicast: int) -> None:
    with Lab(A) as made:
        made.join()
        made.meet(MEMBERS[0], remote_of(0))
        whole = bytearray(plain() + struct.pack("=3Q", MEMBERS[0] << 24, MEMBERS[0] << 24 | 63, 2**64 - 1))
        whole[cut : cut + len(data)] = data
        made.from_tap.put([Record(bytes(whole), recipients=recipients, multicast=multicast)])
        while lib.zt_seal(made.crypto, 8) or made.counts().get("seal_frames", 0) < 1:
            made.to_peer.take()


@dataclass
class Twin:
    """What the entry says, by the book."""

    recipients: list[int]
    first: int
    limit: int
    refused: set[int] = field(default_factory=set)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(
        st.tuples(
            st.integers(0, 3), st.lists(st.sampled_from(MEMBERS), unique=True), st.integers(0, 12), st.integers(0, 14),
            st.booleans(),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_entries_do_not_mix(lab: GroupLab, entries: list[tuple[int, list[int], int, int, bool]]) -> None:
    """Whatever is written, changed and taken away: each group's frames go to its own recipients, the last ones."""
    twins: dict[int, Twin] = {}
    for number in range(4):
        lab.tables.groups.remove((NWID, MDNS + number, 0))
    for number, recipients, first, limit, remove in entries:
        if remove:
            lab.tables.groups.remove((NWID, MDNS + number, 0))
            twins.pop(number, None)
        else:
            twins[number] = Twin(recipients, min(first, len(recipients)), limit)
            lab.group(recipients, MDNS + number, first=twins[number].first, limit=limit)
        for other in range(4):
            records = lab.pull([plain((MDNS + other).to_bytes(6, "big") + MAC_A)])
            to = [address for address, _ in lab.sent(records)]
            twin = twins.get(other)
            if twin is None:
                assert to == []
                continue
            wanted = min(len(twin.recipients), twin.limit)
            assert len(to) == len(set(to)) == wanted and set(to) <= set(twin.recipients)
            assert to[: twin.first] == twin.recipients[: min(twin.first, wanted)]
        lab.punts()
