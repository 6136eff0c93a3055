# ruff: noqa: E501 - known values stay on one line
"""Every row of the verb tables: the bytes of the specification, truncation at each byte, trailing bytes, random bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.samples import ISSUER, MEMBER, NWID, SAMPLES
from ztpipe.wire.address import MulticastGroup
from ztpipe.wire.armor import SessionKeys
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.verbs import (
    Ack,
    AuthenticationRequired,
    ConfigChunk,
    DirectPath,
    Echo,
    Error,
    ExtFrame,
    Frame,
    Hello,
    Like,
    MulticastFrame,
    MulticastGather,
    MulticastLike,
    NetworkConfigRequest,
    NetworkCredentials,
    Ok,
    OkConfig,
    OkExtFrame,
    OkHello,
    OkMulticastFrame,
    OkMulticastGather,
    OkWhois,
    PathNegotiationRequest,
    PushDirectPaths,
    QosMeasurement,
    QosRecord,
    RemoteTrace,
    Rendezvous,
    UnwantedMulticast,
    UserMessage,
    Whois,
    WorldVersion,
)
from ztpipe.wire.verbs_vl1 import decode_hello_tail, encode_hello_tail
from ztpipe.wire.world import EARTH

V4 = InetAddress.parse("192.0.2.1/9993")
V6 = InetAddress.parse("2001:db8::1/443")
GROUP = MulticastGroup(0x3333FF000001, 5)
ANY = MulticastGroup(0xFFFFFFFFFFFF, 0x0A000001)
COM = SAMPLES[0]
I71 = ISSUER.encode().hex()
N8 = f"{NWID:016x}"
CHUNK = ConfigChunk(NWID, b"abc", 7, 3, 0).sign(ISSUER.sign)

NOTHING = range(0)
"""Of cuts: none of them decodes."""


@dataclass(frozen=True)
class Row:
    """A value, its bytes (hex), the lengths at which the cut bytes still decode, whether trailing bytes are ignored."""

    value: Any
    raw: str
    cuts: Any = NOTHING
    trailing: bool = False


ROWS = (
    Row(
        Hello(0x0102, ISSUER.without_private(), V4, 3, 4, b"tail"),
        f"0c010e0001 0000000000000102 {I71} 04c00002012709 0000000000000003 0000000000000004 7461696c",
        (84, *range(91, 111)),
    ),
    Row(
        OkHello(0x0102, V6, (EARTH,)),
        f"0000000000000102 0c010e0001 0620010db800000000000000000000000101bb 023a {EARTH.encode().hex()}",
        (13, 32, 33),
        True,
    ),
    Row(OkHello(-1), "ffffffffffffffff 0c010e0001 00 0000", (13, 14, 15), True),
    Row(Whois((0x0102030405, 0x0607080910)), "0102030405 0607080910", range(10)),
    Row(OkWhois((ISSUER.without_private(), MEMBER.without_private())), f"{I71} {MEMBER.encode().hex()}", range(71, 142), True),
    Row(Rendezvous(0x0102030405, V4), "00 0102030405 2709 04 c0000201", trailing=True),
    Row(Rendezvous(0x0102030405, V6, 3), "03 0102030405 01bb 10 20010db8000000000000000000000001", trailing=True),
    Row(Frame(NWID, 0x0800, b"payload"), f"{N8} 0800 7061796c6f6164", range(10, 17)),
    Row(ExtFrame(NWID, 0x010203040506, 0x111213141516, 0x86DD, b"x", 0x16), f"{N8} 16 010203040506 111213141516 86dd 78", (23,)),
    Row(
        ExtFrame(NWID, 1, 2, 0x86DD, b"", 0x11, COM),
        f"{N8} 11 {COM.encode().hex()} 000000000001 000000000002 86dd",
    ),
    Row(OkExtFrame(NWID), N8, trailing=True),
    Row(Echo(b"abc"), "616263", range(3)),
    Row(MulticastLike((Like(NWID, GROUP), Like(1, ANY))), f"{N8} 3333ff000001 00000005 0000000000000001 ffffffffffff 0a000001", range(36)),
    Row(NetworkCredentials(), "00 0000 0000 0000 0000", (1, 3, 5, 7), True),
    Row(
        NetworkCredentials((COM, COM), (SAMPLES[5],), (SAMPLES[2],), (SAMPLES[4],), (SAMPLES[3],)),
        f"{COM.encode().hex() * 2} 00 0001 {SAMPLES[5].encode().hex()} 0001 {SAMPLES[2].encode().hex()}"
        f"0001 {SAMPLES[4].encode().hex()} 0001 {SAMPLES[3].encode().hex()}",
        (545, 692, 829, 983),
        True,
    ),
    Row(NetworkConfigRequest(NWID, b"v=7", 5, 6), f"{N8} 0003 763d37 0000000000000005 0000000000000006", range(13, 29), True),
    Row(CHUNK, f"{N8} 0003 616263 00 0000000000000007 00000003 00000000 010060 {CHUNK.signature.hex()}", (13,), True),
    Row(OkConfig(NWID, 7), f"{N8} 0000000000000007", trailing=True),
    Row(MulticastGather(NWID, GROUP, 32), f"{N8} 00 3333ff000001 00000005 00000020", trailing=True),
    Row(MulticastGather(NWID, GROUP, 32, COM), f"{N8} 01 3333ff000001 00000005 00000020 {COM.encode().hex()}", range(23, 295), True),
    Row(
        OkMulticastGather(NWID, GROUP, 9, (1, 2)),
        f"{N8} 3333ff000001 00000005 00000009 0002 0000000001 0000000002",
        range(24, 34),
        True,
    ),
    Row(MulticastFrame(NWID, ANY, 0x0806, b"arp"), f"{N8} 00 ffffffffffff 0a000001 0806 617270", (22, 23)),
    Row(
        MulticastFrame(NWID, ANY, 0x0806, b"a", 32, 7, True),
        f"{N8} 0e 00000020 000000000007 ffffffffffff 0a000001 0806 61",
    ),
    Row(
        MulticastFrame(NWID, ANY, 0x0806, b"a", com=COM),
        f"{N8} 01 {COM.encode().hex()} ffffffffffff 0a000001 0806 61",
    ),
    Row(
        OkMulticastFrame(NWID, GROUP, 9, (1,)),
        f"{N8} 3333ff000001 00000005 02 00000009 0001 0000000001",
        range(25, 30),
        True,
    ),
    Row(
        OkMulticastFrame(NWID, GROUP, 9, (1,), com=COM),
        f"{N8} 3333ff000001 00000005 03 {COM.encode().hex()} 00000009 0001 0000000001",
        range(297, 302),
        True,
    ),
    Row(OkMulticastFrame(NWID, GROUP, gathered=False), f"{N8} 3333ff000001 00000005 00", trailing=True),
    Row(
        PushDirectPaths((DirectPath(V4), DirectPath(V6, 2))),
        "0002 00 0000 04 06 c00002012709 02 0000 06 12 20010db800000000000000000000000101bb",
        range(2, 36),
        True,
    ),
    Row(Ack(5), "00000005", trailing=True),
    Row(QosMeasurement((QosRecord(0x0102030405060708, 0x0A0B),)), "0807060504030201 0b0a", (9,), True),
    Row(UserMessage(100, b"abc"), "0000000000000064 616263", range(8, 11)),
    Row(RemoteTrace((b"event=1\nk=v", b"event=2")), "6576656e743d310a6b3d76 00 6576656e743d32 00", range(20)),
    Row(PathNegotiationRequest(-2), "fffe"),
    Row(Ok(Verb.ECHO, 0x0102030405060708, b"x"), "08 0102030405060708 78", (9,)),
    Row(Error(Verb.FRAME, 0x0102030405060708, ErrorCode.OBJ_NOT_FOUND, b"x"), "06 0102030405060708 03 78", (10,)),
    Row(UnwantedMulticast(NWID, GROUP), f"{N8} 3333ff000001 00000005", trailing=True),
    Row(AuthenticationRequired(NWID, has_dictionary=False), N8),
    Row(AuthenticationRequired(NWID, url="u"), f"{N8} 0018 61563d303030303030303030303030303030300a61553d75", trailing=True, cuts=(8, 9, 10)),
    Row(
        AuthenticationRequired(NWID, 1, "", "i", "c", "n", "s", "d", "p"),
        f"{N8} 003b 61563d303030303030303030303030303030310a61553d0a69553d690a6143553d630a614e3d6e0a61533d730a614349443d64"
        "0a6153534f703d70",
        (8, 9, 10),
        True,
    ),
)  # fmt: skip
CLASSES = sorted({type(row.value) for row in ROWS}, key=lambda kind: str(kind.__name__))
by_class = pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{type(row.value).__name__}" for i, row in enumerate(ROWS)])


@by_class
def test_encode_and_decode(row: Row) -> None:
    raw = bytes.fromhex(row.raw)
    assert row.value.encode().hex() == raw.hex()
    assert type(row.value).decode(raw) == row.value


@by_class
def test_truncated_at_every_byte(row: Row) -> None:
    """Cut anywhere, a payload raises WireError, except where the specification lets it end."""
    raw = bytes.fromhex(row.raw)
    decodes = []
    for size in range(len(raw)):
        try:
            type(row.value).decode(raw[:size])
        except WireError:
            continue
        decodes.append(size)
    assert decodes == list(row.cuts)


@by_class
def test_trailing_bytes_are_ignored(row: Row) -> None:
    if not row.trailing:
        return
    assert type(row.value).decode(bytes.fromhex(row.raw) + b"\0\xff more") == row.value


@given(st.sampled_from(CLASSES), st.binary(max_size=400))
def test_random_bytes_raise_nothing_else(kind: Any, raw: bytes) -> None:
    try:
        value = kind.decode(raw)
    except WireError:
        return
    value.encode()


@given(st.sampled_from(ROWS), st.integers(0, 900), st.binary(min_size=1, max_size=6))
def test_changed_bytes_raise_nothing_else(row: Row, at: int, junk: bytes) -> None:
    raw = bytes.fromhex(row.raw)
    try:
        value = type(row.value).decode(raw[:at] + junk + raw[at + len(junk) :])
    except WireError:
        return
    value.encode()


# --- what the tables do not show --------------------------------------------------------------------------------------


def test_hello_may_stop_after_the_identity() -> None:
    raw = Hello(1, MEMBER.without_private(), V4, 3, 4, b"tail").encode()
    assert Hello.decode(raw[:84]) == Hello(1, MEMBER.without_private())
    assert Hello.decode(raw[:91]) == Hello(1, MEMBER.without_private(), V4)


def test_hello_never_keeps_a_secret() -> None:
    raw = Hello(1, MEMBER).encode()
    with_secret = raw[:13] + MEMBER.encode(private=True) + raw[84:]
    assert Hello.decode(with_secret).identity.private is None
    assert OkWhois.decode(MEMBER.encode(private=True)).identities[0].private is None


def test_hello_tail() -> None:
    moons = (WorldVersion(127, 5, 6), WorldVersion(127, 7, 0))
    raw = encode_hello_tail(moons)
    assert raw.hex() == "00027f000000000000000500000000000000067f00000000000000070000000000000000"
    assert decode_hello_tail(raw + b"more") == moons
    assert decode_hello_tail(raw[:2] + b"\x01" + raw[3:]) == moons[1:], "records that are no moons are skipped"
    assert decode_hello_tail(b"") == decode_hello_tail(b"\x01") == decode_hello_tail(b"\0\0") == ()
    for size in range(2, len(raw)):
        with pytest.raises(WireError, match="truncated_verb"):
            decode_hello_tail(raw[:size])


def test_hello_tail_cipher_ignores_the_low_bits_of_the_packet_id() -> None:
    keys = SessionKeys(bytes(range(48)))
    moons = (WorldVersion(127, 5, 6),)
    hello = Hello(1, MEMBER).with_moons(keys, 0xF8, moons)
    assert hello.tail != encode_hello_tail(moons)
    assert hello.moons(keys, 0xFF) == moons
    other = Hello(1, MEMBER).with_moons(keys, 0x100, moons)
    assert other.tail != hello.tail


@pytest.mark.parametrize(
    "raw", ["00 0102030405 0000 04 c0000201", "00 0102030405 2709 05 c000020101", "00 0102030405 2709 00"]
)
def test_rendezvous_without_endpoint(raw: str) -> None:
    with pytest.raises(WireError, match="bad_rendezvous"):
        Rendezvous.decode(bytes.fromhex(raw))


def test_direct_paths_of_other_types_are_left_out() -> None:
    record = "00 0000 04 06 c00002012709"
    for strange in ("00 0000 09 02 aabb", "00 0003 aabbcc 04 06 c00002012709", "00 0000 04 05 c000020127"):
        raw = bytes.fromhex("0003" + record + strange + record)
        paths = PushDirectPaths.decode(raw).paths
        assert len(paths) == (3 if "aabbcc" in strange else 2)
        assert set(paths) == {DirectPath(V4)}


def test_gather_limit_is_cut() -> None:
    raw = MulticastGather(NWID, GROUP, 0xFFFFFFFF).encode()
    assert MulticastGather.decode(raw).limit == 65535


def test_gather_with_a_bad_com() -> None:
    raw = bytearray(MulticastGather(NWID, GROUP, 32, COM).encode())
    raw[23] = 2
    assert MulticastGather.decode(bytes(raw)) == MulticastGather(NWID, GROUP, 32)


def test_multicast_frame_sizes() -> None:
    frame = MulticastFrame(NWID, ANY, 0x0800, bytes(10000))
    assert MulticastFrame.decode(frame.encode()) == frame
    for size in (0, 10001):
        with pytest.raises(WireError, match="bad_multicast_frame"):
            MulticastFrame.decode(MulticastFrame(NWID, ANY, 0x0800, bytes(size)).encode())


def test_qos_sizes() -> None:
    assert QosMeasurement.decode(bytes(9)).records == ()
    assert len(QosMeasurement.decode(bytes(1400)).records) == 140
    for size in (8, 1401):
        with pytest.raises(WireError, match="bad_qos_measurement"):
            QosMeasurement.decode(bytes(size))


def test_remote_traces_that_are_ignored() -> None:
    raw = b"\0\0a=1\0" + bytes(1) + b"x" * 10001 + b"\0unterminated"
    assert RemoteTrace.decode(raw).traces == (b"a=1",)
    assert RemoteTrace.decode(raw).entries() == ({"a": b"1"},)


def test_credentials_need_the_terminator() -> None:
    with pytest.raises(WireError, match="bad_credential"):
        NetworkCredentials.decode(b"\x02")
    with pytest.raises(WireError, match="truncated_verb"):
        NetworkCredentials.decode(COM.encode())


def test_error_network() -> None:
    assert Error(Verb.FRAME, 1, ErrorCode.OBJ_NOT_FOUND, NWID.to_bytes(8, "big") + b"x").nwid == NWID
    with pytest.raises(WireError, match="truncated_verb"):
        _ = Error(Verb.FRAME, 1, ErrorCode.OBJ_NOT_FOUND, bytes(7)).nwid


def test_unknown_codes() -> None:
    assert Error.decode(bytes(9) + b"\x7f").code is ErrorCode.NONE
    assert Ok.decode(b"\x1f" + bytes(8)).in_re_verb is Verb.NOP


def test_ext_frame_subtypes() -> None:
    """vl1-wire §9.8: the values as transmitted."""
    values = (ExtFrame.NORMAL, ExtFrame.TEE_OUTBOUND, ExtFrame.REDIRECT_OUTBOUND, ExtFrame.WATCH_OUTBOUND)
    values += (ExtFrame.TEE_INBOUND, ExtFrame.REDIRECT_INBOUND, ExtFrame.WATCH_INBOUND)
    frames = [ExtFrame(NWID, 1, 2, 0x0800, b"", flags) for flags in values]
    assert [frame.subtype for frame in frames] == list(range(7))
    assert [frame.ok_requested for frame in frames] == [False, False, False, True, False, False, True]
