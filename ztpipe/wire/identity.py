"""Identities: key pairs, their addresses, agreement and signatures (vl1-wire §2)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

from ztpipe.kernel import crypto
from ztpipe.wire.address import is_reserved_address
from ztpipe.wire.errors import WireError

PUBLIC_LENGTH: Final = 64
PRIVATE_LENGTH: Final = 64
SIGNATURE_LENGTH: Final = 96
AGREEMENT_LENGTH: Final = 48
HASHCASH_LIMIT: Final = 17
"""The first byte of a valid identity's address hash is below this."""

_HEX: Final = frozenset("0123456789abcdefABCDEF")
_MAX_TEXT: Final = 383


def clamp(scalar: bytes) -> bytes:
    """An X25519 scalar as RFC 7748 uses it; identities store it unclamped."""
    return bytes((scalar[0] & 248,)) + scalar[1:31] + bytes((scalar[31] & 127 | 64,))


def sign_with(private: bytes, public: bytes, data: bytes) -> bytes:
    """The 96-byte signature of `data` by a 64/64-byte key pair (vl1-wire §2.8); worlds are signed by bare key pairs."""
    digest = hashlib.sha512(data).digest()[:32]
    return bindings.crypto_sign(digest, private[32:64] + public[32:64])[:64] + digest


def verify_with(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is one of `data` by the holder of a 64-byte public key (vl1-wire §2.8)."""
    if len(signature) != SIGNATURE_LENGTH:
        return False
    digest = hashlib.sha512(data).digest()[:32]
    if not hmac.compare_digest(digest, signature[64:]):
        return False
    try:
        bindings.crypto_sign_open(signature[:64] + digest, public[32:64])
    except (BadSignatureError, CryptoError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's identity; `private` is None for those of others. Two are equal if address and public key are."""

    address: int
    public: bytes
    private: bytes | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        return self.address == other.address and self.public == other.public

    def __hash__(self) -> int:
        return hash((self.address, self.public))

    def __repr__(self) -> str:
        return f"Identity({self.address:010x})"

    # --- forms -------------------------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, text: str) -> Identity:
        """The text form, public or secret (vl1-wire §2.5). Does not validate. `WireError("bad_identity")`."""
        if len(text) > _MAX_TEXT:
            raise WireError("bad_identity")
        fields = [field for field in text.split(":") if field]
        if len(fields) not in (3, 4) or fields[1] != "0":
            raise WireError("bad_identity")
        address = _address_field(fields[0])
        public = _key_field(fields[2])
        return cls(address, public, _key_field(fields[3]) if len(fields) == 4 else None)

    def text(self, private: bool = False) -> str:
        """The text form; with `private` the long one (ValueError if there is no private key)."""
        short = f"{self.address:010x}:0:{self.public.hex()}"
        return f"{short}:{self._secret().hex()}" if private else short

    @classmethod
    def read(cls, buffer: bytes, offset: int) -> tuple[Identity, int]:
        """The binary form at `offset` and the offset after it (vl1-wire §2.4). Does not validate."""
        end = offset + 71
        if end > len(buffer):
            raise WireError("truncated_identity")
        secret_length = buffer[end - 1]
        if buffer[offset + 5] != 0 or secret_length not in (0, PRIVATE_LENGTH):
            raise WireError("bad_identity")
        address = int.from_bytes(buffer[offset : offset + 5], "big")
        public = buffer[offset + 6 : offset + 70]
        if not secret_length:
            return cls(address, public), end
        if end + PRIVATE_LENGTH > len(buffer):
            raise WireError("truncated_identity")
        return cls(address, public, buffer[end : end + PRIVATE_LENGTH]), end + PRIVATE_LENGTH

    def encode(self, private: bool = False) -> bytes:
        """71 bytes, or 135 with the private key."""
        head = self.address.to_bytes(5, "big") + b"\x00" + self.public
        return head + b"\x40" + self._secret() if private else head + b"\x00"

    def without_private(self) -> Identity:
        """The public half."""
        return Identity(self.address, self.public) if self.private is not None else self

    def _secret(self) -> bytes:
        if self.private is None:
            raise ValueError("identity has no private key")
        return self.private

    # --- derivation --------------------------------------------------------------------------------------------------

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> Identity:
        """A new valid identity (about 15 tries of some ten milliseconds). `random(n)` gives n secret random bytes."""
        seed = random(32)
        signing_public = bindings.crypto_sign_seed_keypair(seed)[0]
        while True:
            scalar = random(32)
            public = bindings.crypto_scalarmult_base(clamp(scalar)) + signing_public
            address = _address_of(public)
            if address is not None:
                return cls(address, public, scalar + seed)

    def validate(self) -> bool:
        """Whether the address belongs to the public key: costs an address hash (vl1-wire §2.3)."""
        return _address_of(self.public) == self.address

    def fingerprint(self) -> bytes:
        """SHA-384 over address and public key, 48 bytes (vl1-wire §2.6)."""
        return hashlib.sha384(self.address.to_bytes(5, "big") + self.public).digest()

    # --- cryptography ------------------------------------------------------------------------------------------------

    def agree(self, other: Identity) -> bytes:
        """The 48-byte key shared with `other` (vl1-wire §2.7); `WireError("weak_identity")` for a key of low order."""
        try:
            raw = bindings.crypto_scalarmult(clamp(self._secret()[:32]), other.public[:32])
        except (RuntimeError, CryptoError):
            raise WireError("weak_identity") from None
        return hashlib.sha512(raw).digest()[:AGREEMENT_LENGTH]

    def sign(self, data: bytes) -> bytes:
        """Our 96-byte signature of `data` (vl1-wire §2.8)."""
        return sign_with(self._secret(), self.public, data)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is this identity's signature of `data`."""
        return verify_with(self.public, data, signature)


def _address_of(public: bytes) -> int | None:
    """The address a public key hashes to; None if it fails the hashcash condition or the address is reserved."""
    digest = crypto.address_hash(public)
    address = int.from_bytes(digest[59:], "big")
    if digest[0] >= HASHCASH_LIMIT or is_reserved_address(address):
        return None
    return address


def _address_field(text: str) -> int:
    if len(text) != 10 or not _HEX.issuperset(text):
        raise WireError("bad_identity")
    address = int(text, 16)
    if is_reserved_address(address):
        raise WireError("bad_identity")
    return address


def _key_field(text: str) -> bytes:
    """The first 128 hex digits of a field; what follows them is ignored, a newline for instance."""
    digits = text[:128]
    if len(digits) != 128 or not _HEX.issuperset(digits):
        raise WireError("bad_identity")
    return bytes.fromhex(digits)
