"""kernel/open.c, datagrams back to back in one record: what is joined in place is one packet, in order, to its end.

The same frames must come out as if each datagram had come alone.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import NWID, REMOTE_A, A, B, Lab, Pipe, Record
from tests.kernel.strategies import body
from tests.kernel.test_open import NETWORK, ended, frames_of, packet
from tests.twins.frames import UDP, Frame, unfold
from ztpipe.kernel._kernel import lib
from ztpipe.shm.rings import RingSet
from ztpipe.wire.address import mac_of
from ztpipe.wire.packet import split
from ztpipe.wire.protocol import Verb

SEG = 600
MACS = mac_of(B, NWID).to_bytes(6, "big") + mac_of(A, NWID).to_bytes(6, "big")


def parts(seed: int, count: int, last: int = 0, source: int = A) -> list[bytes]:
    """A packet of `count` datagrams of SEG bytes, the last of which is `last` bytes shorter; `seed` is its number."""
    length = SEG + (count - 1) * (SEG - 16) - last - 27 - 1 - 10
    sealed = packet(Verb.FRAME, NETWORK + b"\x88\xb5" + body(length, seed), source=source, mtu=SEG)
    made = split(sealed, SEG)
    assert [len(part) for part in made] == [SEG] * (count - 1) + [SEG - last]
    return made


def run(datagrams: list[bytes]) -> Record:
    """As UDP_GRO gives them: all of one size but the last, which may be shorter."""
    assert len({len(d) for d in datagrams[:-1]} | {SEG}) == 1
    return Record(b"".join(datagrams), remote=REMOTE_A, seg=SEG, nseg=len(datagrams), peer=0xFFFFFFFF)


def lab(peer: int = A) -> Lab:
    made = Lab(B)
    made.join(mtu=9000)
    made.meet(peer, REMOTE_A)
    return made


def outcome(records: list[Record], peer: int = A) -> tuple[Counter[bytes], Counter[str]]:
    """Frames that came out; where every datagram ended."""
    with lab(peer) as b:
        frames = Counter(frames_of(b.open(records)))
        b.tables.set_clock(1_000_000 + 10_000)
        b.open([])
        ends = b.counts()
        assert ended(ends) == sum(record.nseg for record in records)
        return frames, Counter(ends)


def check(datagrams: list[bytes], peer: int = A) -> int:
    """The number of different frames, the same ones together and alone."""
    together = outcome([run(datagrams)], peer)[0]
    alone = outcome([Record(datagram, remote=REMOTE_A, seg=len(datagram)) for datagram in datagrams], peer)[0]
    assert set(together) == set(alone)
    return len(together)


def test_in_order() -> None:
    assert check(parts(1, 3, 5)) == 1
    assert check([*parts(1, 2), *parts(2, 7), *parts(3, 4, 100)]) == 3


def test_out_of_order() -> None:
    a, b, c = parts(1, 3)
    assert check([a, c, b]) == check([b, a, c]) == check([c, b, a]) == 1


def test_pieces_of_another_packet() -> None:
    one, two = parts(1, 3), parts(2, 3)
    assert check([one[0], *two[1:], *one[1:]]) == 1
    assert check([one[0], one[1], two[2], two[0], two[1], one[2]]) == 2
    assert check([one[0], one[1][:8] + bytes(5) + one[1][13:], one[2]]) == 0, "one is for somebody else"


@pytest.mark.parametrize("source", [A, 0x9E21AD2D10])
def test_a_head_twice(source: int) -> None:
    """The second byte of an address may look like the number of a piece."""
    one = parts(1, 2, source=source)
    assert check([one[0], one[0], one[1]], source) == 1
    assert check([*one, *one], source) == 1


def test_more_pieces_than_there_may_be() -> None:
    head = parts(1, 2)[0]
    pieces = [head[:13] + bytes((0xFF, 0x80 | k, 0)) + body(SEG - 16, k) for k in range(1, 8)]
    frames, ends = outcome([run([head, *pieces])])
    assert not frames
    assert ends["drop_bad_fragment"] == 7


def test_pieces_too_long_together() -> None:
    """In one record there may be six times what a packet may have."""
    head = parts(1, 2)[0] + body(8400)
    pieces = [head[:13] + bytes((0xFF, 0x70 | k, 0)) + body(8984, k) for k in range(1, 7)]
    with lab() as b:
        joined = Record(b"".join([head, *pieces]), remote=REMOTE_A, seg=9000, nseg=7, peer=0xFFFFFFFF)
        assert b.open([joined]) == []
        assert b.counts()["drop_oversize_packet"] == 1


@pytest.mark.parametrize("length", [14, 15, 16])
def test_a_piece_without_content(length: int) -> None:
    head = parts(1, 2)[0]
    piece = (head[:13] + bytes((0xFF, 0x21, 0)))[:length]
    frames, ends = outcome([run([head, piece])])
    assert not frames
    assert ends["drop_fragment_expired"] == 1
    assert "drop_bad_mac" not in ends


@pytest.mark.parametrize("length", [14, 15, 16])
def test_a_last_piece_without_content(length: int) -> None:
    head, piece, _ = parts(1, 3)
    last = (head[:13] + bytes((0xFF, 0x32, 0)))[:length]
    frames, ends = outcome([run([head, piece, last])])
    assert not frames
    assert ends["drop_fragment_expired"] == 2
    assert "drop_bad_mac" not in ends


def test_what_lay_in_the_slot_before_is_not_read() -> None:
    """The end of the record, full and short."""
    one = parts(1, 3)
    for short in (0, 5):
        with lab() as b:
            for _ in range(b.from_peer.slots):
                assert b.open([run([one[1], one[1], one[2]])]) == []
            b.tables.set_clock(1_000_000 + 10_000)
            assert b.open([run([one[0], one[1][: SEG - short]])]) == []
            assert "drop_bad_mac" not in b.counts()


def test_flows_spread_over_tap_workers_and_keep_their_order() -> None:
    """TCP, UDP over IPv4 and IPv6, in VLANs and not, of mixed sizes."""
    six = {"source": bytes(15) + b"\1", "destination": bytes(15) + b"\2"}
    kinds: list[dict[str, Any]] = [{}, six, {"vlan": 3}, {"outer": 4}, {"outer": 4, "vlan": 3}, {"proto": UDP}]
    flows = [Frame(macs=MACS, ports=(port, 80), **kind) for port in range(8) for kind in kinds]
    with lab() as b:
        pipes, out = [Pipe(64) for _ in range(4)], RingSet()
        for pipe in pipes:
            out.add(pipe.region)
        ends = b.from_tap.consumer.pointer, b.to_peer.producer.pointer, b.from_peer.consumer.pointer, out.pointer
        crypto = lib.zt_crypto_new(b.context, *ends)
        sent: dict[int, list[bytes]] = defaultdict(list)
        got: list[list[bytes]] = [[] for _ in pipes]
        for number in range(6):
            for flow, frame in enumerate(flows):
                data = replace(frame, payload=bytes((flow, number)) + body(number * 211 % 500)).build()
                sent[flow].append(data)
                b.from_peer.put([Record(packet(payload=NETWORK + data[12:]), remote=REMOTE_A)])
                assert lib.zt_open(crypto, 64) == 1
            for ring, pipe in zip(got, pipes, strict=True):
                ring += [frame for record in pipe.take() for frame in unfold(record.data)]
        lib.zt_crypto_free(crypto)
    assert sum(map(len, got)) == 6 * len(flows)
    for frames in sent.values():
        assert sorted(([frame for frame in ring if frame in frames] for ring in got), key=len) == [[], [], [], frames]
    for kind in range(len(kinds)):
        used = [
            any(frame in sent[flow] for frame in ring for flow in range(kind, len(flows), len(kinds))) for ring in got
        ]
        assert sum(used) > 1, f"all flows of {kinds[kind]} take one way"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 7), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_shuffled_dropped_and_duplicated(counts: list[int], rng: random.Random) -> None:
    wire = [part for seed, count in enumerate(counts) for part in parts(seed, count)]
    wire = [part for part in wire for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 1, 1, 2)))]
    for _ in range(rng.choice((0, 1, 2, 40))):
        if wire:
            i, j = rng.randrange(len(wire)), rng.randrange(len(wire))
            wire[i], wire[j] = wire[j], wire[i]
    if wire:
        check(wire)
