"""Certificates of membership (vl2 §3.2). They differ from the other credentials in how they are signed."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from ztpipe.wire.address import controller_of
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import SIGNATURE_LENGTH, Identity
from ztpipe.wire.reader import Reader
from ztpipe.wire.signed import BAD, TRUNCATED, addresses

MAX_QUALIFIERS: Final = 8
ANY_DELTA: Final = 0xFFFFFFFFFFFFFFFF

_QUALIFIER: Final = struct.Struct(">QQQ")


class Qualifier(NamedTuple):
    """One statement of a certificate of membership and how far another's may differ from it."""

    id: int
    value: int
    max_delta: int


@dataclass(frozen=True, slots=True)
class CertificateOfMembership:
    """Says that a member belongs to a network at a time (vl2 §3.2). `signer` 0: unsigned."""

    qualifiers: tuple[Qualifier, ...]
    signer: int = 0
    signature: bytes = b""

    @classmethod
    def issue(cls, nwid: int, member: Identity, timestamp: int, max_delta: int) -> CertificateOfMembership:
        """The seven qualifiers of a certificate as 1.14.1 issues it, unsigned."""
        words = struct.unpack_from(">4Q", member.fingerprint())
        return cls(
            (
                Qualifier(0, timestamp, max_delta),
                Qualifier(1, nwid, 0),
                Qualifier(2, member.address, ANY_DELTA),
                *(Qualifier(3 + i, word, ANY_DELTA) for i, word in enumerate(words)),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> CertificateOfMembership:
        if reader.u8() != 1:
            raise WireError(BAD)
        count = reader.u16()
        if count > MAX_QUALIFIERS:
            raise WireError(BAD)
        qualifiers = tuple(Qualifier(*words) for words in _QUALIFIER.iter_unpack(reader.take(24 * count)))
        if any(a.id > b.id for a, b in pairwise(qualifiers)):
            raise WireError(BAD)
        signer = reader.address()
        return cls(qualifiers, signer, reader.take(SIGNATURE_LENGTH) if signer else b"")

    @classmethod
    def decode(cls, data: bytes) -> CertificateOfMembership:
        return cls.read(Reader(data, reason=TRUNCATED))

    def encode(self) -> bytes:
        head = b"\x01" + len(self.qualifiers).to_bytes(2, "big") + self.signed_bytes() + addresses(self.signer)
        return head + self.signature.ljust(SIGNATURE_LENGTH, b"\0") if self.signer else head

    def signed_bytes(self) -> bytes:
        """The qualifiers alone."""
        return b"".join(_QUALIFIER.pack(*qualifier) for qualifier in self.qualifiers)

    def sign(self, controller: Identity) -> CertificateOfMembership:
        """A copy signed by `controller`."""
        return replace(self, signer=controller.address, signature=controller.sign(self.signed_bytes()))

    def verify(self, signer: Identity) -> bool:
        """Whether the network's controller, whose identity `signer` must be, signed this."""
        if not self.signer or self.signer != signer.address or self.signer != controller_of(self.nwid):
            return False
        return signer.verify(self.signed_bytes(), self.signature)

    def value(self, qualifier: int) -> int:
        """The value of the first qualifier with that ID; 0 if there is none."""
        return next((q.value for q in self.qualifiers if q.id == qualifier), 0)

    @property
    def timestamp(self) -> int:
        return self.value(0)

    @property
    def nwid(self) -> int:
        return self.value(1)

    @property
    def issued_to(self) -> int:
        return self.value(2)

    @property
    def max_delta(self) -> int:
        """How far another's timestamp may differ from ours, ms."""
        return next((q.max_delta for q in self.qualifiers if q.id == 0), 0)

    def agrees_with(self, other: CertificateOfMembership, other_identity: Identity) -> bool:
        """Whether `other`, shown by the node with `other_identity`, satisfies the holder of this one (vl2 §3.2)."""
        if not self.qualifiers or not other.qualifiers:
            return False
        theirs = {q.id: q.value for q in other.qualifiers}
        for q in self.qualifiers:
            value = theirs.get(q.id)
            if value is None or abs(q.value - value) > q.max_delta:
                return False
        if not any(3 <= q.id <= 6 for q in self.qualifiers):
            return True
        words = struct.unpack_from(">4Q", other_identity.fingerprint())
        return all(theirs.get(3 + i) == word for i, word in enumerate(words))
