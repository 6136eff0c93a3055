"""Datagrams: packet headers, fragments, reassembly (vl1-wire §4, §6). Nothing here needs a key."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from ztpipe.wire.errors import WireError
from ztpipe.wire.protocol import (
    BEACON_LENGTH,
    FLAG_FRAGMENTED,
    FRAGMENT_HEADER,
    FRAGMENT_INDICATOR,
    MASK_HOPS,
    MASK_SUITE,
    MAX_FRAGMENTS,
    MAX_PACKET,
    MIN_PACKET,
)

_HEADER: Final = struct.Struct(">Q5s5sB")


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a packet before its MAC. `flags` is the whole byte 18."""

    packet_id: int
    destination: int
    source: int
    flags: int

    @property
    def suite(self) -> int:
        """Cipher suite 0..7."""
        return (self.flags & MASK_SUITE) >> 3

    @property
    def fragmented(self) -> bool:
        return bool(self.flags & FLAG_FRAGMENTED)

    @property
    def hops(self) -> int:
        return self.flags & MASK_HOPS


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a packet other than its head. `number` is 1..6 and below `total`, which is 2..7."""

    packet_id: int
    destination: int
    number: int
    total: int
    hops: int
    data: bytes


def is_fragment(datagram: bytes) -> bool:
    """True for a fragment, false for a packet or the head of one (vl1-wire §4.5)."""
    return len(datagram) > FRAGMENT_HEADER and datagram[13] == FRAGMENT_INDICATOR


def beacon_sender(datagram: bytes) -> int | None:
    """The sender of a legacy LAN beacon; None if the datagram is none."""
    return int.from_bytes(datagram[8:13], "big") if len(datagram) == BEACON_LENGTH else None


def destination_of(datagram: bytes) -> int:
    """Whom a packet or fragment of at least 13 bytes is for."""
    return int.from_bytes(datagram[8:13], "big")


def parse_header(packet: bytes) -> Header:
    """The header of a packet; `WireError("short_packet")` below 28 bytes."""
    if len(packet) < MIN_PACKET:
        raise WireError("short_packet")
    packet_id, destination, source, flags = _HEADER.unpack_from(packet)
    return Header(packet_id, int.from_bytes(destination, "big"), int.from_bytes(source, "big"), flags)


def parse_fragment(datagram: bytes) -> Fragment:
    """A fragment; `WireError("bad_fragment")` if its numbers are out of range (vl1-wire §6.3)."""
    if not is_fragment(datagram):
        raise WireError("bad_fragment")
    total, number = datagram[14] >> 4, datagram[14] & 15
    if not (2 <= total <= MAX_FRAGMENTS and 1 <= number < total):
        raise WireError("bad_fragment")
    return Fragment(
        int.from_bytes(datagram[:8], "big"),
        int.from_bytes(datagram[8:13], "big"),
        number,
        total,
        datagram[15] & MASK_HOPS,
        datagram[FRAGMENT_HEADER:],
    )


def hops_of(datagram: bytes) -> int:
    """Hops of a packet or fragment."""
    return datagram[15 if datagram[13] == FRAGMENT_INDICATOR else 18] & MASK_HOPS


def with_hops(datagram: bytes, hops: int) -> bytes:
    """A copy of a packet or fragment with another hop count (modulo 8)."""
    at = 15 if datagram[13] == FRAGMENT_INDICATOR else 18
    return datagram[:at] + bytes((datagram[at] & ~MASK_HOPS & 0xFF | hops & MASK_HOPS,)) + datagram[at + 1 :]


def split(packet: bytes, mtu: int) -> list[bytes]:
    """The datagrams that carry a sealed packet (vl1-wire §6.2); one if it fits.

    A packet longer than `mtu` must have been sealed with flag 0x40. ValueError if it needs more fragments than
    receivers take (`max_length`).
    """
    if len(packet) <= mtu:
        return [packet]
    size = mtu - FRAGMENT_HEADER
    pieces = [packet[at : at + size] for at in range(mtu, len(packet), size)]
    total = len(pieces) + 1
    if total > MAX_FRAGMENTS or not packet[18] & FLAG_FRAGMENTED:
        raise ValueError("packet too long, or sealed without the fragment flag")
    head = packet[:13] + b"\xff"
    return [packet[:mtu], *(head + bytes((total << 4 | i, 0)) + piece for i, piece in enumerate(pieces, 1))]


def max_length(mtu: int) -> int:
    """The longest packet that `split` can carry."""
    return min(MAX_PACKET, mtu + (MAX_FRAGMENTS - 1) * (mtu - FRAGMENT_HEADER))


@dataclass(slots=True)
class _Partial:
    """A packet of which not all pieces have come. `pieces[0]` is the head; `total` 0 until a fragment tells it."""

    deadline: int
    total: int = 0
    pieces: dict[int, bytes] = field(default_factory=dict)


class Reassembler:
    """Puts fragmented packets together; keeps at most `capacity` partial ones, each at most `timeout_ms`.

    Partial packets are keyed by packet ID and where they come from, so that a third party cannot spoil them by sending
    fragments with a packet ID it has seen.
    """

    def __init__(self, capacity: int, timeout_ms: int) -> None:
        self._capacity = capacity
        self._timeout = timeout_ms
        self._partial: OrderedDict[tuple[int, Hashable], _Partial] = OrderedDict()
        self.evicted = 0
        """Pieces given up since the start: for lack of room or of time, or because their packet came to nothing."""
        self.joined = 0
        """Pieces that became part of a whole packet, less one for each of those."""

    def __len__(self) -> int:
        return len(self._partial)

    def add(self, now: int, datagram: bytes, source: Hashable = None) -> bytes | None:
        """Take a packet, a head or a fragment; give a whole packet as soon as there is one.

        Raises `WireError`: "short_packet", "bad_fragment", "duplicate_fragment", "oversize_packet".
        """
        if is_fragment(datagram):
            fragment = parse_fragment(datagram)
            key, number, total, piece = fragment.packet_id, fragment.number, fragment.total, fragment.data
        else:
            header = parse_header(datagram)
            if not header.fragmented:
                return datagram
            key, number, total, piece = header.packet_id, 0, 0, datagram
        self.expire(now)
        return self._store(now, (key, source), number, total, piece)

    def _store(self, now: int, key: tuple[int, Hashable], number: int, total: int, piece: bytes) -> bytes | None:
        partial = self._partial.get(key)
        if partial is None:
            partial = self._open(now, key)
        if number in partial.pieces:
            raise WireError("duplicate_fragment")
        if total and not partial.total:
            partial.total = total
        if sum(map(len, partial.pieces.values())) + len(piece) > MAX_PACKET:
            self._give_up(key)
            raise WireError("oversize_packet")
        if any(number >= (partial.total or number + 1) for number in (number, *partial.pieces)):
            self._give_up(key)
            raise WireError("bad_fragment")
        partial.pieces[number] = piece
        if len(partial.pieces) != partial.total:
            return None
        del self._partial[key]
        self.joined += partial.total - 1
        return b"".join(partial.pieces[i] for i in range(partial.total))

    def _open(self, now: int, key: tuple[int, Hashable]) -> _Partial:
        if len(self._partial) >= self._capacity:
            self._give_up(next(iter(self._partial)))
        partial = self._partial[key] = _Partial(now + self._timeout)
        return partial

    def _give_up(self, key: tuple[int, Hashable]) -> None:
        self.evicted += len(self._partial.pop(key).pieces)

    def expire(self, now: int) -> None:
        """Give up what has waited too long; `add` does it too."""
        while self._partial:
            key = next(iter(self._partial))
            if self._partial[key].deadline > now:
                return
            self._give_up(key)
