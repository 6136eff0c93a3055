"""The ciphers of VL1 written a second time, in Python, from the specification (vl1-wire 2.2, 5.3-5.6)."""

from __future__ import annotations

import hashlib
import hmac
import struct

from Crypto.Cipher import AES


def kbkdf(key48: bytes, label: bytes) -> bytes:
    """KBKDF-HMAC-SHA-384, one iteration (5.5): K0 for label b"0", K1 for b"1"."""
    message = struct.pack(">I2scBBI", 0, b"ZT", label, 0, 0, 384)
    return hmac.new(key48, message, hashlib.sha384).digest()[:32]


def siv_tag(k0: bytes, k1: bytes, iv: bytes, aad: bytes, text: bytes) -> bytes:
    """Steps 1 to 4 of 5.6."""
    gmac = AES.new(k0, AES.MODE_GCM, nonce=iv + bytes(4))
    gmac.update(aad + bytes(5) + text)
    g = gmac.digest()
    m = bytes(a ^ b for a, b in zip(g[:8], g[8:], strict=True))
    return AES.new(k1, AES.MODE_ECB).encrypt(iv + m)


def siv_crypt(k1: bytes, tag: bytes, text: bytes) -> bytes:
    """Step 5: the same for both directions."""
    counter = int.from_bytes(tag, "big") & ~(0x80 << 24)
    return AES.new(k1, AES.MODE_CTR, nonce=b"", initial_value=counter).encrypt(text)


def siv_seal(k0: bytes, k1: bytes, packet: bytes) -> bytes:
    """5.6, sealing."""
    tag = siv_tag(k0, k1, packet[:8], packet[8:19], packet[27:])
    return tag[:8] + packet[8:19] + tag[8:] + siv_crypt(k1, tag, packet[27:])


def rotate(value: int, bits: int) -> int:
    """32-bit left rotation."""
    value &= 0xFFFFFFFF
    return (value << bits | value >> (32 - bits)) & 0xFFFFFFFF


COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))


def salsa_block(key: bytes, nonce: bytes, block: int, rounds: int) -> bytes:
    """One 64-byte block of Salsa20 key stream."""
    c = struct.unpack("<4I", b"expand 32-byte k")
    k = struct.unpack("<8I", key)
    n = struct.unpack("<4I", nonce + block.to_bytes(8, "little"))
    s = (c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3])
    x = list(s)
    for i in range(rounds):
        for a, b, d, e in ROWS if i % 2 else COLUMNS:
            x[b] ^= rotate(x[a] + x[e], 7)
            x[d] ^= rotate(x[b] + x[a], 9)
            x[e] ^= rotate(x[d] + x[b], 13)
            x[a] ^= rotate(x[e] + x[d], 18)
    return struct.pack("<16I", *((u + v) & 0xFFFFFFFF for u, v in zip(x, s, strict=True)))


def salsa12_xor(key: bytes, nonce: bytes, block: int, data: bytes) -> bytes:
    """Salsa20/12 from block number `block`, which wraps at 2**64."""
    stream = b"".join(salsa_block(key, nonce, (block + i) % 2**64, 12) for i in range((len(data) + 63) // 64))
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def poly1305(key: bytes, data: bytes) -> bytes:
    """RFC 8439 2.5, with Python's integers."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def salsa_seal(key: bytes, packet: bytes) -> bytes:
    """Suites 0 and 1 (5.3, 5.4)."""
    mangle = packet[:18] + bytes([packet[18] & 0xF8]) + len(packet).to_bytes(2, "little") + bytes(11)
    mangled = bytes(a ^ b for a, b in zip(key, mangle, strict=True))
    text = packet[27:]
    if packet[18] & 0x38 == 0x08:
        text = salsa12_xor(mangled, packet[:8], 1, text)
    tag = poly1305(salsa_block(mangled, packet[:8], 0, 12)[:32], text)
    return packet[:19] + tag[:8] + text


def checksum(data: bytes) -> int:
    """RFC 1071: the checksum field of `data`, as a number."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
