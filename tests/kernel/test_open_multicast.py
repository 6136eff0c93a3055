"""kernel/open_multicast.c and lz4.c: a MULTICAST_FRAME goes to the TAP as `node/frames_in.py` has it, or is punted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import NWID, REMOTE_A, A, B, Lab, Punt
from tests.kernel.strategies import body
from tests.kernel.test_guard import ONLY_IP, policy
from tests.kernel.test_open import came, frames_of, packet
from tests.node.test_vl2_members import joined
from tests.node.test_vl2_multicast import meet
from ztpipe.ipc import GatherAsked
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.node.actions import WriteFrame
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of
from ztpipe.wire.armor import compress_payload
from ztpipe.wire.packet import split
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import MulticastFrame

MDNS = MulticastGroup(0x01005E0000FB, 0)
FROM_A = mac_of(A, NWID)
GATHER, DATAGRAM = lib.ZT_PUNT_GATHER, lib.ZT_PUNT_DATAGRAM


def join(lab: Lab, nwid: int = NWID, *, replicator: bool = False, rules: bytes | None = None) -> None:
    lab.tables.install_network(
        nwid,
        mac_of(lab.address, nwid),
        2800,
        accept_all=rules is None,
        bridge=False,
        multicast=True,
        replicator=replicator,
        policy=rules,
    )


@pytest.fixture
def b() -> Iterator[Lab]:
    with Lab(B) as lab:
        join(lab)
        lab.meet(A, REMOTE_A)
        yield lab


def frame(payload: bytes = body(60), **fields: Any) -> bytes:
    return MulticastFrame(NWID, **{"group": MDNS, "ethertype": 0x0800, "payload": payload, **fields}).encode()


def sealed(payload: bytes, *, compress: bool = False) -> bytes:
    return packet(Verb.MULTICAST_FRAME, payload, compress=compress, mtu=9000)


def written(payload: bytes, mac: int = MDNS.mac) -> bytes:
    return mac.to_bytes(6, "big") + FROM_A.to_bytes(6, "big") + b"\x08\x00" + payload


# ---- delivered -----------------------------------------------------------------------------------------------------


def test_to_the_tap_under_the_group(b: Lab) -> None:
    for fields in ({}, {"source": FROM_A}, {"replicate": True}, {"group": MulticastGroup(BROADCAST_MAC, 0x0A090001)}):
        mac = fields.get("group", MDNS).mac  # type: ignore[attr-defined]
        assert frames_of(b.open([came(sealed(frame(**fields)))])) == [written(body(60), mac)]
    assert b.counts() == {"open_datagrams": 4, "open_packets": 4, "open_multicasts": 4, "open_frames": 4}
    assert b.punts() == []
    assert [(address, nwid) for address, nwid, _ in b.tables.frame_activity()] == [(A, NWID)]


def test_compressed(b: Lab) -> None:
    data = bytes(500) + body(60) + bytes(500)
    assert frames_of(b.open([came(sealed(frame(data), compress=True))])) == [written(data)]
    assert b.punts() == []


def test_in_pieces(b: Lab) -> None:
    pieces = split(packet(Verb.MULTICAST_FRAME, frame(body(2000))), 1432)
    assert frames_of(b.open([came(piece) for piece in pieces])) == [written(body(2000))]


def test_what_asks_for_members_is_told_once_a_second_for_each_group(b: Lab) -> None:
    asking = sealed(frame(gather_limit=9))
    other = sealed(frame(gather_limit=9, group=MulticastGroup(MDNS.mac, 7)))
    assert len(frames_of(b.open([came(data) for data in (asking, asking, other, other)]))) == 4
    punts = b.punts()
    assert [(p.kind, p.nwid, p.address, p.remote) for p in punts] == [(GATHER, NWID, A, REMOTE_A)] * 2
    first, second = (GatherAsked.unpack(p.data) for p in punts)
    assert first == GatherAsked(int.from_bytes(asking[:8], "big"), MDNS.mac, 0, 9, len(asking), 0, 3)
    assert second.adi == 7
    b.tables.set_clock(1_000_000 + 1000)
    b.open([came(asking), came(asking)])
    assert len(b.punts()) == 1


def test_questions_have_a_budget(b: Lab) -> None:
    for first in range(0, 1200, 300):
        groups = [MulticastGroup(MDNS.mac, number) for number in range(first, first + 300)]
        assert len(b.open([came(sealed(frame(gather_limit=9, group=group))) for group in groups])) == 300
    assert 400 <= len(b.punts()) < 1100


# ---- rules ---------------------------------------------------------------------------------------------------------


def test_rules_are_asked_and_gathers_answered_all_the_same(b: Lab) -> None:
    join(b, rules=policy(ONLY_IP))
    dropped = frame(ethertype=0x88B5, gather_limit=3)
    assert frames_of(b.open([came(sealed(frame())), came(sealed(dropped))])) == [written(body(60))]
    assert b.counts()["drop_inbound_filter"] == 1
    assert [punt.kind for punt in b.punts()] == [GATHER]


def test_copies_are_punted(b: Lab) -> None:
    join(b, rules=policy("020e 0000003333333333 00000000 0000 0100"))
    data = sealed(frame())
    assert b.open([came(data)]) == []
    assert b.punts() == [Punt(DATAGRAM, data, 0, REMOTE_A)]


# ---- punted as it came ---------------------------------------------------------------------------------------------

GROUP_AT = 9
MALFORMED = frame()[:GROUP_AT] + bytes(6) + frame()[GROUP_AT + 6 :]


@pytest.mark.parametrize(
    "payload",
    [
        frame(source=0x020000000001),
        frame(source=0),
        frame(source=BROADCAST_MAC),
        frame(source=mac_of(B, NWID)),
        MALFORMED,
        frame()[:8] + b"\1" + frame()[9:],
        (NWID + 1).to_bytes(8, "big") + frame()[8:],
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_what_wants_a_decision(b: Lab, payload: bytes, compress: bool) -> None:
    data = sealed(payload + bytes(200 * compress), compress=compress)
    assert not b.open([came(data)])
    assert b.punts() == [Punt(DATAGRAM, data, 0, REMOTE_A)]
    assert b.counts()["open_punted"] == 1


@pytest.mark.parametrize("length", [0, 1, 8, 9, 20, 21])
def test_what_is_cut_short(b: Lab, length: int) -> None:
    b.open([came(sealed(frame()[:length])), came(sealed(frame(gather_limit=1, source=FROM_A)[: length + 10]))])
    assert len(b.punts()) == 2 and b.counts()["open_punted"] == 2


def test_where_there_is_no_multicast_or_we_replicate(b: Lab) -> None:
    b.join()
    assert b.open([came(sealed(frame()))]) == []
    join(b, replicator=True)
    assert b.open([came(sealed(frame(replicate=True)))]) == []
    assert len(b.punts()) == 2
    assert len(b.open([came(sealed(frame()))])) == 1


def test_damaged_or_too_long(b: Lab) -> None:
    forged = bytearray(sealed(frame(bytes(300)), compress=True))
    forged[-1] ^= 1
    assert b.open([came(bytes(forged)), came(sealed(frame(body(2801))))]) == []
    assert (b.counts()["drop_bad_mac"], b.counts()["drop_tap_oversize"]) == (1, 1)
    assert b.punts() == []


# ---- the twin ------------------------------------------------------------------------------------------------------

LAB = joined(2)
ONE, TWO = LAB.member(1), LAB.member(2)
meet(LAB)
SOURCES = [mac_of(ONE.address, LAB.nwid), mac_of(TWO.address, LAB.nwid), 0x020000000001, 0, MDNS.mac, None, None, None]


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    whole = MulticastFrame(
        LAB.nwid + draw(st.sampled_from((0, 0, 0, 0, 1))),
        MulticastGroup(
            draw(st.sampled_from((MDNS.mac, BROADCAST_MAC, 0x020000000001))), draw(st.integers(0, 2**32 - 1))
        ),
        draw(st.integers(0, 0xFFFF)),
        draw(st.sampled_from((b"", b"x", bytes(300), body(100), body(2800), body(2801)))),
        draw(st.sampled_from((0, 0, 1, 0xFFFFFFFF))),
        draw(st.sampled_from(SOURCES)),
        draw(st.booleans()),
    ).encode()
    return whole[: draw(st.integers(0, 60) | st.just(len(whole)) | st.just(len(whole)))]


@settings(max_examples=200, deadline=None)
@given(packets(), st.booleans())
def test_as_the_slow_path_has_it(payload: bytes, compress: bool) -> None:
    TWO.vl1.actions.clear()
    TWO.receive(TWO.context(LAB.now, ONE.identity, Verb.MULTICAST_FRAME, payload))
    expected = [
        a.destination.to_bytes(6, "big") + a.source.to_bytes(6, "big") + a.ethertype.to_bytes(2, "big") + a.payload
        for a in TWO.vl1.take(WriteFrame)
    ]
    with Lab(TWO.address) as lab:
        join(lab, LAB.nwid)
        lab.meet(ONE.address, REMOTE_A, nwid=LAB.nwid)
        data = packet(
            Verb.MULTICAST_FRAME, payload, source=ONE.address, destination=TWO.address, compress=compress, mtu=9000
        )
        got = frames_of(lab.open([came(data)]))
        punts = [punt for punt in lab.punts() if punt.kind != GATHER]
        dropped = sum(n for name, n in lab.counts().items() if name.startswith("drop_"))
        assert len(got) + len(punts) + dropped == 1
        assert got == expected if not punts else punts[0].data == data
        assert not (expected and punts)


# ---- LZ4 -----------------------------------------------------------------------------------------------------------


def expand(block: bytes, room: int = 9996) -> bytes:
    out = ffi.new("uint8_t[]", room + 8)
    ffi.buffer(out)[room:] = b"\xaa" * 8
    n = lib.zt_lz4_expand(ffi.from_buffer(block), len(block), out, room)
    assert bytes(ffi.buffer(out)[room:]) == b"\xaa" * 8
    return bytes(ffi.buffer(out, n))


_texts = st.lists(
    st.binary(min_size=1, max_size=40).flatmap(lambda b: st.integers(1, 60).map(lambda n: b * n)), max_size=9
)


@settings(max_examples=200, deadline=None)
@given(_texts.map(b"".join))
def test_expanding_is_the_inverse_of_compressing(text: bytes) -> None:
    text = (text or b"x")[:9996]
    block = lz4.block.compress(text, store_size=False)
    assert expand(block) == text
    assert expand(block, len(text)) == text
    assert expand(block, len(text) - 1) == b""


@settings(max_examples=300, deadline=None)
@given(
    _texts.map(b"".join),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.binary(max_size=60),
)
def test_damaged_blocks(text: bytes, changes: list[tuple[int, int]], rubbish: bytes) -> None:
    """What the library expands, we expand to the same; whatever it refuses does no harm."""
    damaged = bytearray(compress_payload(text) or rubbish)
    for at, value in changes:
        if at < len(damaged):
            damaged[at] = value
    got = expand(bytes(damaged))
    try:
        known = lz4.block.decompress(bytes(damaged), uncompressed_size=9996)
    except (lz4.block.LZ4BlockError, ValueError):
        return
    assert got == known
