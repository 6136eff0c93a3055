"""Planets and moons (vl1-wire §11, B.9)."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import Json, kat
from tests.wire import golden
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.world import EARTH, Root, World, WorldType, verify_update

VECTORS = kat("worlds")["vectors"]
SIGNER = Identity.parse(kat("identities")["valid"][0]["secret_text"])
OTHER = Identity.parse(kat("identities")["valid"][1]["secret_text"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["scenario"] + "-" + v["what"][:12])
def test_known(vector: Json) -> None:
    raw = bytes.fromhex(vector["raw"])
    world = World.decode(raw)
    assert golden.world(world) == vector["fields"]
    assert world.signed_bytes().hex() == vector["signed_bytes"]
    assert world.encode() == raw
    secret = vector.get("signing_key_secret") or vector.get("moon_json", {}).get("signingKey_SECRET")
    if secret and vector["fields"]["signature_ok_own_key"]:
        assert world.sign(world.update_key, bytes.fromhex(secret)) == world


def test_earth() -> None:
    assert EARTH.type is WorldType.PLANET
    assert (EARTH.id, EARTH.timestamp) == (149604618, 1644592324813)
    assert EARTH.verify(EARTH.update_key)
    assert [f"{root.identity.address:010x}" for root in EARTH.roots] == [
        "cafe9efeb9",
        "778cde7190",
        "62f865ae71",
        "cafe04eba9",
    ]
    assert EARTH.roots[0].endpoints[1].text() == "2605:9880:200:1200:30:571:e34:51/9993"
    assert (
        hashlib.sha256(EARTH.encode()).hexdigest() == "d85620dee418cd7efc5558b6a50b2a8ac34792764d074fa55d752952e48da470"
    )
    assert all(root.identity.validate() for root in EARTH.roots)
    assert EARTH.root(0x778CDE7190) is EARTH.roots[1]
    assert EARTH.root(1) is None


def moon(timestamp: int, *, signer: Identity = SIGNER, next_key: Identity = SIGNER, world_id: int = 7) -> World:
    roots = (Root(OTHER.without_private(), (InetAddress.parse("192.0.2.1/9993"),)),)
    world = World(WorldType.MOON, world_id, timestamp, next_key.public, b"", roots)
    assert signer.private is not None
    return world.sign(signer.public, signer.private)


def test_updates() -> None:
    old = moon(10)
    assert verify_update(None, old)
    assert verify_update(replace(old, type=WorldType.NULL), EARTH)
    assert verify_update(replace(old, id=0), EARTH)
    assert verify_update(old, moon(11))
    assert not verify_update(old, moon(10))
    assert not verify_update(old, moon(9))
    assert not verify_update(old, moon(11, world_id=8))
    assert not verify_update(old, moon(11, signer=OTHER))
    assert not verify_update(old, replace(moon(11), type=WorldType.PLANET))
    assert not verify_update(old, replace(moon(11), timestamp=12))
    handed_over = moon(10, next_key=OTHER)
    assert verify_update(handed_over, moon(11, signer=OTHER))
    assert not verify_update(handed_over, moon(11))


def test_every_byte_but_the_signature_is_signed() -> None:
    raw = EARTH.encode()
    for at in [*range(81), *range(177, len(raw))]:
        changed = bytearray(raw)
        changed[at] ^= 1
        try:
            world = World.decode(bytes(changed))
        except WireError:
            continue
        assert not world.verify(EARTH.update_key), at


@pytest.mark.parametrize("world", [EARTH, moon(10)], ids=["planet", "moon"])
def test_truncated(world: World) -> None:
    raw = world.encode()
    for size in range(len(raw)):
        with pytest.raises(WireError):
            World.decode(raw[:size])


def test_limits() -> None:
    raw = bytearray(moon(10).encode())
    for at, value in ((0, 2), (177, 5), (178 + 71, 33)):
        changed = bytearray(raw)
        changed[at] = value
        with pytest.raises(WireError, match="bad_world"):
            World.decode(bytes(changed) + bytes(1000))


def test_moon_dictionary_is_skipped() -> None:
    raw = moon(10).encode()[:-2] + b"\x00\x03abc"
    assert World.decode(raw) == moon(10)


@given(st.integers(0, 577), st.binary(max_size=20))
def test_decode_raises_nothing_else(at: int, junk: bytes) -> None:
    raw = EARTH.encode()
    try:
        World.decode(raw[:at] + junk + raw[at + len(junk) :])
    except WireError:
        pass


def test_nil_endpoints_stay_where_they_were_signed() -> None:
    """`genmoon` makes one of an empty text; without them the next version of the moon would not verify."""
    endpoints = (InetAddress.parse("192.0.2.1/9993"), InetAddress.parse("2001:db8::1/1"))
    root = Root(OTHER.without_private(), endpoints, (0, 2, 4))
    old = moon(10)
    assert SIGNER.private is not None
    world = replace(old, timestamp=11, roots=(root,)).sign(SIGNER.public, SIGNER.private)
    raw = world.encode()
    listed = "05 00 04c00002012709 00 0620010db80000000000000000000000010001 00"
    assert OTHER.encode() + bytes.fromhex(listed) in raw
    again = World.decode(raw)
    assert again == world
    assert again.roots[0].endpoints == endpoints
    assert verify_update(old, again)
    assert again.encode() == raw
