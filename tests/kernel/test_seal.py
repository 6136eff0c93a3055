"""kernel/seal.c: what leaves is what another implementation opens, cut so that a batch fits one UDP_SEGMENT call."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import FOREVER, KEYS, NWID, REMOTE_B, A, B, Lab, Record
from tests.kernel.strategies import body, frames
from tests.twins.frames import PLAIN_VNET, TCP, Frame
from ztpipe.kernel._kernel import lib
from ztpipe.wire.address import mac_of
from ztpipe.wire.armor import SessionKeys, open_packet
from ztpipe.wire.packet import Reassembler, is_fragment, parse_header
from ztpipe.wire.protocol import Verb

MACS = mac_of(B, NWID).to_bytes(6, "big") + mac_of(A, NWID).to_bytes(6, "big")


def lab(*, suite: int = 3, mtu: int = 1432, slots: int = 4) -> Lab:
    made = Lab(slots=slots)
    made.join()
    made.meet(B, REMOTE_B, suite=suite, mtu=mtu)
    return made


def record(made: Lab, data: bytes) -> Record:
    network, peer = made.tables.network_index(NWID), made.tables.peer_index(B)
    assert network is not None
    assert peer is not None
    return Record(data, network=network, peer=peer)


def plain(ethertype: int, payload: bytes) -> bytes:
    return PLAIN_VNET + MACS + ethertype.to_bytes(2, "big") + payload


def opened(records: list[Record], keys: SessionKeys = KEYS) -> list[bytes]:
    """The Ethernet frames in sealed records, by the Python implementation."""
    out, reassembler = [], Reassembler(64, 1000)
    for sealed in records:
        assert sealed.remote == REMOTE_B
        for datagram in sealed.datagrams():
            packet = reassembler.add(0, datagram) if is_fragment(datagram) or datagram[18] & 0x40 else datagram
            if packet is not None:
                result = open_packet(keys, packet)
                assert (result.verb, result.source, result.destination, result.hops) == (Verb.FRAME, A, B, 0)
                assert result.payload[:8] == NWID.to_bytes(8, "big")
                out.append(MACS + result.payload[8:])
    return out


def check_batches(records: list[Record], mtu: int) -> None:
    for sealed in records:
        parts = sealed.datagrams()
        assert len(parts) == sealed.nseg <= 64
        assert len(sealed.data) <= 65000
        assert {len(part) for part in parts[:-1]} <= {sealed.seg}
        assert 28 <= len(parts[-1]) <= sealed.seg <= mtu or is_fragment(parts[-1])


@pytest.mark.parametrize("suite", [1, 3])
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9900), min_size=1, max_size=12), mtu=st.sampled_from((1432, 1400, 1500, 1280, 9000))
)
def test_frames_of_any_size(suite: int, sizes: list[int], mtu: int) -> None:
    with lab(suite=suite, mtu=mtu) as made:
        given_frames = [plain(0x88B5, body(n, n)) for n in sizes]
        records = made.seal([record(made, frame) for frame in given_frames])
        check_batches(records, mtu)
        deliverable = [f[12:] for f in given_frames if -(-(len(f) - 12 + 24 - 16) // (mtu - 16)) <= 7]
        assert opened(records) == deliverable
        assert made.counts().get("drop_oversize_packet", 0) == len(sizes) - len(deliverable)
        assert made.counts()["seal_frames"] == len(sizes)
        assert made.counts().get("seal_packets", 0) == len(deliverable)


@settings(max_examples=40, deadline=None)
@given(frame=frames(payload=st.integers(0, 60000)), gso_size=st.integers(200, 2748), suite=st.sampled_from((1, 3)))
def test_super_frames(frame: Frame, gso_size: int, suite: int) -> None:
    frame = Frame(**{**{name: getattr(frame, name) for name in Frame.__dataclass_fields__}, "macs": MACS})
    with lab(suite=suite, slots=16) as made:
        records = made.seal([record(made, frame.vnet(gso_size) + frame.partial())])
        check_batches(records, 1432)
        assert opened(records) == [part.build() for part in frame.segments(gso_size)]


def test_a_super_frame_leaves_in_one_batch() -> None:
    frame = Frame(macs=MACS, payload=body(2748 * 22), options=bytes(12))
    with lab() as made:
        (batch,) = made.seal([record(made, frame.vnet(2748) + frame.partial())])
    assert (batch.seg, batch.nseg) == (1427, 44)
    heads = batch.datagrams()[::2]
    assert all(parse_header(head).fragmented for head in heads)
    assert all(is_fragment(piece) for piece in batch.datagrams()[1::2])


def test_no_batch_is_cut_where_a_slot_ends() -> None:
    """It would be sent, and received, in two."""
    frame = Frame(macs=MACS, payload=body(2748 * 22), options=bytes(12))
    with lab(slots=16) as made:
        for _ in range(2):
            made.from_tap.put([record(made, frame.vnet(2748) + frame.partial()) for _ in range(3)])
        batches = made.seal([record(made, frame.vnet(2748) + frame.partial())])
    assert [batch.nseg for batch in batches] == [44] * 7


def test_equal_small_frames_share_batches_of_64() -> None:
    with lab() as made:
        records = made.seal([record(made, plain(0x88B5, body(60, n))) for n in range(130)], 200)
    assert [r.nseg for r in records] == [64, 64, 2]


def test_no_batch_is_longer_than_a_datagram() -> None:
    """64 full ones would be: the kernel takes 65,507 bytes at once."""
    frame = Frame(macs=MACS, payload=body(1354 * 46))
    with lab() as made:
        records = made.seal([record(made, frame.vnet(1354) + frame.partial())])
        assert {r.seg for r in records} == {1432}
        assert [r.nseg for r in records] == [45, 1]
        check_batches(records, 1432)


@pytest.mark.parametrize("differs", ["peer", "remote"])
def test_a_batch_is_for_one_peer_at_one_place(differs: str) -> None:
    other = 0x1122334455
    with lab() as made:
        made.meet(other, REMOTE_B if differs == "peer" else (REMOTE_B[0], 1234))
        macs = mac_of(other, NWID).to_bytes(6, "big") + MACS[6:]
        mine = record(made, plain(0x88B5, body(60)))
        peer = made.tables.peer_index(other) or 0
        theirs = replace(mine, data=PLAIN_VNET + macs + mine.data[24:], peer=peer)
        records = made.seal([mine, mine, theirs, theirs, mine])
        assert [(r.peer, r.nseg) for r in records] == [(mine.peer, 2), (peer, 2), (mine.peer, 1)]
        for sealed in records:
            assert {part[8:13] for part in sealed.datagrams()} == {
                (B if sealed.peer == mine.peer else other).to_bytes(5)
            }
            assert sealed.remote == (REMOTE_B if sealed.peer == mine.peer or differs == "peer" else (REMOTE_B[0], 1234))


def test_the_longest_packet() -> None:
    with lab(mtu=9000) as made:
        longest = 10_024 - 36 - 2
        assert len(made.seal([record(made, plain(0x88B5, body(longest)))])) == 1
        assert made.seal([record(made, plain(0x88B5, body(longest + 1)))]) == []
        assert made.counts()["drop_oversize_packet"] == 1


def test_packet_ids_differ_and_header_bytes_are_right() -> None:
    for suite, flags in ((1, 0x88), (3, 0x18)):
        with lab(suite=suite) as made:
            (batch,) = made.seal([record(made, plain(0x88B5, body(60))) for _ in range(50)])
            (long,) = made.seal([record(made, plain(0x88B5, body(1500)))])
        assert len({part[:8] for part in batch.datagrams()}) == 50
        assert {part[18] for part in batch.datagrams()} == {flags}
        head, piece = long.datagrams()
        assert head[18] == flags | 0x40
        assert piece[:14] == head[:13] + b"\xff"
        assert piece[14:16] == b"\x21\x00"


def test_a_full_ring_stops_in_the_middle_of_a_super_frame_and_loses_nothing() -> None:
    frame = Frame(macs=MACS, payload=body(60000))
    with lab(slots=2) as made:
        made.from_tap.put([record(made, frame.vnet(50) + frame.partial())])
        made.from_tap.put([record(made, frame.vnet(50) + frame.partial())] * 2)
        out: list[Record] = []
        calls = 0
        while True:
            handled = lib.zt_seal(made.crypto, 64)
            got = made.to_peer.take()
            out += got
            calls += 1
            if not handled and not got:
                break
        assert calls > 2
        assert opened(out) == [part.build() for part in frame.segments(50)] * 3
        assert made.counts()["seal_frames"] == 3


def test_the_stamp_of_the_peer() -> None:
    with lab() as made:
        before = made.tables.now()
        made.seal([record(made, plain(0x88B5, body(60)))])
        ((address, binding, remote, received, sent),) = made.tables.activity()
        assert (address, binding, remote, received) == (B, 0, REMOTE_B, 0)
        assert before <= sent <= made.tables.now()


# ---- what is dropped -----------------------------------------------------------------------------------------------


def test_a_vnet_header_that_does_not_fit() -> None:
    frame = Frame(macs=MACS, payload=body(100))
    with lab() as made:
        assert made.seal([record(made, frame.vnet(50)[:6] + bytes(6) + frame.partial())]) == []
        assert made.seal([record(made, b"")]) == []
        assert made.seal([record(made, bytes(25))]) == []
        assert made.counts() == {"seal_frames": 3, "drop_tap_bad_vnet": 3}


def test_peer_or_network_gone_or_index_reused() -> None:
    with lab() as made:
        good = record(made, plain(0x88B5, body(60)))
        assert len(made.seal([good])) == 1
        for index in (5, 63, 64, 0xFFFFFFFF):
            assert made.seal([Record(good.data, peer=index)]) == []
        assert made.seal([Record(good.data, peer=good.peer, network=7)]) == []
        made.tables.remove_peer(B)
        assert made.seal([good]) == []
        stranger = next(n for n in range(1, 10_000) if made.meet(n, REMOTE_B, send_until=FOREVER) == good.peer)
        assert stranger != B
        assert made.seal([good]) == []
        assert made.counts()["drop_no_session"] == 7


def test_a_new_key_is_used_at_once() -> None:
    with lab() as made:
        frame = plain(0x88B5, body(60))
        made.seal([record(made, frame)])
        fresh = SessionKeys(bytes(reversed(range(48))))
        made.meet(B, REMOTE_B, keys=fresh)
        assert opened(made.seal([record(made, frame)]), fresh) == [frame[12:]]


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200),
    st.integers(0, 70),
    st.integers(0, 0xFFFFFFFF) | st.integers(0, 70),
    st.integers(0, 0xFFFF) | st.integers(0, 9),
)
def test_no_record_does_harm(data: bytes, cut: int, peer: int, network: int) -> None:
    with lab() as made:
        frame = Frame(macs=MACS, payload=body(100))
        whole = bytearray(frame.vnet(50) + frame.partial())
        whole[cut : cut + len(data)] = data
        mine = record(made, b"")
        made.seal([Record(bytes(whole), peer=peer, network=network), Record(bytes(whole), mine.network, mine.peer)])
        counts = made.counts()
        assert counts["seal_frames"] == 2


def test_tcp_twin_is_used() -> None:
    """Guards the tests above: their frames are what they are meant to be."""
    assert Frame(proto=TCP).build()[23] == TCP
