"""The kernel's ciphers for Python: whole packets sealed and opened in place (vl1-wire 5.3-5.6), the address hash (2.2).

Packets are `bytearray`s (or any writable buffer) of at least 28 bytes; keys are `bytes` of 32. Wrong sizes raise
ValueError: they are a caller's mistake, never a consequence of what a peer sent (a packet that is too short is simply
not authentic).
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

from ztpipe.kernel._kernel import ffi, lib

MIN_PACKET = 28
KEY_BYTES = 32
_ALIGNMENT = 64

_local = threading.local()


@lru_cache(maxsize=256)
def _siv_key(k0: bytes, k1: bytes) -> tuple[Any, Any]:
    """The expanded key, and the memory it lies in (cffi aligns to 16 bytes, the kernel wants 64)."""
    _check_key(k0)
    _check_key(k1)
    memory = ffi.new("uint8_t[]", lib.zt_siv_key_size() + _ALIGNMENT)
    address = int(ffi.cast("uintptr_t", memory))
    key = ffi.cast("zt_siv_key *", memory + (-address % _ALIGNMENT))
    lib.zt_siv_key_init(key, k0, k1)
    return key, memory


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")


def _check_packet(packet: bytearray) -> None:
    if len(packet) < MIN_PACKET:
        raise ValueError(f"a packet has at least {MIN_PACKET} bytes, not {len(packet)}")


def siv_seal(k0: bytes, k1: bytes, packet: bytearray) -> None:
    """Suite 3, in place: packet[0:8] is the IV, packet[18] the final flags; the tag replaces [0:8] and [19:27]."""
    _check_packet(packet)
    lib.zt_siv_seal(_siv_key(k0, k1)[0], ffi.from_buffer("uint8_t[]", packet, require_writable=True), len(packet))


def siv_open(k0: bytes, k1: bytes, packet: bytearray) -> bool:
    """Suite 3, in place. False: forged, and packet[27:] is undefined. packet[0:27] never changes."""
    buffer = ffi.from_buffer("uint8_t[]", packet, require_writable=True)
    return bool(lib.zt_siv_open(_siv_key(k0, k1)[0], buffer, len(packet)))


def salsa_seal(key: bytes, packet: bytearray) -> None:
    """Suite 0 or 1 by packet[18], in place: the MAC goes to [19:27], suite 1 encrypts [27:]."""
    _check_key(key)
    _check_packet(packet)
    lib.zt_salsa_seal(key, ffi.from_buffer("uint8_t[]", packet, require_writable=True), len(packet))


def salsa_open(key: bytes, packet: bytearray) -> bool:
    """Suite 0 or 1, in place. False: forged or another suite, and the packet is unchanged."""
    _check_key(key)
    return bool(lib.zt_salsa_open(key, ffi.from_buffer("uint8_t[]", packet, require_writable=True), len(packet)))


def salsa12_xor(key: bytes, nonce: bytes, data: bytes, block: int = 0) -> bytes:
    """`data` XOR the Salsa20/12 key stream from 64-byte block number `block` (vl1-wire 5.7 uses block 0)."""
    _check_key(key)
    if len(nonce) != 8:
        raise ValueError(f"a nonce has 8 bytes, not {len(nonce)}")
    out = bytearray(data)
    lib.zt_salsa12_xor(key, nonce, block, ffi.from_buffer("uint8_t[]", out, require_writable=True), len(out))
    return bytes(out)


def poly1305(key: bytes, data: bytes) -> bytes:
    """The 16-byte Poly1305 tag of `data` under a one-time key."""
    _check_key(key)
    tag = ffi.new("uint8_t[16]")
    lib.zt_poly1305(key, data, len(data), tag)
    return bytes(ffi.buffer(tag))


def address_hash(public: bytes) -> bytes:
    """The 64-byte memory-hard digest of a 64-byte public key (vl1-wire 2.2). Other threads run meanwhile."""
    if len(public) != 64:
        raise ValueError(f"a public key has 64 bytes, not {len(public)}")
    if not hasattr(_local, "scratch"):
        _local.scratch = ffi.new("uint8_t[]", lib.ZT_ADDRESS_HASH_SCRATCH)
    digest = ffi.new("uint8_t[64]")
    lib.zt_address_hash_in(_local.scratch, public, digest)
    return bytes(ffi.buffer(digest))


def random_bytes(n: int) -> bytes:
    """`n` bytes from the kernel's generator, fetched in portions (what the data plane uses for packet IDs)."""
    out = ffi.new("uint8_t[]", max(n, 1))
    lib.zt_random_bytes(out, n)
    return bytes(ffi.buffer(out, n))


def implementations() -> list[Any]:
    """Every set of ciphers this CPU can run (`struct zt_crypto_impl *`), portable first, the one in use last."""
    return [lib.zt_crypto_impl_get(i) for i in range(lib.zt_crypto_impl_count())]


def implementation_name() -> str:
    """The set in use."""
    name: bytes = ffi.string(implementations()[-1].name)
    return name.decode()
