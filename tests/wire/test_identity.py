"""Identities: forms, validation, agreement, signatures (vl1-wire §2, B.1, B.5)."""

from __future__ import annotations

import hashlib
import hmac
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import Json, kat
from tests.twins import crypto as twin
from ztpipe.kernel import crypto
from ztpipe.wire.armor import SessionKeys, derive
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity, clamp, sign_with, verify_with

VALID = kat("identities")["valid"]
INVALID = kat("identities")["invalid"]
A = Identity.parse(VALID[0]["secret_text"])
B = Identity.parse(VALID[1]["secret_text"])


@pytest.mark.parametrize("vector", VALID, ids=lambda v: v["address"])
def test_valid(vector: Json) -> None:
    secret = Identity.parse(vector["secret_text"])
    public = Identity.parse(vector["public_text"])
    assert f"{secret.address:010x}" == vector["address"]
    assert secret.public.hex() == vector["public_key"]
    assert secret.private is not None
    assert secret.private.hex() == vector["private_key"]
    assert public.private is None
    assert secret == public == secret.without_private()
    assert hash(secret) == hash(public)
    assert secret.text() == public.text() == vector["public_text"]
    assert secret.text(private=True) == vector["secret_text"]
    assert secret.encode().hex() == vector["binary_public"]
    assert secret.encode(private=True).hex() == vector["binary_secret"]
    assert secret.fingerprint().hex() == vector["fingerprint_sha384"]
    assert crypto.address_hash(secret.public).hex() == vector["digest"]
    assert public.validate()


def test_the_slow_hash_agrees() -> None:
    assert twin.address_hash(A.public).hex() == VALID[0]["digest"]


@pytest.mark.parametrize("vector", INVALID, ids=lambda v: v["why"])
def test_invalid(vector: Json) -> None:
    if vector["parses"]:
        assert not Identity.parse(vector["text"]).validate()
        return
    with pytest.raises(WireError, match="bad_identity"):
        Identity.parse(vector["text"])


@pytest.mark.parametrize("vector", kat("identities")["binary_invalid"], ids=lambda v: v["why"])
def test_invalid_binary(vector: Json) -> None:
    with pytest.raises(WireError):
        Identity.read(bytes.fromhex(vector["hex"]), 0)


@pytest.mark.parametrize("private", [False, True])
def test_binary_in_a_buffer(private: bool) -> None:
    raw = A.encode(private)
    assert Identity.read(b"ab" + raw + b"cd", 2) == (A, 2 + len(raw))
    assert (Identity.read(raw, 0)[0].private is not None) == private
    for size in range(len(raw)):
        with pytest.raises(WireError, match="truncated_identity"):
            Identity.read(raw[:size], 0)


def test_text_is_lenient_where_the_reference_is() -> None:
    """Upper case, runs of colons, a newline after the last key (vl1-wire §2.5)."""
    assert Identity.parse(A.text().upper().replace(":0:", "::0:::") + "\n") == A
    secret = Identity.parse(A.text(private=True) + "\n")
    assert secret.private == A.private
    with pytest.raises(WireError):
        Identity.parse(A.text(private=True) + " " * 200)


def test_no_private_key() -> None:
    with pytest.raises(ValueError, match="no private key"):
        A.without_private().text(private=True)
    with pytest.raises(ValueError, match="no private key"):
        A.without_private().sign(b"")


def test_generate() -> None:
    source = random.Random(1)
    identity = Identity.generate(source.randbytes)
    assert identity.validate()
    assert identity.private is not None
    assert Identity.parse(identity.text(private=True)) == identity
    assert identity.agree(A) == A.agree(identity)
    assert identity.verify(b"x", identity.sign(b"x"))


@pytest.mark.parametrize("vector", kat("key_agreement")["vectors"], ids=lambda v: v["a"][:10] + v["b"][:10])
def test_agreement(vector: Json) -> None:
    a, b = Identity.parse(vector["a"]), Identity.parse(vector["b"])
    if a.private is not None:
        assert a.agree(b).hex() == vector["key48"]
    if b.private is not None:
        assert b.agree(a).hex() == vector["key48"]
    assert a.private is not None or b.private is not None
    keys = SessionKeys(bytes.fromhex(vector["key48"]))
    assert keys.salsa32.hex() == vector["key48"][:64]
    assert keys.k0.hex() == vector["k0"]
    assert keys.k1.hex() == vector["k1"]


def test_session_keys_do_not_print_themselves() -> None:
    keys = SessionKeys(A.agree(B))
    assert keys.key.hex()[:16] not in repr(keys)
    assert keys.k0.hex()[:16] not in repr(keys)
    assert A.private is not None
    assert A.private.hex()[:16] not in repr(A)


def test_derivation_from_the_appendix() -> None:
    """vl1-wire B.1."""
    key = bytes.fromhex(
        "1c212334bc44e3b29e193489c226f5a5dbcae7e419167798c84eda3c547c7c0b0e88bca1d2a437c4322dd0b52f95d669"
    )
    assert derive(key, b"0").hex() == (
        "3c81cb403830538c3c84bfa0d0b3961fce8f17ef746f52d34cc4605d637996c89b29ad2e0aea408f3c43612d516636ad"
    )
    assert derive(key, b"1").hex() == (
        "c7d6bbacb9a77f5c699a6266c7a9d63db0e4f3362e0158ca68b5e0e26b2ece5414a1e7d5a82849bf9c6e6afda1ba48b3"
    )
    assert derive(key, b"1") == hmac.digest(key, bytes.fromhex("000000005a543100000000" + "0180"), hashlib.sha384)


def test_low_order_keys_are_refused() -> None:
    with pytest.raises(WireError, match="weak_identity"):
        A.agree(Identity(1, bytes(64)))


@pytest.mark.parametrize("vector", kat("signatures")["vectors"], ids=lambda v: v["message"][:16])
def test_signatures(vector: Json) -> None:
    identity = Identity.parse(vector["identity"])
    message, signature = bytes.fromhex(vector["message"]), bytes.fromhex(vector["signature"])
    assert identity.verify(message, signature)
    if identity.private is not None:
        assert identity.sign(message) == signature
    for broken in vector["not_valid"]:
        assert not identity.verify(message, bytes.fromhex(broken))
    assert not identity.verify(message + b"x", signature)
    assert not A.verify(message, signature) or identity == A


def test_self_test_vector_of_the_reference() -> None:
    """vl1-wire B.5: pairs that are no identities."""
    pub1 = bytes.fromhex(
        "a1fc7ab46ddf7dcfe7ec75e5fadd11cbcc37f8845d1c924e098965fcd8e95a30dae486a335b4190cbc7bcb3eb94cbd16e83d132bc9c339eaf142e76f69789ab7"
    )
    priv1 = bytes.fromhex(
        "e5f37bd40ec9dc775086dcf42ebcdb27f073d45873c44b718b3cc54fa87ca484d9962373b40316bf1ea12dd8c48ae78210dac9e5459b01dc73a6c917a815316d"
    )
    pub2 = bytes.fromhex(
        "3e49a40e3aafa3073df72aec43b1d4091acb8e92f96595046d2d9b34a3bf5100e2ee23f5280aa9b1570b965662ba1294afc65fb561430fde0babfa4ffec5e718"
    )
    agreement = bytes.fromhex(
        "abced224e893b0e77214dcbb7d0fd894169eb57fd7195f3e2d45d5f7900b3e05182e2bf4fad4ec624a4f4850af1ce89f1ae13d704900a7e35b1ea19b681ea173"
    )
    signature = bytes.fromhex(
        "edb6d0f0066e339c86fbe8c36c8ddedda6a02db90729a313bba4baec48c8f4568279e2b1d33d839f10e852e68b1c339e2bd2db621c56fd50407781ab21673e09"
        "4ff251ac7de7d15d4be208c63f6a4dc85d74f63bec8ec60c32272f9c09485910"
    )
    assert Identity(1, pub1, priv1).agree(Identity(2, pub2)) == agreement[:48]
    assert sign_with(priv1, pub1, agreement) == signature
    assert verify_with(pub1, agreement, signature)
    assert not verify_with(pub2, agreement, signature)


@given(st.binary(min_size=32, max_size=32))
def test_clamp(scalar: bytes) -> None:
    value = int.from_bytes(clamp(scalar), "little")
    assert value % 8 == 0
    assert value.bit_length() == 255
    assert clamp(scalar)[1:31] == scalar[1:31]


@given(st.binary(max_size=100), st.binary(min_size=90, max_size=100))
def test_verify_never_raises(data: bytes, signature: bytes) -> None:
    assert not A.verify(data, signature)


@given(st.text(max_size=400) | st.from_regex(r"[0-9a-f]{10}:0:[0-9a-f:]{128,}", fullmatch=True))
def test_parse_raises_nothing_else(text: str) -> None:
    try:
        Identity.parse(text)
    except WireError:
        pass


@given(st.binary(max_size=150), st.integers(0, 160))
def test_read_raises_nothing_else(raw: bytes, offset: int) -> None:
    try:
        Identity.read(raw, offset)
    except WireError:
        pass
