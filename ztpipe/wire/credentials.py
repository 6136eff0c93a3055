"""Credentials issued by a network's controller (vl1-wire Appendix A, vl2 §3). All are frozen; `sign` gives a copy.

Signatures are verified over the re-serialised object (vl2 §3.1), so one that carried additional fields cannot verify.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple

from ztpipe.wire.address import controller_of
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import SIGNATURE_LENGTH, Identity
from ztpipe.wire.reader import Reader
from ztpipe.wire.rule import MAX_CAPABILITY_RULES, Rule, encode_rules, read_rules

MAX_QUALIFIERS: Final = 8
MAX_THINGS: Final = 16
MAX_CUSTODY_CHAIN: Final = 7
ANY_DELTA: Final = 0xFFFFFFFFFFFFFFFF

_GUARD: Final = b"\x7f" * 8
_NO_EXTRA: Final = b"\x00\x00"
_SIGNATURE_HEAD: Final = b"\x01\x00\x60"
_TRUNCATED: Final = "truncated_credential"
_BAD: Final = "bad_credential"
_TAG: Final = struct.Struct(">QQII")
_COO: Final = struct.Struct(">QQQIH")
_REVOCATION: Final = struct.Struct(">IIQIIqQ")
_CAPABILITY: Final = struct.Struct(">QQIH")
_QUALIFIER: Final = struct.Struct(">QQQ")


class CredentialType(IntEnum):
    """Type codes, used in revocations (vl2 §3)."""

    NULL = 0
    COM = 1
    CAPABILITY = 2
    TAG = 3
    COO = 4
    REVOCATION = 6


class ThingType(IntEnum):
    """What a certificate of ownership is about."""

    NULL = 0
    MAC = 1
    IPV4 = 2
    IPV6 = 3


class Qualifier(NamedTuple):
    """One statement of a certificate of membership and how far another's may differ from it."""

    id: int
    value: int
    max_delta: int


class Thing(NamedTuple):
    """An owned thing; `value` is always 16 bytes, zero padded."""

    type: int
    value: bytes

    @classmethod
    def ip(cls, ip: bytes) -> Thing:
        """Of an IPv4 or IPv6 address."""
        return cls(ThingType.IPV4 if len(ip) == 4 else ThingType.IPV6, ip.ljust(16, b"\0"))

    @classmethod
    def mac(cls, mac: int) -> Thing:
        """Of a MAC."""
        return cls(ThingType.MAC, mac.to_bytes(6, "big").ljust(16, b"\0"))


class Custody(NamedTuple):
    """One link of a capability's chain of custody."""

    to: int
    from_: int
    signature: bytes


def _read_signature(reader: Reader) -> bytes:
    """Type, length, signature; empty if the type is not 1, so that it cannot verify."""
    kind, size = reader.u8(), reader.u16()
    if kind == 1 and size != SIGNATURE_LENGTH:
        raise WireError(_BAD)
    data = reader.take(size)
    return data if kind == 1 else b""


def _write_signature(signature: bytes) -> bytes:
    return _SIGNATURE_HEAD + signature.ljust(SIGNATURE_LENGTH, b"\0")


def _skip_extra(reader: Reader) -> None:
    reader.take(reader.u16())


def _addresses(*addresses: int) -> bytes:
    return b"".join(address.to_bytes(5, "big") for address in addresses)


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
            raise WireError(_BAD)
        count = reader.u16()
        if count > MAX_QUALIFIERS:
            raise WireError(_BAD)
        qualifiers = tuple(Qualifier(*words) for words in _QUALIFIER.iter_unpack(reader.take(24 * count)))
        if any(a.id > b.id for a, b in pairwise(qualifiers)):
            raise WireError(_BAD)
        signer = reader.address()
        return cls(qualifiers, signer, reader.take(SIGNATURE_LENGTH) if signer else b"")

    @classmethod
    def decode(cls, data: bytes) -> CertificateOfMembership:
        return cls.read(Reader(data, reason=_TRUNCATED))

    def encode(self) -> bytes:
        head = b"\x01" + len(self.qualifiers).to_bytes(2, "big") + self.signed_bytes() + _addresses(self.signer)
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


@dataclass(frozen=True, slots=True)
class Tag:
    """A number that rules compare (vl2 §3.3)."""

    nwid: int
    timestamp: int
    id: int
    value: int
    issued_to: int
    signer: int = 0
    signature: bytes = b""

    @classmethod
    def read(cls, reader: Reader) -> Tag:
        nwid, timestamp, tag_id, value = _TAG.unpack(reader.take(_TAG.size))
        issued_to, signer = reader.address(), reader.address()
        signature = _read_signature(reader)
        _skip_extra(reader)
        return cls(nwid, timestamp, tag_id, value, issued_to, signer, signature)

    @classmethod
    def decode(cls, data: bytes) -> Tag:
        return cls.read(Reader(data, reason=_TRUNCATED))

    def _body(self) -> bytes:
        return _TAG.pack(self.nwid, self.timestamp, self.id, self.value) + _addresses(self.issued_to, self.signer)

    def encode(self) -> bytes:
        return self._body() + _write_signature(self.signature) + _NO_EXTRA

    def signed_bytes(self) -> bytes:
        return _GUARD + self._body() + _NO_EXTRA + _GUARD

    def sign(self, controller: Identity) -> Tag:
        """A copy signed by `controller`."""
        unsigned = replace(self, signer=controller.address)
        return replace(unsigned, signature=controller.sign(unsigned.signed_bytes()))

    def verify(self, signer: Identity) -> bool:
        """Whether the network's controller, whose identity `signer` must be, signed this."""
        return _is_signer(signer, self.signer, self.nwid) and signer.verify(self.signed_bytes(), self.signature)


def _is_signer(identity: Identity, signer: int, nwid: int) -> bool:
    return bool(signer) and identity.address == signer == controller_of(nwid)


@dataclass(frozen=True, slots=True)
class CertificateOfOwnership:
    """IP addresses and MACs that a member may use as its own (vl2 §3.5)."""

    nwid: int
    timestamp: int
    flags: int
    id: int
    things: tuple[Thing, ...]
    issued_to: int
    signer: int = 0
    signature: bytes = b""

    @classmethod
    def read(cls, reader: Reader) -> CertificateOfOwnership:
        nwid, timestamp, flags, coo_id, count = _COO.unpack(reader.take(_COO.size))
        if count > MAX_THINGS:
            raise WireError(_BAD)
        things = tuple(Thing(reader.u8(), reader.take(16)) for _ in range(count))
        issued_to, signer = reader.address(), reader.address()
        signature = _read_signature(reader)
        _skip_extra(reader)
        return cls(nwid, timestamp, flags, coo_id, things, issued_to, signer, signature)

    @classmethod
    def decode(cls, data: bytes) -> CertificateOfOwnership:
        return cls.read(Reader(data, reason=_TRUNCATED))

    def _body(self) -> bytes:
        head = _COO.pack(self.nwid, self.timestamp, self.flags, self.id, len(self.things))
        things = b"".join(bytes((thing.type,)) + thing.value for thing in self.things)
        return head + things + _addresses(self.issued_to, self.signer)

    def encode(self) -> bytes:
        return self._body() + _write_signature(self.signature) + _NO_EXTRA

    def signed_bytes(self) -> bytes:
        return _GUARD + self._body() + _NO_EXTRA + _GUARD

    def sign(self, controller: Identity) -> CertificateOfOwnership:
        """A copy signed by `controller`."""
        unsigned = replace(self, signer=controller.address)
        return replace(unsigned, signature=controller.sign(unsigned.signed_bytes()))

    def verify(self, signer: Identity) -> bool:
        """Whether the network's controller, whose identity `signer` must be, signed this."""
        return _is_signer(signer, self.signer, self.nwid) and signer.verify(self.signed_bytes(), self.signature)

    def owns_ip(self, ip: bytes) -> bool:
        """Whether the IPv4 or IPv6 address is certified to be the member's."""
        kind = ThingType.IPV4 if len(ip) == 4 else ThingType.IPV6
        return any(thing.type == kind and thing.value[: len(ip)] == ip for thing in self.things)

    def owns_mac(self, mac: int) -> bool:
        """Whether the MAC is certified to be the member's."""
        raw = mac.to_bytes(6, "big")
        return any(thing.type == ThingType.MAC and thing.value[:6] == raw for thing in self.things)


@dataclass(frozen=True, slots=True)
class Revocation:
    """Ends credentials of a member issued up to `threshold` (vl2 §3.6). `credential_id` 0 for a COM."""

    FAST_PROPAGATE = 0x1

    id: int
    nwid: int
    credential_id: int
    threshold: int
    flags: int
    target: int
    credential_type: int
    signer: int = 0
    signature: bytes = b""

    @property
    def fast_propagate(self) -> bool:
        return bool(self.flags & 1)

    @classmethod
    def read(cls, reader: Reader) -> Revocation:
        _, revocation_id, nwid, _, credential_id, threshold, flags = _REVOCATION.unpack(reader.take(_REVOCATION.size))
        target, signer, kind = reader.address(), reader.address(), reader.u8()
        signature = _read_signature(reader)
        _skip_extra(reader)
        return cls(revocation_id, nwid, credential_id, threshold, flags, target, kind, signer, signature)

    @classmethod
    def decode(cls, data: bytes) -> Revocation:
        return cls.read(Reader(data, reason=_TRUNCATED))

    def _body(self) -> bytes:
        head = _REVOCATION.pack(0, self.id, self.nwid, 0, self.credential_id, self.threshold, self.flags)
        return head + _addresses(self.target, self.signer) + bytes((self.credential_type,))

    def encode(self) -> bytes:
        return self._body() + _write_signature(self.signature) + _NO_EXTRA

    def signed_bytes(self) -> bytes:
        return _GUARD + self._body() + _NO_EXTRA + _GUARD

    def sign(self, controller: Identity) -> Revocation:
        """A copy signed by `controller`."""
        unsigned = replace(self, signer=controller.address)
        return replace(unsigned, signature=controller.sign(unsigned.signed_bytes()))

    def verify(self, signer: Identity) -> bool:
        """Whether the network's controller, whose identity `signer` must be, signed this."""
        return _is_signer(signer, self.signer, self.nwid) and signer.verify(self.signed_bytes(), self.signature)


@dataclass(frozen=True, slots=True)
class Capability:
    """Rules that a member may show to be let through (vl2 §3.4)."""

    nwid: int
    timestamp: int
    id: int
    rules: tuple[Rule, ...]
    max_custody_chain: int = 1
    custody: tuple[Custody, ...] = ()

    @property
    def issued_to(self) -> int:
        """The last holder in the chain of custody; 0 if the chain is empty."""
        return self.custody[-1].to if self.custody else 0

    @property
    def signer(self) -> int:
        """Who issued it: the first link's `from`; 0 if the chain is empty."""
        return self.custody[0].from_ if self.custody else 0

    @classmethod
    def read(cls, reader: Reader) -> Capability:
        nwid, timestamp, capability_id, count = _CAPABILITY.unpack(reader.take(_CAPABILITY.size))
        if count > MAX_CAPABILITY_RULES:
            raise WireError(_BAD)
        rules, reader.offset = read_rules(reader.buffer, reader.offset, count)
        longest = reader.u8()
        if not 1 <= longest <= MAX_CUSTODY_CHAIN:
            raise WireError(_BAD)
        custody = cls._read_custody(reader, longest)
        _skip_extra(reader)
        return cls(nwid, timestamp, capability_id, rules, longest, custody)

    @staticmethod
    def _read_custody(reader: Reader, longest: int) -> tuple[Custody, ...]:
        links: list[Custody] = []
        while to := reader.address():
            if len(links) >= longest:
                raise WireError(_BAD)
            links.append(Custody(to, reader.address(), _read_signature(reader)))
        return tuple(links)

    @classmethod
    def decode(cls, data: bytes) -> Capability:
        return cls.read(Reader(data, reason=_TRUNCATED))

    def _body(self) -> bytes:
        head = _CAPABILITY.pack(self.nwid, self.timestamp, self.id, len(self.rules))
        return head + encode_rules(self.rules) + bytes((self.max_custody_chain,))

    def encode(self) -> bytes:
        links = (_addresses(link.to, link.from_) + _write_signature(link.signature) for link in self.custody)
        return self._body() + b"".join(links) + b"\0" * 5 + _NO_EXTRA

    def signed_bytes(self) -> bytes:
        """The same for every link; the links themselves are not covered."""
        return _GUARD + self._body() + _NO_EXTRA + _GUARD

    def sign(self, from_: Identity, to: int) -> Capability:
        """A copy with one more link, handing it from `from_` to `to`."""
        return replace(self, custody=(*self.custody, Custody(to, from_.address, from_.sign(self.signed_bytes()))))

    def chain_is_sound(self) -> bool:
        """Whether it begins with the controller and every link continues the one before; signatures are not looked at."""
        if not self.custody or self.custody[0].from_ != controller_of(self.nwid):
            return False
        return all(a.to == b.from_ for a, b in pairwise(self.custody))

    def verify_link(self, index: int, signer: Identity) -> bool:
        """Whether link `index` was signed by its `from`, whose identity `signer` must be."""
        link = self.custody[index]
        return signer.address == link.from_ and signer.verify(self.signed_bytes(), link.signature)

    def verify(self, signer: Identity) -> bool:
        """Whether the controller, whose identity `signer` must be, issued it by the only link; else see `verify_link`."""
        return len(self.custody) == 1 and self.chain_is_sound() and self.verify_link(0, signer)
