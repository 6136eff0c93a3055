"""kernel/coalesce.c among frames that are not what they seem: options, fragments, tags, wrong lengths, damage.

Joined or not, each comes out as it went in. Order is kept inside a flow, and between a flow and whatever
may belong to it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.strategies import body
from tests.kernel.test_coalesce import BASE, V6, atomic, build, coalesce, expand, sizes, stream
from tests.twins.frames import DF, ICMPV6, MF, PSH, TCP, UDP, Frame, checksum, ones_sum, parse

OPTIONS = body(8)
EXTENSION = bytes((TCP, 0, 1, 4, 0, 0, 0, 0))


# ---- whose frame is it? --------------------------------------------------------------------------------------------


def key(frame: bytes) -> object:
    """The flow that the bytes say; "any" if they do not tell it though there may be one; None for all the rest."""
    kind, ip = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == 0x0800:
        if len(ip) < 20 or ip[0] != 0x45 or int.from_bytes(ip[6:8], "big") & 0x3FFF:
            return "any"
        proto, addresses, rest = ip[9], ip[12:20], ip[20:]
    elif kind == 0x86DD:
        if len(ip) < 40 or ip[0] >> 4 != 6:
            return "any"
        proto, addresses, rest = ip[6], ip[8:40], ip[40:]
        if proto not in (TCP, UDP):
            return None if proto == ICMPV6 else "any"
    else:
        return None
    return (proto, addresses, rest[:4]) if proto in (TCP, UDP) and len(rest) >= 4 else None


def check(given_frames: list[bytes]) -> None:
    out = [atomic(frame) for frame in expand(coalesce(given_frames))]
    given_frames = [atomic(frame) for frame in given_frames]
    assert sorted(out) == sorted(given_frames)
    for flow in {key(frame) for frame in given_frames}:
        ours = (flow, "any")
        assert [f for f in out if key(f) in ours] == [f for f in given_frames if key(f) in ours], flow


# ---- oddities ------------------------------------------------------------------------------------------------------


def _ip_checksum(frame: bytes) -> bytes:
    return frame[:24] + struct.pack(">H", ~ones_sum(frame[14:24] + frame[26:34]) & 0xFFFF) + frame[26:]


def ip_length(part: Frame, by: int) -> bytes:
    """The IP header says another length than the frame has; all checksums are right."""
    frame = part.build()
    if part.ipv6:
        return frame[:18] + struct.pack(">H", struct.unpack_from(">H", frame, 18)[0] + by) + frame[20:]
    return _ip_checksum(frame[:16] + struct.pack(">H", struct.unpack_from(">H", frame, 16)[0] + by) + frame[18:])


def udp_length(part: Frame, by: int) -> bytes:
    """The UDP header says another length than the IP header; the checksum covers all of the frame."""
    frame = bytearray(part.build())
    at = 54 if part.ipv6 else 34
    length = len(frame) - at
    frame[at + 4 : at + 8] = struct.pack(">HH", length + by, 0)
    frame[at + 6 : at + 8] = struct.pack(">H", checksum(part.pseudo(length) + frame[at:]))
    return bytes(frame)


def udp_without_checksum(part: Frame) -> bytes:
    """Chosen so that it would be 0 or 0xffff, which the sum alone does not tell from right."""
    at = 54 if part.ipv6 else 34
    frame = replace(part, payload=bytes(2) + part.payload[2:]).build()
    field = struct.unpack_from(">H", frame, at + 6)[0]
    frame = replace(part, payload=struct.pack(">H", field) + part.payload[2:]).build()
    assert frame[at + 6 : at + 8] == b"\xff\xff"
    return frame[: at + 6] + b"\0\0" + frame[at + 8 :]


def extended(part: Frame) -> bytes:
    return replace(part, extension=bytes((part.proto, *EXTENSION[1:]))).build()


ANY: list[Callable[[Frame], bytes]] = [
    lambda part: part.build(),
    lambda part: ip_length(part, -1),
    lambda part: ip_length(part, 1),
    lambda part: part.build() + b"\0",
    lambda part: part.build()[:-1],
    lambda part: replace(part, vlan=5).build(),
    lambda part: replace(part, outer=7, vlan=5).build(),
    lambda part: replace(part, tos=part.tos ^ 3).build(),
    lambda part: replace(part, macs=bytes(12)).build(),
    lambda part: replace(part, payload=part.payload + b"\1").build(),
    lambda part: replace(part, payload=part.payload[:-1]).build(),
    lambda part: part.macs + b"\x88\xb5" + part.payload,
]
OF_IPV4: list[Callable[[Frame], bytes]] = [
    lambda part: replace(part, ip_options=OPTIONS).build(),
    lambda part: replace(part, ip_flags=MF).build(),
    lambda part: replace(part, ip_flags=MF | 185).build(),
    lambda part: replace(part, ip_flags=185).build(),
    lambda part: replace(part, ip_flags=part.ip_flags ^ DF).build(),
    lambda part: replace(part, ip_flags=part.ip_flags ^ 0x8000).build(),
    lambda part: replace(part, ip_id=part.ip_id + 1 & 0xFFFF).build(),
    lambda part: replace(part, ttl=1).build(),
]
OF_IPV6: list[Callable[[Frame], bytes]] = [
    extended,
    lambda part: replace(part, flow_label=part.flow_label ^ 1).build(),
    lambda part: replace(part, ttl=1).build(),
    lambda part: part.build()[:20] + bytes((ICMPV6,)) + part.build()[21:],
    lambda part: part.build()[:20] + bytes((44,)) + part.build()[21:],
]
OF_TCP: list[Callable[[Frame], bytes]] = [
    lambda part: replace(part, flags=part.flags ^ PSH).build(),
    lambda part: replace(part, reserved=1).build(),
    lambda part: replace(part, urgent=1).build(),
    lambda part: replace(part, window=part.window ^ 1).build(),
    lambda part: replace(part, ack=part.ack ^ 1).build(),
    lambda part: replace(part, seq=part.seq ^ 1).build(),
    lambda part: replace(part, options=part.options + b"\1\1\1\1").build(),
    lambda part: replace(part, options=part.options[:-1] + b"\7").build() if part.options else part.build(),
    lambda part: replace(part, payload=b"").build(),
]
OF_UDP: list[Callable[[Frame], bytes]] = [
    lambda part: udp_length(part, -1),
    lambda part: udp_length(part, 1),
    udp_without_checksum,
    lambda part: replace(part, payload=b"").build(),
]


def oddities(part: Frame) -> list[Callable[[Frame], bytes]]:
    return [*ANY, *(OF_IPV6 if part.ipv6 else OF_IPV4), *(OF_UDP if part.proto == UDP else OF_TCP)]


@pytest.mark.parametrize("base", [BASE, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("proto", [TCP, UDP])
@pytest.mark.parametrize("size", [200, 1400], ids=["short", "bulk"])
def test_one_oddity_in_a_run(base: Frame, proto: int, size: int) -> None:
    """Each, as the first, a middle and the last of a run, and three in a row.

    Bulk may grow after others came; without an IP id that counts, only what comes between ends a run of datagrams."""
    base = replace(base, proto=proto, options=b"" if proto == UDP else body(12))
    for odd in oddities(base):
        for places in ((0,), (2,), (5,), (2, 3, 4)):
            parts = [replace(p, ip_id=0) if proto == UDP else p for p in stream(base, 6, size=size)]
            check([odd(part) if i in places else part.build() for i, part in enumerate(parts)])


@settings(max_examples=60, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 6),
    st.integers(2, 999) | st.integers(1000, 1448),
    st.floats(0, 0.5),
)
def test_any_oddities_in_any_mixture(rng: random.Random, flows: int, size: int, share: float) -> None:
    queues = []
    for number in range(flows):
        base = replace(rng.choice((BASE, V6)), proto=rng.choice((TCP, UDP)), ports=(number // 2, 9), options=body(12))
        base = replace(base, options=b"" if base.proto == UDP else base.options, ip_flags=rng.choice((0, DF)))
        queues.append(stream(base, rng.randint(1, 40), size=size))
    given_frames = []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        for _ in range(rng.choice((1, 1, 3, 20))):
            if queue:
                part = queue.pop(0)
                odd = rng.choice(oddities(part)) if rng.random() < share else oddities(part)[0]
                frame = bytearray(odd(part))
                if rng.random() < share / 4:
                    frame[rng.randrange(12, len(frame))] ^= 1 << rng.randrange(8)
                if rng.random() < share / 4 and queue:  # out of order
                    given_frames.append(queue.pop(0).build())
                given_frames.append(bytes(frame))
    check(given_frames)


def test_a_repeated_segment_is_not_joined() -> None:
    parts = build(stream(BASE, 4))
    assert sizes(coalesce([parts[0], parts[1], parts[1], parts[2], parts[3]])) == [2, 3]
    check([parts[1], parts[0], parts[0], parts[3], parts[2]])


def test_changing_timestamps_and_selective_acknowledgements_are_not_lost() -> None:
    """Options are carried by the first segment of a super-frame only, so each kind makes one of its own."""
    parts = stream(replace(BASE, options=b"\1\1\10\12" + body(8)), 6)
    for i in (2, 3, 4, 5):
        parts[i] = replace(parts[i], options=parts[i].options[:-1] + bytes((i // 4,)))
    given_frames = build(parts)
    records = coalesce(given_frames)
    assert sizes(records) == [2, 2, 2]
    assert expand(records) == given_frames
    sack = replace(BASE, options=b"\1\1\5\12" + body(8))
    assert sizes(coalesce(build([*stream(BASE, 2), *stream(sack, 2)]))) == [2, 2]


def test_marks_of_congestion_are_not_merged_away() -> None:
    for mark in (1, 2, 3):
        parts = [replace(p, tos=mark if i in (2, 3) else 0) for i, p in enumerate(stream(BASE, 6))]
        records = coalesce(build(parts))
        assert sizes(records) == [2, 2, 2]
        assert [parse(r.data[12:]).tos for r in records] == [0, mark, 0]


def test_networks_are_not_mixed() -> None:
    """A host behind bridges may be the same on two networks, to its last byte."""
    parts = build(stream(BASE, 4))
    records = coalesce(parts, networks=[3, 3, 4, 4])
    assert [(r.network, len(expand([r]))) for r in records] == [(3, 2), (4, 2)]
