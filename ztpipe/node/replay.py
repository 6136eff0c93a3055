"""Copies of packets (beyond the reference, which handles a packet as often as it comes; vl1-behaviour §4.5).

VL1 has no sequence numbers and packet IDs are random, so a copy is known only by memory of the packet. `ReplayGuard`
is that memory for a node by itself, and the twin of kernel/replay.c, which control and the crypto workers share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ztpipe.wire.inetaddress import InetAddress

Place = tuple[int, "InetAddress"]
"""A local socket and the remote endpoint that something came from."""

WAYS: Final = 8
SETS: Final = 512
_TICK: Final = 6
_LEAD: Final = 256
_FREE: Final = 0x10000
_WORD: Final = (1 << 64) - 1


class Replay(Protocol):
    """Memory of packets."""

    def seen(self, now: int, packet: bytes, place: Place | None) -> bool:
        """Was this authentic packet, still as it came, seen before? It is from now on.

        `place`: where it came from, if the same packet from elsewhere is not a copy.
        """


class ReplayGuard:
    """Sets of eight packets; the oldest of its set gives way."""

    __slots__ = ("_seed", "_sets", "_size")

    def __init__(self, seed: int, sets: int = SETS) -> None:
        self._seed = seed
        self._size = sets
        self._sets: dict[int, list[int]] = {}

    def seen(self, now: int, packet: bytes, place: Place | None) -> bool:
        return self.seen_hash(now, packet_hash(self._seed, packet, place_hash(place)))

    def seen_hash(self, now: int, value: int) -> bool:
        """The decision, by the packet's hash: as zt_replay_seen."""
        index = value & (self._size - 1)
        entries = self._sets.get(index)
        if entries is None:
            entries = self._sets[index] = [0] * WAYS
        print_ = value >> 16 or 1
        tick = (now >> _TICK) & 0xFFFF
        at = most = 0
        for k in range(WAYS):
            i = ((value >> 32) + k) % WAYS
            entry = entries[i]
            if entry >> 16 == print_:
                return True
            age = (tick + _LEAD - entry) & 0xFFFF if entry else _FREE
            if k == 0 or age > most:
                at, most = i, age
        entries[at] = print_ << 16 | tick
        return False


def mix64(x: int) -> int:
    """zt_mix64 of kernel/table.h."""
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & _WORD
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & _WORD
    return x ^ (x >> 31)


def packet_hash(seed: int, packet: bytes, place: int = 0) -> int:
    """zt_replay_hash: the packet's ID and MAC, and optionally its place."""
    packet_id, mac = int.from_bytes(packet[:8], "big"), int.from_bytes(packet[19:27], "big")
    return mix64(mix64(packet_id ^ seed) ^ mac ^ place)


def place_hash(place: Place | None) -> int:
    """Of any kind as long as it tells places apart; 0 for none."""
    return 0 if place is None else mix64(hash(place) & _WORD) or 1
