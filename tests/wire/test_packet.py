"""Headers, fragments, reassembly (vl1-wire §4, §6)."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import Json, kat
from ztpipe.wire.errors import WireError
from ztpipe.wire.packet import (
    Header,
    Reassembler,
    beacon_sender,
    destination_of,
    hops_of,
    is_fragment,
    max_length,
    parse_fragment,
    parse_header,
    split,
    with_hops,
)
from ztpipe.wire.protocol import MAX_PACKET

FRAGMENTED = kat("fragments")["vectors"]


def packet_of(size: int, packet_id: int = 7, flags: int = 0x58) -> bytes:
    """A packet that looks sealed."""
    head = packet_id.to_bytes(8, "big") + bytes(range(1, 11)) + bytes((flags,))
    return head + random.Random(size).randbytes(size - len(head))


@pytest.mark.parametrize("vector", FRAGMENTED, ids=lambda v: f"{v['scenario']}-{v['n']}")
def test_known_fragments(vector: Json) -> None:
    """In captured order and in any other order, the assembled packet is the known one, and comes once."""
    whole = bytes.fromhex(vector["assembled"])
    pieces = [bytes.fromhex(d) for d in vector["datagrams"]]
    for order in itertools.islice(itertools.permutations(pieces), 200):
        reassembler = Reassembler(4, 1000)
        results = [reassembler.add(0, piece) for piece in order]
        assert results[:-1] == [None] * (len(pieces) - 1)
        assert results[-1] == whole
        assert len(reassembler) == 0


@given(st.integers(1400, 9000), st.integers(28, MAX_PACKET), st.randoms(use_true_random=False))
def test_split_and_assemble(mtu: int, size: int, shuffler: random.Random) -> None:
    packet = packet_of(size)
    if size > max_length(mtu):
        with pytest.raises(ValueError, match="too long"):
            split(packet, mtu)
        return
    pieces = split(packet, mtu)
    assert all(len(piece) <= mtu for piece in pieces)
    assert [is_fragment(piece) for piece in pieces] == [False] + [True] * (len(pieces) - 1)
    assert {destination_of(piece) for piece in pieces} == {destination_of(packet)}
    if len(pieces) == 1:
        return
    shuffler.shuffle(pieces)
    reassembler = Reassembler(1, 1)
    assert [r for piece in pieces if (r := reassembler.add(0, piece))] == [packet]


def test_longest_packet_with_the_default_mtu() -> None:
    """vl1-wire §6.2: 9928 bytes."""
    assert max_length(1432) == 9928
    assert [len(piece) for piece in split(packet_of(5037), 1432)] == [1432, 1432, 1432, 789]


def test_split_needs_the_flag() -> None:
    with pytest.raises(ValueError, match="flag"):
        split(packet_of(2000, flags=0x18), 1432)


def test_header() -> None:
    header = parse_header(packet_of(28, 0x0102030405060708, 0xC8 | 3))
    assert header == Header(0x0102030405060708, 0x0102030405, 0x060708090A, 0xCB)
    assert (header.suite, header.fragmented, header.hops) == (1, True, 3)
    for size in range(28):
        with pytest.raises(WireError, match="short_packet"):
            parse_header(packet_of(28)[:size])


@given(st.integers(0, 255), st.integers(0, 15))
def test_hops(flags: int, hops: int) -> None:
    packet = packet_of(40, flags=flags)
    changed = with_hops(packet, hops)
    assert hops_of(changed) == hops % 8
    assert parse_header(changed).flags & 0xF8 == flags & 0xF8
    assert changed[:18] + changed[19:] == packet[:18] + packet[19:]
    fragment = split(packet_of(1500), 1432)[1]
    assert parse_fragment(with_hops(fragment, hops)).hops == hops_of(with_hops(fragment, hops)) == hops % 8


@pytest.mark.parametrize(("total", "number"), [(0, 1), (1, 1), (8, 1), (15, 3), (2, 0), (2, 2), (7, 7), (3, 9)])
def test_bad_fragment_numbers(total: int, number: int) -> None:
    raw = bytes(13) + bytes((0xFF, total << 4 | number, 0)) + b"data"
    with pytest.raises(WireError, match="bad_fragment"):
        parse_fragment(raw)


def test_empty_fragment() -> None:
    raw = bytes(13) + bytes((0xFF, 0x21, 0))
    assert not is_fragment(raw)
    with pytest.raises(WireError, match="bad_fragment"):
        parse_fragment(raw)


def test_beacon() -> None:
    assert beacon_sender(bytes(8) + b"\x01\x02\x03\x04\x05") == 0x0102030405
    assert beacon_sender(bytes(14)) is None


def test_unfragmented_packets_pass() -> None:
    reassembler = Reassembler(1, 1)
    packet = packet_of(100, flags=0x18)
    assert reassembler.add(0, packet) == packet
    assert len(reassembler) == 0


def test_duplicates_are_refused() -> None:
    head, first, *_ = split(packet_of(4000), 1432)
    reassembler = Reassembler(1, 1000)
    reassembler.add(0, head)
    reassembler.add(0, first)
    for piece in (head, first):
        with pytest.raises(WireError, match="duplicate_fragment"):
            reassembler.add(0, piece)


def test_another_source_cannot_spoil_a_packet() -> None:
    packet = packet_of(2000)
    head, tail = split(packet, 1432)
    forged = tail[:16] + b"forged"
    reassembler = Reassembler(4, 1000)
    assert reassembler.add(0, head, "peer") is None
    assert reassembler.add(0, forged, "attacker") is None
    assert reassembler.add(0, tail, "peer") == packet


def test_bounded_in_number() -> None:
    reassembler = Reassembler(3, 1000)
    heads, tails = zip(*(split(packet_of(2000, packet_id), 1432) for packet_id in range(5)), strict=True)
    for head in heads:
        reassembler.add(0, head)
    assert len(reassembler) == 3
    assert reassembler.evicted == 2
    assert [reassembler.add(0, tail) is not None for tail in tails[2:]] == [True] * 3
    assert reassembler.add(0, tails[0]) is None


def test_bounded_in_time() -> None:
    head, tail = split(packet_of(2000), 1432)
    reassembler = Reassembler(3, 1000)
    reassembler.add(0, head)
    assert reassembler.add(999, tail) is not None
    reassembler.add(0, head)
    assert reassembler.add(1000, tail) is None
    assert (len(reassembler), reassembler.evicted) == (1, 1)
    reassembler.expire(2000)
    assert len(reassembler) == 0


def test_bounded_in_size() -> None:
    reassembler = Reassembler(1, 1000)
    big = bytes(5000)
    reassembler.add(0, packet_of(5000))
    reassembler.add(0, packet_of(5000)[:13] + b"\xff\x31\x00" + big)
    with pytest.raises(WireError, match="oversize_packet"):
        reassembler.add(0, packet_of(5000)[:13] + b"\xff\x32\x00" + big)
    assert len(reassembler) == 0


def test_numbers_beyond_the_first_total() -> None:
    """A fragment that says 2 in total, then one numbered 3 of 4: no packet, no exception other than WireError."""
    reassembler = Reassembler(1, 1000)
    base = packet_of(1432)[:13] + b"\xff"
    reassembler.add(0, base + b"\x21\x00a")
    with pytest.raises(WireError, match="bad_fragment"):
        reassembler.add(0, base + b"\x43\x00b")


@given(st.lists(st.binary(max_size=60), max_size=30))
def test_reassembler_raises_nothing_else(data: list[bytes]) -> None:
    reassembler = Reassembler(4, 10)
    for now, datagram in enumerate(data):
        try:
            reassembler.add(now, datagram)
        except WireError:
            pass
        assert len(reassembler) <= 4
