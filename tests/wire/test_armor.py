# ruff: noqa: E501 - known values stay on one line
"""Cipher suites against known packets and against the slow twins (vl1-wire §5, B.2, B.3)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.captures import Json, kat
from tests.twins import crypto as twin
from ztpipe.wire.armor import (
    SessionKeys,
    compress_payload,
    crypt_hello_tail,
    decompress_payload,
    open_packet,
    seal,
    seal_envelope,
)
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.packet import with_hops
from ztpipe.wire.protocol import MAX_PACKET, MAX_PAYLOAD, Suite, Verb
from ztpipe.wire.verbs import Hello, WorldVersion, seal_hello

A = Identity.parse(
    "024d3a68e0:0:e17767bd3c46dbe4be89e6fda3ab241087eb06058e3e28f9a1fd9e4d23d9d21a809a0c0118cb0e065a9ddc59d9f1d9ccd9f6df982a2f92d7f5ddfce7c7cacf66"
    ":8bb087645f03516bb022a10d45b7294a37b563d8bc895eb6eb2a9144c3dfec4af3166d73aaf13276700bcabb2257e81db15e8c9fde88cd2cb3c9f312c6ba65cb"
)
B = Identity.parse(
    "7b4efa6b6c:0:83dfe91526d6c296fd5d901b0ea82cce04f16a083718375de97157b6f5304f2d084baf54985a2f964f20e6eb13f0356203cd5ecf20c428222085ba04db8a9a42"
    ":8862a3937873273b34aa1b3e5c1cab7a74c9c5ca62f1a1c691e70d176cbc41c2ae26929e24cbaa9b20bcacbb8897461abef7773c0c08eaba3974b549a31f0d11"
)
KEYS = SessionKeys(A.agree(B))
TEXT = b"The quick brown fox jumps over the lazy dog"
PACKET_ID = 0x0102030405060708
KNOWN = (
    (Suite.POLY1305_NONE, Verb.ECHO, TEXT, 1432, "01020304050607087b4efa6b6c024d3a68e000bd8fd524f5ad92710854686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f67"),
    (Suite.SALSA2012, Verb.ECHO, TEXT, 1432, "01020304050607087b4efa6b6c024d3a68e088041b2eb62f95388f0f4d3b8250c5c3393bd6b37ed2ccde352116b4a4f3b57039bb026abd2ab6b5ac74acaf9370051b3dbe043a0c"),
    (Suite.GMAC_SIV, Verb.ECHO, TEXT, 1432, "d4c2bf5bcae7dd377b4efa6b6c024d3a68e0189bfe62d46b74f5170ffd9f0a55b31f3780bbf9a971bd775922669904b5be8d4f3854fd6c357e3b4565770c6c1844827ee785ef04"),
    (Suite.GMAC_SIV, Verb.ECHO, TEXT, 70, "cd3c5dce33898a4a7b4efa6b6c024d3a68e058d50e32cd45ff0e23f5d73a49c61016a1f17a31ef7470caba1d82782b9e9700ab990c9c552e80e2a57cdab6795041cc6e46ef2767"),
    (Suite.SALSA2012, Verb.NOP, b"", 1432, "01020304050607087b4efa6b6c024d3a68e088e528315e49a08143e9"),
    (Suite.GMAC_SIV, Verb.NOP, b"", 1432, "d2421b3ec39f45bc7b4efa6b6c024d3a68e0182ede2f73114a8169f4"),
)  # fmt: skip
LONG = bytes.fromhex("1122334455667788") + bytes((7 * i + 3) % 256 for i in range(2000))


def sealed(suite: int, verb: Verb = Verb.ECHO, payload: bytes = TEXT, mtu: int = 1432, **more: int) -> bytes:
    return seal(
        KEYS,
        destination=B.address,
        source=A.address,
        verb=verb,
        payload=payload,
        packet_id=PACKET_ID,
        suite=suite,
        mtu=mtu,
        **more,
    )


@pytest.mark.parametrize(("suite", "verb", "payload", "mtu", "expected"), KNOWN)
def test_known_packets(suite: Suite, verb: Verb, payload: bytes, mtu: int, expected: str) -> None:
    packet = sealed(suite, verb, payload, mtu)
    assert packet.hex() == expected
    for hops in range(8):
        opened = open_packet(KEYS, with_hops(packet, hops))
        assert (opened.verb, opened.payload, opened.suite, opened.hops) == (verb, payload, suite, hops)
        assert opened.packet_id.to_bytes(8, "big") == packet[:8]
        assert (opened.destination, opened.source) == (B.address, A.address)


@pytest.mark.parametrize(
    ("suite", "head", "digest"),
    [
        (
            Suite.SALSA2012,
            "01020304050607087b4efa6b6c024d3a68e088a124520d3fd3a81f",
            "920ae52adb54b88be3a0581c3b445947f6c7c45acd6905258ad77235d5d324e0ac5971bf623a1fc0f8b84c85dfcabfa6aae8a5bd26c74f9173c1f3729c91618a",
        ),
        (
            Suite.GMAC_SIV,
            "6a5190296a45147d7b4efa6b6c024d3a68e01803e1c1eafd4c529f",
            "07ce12c0637b99592ba600befa8cade0ad19a5464655d157b1f6356865a22dc2f98f10883f5554937ad719da720fd1a14c40a28046cbbddab28fa1246c3996f7",
        ),
    ],
)
def test_known_long_packets(suite: Suite, head: str, digest: str) -> None:
    packet = sealed(suite, Verb.USER_MESSAGE, LONG, mtu=3000)
    assert packet[:27].hex() == head
    assert hashlib.sha512(packet).hexdigest() == digest


@pytest.mark.parametrize("vector", kat("packets")["packets"], ids=lambda v: f"{v['scenario']}-{v['n']}-{v['verb']}")
def test_known_captured_packets(vector: Json) -> None:
    packet = bytes.fromhex(vector["packet"])
    keys = SessionKeys(bytes.fromhex(vector.get("key48", "00" * 48)))
    path = vector.get("trusted_path_id", 0)
    plain = bytes.fromhex(vector["plaintext_from_27"])
    opened = open_packet(keys, packet, trusted_path_id=path)
    payload = decompress_payload(plain[1:]) if plain[0] & 0x80 else plain[1:]
    assert (opened.verb.name, opened.payload, opened.hops) == (vector["verb"], payload, vector["hops"])
    assert f"{opened.packet_id:016x}" == vector["packet_id"]
    if "hello_tail_plain" in vector:
        tail = Hello.decode(payload).tail
        assert crypt_hello_tail(keys, opened.packet_id, tail).hex() == vector["hello_tail_plain"]
    again = seal_envelope(
        keys,
        destination=opened.destination,
        source=opened.source,
        envelope=plain,
        packet_id=int(vector.get("iv", vector["packet_id"]), 16),
        suite=vector["suite"],
        mtu=len(packet) - vector["fragmented_flag"],
        trusted_path_id=path,
    )
    assert with_hops(again, vector["hops"]) == packet


@pytest.mark.parametrize("suite", [Suite.POLY1305_NONE, Suite.SALSA2012, Suite.GMAC_SIV])
def test_every_changed_bit_is_noticed(suite: Suite) -> None:
    packet = sealed(suite)
    for bit in range(8 * len(packet)):
        if bit // 8 == 18:
            continue
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError, match="bad_mac"):
            open_packet(KEYS, bytes(changed))
    for size in range(28, len(packet)):
        with pytest.raises(WireError, match="bad_mac"):
            open_packet(KEYS, packet[:size])


@pytest.mark.parametrize("suite", [Suite.POLY1305_NONE, Suite.SALSA2012, Suite.GMAC_SIV])
def test_flags_are_authenticated(suite: Suite) -> None:
    packet = sealed(suite)
    for flags in range(0, 256, 8):
        if flags == packet[18]:
            continue
        with pytest.raises(WireError):
            open_packet(KEYS, packet[:18] + bytes((flags,)) + packet[19:])


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([0, 1, 3]), st.binary(max_size=300), st.integers(0, 2**64 - 1), st.booleans())
def test_twins_agree(suite: int, payload: bytes, packet_id: int, compress: bool) -> None:
    packet = seal(
        KEYS,
        destination=B.address,
        source=A.address,
        verb=Verb.USER_MESSAGE,
        payload=payload,
        packet_id=packet_id,
        suite=suite,
        compress=compress,
    )
    buffer = bytearray(packet)
    opens = twin.siv_open(KEYS.k0, KEYS.k1, buffer) if suite == 3 else twin.salsa_open(KEYS.salsa32, buffer)
    assert opens
    assert open_packet(KEYS, packet).payload == payload
    buffer[:8] = packet_id.to_bytes(8, "big")
    if suite == 3:
        assert twin.siv_iv(KEYS.k1, packet) == packet_id
        twin.siv_seal(KEYS.k0, KEYS.k1, buffer)
    else:
        twin.salsa_seal(KEYS.salsa32, buffer)
    assert bytes(buffer) == packet


def test_trusted_paths() -> None:
    packet = sealed(Suite.TRUSTED, trusted_path_id=0x1234)
    assert packet[18:28].hex() == "10000000000000123408"
    assert open_packet(KEYS, packet, trusted_path_id=0x1234).payload == TEXT
    for wrong in (0, 1):
        with pytest.raises(WireError, match="untrusted_path"):
            open_packet(KEYS, packet, trusted_path_id=wrong)
    with pytest.raises(WireError, match="untrusted_path"):
        open_packet(KEYS, sealed(Suite.TRUSTED))


@pytest.mark.parametrize("suite", [4, 5, 6, 7])
def test_unknown_suites(suite: int) -> None:
    packet = sealed(Suite.POLY1305_NONE)
    with pytest.raises(WireError, match="unknown_suite"):
        open_packet(KEYS, packet[:18] + bytes((suite << 3,)) + packet[19:])


def test_limits() -> None:
    assert len(sealed(Suite.GMAC_SIV, payload=bytes(MAX_PAYLOAD))) == MAX_PACKET
    with pytest.raises(ValueError, match="10025 bytes"):
        sealed(Suite.GMAC_SIV, payload=bytes(MAX_PAYLOAD + 1))
    with pytest.raises(WireError, match="oversize_packet"):
        open_packet(KEYS, bytes(MAX_PACKET + 1))
    with pytest.raises(WireError, match="short_packet"):
        open_packet(KEYS, bytes(27))


def test_fragment_flag_only_when_longer_than_the_mtu() -> None:
    assert sealed(Suite.SALSA2012, payload=bytes(1404))[18] == 0x88
    assert sealed(Suite.SALSA2012, payload=bytes(1405))[18] == 0xC8


def test_unassigned_verbs_are_nop() -> None:
    for code in range(32):
        packet = seal_envelope(
            KEYS, destination=B.address, source=A.address, envelope=bytes((code | 0x60,)), packet_id=1, suite=1
        )
        assigned = code in {int(verb) for verb in Verb}
        assert open_packet(KEYS, packet).verb == (code if assigned else Verb.NOP)


# --- compression ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", kat("compression")["vectors"], ids=lambda v: f"{v['scenario']}-{v['n']}")
def test_known_compressed_payloads(vector: Json) -> None:
    plain = bytes.fromhex(vector["plain"])
    assert decompress_payload(bytes.fromhex(vector["compressed"])) == plain
    block = compress_payload(plain)
    assert block is not None
    assert decompress_payload(block) == plain


def test_compression_vector_of_the_appendix() -> None:
    """vl1-wire B.6."""
    block = bytes.fromhex("ff056162636465666768696a3031323334353637383914009c503536373839")
    assert decompress_payload(block) == b"abcdefghij0123456789" * 10


def test_compression_only_when_it_pays() -> None:
    assert compress_payload(bytes(64)) is None
    assert compress_payload(bytes(65)) is not None
    assert compress_payload(hashlib.sha512(b"").digest() + hashlib.sha512(b"x").digest()) is None
    packet = seal(
        KEYS, destination=1, source=2, verb=Verb.ECHO, payload=bytes(500), packet_id=1, suite=0, compress=True
    )
    assert packet[27] == Verb.ECHO | 0x80
    assert len(packet) < 100
    opened = open_packet(KEYS, packet)
    assert (opened.payload, opened.compressed) == (bytes(500), True)


def test_compression_bombs() -> None:
    import lz4.block

    assert decompress_payload(lz4.block.compress(bytes(MAX_PAYLOAD), store_size=False)) == bytes(MAX_PAYLOAD)
    for size in (MAX_PAYLOAD + 1, 1 << 20):
        with pytest.raises(WireError, match="bad_compression"):
            decompress_payload(lz4.block.compress(bytes(size), store_size=False))
    with pytest.raises(WireError, match="bad_compression"):
        decompress_payload(lz4.block.compress(b"", store_size=False))


def test_compressed_flag_without_payload() -> None:
    packet = seal_envelope(KEYS, destination=1, source=2, envelope=b"\x88", packet_id=1, suite=1)
    assert open_packet(KEYS, packet).payload == b""


@given(st.binary(max_size=200))
def test_decompress_raises_nothing_else(block: bytes) -> None:
    try:
        plain = decompress_payload(block)
    except WireError:
        return
    assert 1 <= len(plain) <= MAX_PAYLOAD


@given(st.binary(max_size=200))
def test_open_raises_nothing_else(packet: bytes) -> None:
    with pytest.raises(WireError):
        open_packet(KEYS, packet)


# --- HELLO ------------------------------------------------------------------------------------------------------------


def test_known_hello() -> None:
    """vl1-wire B.3."""
    moons = (WorldVersion(127, 0x11223344, 0x0000017000000000),)
    hello = Hello(
        timestamp=0x0000018C12345678,
        identity=A,
        sent_to=InetAddress.parse("192.0.2.33/9993"),
        planet_id=149604618,
        planet_timestamp=1644592324813,
    )
    packet = seal_hello(KEYS, hello, moons, destination=B.address, packet_id=0xA1B2C3D4E5F6071F)
    assert packet.hex() == (
        "a1b2c3d4e5f6071f7b4efa6b6c024d3a68e00075b1260ec50fa257010c010e00010000018c12345678024d3a68e000e17767bd3c46dbe4be89e6fda3ab241087"
        "eb06058e3e28f9a1fd9e4d23d9d21a809a0c0118cb0e065a9ddc59d9f1d9ccd9f6df982a2f92d7f5ddfce7c7cacf660004c000022127090000000008eac90a00"
        "00017ee95760cd1708ffbb398262d68b30b592e92cb24ce0f922"
    )
    opened = open_packet(KEYS, packet)
    received = Hello.decode(opened.payload)
    assert received.moons(KEYS, opened.packet_id) == moons
    assert received.identity == A
    assert received.sent_to == hello.sent_to


def test_hello_without_moons() -> None:
    hello = Hello(timestamp=1, identity=A, sent_to=InetAddress.parse("192.0.2.33/9993"))
    assert len(seal_hello(KEYS, hello, (), destination=B.address, packet_id=1)) == 137
