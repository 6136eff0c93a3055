"""kernel/reassemble.c: whose pieces are joined, and which are given up when memory is short."""

from __future__ import annotations

import random

from tests.kernel.stages_lab import REMOTE_A, A, B, Lab
from tests.kernel.strategies import body
from tests.kernel.test_open import NETWORK, came, packet
from ztpipe.wire.packet import split


def pieces() -> list[bytes]:
    return split(packet(payload=NETWORK + b"\x88\xb5" + body(1500)), 1432)


def piece(total: int, number: int, size: int = 50) -> bytes:
    return bytes(8) + B.to_bytes(5, "big") + bytes((0xFF, total << 4 | number, 0)) + body(size)


def test_pieces_that_do_not_agree_on_their_number(b: Lab) -> None:
    assert b.open([came(piece(3, 1)), came(piece(4, 2))]) == []
    assert b.counts()["drop_bad_fragment"] == 1


def test_what_was_too_long_is_forgotten(b: Lab) -> None:
    assert b.open([came(piece(7, number, 4000)) for number in (1, 2, 3)]) == []
    assert b.counts()["drop_oversize_packet"] == 3
    b.tables.set_clock(1_000_000 + 10_000)
    b.open([came(packet())])
    assert "drop_fragment_expired" not in b.counts()


def test_nobody_else_disturbs_an_assembly() -> None:
    """Many others, so that some of them come into the same set of entries."""
    head, rest = pieces()
    forged = rest[:16] + bytes(len(rest) - 16)
    for _ in range(5):
        with Lab(B) as b:
            b.join()
            b.meet(A, REMOTE_A)
            b.open([came(head)])
            for port in range(0, 500, 50):
                b.open([came(forged, (REMOTE_A[0], 10_000 + port + i)) for i in range(50)])
            assert len(b.open([came(rest)])) == 1
            assert "drop_bad_mac" not in b.counts()


def test_the_oldest_are_given_up_first(b: Lab) -> None:
    rng = random.Random(1)
    head, rest = pieces()
    mine = [rng.randbytes(8) for _ in range(8)]

    def flood(count: int) -> None:
        for _ in range(0, count, 100):
            b.open([came(rng.randbytes(8) + head[8:40]) for _ in range(100)])

    flood(8000)
    b.tables.set_clock(1_000_000 + 300)
    b.open([came(number + head[8:40]) for number in mine])
    b.tables.set_clock(1_000_000 + 600)
    flood(500)
    before = b.counts().get("drop_bad_mac", 0)
    b.open([came(number + rest[8:]) for number in mine])
    assert b.counts().get("drop_bad_mac", 0) - before == len(mine), "all were whole, if made up"
