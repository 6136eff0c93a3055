"""kernel/open.c: every packet is delivered, punted as it came, or dropped under a name; nothing else."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import KEYS, NWID, REMOTE_A, REMOTE_B, A, B, Lab, Punt, Record, pair
from tests.kernel.strategies import body
from tests.twins.frames import PLAIN_VNET, Frame, unfold
from ztpipe.kernel._kernel import lib
from ztpipe.shm.tables import Endpoint
from ztpipe.wire.address import mac_of
from ztpipe.wire.armor import seal
from ztpipe.wire.packet import split, with_hops
from ztpipe.wire.protocol import Verb

MAC_A, MAC_B = mac_of(A, NWID).to_bytes(6, "big"), mac_of(B, NWID).to_bytes(6, "big")
TO_B = MAC_B + MAC_A
NETWORK = NWID.to_bytes(8, "big")
DATAGRAM, PACKET, UNKNOWN_PATH = lib.ZT_PUNT_DATAGRAM, lib.ZT_PUNT_PACKET, lib.ZT_PUNT_UNKNOWN_PATH


def packet(
    verb: Verb = Verb.FRAME,
    payload: bytes = NETWORK + b"\x88\xb5" + body(60),
    *,
    suite: int = 3,
    source: int = A,
    destination: int = B,
    compress: bool = False,
    mtu: int = 1432,
) -> bytes:
    return seal(KEYS, destination=destination, source=source, verb=verb, payload=payload, packet_id=0x0102030405060708,
                suite=suite, compress=compress, mtu=mtu)  # fmt: skip


def ext(flags: int = 0, to: bytes = MAC_B, source: bytes = MAC_A, data: bytes = body(60)) -> bytes:
    return packet(Verb.EXT_FRAME, NETWORK + bytes((flags,)) + to + source + b"\x88\xb5" + data)


def came(data: bytes, remote: Endpoint = REMOTE_A, binding: int = 0) -> Record:
    return Record(data, remote=remote, binding=binding, seg=min(len(data), 0xFFFF), peer=0xFFFFFFFF)


def frames_of(records: list[Record]) -> list[bytes]:
    return [frame for record in records for frame in unfold(record.data)]


# ---- delivered -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [1, 3])
def test_frame(b: Lab, suite: int) -> None:
    (record,) = b.open([came(packet(suite=suite))])
    assert record.data == PLAIN_VNET + TO_B + b"\x88\xb5" + body(60)
    assert record.network == b.tables.network_index(NWID)
    assert b.counts() == {"open_datagrams": 1, "open_packets": 1, "open_frames": 1}
    assert b.punts() == []


def test_ext_frame_to_us_from_its_own_mac(b: Lab) -> None:
    assert frames_of(b.open([came(ext())])) == [TO_B + b"\x88\xb5" + body(60)]
    assert b.punts() == []


def test_stamps(b: Lab) -> None:
    before = b.tables.now()
    b.open([came(packet())])
    ((address, _, remote, received, sent),) = b.tables.activity()
    assert (address, remote, sent) == (A, REMOTE_A, 0)
    assert before <= received <= b.tables.now()
    ((address, nwid, last),) = b.tables.frame_activity()
    assert (address, nwid) == (A, NWID)
    assert before <= last <= b.tables.now()


# ---- seal, wire, open ----------------------------------------------------------------------------------------------


def tap_records(lab: Lab, data: list[bytes]) -> list[Record]:
    network, peer = lab.tables.network_index(NWID), lab.tables.peer_index(B)
    assert network is not None
    assert peer is not None
    return [Record(frame, network=network, peer=peer) for frame in data]


@pytest.mark.parametrize("suite", [1, 3])
@pytest.mark.parametrize("mtu", [1500, 2800, 9000])
def test_tcp_crosses_as_one_super_frame(suite: int, mtu: int) -> None:
    size = mtu - 52
    frame = Frame(macs=TO_B, payload=body(size * (60000 // size)), options=bytes(12))
    a, b = pair(suite=suite, mtu=mtu)
    with a, b:
        sealed = a.seal(tap_records(a, [frame.vnet(size) + frame.partial()]))
        got = b.open([replace(record, remote=REMOTE_A) for record in sealed])
        assert [record.data for record in got] == [frame.vnet(size) + frame.partial()]
        assert b.punts() == []


def ended(counts: dict[str, int]) -> int:
    """Datagrams with a known end: part of an accepted packet, punted, or dropped."""
    whole = sum(counts.get(name, 0) for name in ("open_packets", "open_joined", "open_punted"))
    return whole + sum(count for name, count in counts.items() if name.startswith("drop_"))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 2799), min_size=1, max_size=25),
    suite=st.sampled_from((1, 3)),
    path_mtu=st.sampled_from((1432, 600, 520)),
    rng=st.randoms(use_true_random=False),
)
def test_shuffled_dropped_and_duplicated(sizes: list[int], suite: int, path_mtu: int, rng: random.Random) -> None:
    """A frame arrives if and only if all its datagrams do."""
    a, b = pair(suite=suite, path_mtu=path_mtu)
    with a, b:
        sent = {}  # packet id -> frame
        wire: list[bytes] = []
        for number, size in enumerate(sizes):
            frame = TO_B + b"\x88\xb5" + number.to_bytes(1, "big") + body(size, size)
            parts = [p for record in a.seal(tap_records(a, [PLAIN_VNET + frame])) for p in record.datagrams()]
            sent[parts[0][:8]] = (frame, parts)
            wire += parts
        copies = {part: rng.choice((0, 1, 1, 1, 1, 1, 2)) for part in wire}
        arriving = [part for part in wire for _ in range(copies[part])]
        for _ in range(rng.choice((0, 3, 100))):
            if arriving:
                i, j = rng.randrange(len(arriving)), rng.randrange(len(arriving))
                arriving[i], arriving[j] = arriving[j], arriving[i]
        got = Counter(frames_of(b.open([came(part) for part in arriving])))
        for frame, parts in sent.values():
            counts = [copies[part] for part in parts]
            assert min(1, *counts, 1) <= got[frame] <= max(0, min(counts)), "all its datagrams, or none of it"
        assert set(got) <= {frame for frame, _ in sent.values()}
        assert b.punts() == []
        b.tables.set_clock(1_000_000 + 10_000)
        b.open([])  # partial packets are given up
        assert ended(b.counts()) == len(arriving)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 2800), min_size=1, max_size=40), st.integers(1, 7))
def test_grouped_as_gro_does(sizes: list[int], group: int) -> None:
    """GRO joins what has one size, wherever the sender's batches ended; heads and fragments in different records."""
    a, b = pair()
    with a, b:
        sent = [TO_B + b"\x88\xb5" + body(size, i) for i, size in enumerate(sizes)]
        wire = [p for r in a.seal(tap_records(a, [PLAIN_VNET + f for f in sent])) for p in r.datagrams()]
        records: list[Record] = []
        for part in wire:
            last = records[-1] if records else None
            if last is None or last.nseg == group or len(part) > last.seg or len(last.data) != last.seg * last.nseg:
                records.append(came(part))
            else:
                last.data += part
                last.nseg += 1
        assert frames_of(b.open(records)) == sent


def test_a_full_ring_loses_nothing() -> None:
    a, b = pair()
    with a, b:
        sent = [TO_B + b"\x88\xb5" + body(2700, i) for i in range(60)]
        sealed = [replace(r, remote=REMOTE_A) for r in a.seal(tap_records(a, [PLAIN_VNET + f for f in sent]))]
        got: list[Record] = []
        for _ in range(8):
            b.from_peer.put(sealed)
            while lib.zt_open(b.crypto, 64):
                pass
            got += b.to_tap.take()
            lib.zt_open(b.crypto, 64)
            got += b.to_tap.take()
        assert frames_of(got) == sent * 8


# ---- punted as it came ---------------------------------------------------------------------------------------------


def only_punt(lab: Lab, data: bytes, kind: int = DATAGRAM) -> None:
    assert lab.open([came(data)]) == []
    assert lab.punts() == [Punt(kind, data, 0, REMOTE_A)]
    assert lab.counts()["open_punted"] == 1


@pytest.mark.parametrize(
    "verb", [Verb.ECHO, Verb.OK, Verb.ERROR, Verb.MULTICAST_FRAME, Verb.NETWORK_CREDENTIALS, Verb.HELLO]
)
def test_other_verbs(b: Lab, verb: Verb) -> None:
    only_punt(b, packet(verb))


def test_compressed_frames(b: Lab) -> None:
    only_punt(b, packet(payload=NETWORK + b"\x88\xb5" + bytes(600), compress=True))


def test_suite_0(b: Lab) -> None:
    only_punt(b, packet(suite=0))


def test_unknown_source(b: Lab) -> None:
    only_punt(b, packet(source=0x1122334455))


def test_unknown_network(b: Lab) -> None:
    only_punt(b, packet(payload=bytes(8) + b"\x88\xb5" + body(60)))


def test_network_with_rules(b: Lab) -> None:
    b.join(accept_all=False)
    only_punt(b, packet())


def test_sender_that_did_not_pass_the_gate(b: Lab) -> None:
    b.tables.install_member(NWID, A, False, 0)
    only_punt(b, packet())


def test_sender_that_is_no_member(b: Lab) -> None:
    b.tables.remove_member(NWID, A)
    only_punt(b, packet())


def test_packet_for_somebody_else(b: Lab) -> None:
    only_punt(b, packet(destination=0x1122334455))


def test_fragment_for_somebody_else(b: Lab) -> None:
    _, piece = split(packet(payload=NETWORK + b"\x88\xb5" + body(1500), destination=0x1122334455), 1432)
    only_punt(b, piece)


def test_a_beacon_of_an_old_node(b: Lab) -> None:
    only_punt(b, bytes(8) + A.to_bytes(5, "big"))


@pytest.mark.parametrize("joined", [True, False])
def test_a_fragmented_control_packet_is_punted_whole(b: Lab, joined: bool) -> None:
    whole = packet(Verb.NETWORK_CREDENTIALS, body(4000))
    parts = split(whole, 1432)
    run = Record(b"".join(parts), remote=REMOTE_A, seg=1432, nseg=len(parts))
    assert b.open([run] if joined else [came(part) for part in reversed(parts)]) == []
    assert b.punts() == [Punt(PACKET, whole, 0, REMOTE_A)]


@pytest.mark.parametrize(
    "sealed",
    [
        *(ext(flags) for flags in (0x01, 0x10, 0x02)),
        *(ext(to=to) for to in (b"\xff" * 6, MAC_A)),
        *(ext(source=source) for source in (bytes(6), MAC_B, b"\2" * 6)),
    ],
)
def test_ext_frames_that_want_a_decision(b: Lab, sealed: bytes) -> None:
    """Bridged, copied by a rule, OK wanted, certificate attached: still sealed, byte for byte."""
    only_punt(b, sealed)


def test_truncated_frames_are_for_python_to_judge(b: Lab) -> None:
    for payload in (b"", NETWORK[:5]):
        b.open([came(packet(payload=payload))])
    assert len(b.punts()) == 2


def test_unknown_path_is_reported_once_a_second(b: Lab) -> None:
    data = packet()
    assert len(frames_of(b.open([came(data, REMOTE_B), came(data, REMOTE_B), came(data, REMOTE_A, 1)]))) == 3
    assert b.punts() == [Punt(UNKNOWN_PATH, b"", 0, REMOTE_B, 0, A)]
    b.tables.set_clock(1_000_000 + 1000)
    b.open([came(data, REMOTE_B)])
    assert len(b.punts()) == 1


def test_relayed_frames_say_nothing_about_paths(b: Lab) -> None:
    assert len(b.open([came(with_hops(packet(), 1), REMOTE_B)])) == 1
    assert b.punts() == []
    assert list(b.tables.activity()) == []


def test_a_forged_packet_says_nothing_about_paths(b: Lab) -> None:
    forged = bytearray(packet(payload=NETWORK + b"\x88\xb5" + body(200)))
    forged[-1] ^= 1
    assert b.open([came(bytes(forged), REMOTE_B)]) == []
    assert b.punts() == []
    assert b.counts()["drop_bad_mac"] == 1
    assert list(b.tables.frame_activity()) == []


def test_punts_beyond_the_buffer_are_counted(b: Lab) -> None:
    sealed = packet(Verb.ECHO, body(1300))
    b.open([came(sealed) for _ in range(100)])
    b.open([came(sealed) for _ in range(100)])
    punted = len(b.punts())
    assert punted + b.counts()["drop_punt_overflow"] == 200
    assert punted == b.counts()["open_punted"] < 200


# ---- dropped under a name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (body(4), "drop_short_datagram"),
        (body(16), "drop_short_datagram"),
        (bytes(27), "drop_short_datagram"),
        (packet(payload=NETWORK + b"\x88\xb5"), "drop_bad_frame"),
        (packet(payload=NETWORK), "drop_bad_frame"),
        (packet(payload=NETWORK + b"\x88\xb5" + body(2801), mtu=9000), "drop_tap_oversize"),
        (packet()[:-1], "drop_bad_mac"),
        (packet() + b"\0", "drop_bad_mac"),
    ],
)
def test_dropped(b: Lab, data: bytes, reason: str) -> None:
    assert b.open([came(data)]) == []
    assert b.counts()[reason] == 1
    assert b.punts() == []


@pytest.mark.parametrize("numbers", [0x11, 0x20, 0x22, 0x81, 0xF1, 0x01, 0x7F])
def test_fragment_numbers(b: Lab, numbers: int) -> None:
    fragment = bytes(8) + B.to_bytes(5, "big") + bytes((0xFF, numbers, 0)) + body(50)
    assert b.open([came(fragment)]) == []
    assert b.counts()["drop_bad_fragment"] == 1


def test_fragments_expire(b: Lab) -> None:
    head, piece = split(packet(payload=NETWORK + b"\x88\xb5" + body(1500)), 1432)
    b.open([came(head)])
    b.tables.set_clock(1_000_000 + 2000)
    assert b.open([came(piece)]) == []
    assert b.counts()["drop_fragment_expired"] == 1
    assert len(b.open([came(head)])) == 1


def test_fragments_of_another_sender_do_not_mix(b: Lab) -> None:
    head, piece = split(packet(payload=NETWORK + b"\x88\xb5" + body(1500)), 1432)
    forged = piece[:16] + bytes(len(piece) - 16)
    assert b.open([came(head), came(forged, REMOTE_B), came(forged, REMOTE_A, 1)]) == []
    assert len(b.open([came(piece)])) == 1


def test_duplicate_fragments(b: Lab) -> None:
    head, piece = split(packet(payload=NETWORK + b"\x88\xb5" + body(1500)), 1432)
    assert b.open([came(piece), came(piece)]) == []
    assert b.counts()["drop_fragment_duplicate"] == 1
    assert len(b.open([came(head)])) == 1


def test_too_much_for_one_packet(b: Lab) -> None:
    def fragment(number: int) -> bytes:
        return bytes(8) + B.to_bytes(5, "big") + bytes((0xFF, 0x70 | number, 0)) + body(4000)

    assert b.open([came(fragment(1)), came(fragment(2)), came(fragment(3))]) == []
    assert b.counts()["drop_oversize_packet"] == 3


def test_a_flood_of_heads_is_bounded(b: Lab) -> None:
    rng = random.Random(1)
    head = split(packet(payload=NETWORK + b"\x88\xb5" + body(1500)), 1432)[0][:40]
    for _ in range(60):
        b.open([came(rng.randbytes(8) + head[8:]) for _ in range(100)])
    assert b.counts()["drop_fragment_expired"] >= 6000 - 4096


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5),
    st.integers(0, 3000),
    st.sampled_from((0, 1, 13, 28, 100, 1432)),
    st.integers(0, 70),
    st.integers(0, 4),
)
def test_no_datagram_does_harm(spoil: list[tuple[int, int]], length: int, seg: int, nseg: int, which: int) -> None:
    """Every datagram ends in exactly one place."""
    seeds = (
        packet(),
        ext(),
        b"".join(split(packet(payload=NETWORK + b"\x88\xb5" + body(2700)), 1432)),
        b"".join(reversed(split(packet(payload=NETWORK + b"\x88\xb5" + body(2700)), 1432))),
        packet(Verb.ECHO),
    )
    data = bytearray(seeds[which])
    for at, value in spoil:
        data[at % len(data)] = value
    data = data[:length]
    with Lab(B) as b:
        b.join()
        b.meet(A, REMOTE_A)
        b.open([Record(bytes(data), remote=REMOTE_A, seg=seg, nseg=nseg, peer=0xFFFFFFFF)])
        step = seg if nseg > 1 and seg else len(data)
        assert b.counts().get("open_datagrams", 0) == (-(-len(data) // step) if data else 0)
