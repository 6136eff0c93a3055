"""Credentials issued by a network's controller (vl1-wire Appendix A, vl2 §3). All are frozen; `sign` gives a copy."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from ztpipe.wire.capability import MAX_CUSTODY_CHAIN, Capability, Custody
from ztpipe.wire.errors import WireError
from ztpipe.wire.membership import ANY_DELTA, MAX_QUALIFIERS, CertificateOfMembership, Qualifier
from ztpipe.wire.reader import Reader
from ztpipe.wire.signed import BAD, TRUNCATED, SignedByController, addresses, read_signature, skip_extra

__all__ = [
    "ANY_DELTA",
    "MAX_CUSTODY_CHAIN",
    "MAX_QUALIFIERS",
    "MAX_THINGS",
    "Capability",
    "CertificateOfMembership",
    "CertificateOfOwnership",
    "CredentialType",
    "Custody",
    "Qualifier",
    "Revocation",
    "Tag",
    "Thing",
    "ThingType",
]

MAX_THINGS: Final = 16

_TAG: Final = struct.Struct(">QQII")
_COO: Final = struct.Struct(">QQQIH")
_REVOCATION: Final = struct.Struct(">IIQIIqQ")


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


@dataclass(frozen=True, slots=True)
class Tag(SignedByController):
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
        signature = read_signature(reader)
        skip_extra(reader)
        return cls(nwid, timestamp, tag_id, value, issued_to, signer, signature)

    @classmethod
    def decode(cls, data: bytes) -> Tag:
        return cls.read(Reader(data, reason=TRUNCATED))

    def _body(self) -> bytes:
        return _TAG.pack(self.nwid, self.timestamp, self.id, self.value) + addresses(self.issued_to, self.signer)


@dataclass(frozen=True, slots=True)
class CertificateOfOwnership(SignedByController):
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
            raise WireError(BAD)
        things = tuple(Thing(reader.u8(), reader.take(16)) for _ in range(count))
        issued_to, signer = reader.address(), reader.address()
        signature = read_signature(reader)
        skip_extra(reader)
        return cls(nwid, timestamp, flags, coo_id, things, issued_to, signer, signature)

    @classmethod
    def decode(cls, data: bytes) -> CertificateOfOwnership:
        return cls.read(Reader(data, reason=TRUNCATED))

    def _body(self) -> bytes:
        head = _COO.pack(self.nwid, self.timestamp, self.flags, self.id, len(self.things))
        things = b"".join(bytes((thing.type,)) + thing.value for thing in self.things)
        return head + things + addresses(self.issued_to, self.signer)

    def owns_ip(self, ip: bytes) -> bool:
        """Whether the IPv4 or IPv6 address is certified to be the member's."""
        kind = ThingType.IPV4 if len(ip) == 4 else ThingType.IPV6
        return any(thing.type == kind and thing.value[: len(ip)] == ip for thing in self.things)

    def owns_mac(self, mac: int) -> bool:
        """Whether the MAC is certified to be the member's."""
        raw = mac.to_bytes(6, "big")
        return any(thing.type == ThingType.MAC and thing.value[:6] == raw for thing in self.things)


@dataclass(frozen=True, slots=True)
class Revocation(SignedByController):
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
        signature = read_signature(reader)
        skip_extra(reader)
        return cls(revocation_id, nwid, credential_id, threshold, flags, target, kind, signer, signature)

    @classmethod
    def decode(cls, data: bytes) -> Revocation:
        return cls.read(Reader(data, reason=TRUNCATED))

    def _body(self) -> bytes:
        head = _REVOCATION.pack(0, self.id, self.nwid, 0, self.credential_id, self.threshold, self.flags)
        return head + addresses(self.target, self.signer) + bytes((self.credential_type,))
