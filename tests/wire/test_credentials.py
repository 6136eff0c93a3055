"""Credentials: forms, signatures, what they say (vl2 §3, vl1-wire Appendix A and B.10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import Json, identities, kat
from tests.wire import golden
from tests.wire.samples import ISSUER, MEMBER, NWID, SAMPLES, THIRD
from ztpipe.wire.credentials import (
    Capability,
    CertificateOfMembership,
    CertificateOfOwnership,
    Qualifier,
    Revocation,
    Tag,
    Thing,
)
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity, sign_with, verify_with
from ztpipe.wire.rule import ACCEPT

CLASSES: dict[str, Any] = {
    "com": CertificateOfMembership,
    "coo": CertificateOfOwnership,
    "tag": Tag,
    "capability": Capability,
    "revocation": Revocation,
}
DESCRIBERS: dict[str, Any] = {
    "com": golden.com,
    "coo": golden.coo,
    "tag": golden.tag,
    "capability": golden.capability,
    "revocation": golden.revocation,
}
KNOWN = [(kind, vector) for kind, vectors in kat("credentials")["credentials"].items() for vector in vectors]


@pytest.mark.parametrize(("kind", "vector"), KNOWN, ids=[f"{k}-{v['scenario']}-{i}" for i, (k, v) in enumerate(KNOWN)])
def test_known(kind: str, vector: Json) -> None:
    raw, signature = bytes.fromhex(vector["raw"]), bytes.fromhex(vector["signature"])
    public, private = bytes.fromhex(vector["signer_public_key"]), bytes.fromhex(vector["signer_private_key"])
    value = CLASSES[kind].decode(raw)
    assert value.encode() == raw
    assert value.signed_bytes().hex() == vector["signed_bytes"]
    assert DESCRIBERS[kind](value, identities(vector["scenario"])) == vector["fields"]
    assert (value.custody[0].signature if kind == "capability" else value.signature) == signature
    assert sign_with(private, public, value.signed_bytes()) == signature
    assert verify_with(public, value.signed_bytes(), signature)


def test_tag_of_the_appendix() -> None:
    """vl1-wire B.10: signed by one who is not the network's controller."""
    raw = bytes.fromhex(
        "8056c2e21c0000010000011f71fb04cb00000007000000637b4efa6b6c024d3a68e001006093425512eedad8e4ceb52bb288972d96d12edb52b3d894665d3e75"
        "97198598ca07ce4cec9af415af90810c918aa7154777120f24dc87daf39f55cb0dc68e020ab8810c86f2ee21090a8ca3f0b485fde0a82a00de418717ff1e4604"
        "3dc35d228b0000"
    )
    signer = Identity.parse(
        "024d3a68e0:0:e17767bd3c46dbe4be89e6fda3ab241087eb06058e3e28f9a1fd9e4d23d9d21a809a0c0118cb0e065a9ddc59d9f1d9ccd9f6df982a2f92d7f5ddfce7c7cacf66"
    )
    tag = Tag.decode(raw)
    assert (tag.id, tag.value, tag.timestamp, tag.issued_to) == (7, 99, 1234567890123, 0x7B4EFA6B6C)
    assert signer.verify(tag.signed_bytes(), tag.signature)
    assert not tag.verify(signer)
    assert tag.encode() == raw


@pytest.mark.parametrize("value", SAMPLES, ids=lambda v: type(v).__name__)
def test_round_trip_and_truncation(value: Any) -> None:
    raw = value.encode()
    assert type(value).decode(raw) == value
    assert type(value).decode(raw + b"more") == value
    for size in range(len(raw)):
        with pytest.raises(WireError):
            type(value).decode(raw[:size])


@pytest.mark.parametrize("value", SAMPLES[2:5] + SAMPLES[:1], ids=lambda v: type(v).__name__)
def test_signatures(value: Any) -> None:
    assert value.verify(ISSUER)
    assert not value.verify(MEMBER)
    assert not replace(value, signature=b"").verify(ISSUER)
    assert not replace(value, signature=bytes(96)).verify(ISSUER)
    assert not replace(value, signer=0).verify(ISSUER)
    assert not value.sign(MEMBER).verify(MEMBER), "not the controller of the network"


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (SAMPLES[2], {"nwid": NWID ^ 1, "timestamp": 1, "id": 1, "value": 1, "issued_to": 1}),
        (SAMPLES[3], {"nwid": NWID ^ 1, "timestamp": 1, "flags": 1, "id": 2, "things": (), "issued_to": 1}),
        (
            SAMPLES[4],
            {
                "id": 1,
                "nwid": NWID ^ 1,
                "credential_id": 1,
                "threshold": 1,
                "flags": 0,
                "target": 1,
                "credential_type": 2,
            },
        ),
        (SAMPLES[0], {"qualifiers": SAMPLES[0].qualifiers[:-1]}),
    ],
    ids=["tag", "coo", "revocation", "com"],
)
def test_every_field_is_signed(value: Any, changes: dict[str, Any]) -> None:
    for name, other in changes.items():
        assert not replace(value, **{name: other}).verify(ISSUER), name


def test_signature_of_another_type() -> None:
    raw = bytearray(SAMPLES[2].encode())
    assert raw[34:37] == b"\x01\x00\x60"
    raw[34] = 2
    tag = Tag.decode(bytes(raw))
    assert tag.signature == b""
    assert not tag.verify(ISSUER)
    raw[34], raw[36] = 1, 0x5F
    with pytest.raises(WireError, match="bad_credential"):
        Tag.decode(bytes(raw))


def test_additional_fields_are_skipped() -> None:
    raw = SAMPLES[2].encode()[:-2] + b"\x00\x03abc"
    assert Tag.decode(raw) == SAMPLES[2]


# --- certificates of membership ---------------------------------------------------------------------------------------


def com_of(member: Identity, timestamp: int, *, delta: int = 500, nwid: int = NWID) -> CertificateOfMembership:
    return CertificateOfMembership.issue(nwid, member, timestamp, delta).sign(ISSUER)


def test_com_form() -> None:
    com = com_of(MEMBER, 1000)
    assert len(com.encode()) == 272
    assert (com.timestamp, com.nwid, com.issued_to, com.max_delta) == (1000, NWID, MEMBER.address, 500)
    assert [q.id for q in com.qualifiers] == list(range(7))
    assert CertificateOfMembership(()).timestamp == 0


def test_com_limits() -> None:
    good = CertificateOfMembership(tuple(Qualifier(i, 1, 2) for i in range(8)))
    assert CertificateOfMembership.decode(good.encode()) == good
    nine = CertificateOfMembership(tuple(Qualifier(i, 1, 2) for i in range(9)))
    falling = CertificateOfMembership((Qualifier(1, 1, 2), Qualifier(0, 1, 2)))
    for bad in (nine.encode(), falling.encode(), b"\x02" + good.encode()[1:]):
        with pytest.raises(WireError, match="bad_credential"):
            CertificateOfMembership.decode(bad)


def test_agreement() -> None:
    ours = com_of(THIRD, 10_000)
    theirs = com_of(MEMBER, 10_000)
    assert ours.agrees_with(theirs, MEMBER)
    assert ours.agrees_with(com_of(MEMBER, 9_500), MEMBER)
    assert ours.agrees_with(com_of(MEMBER, 10_500), MEMBER)
    assert not ours.agrees_with(com_of(MEMBER, 9_499), MEMBER)
    assert not ours.agrees_with(com_of(MEMBER, 10_501), MEMBER)
    assert ours.agrees_with(com_of(MEMBER, 9_500, delta=0), MEMBER), "our delta counts, not theirs"
    assert not com_of(THIRD, 10_000, delta=0).agrees_with(com_of(MEMBER, 9_999), MEMBER)
    assert not ours.agrees_with(com_of(MEMBER, 10_000, nwid=NWID + 1), MEMBER)
    assert not ours.agrees_with(theirs, ISSUER), "another identity than the certificate's"
    assert not ours.agrees_with(theirs, replace(MEMBER, public=ISSUER.public)), "same address, another key"
    assert not ours.agrees_with(CertificateOfMembership(()), MEMBER)
    assert not CertificateOfMembership(()).agrees_with(theirs, MEMBER)


def test_agreement_with_missing_and_extra_qualifiers() -> None:
    ours, theirs = com_of(THIRD, 10_000), com_of(MEMBER, 10_000)
    extra = replace(theirs, qualifiers=(*theirs.qualifiers, Qualifier(100, 1, 1)))
    assert ours.agrees_with(extra, MEMBER)
    for missing in range(7):
        kept = tuple(q for q in theirs.qualifiers if q.id != missing)
        assert not ours.agrees_with(replace(theirs, qualifiers=kept), MEMBER), missing
    old = replace(ours, qualifiers=ours.qualifiers[:3])
    assert old.agrees_with(replace(theirs, qualifiers=theirs.qualifiers[:3]), MEMBER), "no fingerprint, none needed"


# --- capabilities, ownership ------------------------------------------------------------------------------------------


def test_capability_chain() -> None:
    first, second = SAMPLES[5], SAMPLES[6]
    assert (first.issued_to, second.issued_to, second.signer) == (MEMBER.address, THIRD.address, ISSUER.address)
    assert first.chain_is_sound()
    assert second.chain_is_sound()
    assert first.verify(ISSUER)
    assert not first.verify(MEMBER)
    assert not second.verify(ISSUER), "a longer chain needs all links verified"
    assert second.verify_link(0, ISSUER)
    assert second.verify_link(1, MEMBER)
    assert not second.verify_link(1, ISSUER)
    broken = replace(second, custody=(second.custody[0], second.custody[1]._replace(from_=THIRD.address)))
    assert not broken.chain_is_sound()
    assert not replace(first, custody=()).chain_is_sound()
    assert not replace(first, nwid=MEMBER.address << 24).chain_is_sound()
    assert not replace(first, rules=()).verify(ISSUER)
    assert not replace(first, max_custody_chain=1).verify(ISSUER)


def test_capability_limits() -> None:
    assert len(Capability.decode(Capability(NWID, 1, 1, (ACCEPT,) * 64).encode()).rules) == 64
    with pytest.raises(WireError, match="bad_credential"):
        Capability.decode(Capability(NWID, 1, 1, (ACCEPT,) * 65).encode())
    for longest in (0, 8):
        with pytest.raises(WireError, match="bad_credential"):
            Capability.decode(Capability(NWID, 1, 1, (), longest).encode())
    with pytest.raises(WireError, match="bad_credential"):
        Capability.decode(replace(SAMPLES[6], max_custody_chain=1).encode())


def test_ownership() -> None:
    things = (Thing.ip(b"\x0a\0\0\1"), Thing.ip(bytes(15) + b"\1"), Thing.mac(0x020000000001))
    coo = CertificateOfOwnership(NWID, 1, 0, 1, things, MEMBER.address)
    assert coo.owns_ip(b"\x0a\0\0\1")
    assert coo.owns_ip(bytes(15) + b"\1")
    assert coo.owns_mac(0x020000000001)
    assert not coo.owns_ip(b"\x0a\0\0\2")
    assert not coo.owns_ip(b"\x0a\0\0\1" + bytes(12)), "an IPv4 thing is no IPv6 address"
    assert not coo.owns_mac(0x0A0000010000)
    with pytest.raises(WireError, match="bad_credential"):
        CertificateOfOwnership.decode(replace(coo, things=things[:1] * 17).encode())


@given(st.sampled_from(list(CLASSES.values())), st.binary(max_size=400))
def test_decode_raises_nothing_else(kind: Any, raw: bytes) -> None:
    try:
        kind.decode(raw).encode()
    except WireError:
        pass


@given(st.sampled_from(SAMPLES), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_changed_bytes_raise_nothing_else(value: Any, at: int, junk: bytes) -> None:
    raw = value.encode()
    try:
        again = type(value).decode(raw[:at] + junk + raw[at + len(junk) :])
    except WireError:
        return
    again.encode()
    again.verify(ISSUER)
