"""Frames of the TCP relay (vl1-behaviour §6.6): the bytes, and every way of cutting a stream into pieces."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.tcprelay import FrameReader, encode, greeting

V4 = InetAddress.parse("44.128.0.7/9993")
V6 = InetAddress.parse("2001:db8::7/65535")


def test_the_greeting() -> None:
    assert greeting((1, 14, 1)) == bytes.fromhex("170303 0004 01 0e 0001")


def test_a_datagram() -> None:
    assert encode(V4, b"x" * 16) == bytes.fromhex("170303 0017 04 2c800007 2709") + b"x" * 16
    assert FrameReader().feed(encode(V6, b"y" * 20)) == [(V6, b"y" * 20)]


def test_what_carries_no_address() -> None:
    assert FrameReader().feed(bytes.fromhex("170303 0003 00 aabb")) == [(None, b"\xaa\xbb")]


datagrams = st.lists(
    st.tuples(st.builds(InetAddress, st.binary(min_size=4, max_size=4), st.integers(0, 65535)),
              st.binary(min_size=0, max_size=2000)),
    max_size=6,
)  # fmt: skip


@given(datagrams, st.lists(st.integers(1, 700), min_size=1, max_size=50))
def test_pieces_of_any_size(sent: list[tuple[InetAddress, bytes]], cuts: list[int]) -> None:
    stream = greeting((1, 2, 3)) + b"".join(encode(*each) for each in sent)
    reader, got, at, turn = FrameReader(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        got += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert got == sent
    assert reader.greeted


@pytest.mark.parametrize(
    "stream",
    [b"GET / HTTP/1.1\r\n", b"\x16", b"\x17\x03\x04\x00\x04abcd", bytes.fromhex("170303 0003 04 0102"),
     bytes.fromhex("170303 0002 0500"), bytes.fromhex("170303 0008 06 01020304 2709 ff")],
)  # fmt: skip
def test_what_is_no_such_stream(stream: bytes) -> None:
    with pytest.raises(WireError, match="relay_bad_frame"):
        FrameReader().feed(stream)


@given(st.binary(max_size=300))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    with contextlib.suppress(WireError):
        FrameReader().feed(data)
