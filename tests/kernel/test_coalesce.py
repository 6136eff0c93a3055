"""kernel/coalesce.c: what it writes stands for exactly the frames it was given, in order within every flow."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import ALL_OFFLOADS, Lab, Record
from tests.kernel.strategies import body, frames
from tests.twins.frames import ACK, CWR, DF, ECE, FIN, MF, PSH, RST, SYN, TCP, UDP, URG, VNET, Frame, unfold
from ztpipe.kernel._kernel import ffi, lib

MACS = bytes(range(12))
BASE = Frame(macs=MACS, payload=body(1400), ip_id=7, seq=100)
V6 = replace(BASE, source=bytes(15) + b"\1", destination=bytes(15) + b"\2")


def coalesce(
    given_frames: list[bytes], *, offload: int = ALL_OFFLOADS, networks: Iterable[int] = repeat(3)
) -> list[Record]:
    """Everything in one batch; the records for the tap stage. `networks`: of each frame."""
    with Lab(offload=offload, slots=64) as lab:
        k = ffi.new("struct zt_coalescer *")
        lib.zt_coalescer_init(k, lab.context, lab.to_tap.producer.end(0))
        for frame, network in zip(given_frames, networks, strict=False):
            assert lib.zt_coalescer_room(k)
            lib.zt_coalescer_add(k, network, 9, frame[:12], frame[12:], len(frame) - 12)
        lib.zt_coalescer_flush(k)
        records = lab.to_tap.take()
        assert lab.counts().get("open_frames", 0) == len(records)
        return records


def sizes(records: list[Record]) -> list[int]:
    """How many frames each record stands for."""
    return [len(unfold(record.data)) for record in records]


def expand(records: list[Record]) -> list[bytes]:
    return [frame for record in records for frame in unfold(record.data)]


def atomic(frame: bytes) -> bytes:
    """Without the identification of an IPv4 packet that says "don't fragment": it means nothing (RFC 6864), and the
    kernel counts it up where a sender let it stand still."""
    at = 18 if frame[12:14] == b"\x81\x00" else 14
    if frame[at - 2 : at] != b"\x08\x00" or not frame[at + 6] & 0x40:
        return frame
    return frame[: at + 4] + b"\0\0" + frame[at + 6 : at + 10] + b"\0\0" + frame[at + 12 :]


def stream(base: Frame, count: int, *, size: int = 1400, last: int | None = None, push: bool = False) -> list[Frame]:
    """Consecutive segments of one flow."""
    total = size * (count - 1) + (size if last is None else last)
    flags = base.flags | (PSH if push else 0)
    return list(replace(base, payload=body(total), flags=flags).segments(size))


def build(parts: list[Frame]) -> list[bytes]:
    return [part.build() for part in parts]


# ---- what is joined ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [BASE, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("proto", [TCP, UDP])
@pytest.mark.parametrize("last", [None, 1, 1399])
def test_a_run_becomes_one_super_frame(base: Frame, proto: int, last: int | None) -> None:
    parts = build(stream(replace(base, proto=proto), 20, last=last))
    records = coalesce(parts)
    assert sizes(records) == [20]
    assert expand(records) == parts
    assert records[0].network == 3
    assert records[0].flow == 9


def test_the_vnet_header_of_a_super_frame() -> None:
    record = coalesce(build(stream(BASE, 3, push=True)))[0]
    assert VNET.unpack_from(record.data) == (1, 1, 54, 1400, 34, 16, 0)
    record = coalesce(build(stream(replace(V6, options=bytes(12)), 3)))[0]
    assert VNET.unpack_from(record.data) == (1, 4, 86, 1400, 54, 16, 0)
    record = coalesce(build(stream(replace(BASE, proto=UDP), 3)))[0]
    assert VNET.unpack_from(record.data) == (1, 5, 42, 1400, 34, 6, 0)


def test_a_single_frame_is_left_as_it_is() -> None:
    frame = BASE.build()
    assert [r.data for r in coalesce([frame])] == [bytes(VNET.size) + frame]


def test_a_long_run_is_cut_at_the_length_of_an_ip_packet() -> None:
    parts = build(stream(BASE, 100))
    records = coalesce(parts)
    assert sizes(records) == [46, 46, 8]
    assert expand(records) == parts


@pytest.mark.parametrize("push", [True, False])
def test_no_super_frame_is_cut_where_a_slot_ends(push: bool) -> None:
    """It would be written to the TAP in two. Without PSH the next segment tells that there are no more: it has news."""
    parts = []
    for n in range(8):
        news = (n + 1).to_bytes(4, "big")
        base = replace(BASE, seq=100 + n * 63000, options=b"\1\1\x08\x0a" + news + bytes(4))
        parts += build(stream(base, 45, push=push))
    records = coalesce(parts)
    assert sizes(records) == [45] * 8
    assert expand(records) == parts


def test_udp_stops_at_64_datagrams() -> None:
    parts = build(stream(replace(BASE, proto=UDP), 100, size=100))
    records = coalesce(parts)
    assert sizes(records) == [64, 36]
    assert expand(records) == parts


def test_push_and_fin_end_a_super_frame() -> None:
    for flag in (PSH, FIN, PSH | FIN):
        parts = stream(BASE, 6)
        parts[2] = replace(parts[2], flags=ACK | flag)
        assert sizes(coalesce(build(parts))) == [3, 3]


def test_an_ip_id_that_stands_still_is_joined_if_never_fragmented() -> None:
    parts = [replace(part, ip_id=0) for part in stream(BASE, 5)]
    assert sizes(coalesce(build(parts))) == [5]
    parts = [replace(part, ip_id=0, ip_flags=0) for part in stream(BASE, 5)]
    assert sizes(coalesce(build(parts))) == [1] * 5


def test_echo_of_congestion_is_joined() -> None:
    parts = stream(replace(BASE, flags=ACK | ECE), 5)
    assert sizes(coalesce(build(parts))) == [5]


# ---- what is not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"tos": 3},
        {"ttl": 63},
        {"ip_flags": 0},
        {"ip_id": 99},
        {"seq": 101},
        {"ack": 5},
        {"window": 513},
        {"flags": ACK | ECE},
        {"flags": ACK | CWR},
        {"flags": ACK | URG},
        {"flags": ACK | SYN},
        {"flags": ACK | RST},
        {"flags": 0},
        {"options": bytes(4)},
        {"ports": (1000, 2001)},
        {"source": bytes((10, 0, 0, 9))},
        {"macs": bytes(12)},
        {"vlan": 5},
        {"payload": body(1401)},
        {"payload": b""},
        {"ip_options": bytes(4)},
        {"ip_flags": MF},
    ],
    ids=str,
)
def test_one_odd_segment_is_not_joined(change: dict[str, object]) -> None:
    parts = stream(BASE, 5)
    parts[2] = replace(parts[2], **change)  # type: ignore[arg-type]
    records = coalesce(build(parts))
    assert 3 <= len(records) <= 4
    assert sizes(records)[0] == 2
    assert sorted(expand(records)) == sorted(build(parts))


@pytest.mark.parametrize("change", [{"tos": 3}, {"ttl": 63}, {"flow_label": 1}], ids=str)
def test_one_odd_segment_is_not_joined_ipv6(change: dict[str, int]) -> None:
    parts = stream(V6, 3)
    parts[1] = replace(parts[1], **change)  # type: ignore[arg-type]
    assert sizes(coalesce(build(parts))) == [1, 1, 1]


@pytest.mark.parametrize("at", [24, 36, 38, 40, 50, 54, 700, 1453])
def test_a_damaged_segment_is_never_repaired(at: int) -> None:
    """Joined to a super-frame it would get a new, correct checksum; as it is, the receiver drops it."""
    parts = build(stream(BASE, 5))
    for damaged in (0, 2, 4):
        frame = bytearray(parts[damaged])
        frame[at] ^= 0x40
        given_frames = [*parts[:damaged], bytes(frame), *parts[damaged + 1 :]]
        records = coalesce(given_frames)
        assert bytes(VNET.size) + bytes(frame) in [record.data for record in records]
        assert sorted(expand(records)) == sorted(given_frames)


def test_trailing_bytes_are_kept() -> None:
    parts = [frame + b"\0\0" for frame in build(stream(BASE, 3))]
    assert expand(coalesce(parts)) == parts


def test_udp_without_a_checksum_is_left_alone() -> None:
    parts = [frame[:40] + b"\0\0" + frame[42:] for frame in build(stream(replace(BASE, proto=UDP), 3))]
    records = coalesce(parts)
    assert [record.data[VNET.size :] for record in records] == parts


@pytest.mark.parametrize(
    ("without", "tcp", "udp"),
    [(lib.ZT_OFFLOAD_TAP_TSO, 5, 1), (lib.ZT_OFFLOAD_TAP_USO, 1, 5), (lib.ZT_OFFLOAD_TAP_VNET, 5, 5)],
)
def test_only_what_the_tap_takes(without: int, tcp: int, udp: int) -> None:
    for proto, count in ((TCP, tcp), (UDP, udp)):
        parts = build(stream(replace(BASE, proto=proto), 5))
        records = coalesce(parts, offload=ALL_OFFLOADS & ~without)
        assert len(records) == count
        assert expand(records) == parts


# ---- several flows -------------------------------------------------------------------------------------------------


def flow_of(frame: bytes) -> tuple[bytes, ...]:
    """Addresses, protocol and ports of a plain IP frame."""
    if frame[12:14] == b"\x08\x00":
        return frame[23:24], frame[26:34], frame[34:38]
    return frame[20:21], frame[22:54], frame[54:58]


def by_flow(given_frames: Iterable[bytes]) -> dict[tuple[bytes, ...], list[bytes]]:
    flows: defaultdict[tuple[bytes, ...], list[bytes]] = defaultdict(list)
    for frame in given_frames:
        flows[flow_of(frame)].append(frame)
    return flows


def test_two_interleaved_flows_stay_two_super_frames() -> None:
    one, two = build(stream(BASE, 10)), build(stream(replace(BASE, ports=(1, 2)), 10))
    given_frames = [frame for both in zip(one, two, strict=True) for frame in both]
    records = coalesce(given_frames)
    assert sizes(records) == [10, 10]
    assert by_flow(expand(records)) == by_flow(given_frames)


def test_acknowledgements_between_data() -> None:
    data = build(stream(BASE, 10))
    acks = build([replace(BASE, ports=(5, 6), payload=b"", ack=i) for i in range(10)])
    given_frames = [frame for both in zip(data, acks, strict=True) for frame in both]
    records = coalesce(given_frames)
    assert sorted(sizes(records)) == [1] * 10 + [10]
    assert by_flow(expand(records)) == by_flow(given_frames)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(frames(payload=st.sampled_from((0, 1, 80, 1400, 4000, 30000))), min_size=1, max_size=6),
    st.integers(1, 1448),
    st.randoms(use_true_random=False),
)
def test_any_mixture_comes_out_in_order(bases: list[Frame], size: int, rng: random.Random) -> None:
    size = max(size, *(len(base.payload) // 60 for base in bases), 1)
    queues = [build(list(base.segments(size))) for base in bases]
    given_frames = []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        for _ in range(rng.choice((1, 1, 2, 10, 50))):
            if queue:
                given_frames.append(queue.pop(0))
    out = expand(coalesce(given_frames))
    assert by_flow(map(atomic, out)) == by_flow(map(atomic, given_frames))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6), st.integers(14, 200), st.booleans())
def test_no_frame_does_harm(spoil: list[tuple[int, int]], length: int, ipv6: bool) -> None:
    """Any bytes: all come out again; the sanitizer build sees reads and writes beyond."""
    parts = [bytearray(frame[:length]) for frame in build(stream(V6 if ipv6 else BASE, 4, size=100))]
    for at, value in spoil:
        parts[1][at % length] = value
        parts[2][at % length] = value
    given_frames = list(map(bytes, parts))
    assert sum(sizes(coalesce(given_frames))) == 4


def test_fragments_do_not_overtake_their_flow() -> None:
    parts = stream(replace(BASE, proto=UDP), 5)
    parts[2] = replace(parts[2], ip_flags=MF)
    given_frames = build(parts)
    assert expand(coalesce(given_frames)) == given_frames


def test_df_is_part_of_the_header() -> None:
    parts = stream(replace(BASE, ip_flags=DF), 2) + stream(replace(BASE, ip_flags=0, ports=(3, 4)), 2)
    assert sizes(coalesce(build(parts))) == [2, 2]
