"""Sealing and opening whole packets in every cipher suite (vl1-wire §5). The ciphers themselves are the kernel's."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

import lz4.block

from ztpipe.kernel import crypto
from ztpipe.wire.errors import WireError
from ztpipe.wire.protocol import (
    COMPRESSION_THRESHOLD,
    DEFAULT_MTU,
    FLAG_ENCRYPTED,
    FLAG_FRAGMENTED,
    MASK_SUITE,
    MAX_PACKET,
    MAX_PAYLOAD,
    MIN_PACKET,
    VERB_COMPRESSED,
    Suite,
    Verb,
    verb_of,
)

MAC: Final = slice(19, 27)
"""Where in a packet its MAC is, or the trusted path ID (vl1-wire §4)."""
_TAIL_NONCE: Final = 0xFFFFFFFFFFFFFFF8
_FLAGS_OF_SUITE: Final = {
    Suite.POLY1305_NONE: 0x00,
    Suite.SALSA2012: FLAG_ENCRYPTED | Suite.SALSA2012 << 3,
    Suite.TRUSTED: Suite.TRUSTED << 3,
    Suite.GMAC_SIV: Suite.GMAC_SIV << 3,
}


def derive(key48: bytes, label: bytes, context: int = 0, iteration: int = 0) -> bytes:
    """KBKDF: 48 bytes from the agreed key (vl1-wire §5.5)."""
    message = iteration.to_bytes(4, "big") + b"ZT" + label + b"\0" + bytes((context,)) + (384).to_bytes(4, "big")
    return hmac.digest(key48, message, "sha384")


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """What two nodes agree upon, expanded: `salsa32` for suites 0 and 1; `k0` (GMAC), `k1` (tag, CTR) for suite 3."""

    key: bytes
    salsa32: bytes = field(init=False, compare=False)
    k0: bytes = field(init=False, compare=False)
    k1: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "salsa32", self.key[:32])
        object.__setattr__(self, "k0", derive(self.key, b"0")[:32])
        object.__setattr__(self, "k1", derive(self.key, b"1")[:32])

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.key).hexdigest()[:8]
        return f"SessionKeys(#{digest})"


@dataclass(frozen=True, slots=True)
class Opened:
    """An authenticated packet: `payload` from offset 28, decrypted and decompressed; `packet_id` as on the wire."""

    verb: Verb
    payload: bytes
    packet_id: int
    suite: int
    hops: int
    destination: int
    source: int
    compressed: bool = False


def compress_payload(payload: bytes) -> bytes | None:
    """The payload as an LZ4 block; None if it is too short or would not shrink (vl1-wire §5.9)."""
    if len(payload) <= COMPRESSION_THRESHOLD:
        return None
    block: bytes = lz4.block.compress(payload, store_size=False)
    return block if len(block) < len(payload) else None


def decompress_payload(block: bytes) -> bytes:
    """1..9996 bytes; `WireError("bad_compression")` otherwise."""
    try:
        payload: bytes = lz4.block.decompress(block, uncompressed_size=MAX_PAYLOAD)
    except (lz4.block.LZ4BlockError, ValueError, MemoryError, OverflowError):
        raise WireError("bad_compression") from None
    if not payload:
        raise WireError("bad_compression")
    return payload


def seal(
    keys: SessionKeys,
    *,
    destination: int,
    source: int,
    verb: Verb,
    payload: bytes,
    packet_id: int,
    suite: int,
    compress: bool = False,
    mtu: int = DEFAULT_MTU,
    trusted_path_id: int = 0,
) -> bytes:
    """A whole packet as on the wire, ready for `packet.split`. `packet_id`: 64 fresh random bits.

    With suite 3 the packet's ID on the wire is another one (the first 8 bytes). ValueError if the packet is too long.
    """
    block = compress_payload(payload) if compress else None
    envelope = bytes((verb,)) + payload if block is None else bytes((verb | VERB_COMPRESSED,)) + block
    return seal_envelope(
        keys,
        destination=destination,
        source=source,
        envelope=envelope,
        packet_id=packet_id,
        suite=suite,
        mtu=mtu,
        trusted_path_id=trusted_path_id,
    )


def seal_envelope(
    keys: SessionKeys,
    *,
    destination: int,
    source: int,
    envelope: bytes,
    packet_id: int,
    suite: int,
    mtu: int = DEFAULT_MTU,
    trusted_path_id: int = 0,
) -> bytes:
    """`seal` for an envelope that is already made: verb byte and payload, compressed or not."""
    size = 27 + len(envelope)
    if size > MAX_PACKET:
        raise ValueError(f"packet of {size} bytes")
    flags = _FLAGS_OF_SUITE[Suite(suite)] | (FLAG_FRAGMENTED if size > mtu else 0)
    packet = bytearray(packet_id.to_bytes(8, "big"))
    packet += destination.to_bytes(5, "big") + source.to_bytes(5, "big") + bytes((flags,))
    packet += trusted_path_id.to_bytes(8, "big") + envelope
    if suite == Suite.GMAC_SIV:
        crypto.siv_seal(keys.k0, keys.k1, packet)
    elif suite != Suite.TRUSTED:
        crypto.salsa_seal(keys.salsa32, packet)
    return bytes(packet)


def open_packet(keys: SessionKeys, packet: bytes, *, trusted_path_id: int = 0) -> Opened:
    """Authenticate, decrypt, decompress a packet.

    `trusted_path_id`: what is configured for its sender's physical address, 0 if nothing. Raises `WireError`:
    "short_packet", "oversize_packet", "bad_mac", "untrusted_path", "unknown_suite", "bad_compression".
    """
    if len(packet) < MIN_PACKET:
        raise WireError("short_packet")
    if len(packet) > MAX_PACKET:
        raise WireError("oversize_packet")
    suite = (packet[18] & MASK_SUITE) >> 3
    plain = _open(keys, packet, suite, trusted_path_id)
    verb_byte = plain[27]
    payload = bytes(plain[28:])
    compressed = bool(verb_byte & VERB_COMPRESSED) and bool(payload)
    return Opened(
        verb_of(verb_byte),
        decompress_payload(payload) if compressed else payload,
        int.from_bytes(packet[:8], "big"),
        suite,
        packet[18] & 7,
        int.from_bytes(packet[8:13], "big"),
        int.from_bytes(packet[13:18], "big"),
        compressed,
    )


def _open(keys: SessionKeys, packet: bytes, suite: int, trusted_path_id: int) -> bytes | bytearray:
    if suite == Suite.TRUSTED:
        if not trusted_path_id or int.from_bytes(packet[MAC], "big") != trusted_path_id:
            raise WireError("untrusted_path")
        return packet
    buffer = bytearray(packet)
    if suite == Suite.GMAC_SIV:
        authentic = crypto.siv_open(keys.k0, keys.k1, buffer)
    elif suite in (Suite.POLY1305_NONE, Suite.SALSA2012):
        authentic = crypto.salsa_open(keys.salsa32, buffer)
    else:
        raise WireError("unknown_suite")
    if not authentic:
        raise WireError("bad_mac")
    return buffer


def check_salsa_mac(key48: bytes, packet: bytes) -> None:
    """Is a packet of suite 0 or 1 authentic under an agreed key? `WireError("bad_mac")` if not.

    The same as `open_packet` finds, without what `SessionKeys` derives: for packets that are false mostly.
    """
    if not MIN_PACKET <= len(packet) <= MAX_PACKET or not crypto.salsa_open(key48[:32], bytearray(packet)):
        raise WireError("bad_mac")


def crypt_hello_tail(keys: SessionKeys, packet_id: int, tail: bytes) -> bytes:
    """Encrypt or decrypt the tail of a HELLO (vl1-wire §5.7); the same operation both ways."""
    return crypto.salsa12_xor(keys.salsa32, (packet_id & _TAIL_NONCE).to_bytes(8, "big"), tail) if tail else b""
