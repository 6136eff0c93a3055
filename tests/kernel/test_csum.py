"""The Internet checksum against RFC 1071's definition in Python, for every implementation."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernel.crypto_twin import checksum
from ztpipe.kernel._kernel import ffi, lib

SETS = [lib.zt_csum_impl_get(i) for i in range(lib.zt_csum_impl_count())]
every_set = pytest.mark.parametrize("impl", SETS, ids=lambda impl: ffi.string(impl.name).decode())
LENGTHS = [*range(300), 1409, 1410, 2810, 9001, 65535]


def field(sum_: int) -> int:
    """A partial sum -> the checksum field, as a number: memory order to network order."""
    return int.from_bytes((lib.zt_csum_fold(sum_) ^ 0xFFFF).to_bytes(2, sys.byteorder), "big")


@every_set
def test_sum(impl: Any) -> None:
    rng = random.Random(1)
    for n in LENGTHS:
        for data in (rng.randbytes(n), b"\xff" * n, bytes(n)):
            assert field(impl.partial(data, n, 0)) == checksum(data), n


@every_set
def test_copy(impl: Any) -> None:
    rng = random.Random(2)
    for n in LENGTHS:
        data = rng.randbytes(n)
        memory = ffi.new("uint8_t[]", b"\xa5" * (n + 66))
        assert field(impl.copy(memory + 33, data, n, 0)) == checksum(data), n
        assert bytes(ffi.buffer(memory, n + 66)) == b"\xa5" * 33 + data + b"\xa5" * 33


@every_set
@given(st.lists(st.binary(max_size=130).map(lambda b: b[: len(b) & ~1]), max_size=6), st.binary(max_size=130))
def test_pieces_chain(impl: Any, pieces: list[bytes], last: bytes) -> None:
    """Pieces of even length one after another are their concatenation; whatever was summed before."""
    total = 0
    for piece in [*pieces, last]:
        total = impl.partial(piece, len(piece), total)
    assert field(total) == checksum(b"".join([*pieces, last]))


@every_set
def test_carry_out_of_the_start_value(impl: Any) -> None:
    """0xffffffff is a negative zero: it changes nothing but the representation of zero."""
    data = b"\x12\x34" * 50
    assert field(impl.partial(data, len(data), 0xFFFFFFFF)) == checksum(data)
    assert lib.zt_csum_add(0xFFFFFFFF, 1) == 1


def test_rfc_1071_example() -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert field(lib.zt_csum_partial(data, len(data), 0)) == 0xFFFF ^ 0xDDF2


def test_a_filled_in_field_sums_to_minus_zero() -> None:
    header = bytearray.fromhex("4500003044224000800600008c7c19acae241e2b")
    header[10:12] = field(lib.zt_csum_partial(bytes(header), 20, 0)).to_bytes(2, "big")
    assert header[10:12].hex() == "442e"
    assert field(lib.zt_csum_partial(bytes(header), 20, 0)) == 0
