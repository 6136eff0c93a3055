"""Which frames rules cannot judge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.rules.flat import pack
from ztpipe.rules.frameview import FrameView
from ztpipe.rules.strict import unjudgeable
from ztpipe.wire.rule import ACCEPT


def ipv4(fragment: int = 0, *, first: int = 0x45, body: bytes = bytes(24), protocol: int = 6) -> bytes:
    return bytes((first, 0, 0, 44, 0, 0, fragment >> 8, fragment & 255, 64, protocol)) + bytes(10) + body


def ipv6(protocol: int, body: bytes = bytes(24)) -> bytes:
    return bytes((0x60, 0, 0, 0, 0, 24, protocol, 64)) + bytes(32) + body


def behind_hop_by_hop(protocol: int, body: bytes) -> bytes:
    return ipv6(0, bytes((protocol, 0, 1, 4, 0, 0, 0, 0)) + body)


@pytest.mark.parametrize(
    ("ethertype", "data"),
    [
        (0x0800, ipv4()),
        (0x0800, ipv4(0x4000)),  # must not be fragmented
        (0x0800, ipv4(0x2000)),  # a first fragment, with all of its ports
        (0x86DD, ipv6(6)),
        (0x86DD, ipv6(58, bytes((135,)) + bytes(23))),
        (0x86DD, behind_hop_by_hop(58, bytes((143,)) + bytes(23))),  # multicast listener report
        (0x86DD, behind_hop_by_hop(17, bytes(16))),
        (0x0806, bytes(28)),
        (0x88CC, b""),
    ],
)
def test_judged_by_rules(ethertype: int, data: bytes) -> None:
    assert not unjudgeable(FrameView(ethertype, data))


@pytest.mark.parametrize(
    ("ethertype", "data"),
    [
        (0x0800, ipv4(0x0001)),  # a later fragment
        (0x0800, ipv4(0x2000, body=bytes(8))),  # TCP flags are in the second one
        (0x0800, ipv4(first=0x44)),
        (0x0800, ipv4(first=0x4F, body=b"")),
        (0x0800, ipv4(first=0x65)),
        (0x0800, bytes(19)),
        (0x86DD, ipv6(44)),
        (0x86DD, ipv6(51)),
        (0x86DD, behind_hop_by_hop(44, bytes(16))),
        (0x86DD, ipv6(0, bytes((6, 255)) + bytes(6))),  # leaves the frame
        (0x86DD, behind_hop_by_hop(58, bytes((136,)) + bytes(23))),  # a neighbour advertisement no check sees
        (0x86DD, bytes(39)),
    ],
)
def test_not_judged_by_rules(ethertype: int, data: bytes) -> None:
    assert unjudgeable(FrameView(ethertype, data))


# --- the two ways to decide ---------------------------------------------------------------------------------

_PROTOCOLS = st.sampled_from([0, 1, 6, 17, 43, 44, 51, 58, 60, 135, 139, 140])
_TYPES = st.sampled_from([0, 132, 133, 135, 136, 137, 138])


@st.composite
def _ipv4_frames(draw: st.DrawFn) -> bytes:
    fragment = draw(st.sampled_from([0, 0x2000, 0x4000, 0x1FFF, 0x2001, 1]))
    first = draw(st.sampled_from([0x45, 0x45, 0x46, 0x4F, 0x44, 0x65]))
    return ipv4(fragment, first=first, body=bytes(draw(st.integers(0, 64))), protocol=draw(_PROTOCOLS))


@st.composite
def _ipv6_frames(draw: st.DrawFn) -> bytes:
    body = b""
    protocol = first = draw(_PROTOCOLS)
    while protocol in (0, 43, 60, 135) and len(body) < 64:
        following, length = draw(_PROTOCOLS), draw(st.sampled_from([0, 0, 1, 9]))
        body += bytes((following, length)) + bytes(8 * length + 6 if length < 9 else 6)
        protocol = following
    return ipv6(first, body + bytes((draw(_TYPES),)) + bytes(draw(st.integers(0, 30))))


@settings(max_examples=600, deadline=None)
@given(
    frame=st.tuples(st.just(0x0800), _ipv4_frames()) | st.tuples(st.just(0x86DD), _ipv6_frames()),
    cut=st.integers(0, 30),
    strict=st.booleans(),
    inbound=st.booleans(),
)
def test_the_kernel_agrees(frame: tuple[int, bytes], cut: int, strict: bool, inbound: bool) -> None:
    ethertype, data = frame
    data = data[: max(len(data) - cut, 0)]
    policy = pack([[ACCEPT]], tags={}, strict=strict)
    assert policy is not None
    place = ffi.new("uint64_t[]", (len(policy) + 7) // 8)
    ffi.memmove(place, policy, len(policy))
    payload = ffi.new("uint8_t[]", data or b"\0")
    fields = {"own": ffi.cast("struct zt_policy *", place), "data": payload, "len": len(data)}
    situation = ffi.new("struct zt_situation *", fields | {"ethertype": ethertype, "inbound": inbound})
    dropped = lib.zt_filter(situation) == lib.ZT_FILTER_DROP
    assert dropped == (strict and inbound and unjudgeable(FrameView(ethertype, data)))
