"""kernel/segment.c against its twin: every super-frame gives exactly the packets that it stands for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.strategies import body, frames
from tests.twins.frames import CWR, FIN, NEEDS_CSUM, PSH, TCP, TCPV4, UDP, VNET, Frame, checksum
from ztpipe.kernel._kernel import ffi, lib


def segment(vnet: bytes, frame: bytes) -> list[bytes] | None:
    """All frames of a super-frame by C, or None when C says that the headers do not fit."""
    described = ffi.new("struct zt_super *")
    memory = ffi.from_buffer("uint8_t[]", frame)
    header = ffi.new("struct zt_vnet *")
    ffi.memmove(header, vnet, VNET.size)
    if not lib.zt_super_init(described, header, memory, len(frame)):
        return None
    out = []
    for i in range(described.segments):
        size = lib.zt_super_size(described, i)
        room = ffi.new("uint8_t[]", size)
        lib.zt_super_emit(described, i, room)
        out.append(frame[:12] + bytes(ffi.buffer(room)))
    return out


@settings(max_examples=300, deadline=None)
@given(frames(payload=st.integers(0, 9000), extensions=True), st.integers(1, 9000))
def test_super_frames_give_the_packets_they_stand_for(frame: Frame, gso_size: int) -> None:
    gso_size = max(gso_size, len(frame.payload) // 200 + 1)
    got = segment(frame.vnet(gso_size), frame.partial())
    assert got == [part.build() for part in frame.segments(gso_size)]


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("proto", [TCP, UDP])
def test_the_longest_super_frame(ipv6: bool, proto: int) -> None:
    size = 16 if ipv6 else 4
    frame = Frame(
        source=bytes(size), destination=bytes(size), proto=proto, payload=body(65400), ip_id=0xFFF0, seq=2**32 - 9000
    )
    assert segment(frame.vnet(2748), frame.partial()) == [part.build() for part in frame.segments(2748)]


def test_flags_that_belong_to_one_segment_only() -> None:
    frame = Frame(payload=body(3000), flags=0x10 | PSH | FIN | CWR)
    first, middle, last = (f[14 + 20 + 13] for f in segment(frame.vnet(1000, ecn=True), frame.partial()) or [])
    assert (first, middle, last) == (0x10 | CWR, 0x10, 0x10 | PSH | FIN)


def test_an_ipv6_extension_header_is_copied() -> None:
    # a destination options header with one PadN of 6 bytes; next header TCP
    frame = Frame(
        source=bytes(16), destination=bytes(15) + b"\1", extension=bytes((TCP, 0, 1, 4, 0, 0, 0, 0)), payload=body(2500)
    )
    assert segment(frame.vnet(1000), frame.partial()) == [part.build() for part in frame.segments(1000)]


@settings(max_examples=200, deadline=None)
@given(frames(payload=st.integers(0, 3000), extensions=True))
def test_partial_checksums_are_completed(frame: Frame) -> None:
    assert segment(frame.vnet(), frame.partial()) == [frame.build()]


def test_a_checksum_of_zero_is_sent_as_ffff() -> None:
    base = Frame(proto=UDP, payload=bytes(2))
    # choose the payload so that the sum comes out as 0xffff, whose complement is 0
    field = int.from_bytes(base.build()[40:42], "big")
    frame = replace(base, payload=field.to_bytes(2, "big"))
    assert frame.build()[40:42] == b"\xff\xff"
    assert segment(frame.vnet(), frame.partial()) == [frame.build()]


@pytest.mark.parametrize("length", [14, 15, 60, 9014])
def test_other_frames_stay_as_they_are(length: int) -> None:
    frame = body(length)
    assert segment(bytes(VNET.size), frame) == [frame]


def spoilt(vnet: bytes, **changes: int) -> bytes:
    names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset", "num_buffers")
    fields = dict(zip(names, VNET.unpack(vnet), strict=True)) | changes
    return VNET.pack(*fields.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"gso_size": 0},
        {"gso_type": 3},
        {"gso_type": 4},
        {"gso_type": 5},
        {"gso_type": 0x7F},
        {"flags": 0},
        {"csum_start": 0},
        {"csum_start": 13},
        {"csum_start": 33},
        {"csum_start": 35},
        {"csum_start": 0xFFFF},
        {"csum_offset": 0},
        {"csum_offset": 0xFFFF},
    ],
)
def test_vnet_headers_that_do_not_fit_are_refused(changes: dict[str, int]) -> None:
    frame = Frame(payload=body(3000))
    assert segment(spoilt(frame.vnet(1000), **changes), frame.partial()) is None


def test_what_the_headers_contradict_is_refused() -> None:
    for frame, lie in (
        (Frame(payload=body(3000), ip_flags=0x2000), b""),
        (Frame(payload=body(3000), ip_flags=1), b""),
        (Frame(payload=body(3000)), bytes((UDP,))),
        (Frame(source=bytes(16), destination=bytes(16), payload=body(3000)), bytes((UDP,))),
        (Frame(vlan=1, outer=2, payload=body(3000), macs=bytes(8) + b"\x81\0\0\1"), b""),
    ):
        data = bytearray(frame.partial())
        at = 20 if frame.ipv6 else 23
        data[at : at + len(lie)] = lie
        tagged = data[:12] + b"\x81\0\0\3" + data[12:] if frame.vlan else data
        assert segment(frame.vnet(1000), bytes(tagged)) is None


def test_tcp_that_starts_elsewhere_is_refused() -> None:
    """Also where something lies that looks like a TCP header."""
    inner = Frame(payload=body(2000))
    frame = Frame(payload=inner.l4(2020, 0) + inner.payload)
    start = 14 + 20 + 20
    assert segment(VNET.pack(NEEDS_CSUM, TCPV4, start + 20, 1000, start, 16, 0), frame.partial()) is None


@pytest.mark.parametrize(("words", "length"), [(0, 3000), (4, 3000), (6, 3), (15, 39), (15, 40), (5, 3000)])
def test_a_tcp_header_of_a_wrong_length_is_refused(words: int, length: int) -> None:
    frame = Frame(payload=body(length))
    data = bytearray(frame.partial())
    data[46] = words << 4
    fits = words >= 5 and words * 4 <= 20 + length
    assert (segment(frame.vnet(1000), bytes(data)) is not None) == fits


def test_the_longest_frames() -> None:
    """Two tags, and what an IP header can say; no packet of more bytes than that is made."""
    longest = 65_535 + 14 + 8
    assert segment(bytes(VNET.size), bytes(longest)) == [bytes(longest)]
    assert segment(bytes(VNET.size), bytes(longest + 1)) is None
    frame = Frame(payload=body(65_535 - 40))
    assert segment(frame.vnet(65_535), frame.partial()) == [frame.build()]
    frame = replace(frame, payload=frame.payload + b"x")
    assert segment(frame.vnet(65_535), frame.partial()) is None


def test_a_checksum_field_at_the_very_end() -> None:
    frame = body(100)
    assert segment(VNET.pack(NEEDS_CSUM, 0, 0, 0, 90, 9, 0), frame) is None
    (whole,) = segment(VNET.pack(NEEDS_CSUM, 0, 0, 0, 90, 8, 0), frame) or [b""]
    assert whole == frame[:98] + checksum(frame[90:]).to_bytes(2, "big")


@pytest.mark.parametrize(("start", "offset"), [(0, 16), (13, 0), (14, 0xFFFF), (3000, 100), (0xFFFF, 0)])
def test_checksum_fields_outside_the_frame_are_refused(start: int, offset: int) -> None:
    frame = body(3054)
    assert segment(VNET.pack(NEEDS_CSUM, 0, 0, 0, start, offset, 0), frame) is None


def test_headers_cut_short_are_refused() -> None:
    frame = Frame(payload=body(100))
    whole = frame.partial()
    for length in range(54):
        assert segment(frame.vnet(50), whole[:length]) is None, length


@settings(max_examples=500, deadline=None)
@given(
    st.tuples(*(st.sampled_from((0, 1, 2, 255)), st.sampled_from((0, TCPV4, 4, 5, 0x81, 3, 77)))),
    st.tuples(*(st.integers(0, 70) | st.integers(0, 0xFFFF),) * 4),
    frames(payload=st.integers(0, 200), extensions=True),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    st.integers(0, 300),
)
def test_no_header_makes_it_read_or_write_elsewhere(
    first: tuple[int, int], rest: tuple[int, ...], frame: Frame, spoil: list[tuple[int, int]], length: int
) -> None:
    """The memory of each segment is exactly its size: the sanitizer build of this test sees every byte too far."""
    data = bytearray(frame.partial())
    for at, value in spoil:
        data[at % len(data)] = value
    out = segment(VNET.pack(*first, *rest, 0), bytes(data[:length]))
    assert out is None or sum(map(len, out)) >= len(out) * 14
