"""Known answers: vl1-wire Appendix B, and packets taken from traffic between reference nodes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.kernel.crypto_twin import kbkdf, siv_crypt, siv_tag
from ztpipe.kernel import crypto

KAT = Path(__file__).parents[1] / "vectors" / "kat"
# suite 2, trusted paths, has no cryptography
PACKETS = [case for case in json.loads((KAT / "packets.json").read_text())["packets"] if case["suite"] != 2]
AGREEMENTS = json.loads((KAT / "key_agreement.json").read_text())["vectors"]
IDENTITIES = json.loads((KAT / "identities.json").read_text())

# vl1-wire B.1, B.2
KEY48 = bytes.fromhex(
    "1c212334bc44e3b29e193489c226f5a5dbcae7e419167798c84eda3c547c7c0b0e88bca1d2a437c4322dd0b52f95d669"
)
K0, K1 = kbkdf(KEY48, b"0"), kbkdf(KEY48, b"1")
ROUTE = bytes.fromhex("01020304050607087b4efa6b6c024d3a68e0")
ECHO = b"\x08The quick brown fox jumps over the lazy dog"
SEALED = [
    (0x00, ECHO,
     "01020304050607087b4efa6b6c024d3a68e000bd8fd524f5ad92710854686520717569636b2062726f776e20666f78206a75"
     "6d7073206f76657220746865206c617a7920646f67"),
    (0x88, ECHO,
     "01020304050607087b4efa6b6c024d3a68e088041b2eb62f95388f0f4d3b8250c5c3393bd6b37ed2ccde352116b4a4f3b570"
     "39bb026abd2ab6b5ac74acaf9370051b3dbe043a0c"),
    (0x18, ECHO,
     "d4c2bf5bcae7dd377b4efa6b6c024d3a68e0189bfe62d46b74f5170ffd9f0a55b31f3780bbf9a971bd775922669904b5be8d"
     "4f3854fd6c357e3b4565770c6c1844827ee785ef04"),
    (0x58, ECHO,
     "cd3c5dce33898a4a7b4efa6b6c024d3a68e058d50e32cd45ff0e23f5d73a49c61016a1f17a31ef7470caba1d82782b9e9700"
     "ab990c9c552e80e2a57cdab6795041cc6e46ef2767"),
    (0x88, b"\0", "01020304050607087b4efa6b6c024d3a68e088e528315e49a08143e9"),
    (0x18, b"\0", "d2421b3ec39f45bc7b4efa6b6c024d3a68e0182ede2f73114a8169f4"),
]  # fmt: skip
LONG = b"\x14" + bytes.fromhex("1122334455667788") + bytes((7 * i + 3) % 256 for i in range(2000))
LONG_SEALED = [
    (0x88, "01020304050607087b4efa6b6c024d3a68e088a124520d3fd3a81f",
     "920ae52adb54b88be3a0581c3b445947f6c7c45acd6905258ad77235d5d324e0"
     "ac5971bf623a1fc0f8b84c85dfcabfa6aae8a5bd26c74f9173c1f3729c91618a"),
    (0x18, "6a5190296a45147d7b4efa6b6c024d3a68e01803e1c1eafd4c529f",
     "07ce12c0637b99592ba600befa8cade0ad19a5464655d157b1f6356865a22dc2"
     "f98f10883f5554937ad719da720fd1a14c40a28046cbbddab28fa1246c3996f7"),
]  # fmt: skip


def plain(flags: int, text: bytes) -> bytearray:
    """A packet of Appendix B.2 before it is sealed."""
    return bytearray(ROUTE + bytes([flags]) + bytes(8) + text)


def seal(flags: int, packet: bytearray, keys: tuple[bytes, bytes, bytes] = (KEY48[:32], K0, K1)) -> None:
    if flags & 0x38 == 0x18:
        crypto.siv_seal(keys[1], keys[2], packet)
    else:
        crypto.salsa_seal(keys[0], packet)


def open_(packet: bytearray, keys: tuple[bytes, bytes, bytes] = (KEY48[:32], K0, K1)) -> bool:
    if packet[18] & 0x38 == 0x18:
        return crypto.siv_open(keys[1], keys[2], packet)
    return crypto.salsa_open(keys[0], packet)


@pytest.mark.parametrize(("flags", "text", "sealed"), SEALED)
def test_appendix_packets(flags: int, text: bytes, sealed: str) -> None:
    packet = plain(flags, text)
    seal(flags, packet)
    assert packet.hex() == sealed
    for hops in range(8):
        received = bytearray.fromhex(sealed)
        received[18] |= hops
        assert open_(received)
        assert received[27:] == text


@pytest.mark.parametrize(("flags", "head", "digest"), LONG_SEALED)
def test_appendix_long_packets(flags: int, head: str, digest: str) -> None:
    packet = plain(flags, LONG)
    seal(flags, packet)
    assert packet[:27].hex() == head
    assert hashlib.sha512(packet).hexdigest() == digest
    assert open_(packet)
    assert packet[27:] == LONG


SIV_ALONE = [
    (0, "a6db1015651fc472439a97c49b19955e", ""),
    (1, "dee8247cb6a06f22e6480edeec7955a6", "3d"),
    (16, "f9e1f859c37437faca0eb0814636c287", "45d4dc80a3b17fb3019cc57714a658ff"),
]
SIV_777 = (
    "fef5d7d36ba4e3b8a197c7de83963283",
    "95533c57a9551f254c8b2152f69a6f4132c045762a92b1ae7c2b79088ea7e0be"
    "9def0701dccb86359eca847211e097cc34d20e7a893f83a1fbc2f1fe76579e42",
)


@pytest.mark.parametrize(("length", "tag", "ciphertext"), SIV_ALONE)
def test_siv_alone(length: int, tag: str, ciphertext: str) -> None:
    """vl1-wire B.4, for the twin: no packet has these eleven bytes, whose last would be a hop count."""
    text = bytes(i % 256 for i in range(length))
    made = siv_tag(b"0" * 32, b"1" * 32, bytes(range(8)), bytes(range(11)), text)
    assert made.hex() == tag
    assert siv_crypt(b"1" * 32, made, text).hex() == ciphertext


def test_siv_alone_long() -> None:
    text = bytes(i % 256 for i in range(777))
    made = siv_tag(b"0" * 32, b"1" * 32, bytes(range(8)), bytes(range(11)), text)
    assert made.hex() == SIV_777[0]
    assert hashlib.sha512(siv_crypt(b"1" * 32, made, text)).hexdigest() == SIV_777[1]


def test_primitives() -> None:
    """vl1-wire B.5."""
    key = bytes.fromhex("0f62b5085bae0154a7fa4da0f34699ec3f92e5388bde3184d72a7dd02376c91c")
    stream = crypto.salsa12_xor(key, bytes.fromhex("288ff65dc42b92f9"), bytes(64))
    assert stream.hex() == (
        "99db33ad11ce0ccb3bfdbf8d0c18160452d014cde989b4c411a559ff7c20a169"
        "e6dc9909d816becedc4063ce07cea828f44bf9b6c9a0a0b200e1b52af41859c5"
    )
    key = b"this is 32-byte key for Poly1305"
    assert crypto.poly1305(key, bytes(32)).hex() == "49ec78090e481ec6c26b33b91ccc0307"
    assert crypto.poly1305(key, b"Hello world!").hex() == "a6f745008f81c916a20dcc74eef2b2f0"


@pytest.mark.parametrize("case", PACKETS, ids=lambda c: f"{c['scenario']}-{c['n']}-{c['verb']}")
def test_packets_from_traffic(case: dict) -> None:
    """Open what reference nodes sent; seal the same again and get the same bytes."""
    key48 = bytes.fromhex(case["key48"])
    keys = (key48[:32], kbkdf(key48, b"0"), kbkdf(key48, b"1"))
    text = bytes.fromhex(case["plaintext_from_27"])
    packet = bytearray.fromhex(case["packet"])
    assert open_(packet, keys)
    assert packet[27:] == text
    again = bytearray.fromhex(case["packet"])
    again[:8] = bytes.fromhex(case.get("iv", case["packet_id"]))
    again[18] &= 0xF8
    again[27:] = text
    seal(again[18], again, keys)
    again[18] |= case["hops"]
    assert again.hex() == case["packet"]


def test_traffic_has_every_suite() -> None:
    assert {case["suite"] for case in PACKETS} >= {0, 1, 3}


@pytest.mark.parametrize("case", AGREEMENTS, ids=lambda c: c["a"][:10] + "-" + c["b"][:10])
def test_siv_keys(case: dict) -> None:
    """The twin's key derivation, on which the tests above stand."""
    key48 = bytes.fromhex(case["key48"])
    assert kbkdf(key48, b"0").hex() == case["k0"]
    assert kbkdf(key48, b"1").hex() == case["k1"]


@pytest.mark.parametrize("case", IDENTITIES["valid"], ids=lambda c: c["address"])
def test_address_hash(case: dict) -> None:
    digest = crypto.address_hash(bytes.fromhex(case["public_key"]))
    assert digest.hex() == case["digest"]
    assert digest[0] < 17
    assert digest[59:].hex() == case["address"]
