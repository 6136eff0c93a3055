"""All implementations agree with each other and with the Python twin, on random packets of every kind of length."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel import crypto_twin as twin
from ztpipe.kernel import crypto
from ztpipe.kernel._kernel import ffi, lib

SETS = crypto.implementations()
NAMES = [ffi.string(impl.name).decode() for impl in SETS]
LONGEST = 10100
# every length up to two of the largest steps, then around every boundary of blocks and steps
LENGTHS = sorted(
    {*range(28, 28 + 1100)}
    | {27 + at + delta for at in range(1024, LONGEST - 100, 64) for delta in (-17, -1, 0, 1, 15)}
    | {*range(LONGEST - 40, LONGEST + 1)}
)
every_set = pytest.mark.parametrize("impl", SETS, ids=NAMES)


def siv_key(k0: bytes, k1: bytes) -> Any:
    key, memory = crypto._siv_key(k0, k1)
    return key, memory


def packet_of(rng: random.Random, length: int, flags: int) -> bytearray:
    packet = bytearray(rng.randbytes(length))
    packet[18] = flags
    return packet


def guarded(packet: bytes) -> tuple[Any, Any]:
    """The packet in the middle of other bytes, at an odd address, so that a write beside it shows."""
    memory = ffi.new("uint8_t[]", b"\xa5" * 65 + packet + b"\x5a" * 64)
    return memory, memory + 65


def unguard(memory: Any, length: int) -> bytes:
    data = bytes(ffi.buffer(memory))
    assert data[:65] == b"\xa5" * 65
    assert data[65 + length : 65 + length + 64] == b"\x5a" * 64
    return data[65 : 65 + length]


def test_this_machine_has_more_than_one_set() -> None:
    if len(SETS) == 1:
        pytest.skip("this CPU has only the portable ciphers: nothing to compare")
    assert NAMES[0] == "portable"
    assert crypto.implementation_name() == NAMES[-1]


@every_set
def test_siv(impl: Any) -> None:
    rng = random.Random(1)
    for length in LENGTHS:
        k0, k1 = rng.randbytes(32), rng.randbytes(32)
        key, _memory = siv_key(k0, k1)
        plain = packet_of(rng, length, rng.choice((0x18, 0x58)))
        sealed = twin.siv_seal(k0, k1, plain)
        memory, p = guarded(plain)
        impl.siv_seal(key, p, length)
        assert unguard(memory, length) == sealed, length
        p[18] |= rng.randrange(8)
        head = bytes(ffi.buffer(p, 27))
        assert impl.siv_open(key, p, length) == 1, length
        assert unguard(memory, length) == head + plain[27:], length


@every_set
def test_siv_forgeries(impl: Any) -> None:
    """Any bit changed, except the hops, is noticed; so is another length."""
    rng = random.Random(2)
    key, _memory = siv_key(rng.randbytes(32), rng.randbytes(32))
    for length in (28, 43, 44, 91, 92, 600, 1432):
        sealed = packet_of(rng, length, 0x18)
        impl.siv_seal(key, ffi.from_buffer("uint8_t[]", sealed), length)
        bits = range(length * 8) if length < 100 else rng.sample(range(length * 8), 300)
        for bit in bits:
            forged = bytearray(sealed)
            forged[bit // 8] ^= 1 << bit % 8
            hops = bit // 8 == 18 and bit % 8 < 3
            assert impl.siv_open(key, ffi.from_buffer("uint8_t[]", forged), length) == int(hops), bit
        for other in (0, 1, 27, length - 1):
            cut = bytearray(sealed[:other])
            assert impl.siv_open(key, ffi.from_buffer("uint8_t[]", cut), other) == 0
        longer = sealed + b"\0"
        assert impl.siv_open(key, ffi.from_buffer("uint8_t[]", longer), length + 1) == 0


@every_set
def test_siv_counter_does_not_carry(impl: Any) -> None:
    """Tags whose last four bytes are all ones make the counter start at 0x7fffffff: it crosses into the cleared bit."""
    rng = random.Random(3)
    k1 = rng.randbytes(32)
    key, _memory = siv_key(b"x" * 32, k1)
    for length in (60, 700, 5000):
        packet = packet_of(rng, length, 0x18)
        packet[23:27] = b"\xff" * 4
        expected = twin.siv_crypt(k1, bytes(packet[:8] + packet[19:27]), bytes(packet[27:]))
        impl.siv_open(key, ffi.from_buffer("uint8_t[]", packet), length)
        assert packet[27:] == expected


@every_set
def test_salsa12(impl: Any) -> None:
    rng = random.Random(4)
    for length in [*range(1, 300), 511, 512, 513, 1023, 1024, 1025, 2783, 4096, 10000]:
        key, nonce = rng.randbytes(32), rng.randbytes(8)
        block = rng.choice((0, 1, rng.getrandbits(64), 2**32 - 2, 2**64 - 3))
        data = rng.randbytes(length)
        memory, p = guarded(data)
        impl.salsa12_xor(key, nonce, block, p, length)
        assert unguard(memory, length) == twin.salsa12_xor(key, nonce, block, data), (length, block)


def seal_with(impl: Any, key: Any, p: Any, n: int) -> None:
    """By the suite that the packet says; the key is one of that suite."""
    impl.siv_seal(key, p, n) if p[18] & 0x10 else lib.zt_salsa_seal_with(impl, key, p, n)


def open_with(impl: Any, key: Any, p: Any, n: int) -> int:
    return int(impl.siv_open(key, p, n) if p[18] & 0x10 else lib.zt_salsa_open_with(impl, key, p, n))


@pytest.mark.parametrize("impl", SETS[1:], ids=NAMES[1:])
def test_every_length_is_as_in_the_portable_set(impl: Any) -> None:
    """0 to 10,000 random bytes, at every alignment, in place, both directions; other tests tie the portable set to the
    twin."""
    rng, margin = random.Random(5), 64
    plain = rng.randbytes(10_000 + 2 * margin)
    expected, actual = ffi.new("uint8_t[]", plain), ffi.new("uint8_t[]", plain)
    tags = ffi.new("uint8_t[16]"), ffi.new("uint8_t[16]")
    for n in range(10_001):
        if n % 500 == 0:
            k = rng.randbytes(72)
            siv, _memory = siv_key(k[:32], k[32:64])
            block = rng.choice((0, 1, 2**32 - 5, 2**64 - 9))
        at, size = n % margin, n + 2 * margin
        a, b = expected + at, actual + at
        SETS[0].salsa12_xor(k, k[64:], block, a, n)
        impl.salsa12_xor(k, k[64:], block, b, n)
        SETS[0].poly1305(k, a, n, tags[0])
        impl.poly1305(k, b, n, tags[1])
        assert ffi.buffer(tags[0])[:] == ffi.buffer(tags[1])[:], n
        if n < 28:
            assert impl.siv_open(siv, b, n) == 0
        for flags in (0x18, 0x88, 0x00) if n >= 28 else ():
            a[18] = b[18] = flags
            key = siv if flags == 0x18 else k
            clear = ffi.buffer(b + 27, n - 27)[:]
            seal_with(SETS[0], key, a, n)
            seal_with(impl, key, b, n)
            assert ffi.buffer(actual, size)[:] == ffi.buffer(expected, size)[:], (n, flags)
            assert open_with(SETS[0], key, a, n) == open_with(impl, key, b, n) == 1, (n, flags)
            assert ffi.buffer(b + 27, n - 27)[:] == clear, (n, flags)
        assert ffi.buffer(actual, size)[:] == ffi.buffer(expected, size)[:], n


def poly_inputs(rng: random.Random, length: int) -> list[tuple[bytes, bytes]]:
    """Random ones, and those that make the largest intermediate values."""
    return [
        (rng.randbytes(32), rng.randbytes(length)),
        (b"\xff" * 32, b"\xff" * length),
        (b"\xff" * 16 + bytes(16), b"\xff" * length),
        (b"\x02" + bytes(15) + b"\xff" * 16, b"\xff" * length),
        (bytes(32), rng.randbytes(length)),
    ]


@every_set
def test_poly1305(impl: Any) -> None:
    rng = random.Random(6)
    tag = ffi.new("uint8_t[16]")
    for length in [*range(1200), *(at + d for at in range(1280, LONGEST, 256) for d in (-1, 0, 1, 16, 17))]:
        for key, data in poly_inputs(rng, length):
            impl.poly1305(key, data, length, tag)
            assert bytes(ffi.buffer(tag)) == twin.poly1305(key, data), (length, key.hex())


# RFC 8439, Appendix A.3, vectors 7 to 11: values around 2**130 - 5 and carries that reach the top
RFC_8439 = [
    ("02" + "00" * 15, "", "ff" * 16, "03" + "00" * 15),
    ("02" + "00" * 15, "ff" * 16, "02" + "00" * 15, "03" + "00" * 15),
    ("01" + "00" * 15, "", "ff" * 16 + "f0" + "ff" * 15 + "11" + "00" * 15, "05" + "00" * 15),
    ("01" + "00" * 15, "", "ff" * 16 + "fb" + "fe" * 15 + "01" * 16, "00" * 16),
    ("02" + "00" * 15, "", "fd" + "ff" * 15, "fa" + "ff" * 15),
]


@every_set
@pytest.mark.parametrize(("r", "s", "data", "expected"), RFC_8439)
def test_poly1305_rfc_8439(impl: Any, r: str, s: str, data: str, expected: str) -> None:
    tag = ffi.new("uint8_t[16]")
    text = bytes.fromhex(data)
    impl.poly1305(bytes.fromhex(r) + bytes.fromhex(s or "00" * 16), text, len(text), tag)
    assert bytes(ffi.buffer(tag)).hex() == expected


@every_set
def test_salsa_packets(impl: Any) -> None:
    rng = random.Random(7)
    for length in [*range(28, 200), 539, 1051, 1410, 2810, 10024]:
        for flags in (0x00, 0x40, 0x88, 0xC8):
            key = rng.randbytes(32)
            plain = packet_of(rng, length, flags)
            sealed = twin.salsa_seal(key, bytes(plain))
            memory, p = guarded(plain)
            lib.zt_salsa_seal_with(impl, key, p, length)
            assert unguard(memory, length) == sealed, (length, flags)
            p[18] |= rng.randrange(8)
            head = bytes(ffi.buffer(p, 27))
            assert lib.zt_salsa_open_with(impl, key, p, length) == 1
            assert unguard(memory, length) == head + plain[27:], (length, flags)


@every_set
def test_salsa_forgeries(impl: Any) -> None:
    rng = random.Random(8)
    key = rng.randbytes(32)
    for length, flags in ((28, 0x88), (60, 0x00), (92, 0x88), (700, 0x88)):
        sealed = packet_of(rng, length, flags)
        lib.zt_salsa_seal_with(impl, key, ffi.from_buffer("uint8_t[]", sealed), length)
        for bit in range(length * 8) if length < 100 else rng.sample(range(length * 8), 300):
            forged = bytearray(sealed)
            forged[bit // 8] ^= 1 << bit % 8
            before = bytes(forged)
            if bit // 8 == 18 and bit % 8 < 3:
                continue  # hops
            assert lib.zt_salsa_open_with(impl, key, ffi.from_buffer("uint8_t[]", forged), length) == 0, bit
            assert forged == before
        cut = bytearray(sealed[:27])
        assert lib.zt_salsa_open_with(impl, key, ffi.from_buffer("uint8_t[]", cut), 27) == 0


@pytest.mark.parametrize("flags", [0x10, 0x18, 0x20, 0x38])
def test_salsa_open_refuses_other_suites(flags: int) -> None:
    packet = bytearray(60)
    packet[18] = flags
    assert not crypto.salsa_open(bytes(32), packet)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=28, max_size=80), st.binary(min_size=32, max_size=32))
def test_peek(plain: bytes, key: bytes) -> None:
    """What peek shows is what open will give; too short a packet shows nothing."""
    out = ffi.new("uint8_t[16]")
    expected = plain[27:43] + bytes(max(0, 43 - len(plain)))
    for flags in (0x18, 0x88, 0x00):
        packet = bytearray(plain)
        packet[18] = flags
        buffer = ffi.from_buffer("uint8_t[]", packet)
        if flags == 0x18:
            expanded, _memory = siv_key(key, key[::-1])
            lib.zt_siv_seal(expanded, buffer, len(plain))
            lib.zt_siv_peek(expanded, buffer, len(plain), out)
        else:
            lib.zt_salsa_seal(key, buffer, len(plain))
            lib.zt_salsa_peek(key, buffer, len(plain), out)
        assert bytes(ffi.buffer(out)) == expected
    lib.zt_salsa_peek(key, buffer, 27, out)
    assert bytes(ffi.buffer(out)) == bytes(16)


@pytest.mark.parametrize("impl", SETS, ids=NAMES)
def test_siv_stream(impl: Any) -> None:
    rng = random.Random(9)
    k1 = rng.randbytes(32)
    key, _memory = siv_key(rng.randbytes(32), k1)
    out = ffi.new("uint8_t[16]")
    for _ in range(20):
        packet = rng.randbytes(27)
        impl.siv_stream(key, packet, out)
        expected = twin.siv_crypt(k1, packet[:8] + packet[19:27], bytes(16))
        assert bytes(ffi.buffer(out)) == expected


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="a key has 32 bytes"):
        crypto.salsa_seal(bytes(31), bytearray(40))
    with pytest.raises(ValueError, match="a packet has at least 28 bytes"):
        crypto.siv_seal(bytes(32), bytes(32), bytearray(27))
    with pytest.raises(ValueError, match="a nonce has 8 bytes"):
        crypto.salsa12_xor(bytes(32), bytes(7), b"")
    with pytest.raises(ValueError, match="a public key has 64 bytes"):
        crypto.address_hash(bytes(63))
    assert not crypto.siv_open(bytes(32), bytes(32), bytearray(27))
    assert not crypto.salsa_open(bytes(32), bytearray())
