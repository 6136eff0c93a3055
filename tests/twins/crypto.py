"""Twin of `ztpipe.kernel.crypto`: the ciphers of vl1-wire §2.2 and §5.3-§5.6 from pycryptodome and plain Python."""

from __future__ import annotations

import hashlib
import struct

from Crypto.Cipher import AES, Salsa20
from Crypto.Util import Counter

_MASK = 0xFFFFFFFF
_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))


def _quarter(x: list[int], a: int, b: int, c: int, d: int) -> None:
    for target, first, second, turn in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
        total = (x[first] + x[second]) & _MASK
        x[target] ^= (total << turn | total >> (32 - turn)) & _MASK


def salsa_block(key: bytes, nonce: bytes, block: int, rounds: int) -> bytes:
    """One 64-byte block of the Salsa20 key stream."""
    k, n = struct.unpack("<8I", key), struct.unpack("<2I", nonce)
    s = struct.unpack("<4I", b"expand 32-byte k")
    state = [s[0], *k[:4], s[1], *n, block & _MASK, block >> 32, s[2], *k[4:], s[3]]
    x = list(state)
    for _ in range(rounds // 2):
        for quarter in (*_COLUMNS, *_ROWS):
            _quarter(x, *quarter)
    return struct.pack("<16I", *((a + b) & _MASK for a, b in zip(x, state, strict=True)))


def salsa12_xor(key: bytes, nonce: bytes, data: bytes, block: int = 0) -> bytes:
    """`data` XOR the Salsa20/12 key stream from `block` on."""
    blocks = range(block, block + (len(data) + 63) // 64)
    stream = b"".join(salsa_block(key, nonce, number, 12) for number in blocks)
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def poly1305(key: bytes, data: bytes) -> bytes:
    """Poly1305 with a bare one-time key."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\x01", "little")) * r % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def _packet_key(key: bytes, packet: bytearray) -> bytes:
    mask = bytes(packet[:18]) + bytes((packet[18] & 0xF8, len(packet) & 0xFF, len(packet) >> 8 & 0xFF)) + b"\0" * 11
    return bytes(a ^ b for a, b in zip(key, mask, strict=True))


def _salsa_tag(key: bytes, packet: bytearray) -> bytes:
    return poly1305(salsa_block(key, bytes(packet[:8]), 0, 12)[:32], bytes(packet[27:]))[:8]


def _salsa_crypt(key: bytes, packet: bytearray) -> None:
    packet[27:] = salsa12_xor(key, bytes(packet[:8]), bytes(packet[27:]), 1)


def salsa_seal(key: bytes, packet: bytearray) -> None:
    """Suites 0 and 1 by the flags byte, in place."""
    mangled = _packet_key(key, packet)
    if packet[18] & 0x38 == 0x08:
        _salsa_crypt(mangled, packet)
    packet[19:27] = _salsa_tag(mangled, packet)


def salsa_open(key: bytes, packet: bytearray) -> bool:
    """False if forged; else decrypted in place."""
    mangled = _packet_key(key, packet)
    if _salsa_tag(mangled, packet) != packet[19:27]:
        return False
    if packet[18] & 0x38 == 0x08:
        _salsa_crypt(mangled, packet)
    return True


def gmac(k0: bytes, iv: bytes, data: bytes) -> bytes:
    """GCM's authentication of associated data alone."""
    cipher = AES.new(k0, AES.MODE_GCM, nonce=iv + b"\0" * 4, mac_len=16)
    cipher.update(data)
    return cipher.digest()


def _siv_mac(k0: bytes, iv: bytes, packet: bytearray, plain: bytes) -> bytes:
    aad = bytes(packet[8:18]) + bytes((packet[18] & 0xF8,)) + b"\0" * 5
    full = gmac(k0, iv, aad + plain)
    return bytes(a ^ b for a, b in zip(full[:8], full[8:], strict=True))


def _siv_stream(k1: bytes, tag: bytes, data: bytes) -> bytes:
    start = int.from_bytes(tag, "big") & ~(0x80 << 24)
    counter = Counter.new(128, initial_value=start)
    return AES.new(k1, AES.MODE_CTR, counter=counter).encrypt(data)


def siv_seal(k0: bytes, k1: bytes, packet: bytearray) -> None:
    """Suite 3, in place; the IV stands in the first 8 bytes."""
    iv, plain = bytes(packet[:8]), bytes(packet[27:])
    tag = AES.new(k1, AES.MODE_ECB).encrypt(iv + _siv_mac(k0, iv, packet, plain))
    packet[27:] = _siv_stream(k1, tag, plain)
    packet[:8], packet[19:27] = tag[:8], tag[8:]


def siv_open(k0: bytes, k1: bytes, packet: bytearray) -> bool:
    """False if forged; else decrypted in place."""
    tag = bytes(packet[:8] + packet[19:27])
    plain = _siv_stream(k1, tag, bytes(packet[27:]))
    head = AES.new(k1, AES.MODE_ECB).decrypt(tag)
    packet[27:] = plain
    return _siv_mac(k0, head[:8], packet, plain) == head[8:]


def siv_iv(k1: bytes, packet: bytes) -> int:
    """The random value that a suite 3 packet was sealed with."""
    return int.from_bytes(AES.new(k1, AES.MODE_ECB).decrypt(packet[:8] + packet[19:27])[:8], "big")


def address_hash(public: bytes) -> bytes:
    """The memory-hard hash of vl1-wire §2.2; takes about half a second."""
    digest = hashlib.sha512(public).digest()
    stream = Salsa20.new(key=digest[:32], nonce=digest[32:40])
    blocks = stream.encrypt(bytes(64 * (32768 + 131072)))
    memory: list[int] = []
    previous = 0
    for at in range(0, 2097152, 64):
        previous ^= int.from_bytes(blocks[at : at + 64], "big")
        memory += struct.unpack(">8Q", previous.to_bytes(64, "big"))
    words = list(struct.unpack(">8Q", digest))
    at = 2097152
    for n in range(0, 262144, 2):
        a, b = memory[n] & 7, memory[n + 1] & 262143
        words[a], memory[b] = memory[b], words[a]
        key = struct.unpack_from(">8Q", blocks, at)
        words = [w ^ k for w, k in zip(words, key, strict=True)]
        at += 64
    return struct.pack(">8Q", *words)
