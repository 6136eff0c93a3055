"""Payloads of the verbs between members of networks (vl1-wire §9, vl2): frames, multicast, credentials, requests."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, TypeVar

from ztpipe.wire import dictionary
from ztpipe.wire.address import MulticastGroup
from ztpipe.wire.credentials import (
    Capability,
    CertificateOfMembership,
    CertificateOfOwnership,
    Revocation,
    Tag,
)
from ztpipe.wire.errors import WireError
from ztpipe.wire.reader import Reader

MAX_GATHER_LIMIT: Final = 65535
MAX_MULTICAST_PAYLOAD: Final = 10000

_FRAME: Final = struct.Struct(">QH")
_LIKE: Final = struct.Struct(">Q6sI")
_Credential = TypeVar("_Credential", CertificateOfMembership, Capability, Tag, Revocation, CertificateOfOwnership)


def _group(reader: Reader) -> MulticastGroup:
    return MulticastGroup(reader.mac(), reader.u32())


def _write_group(group: MulticastGroup) -> bytes:
    return group.mac.to_bytes(6, "big") + group.adi.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Frame:
    """FRAME: between the two members' own MACs (vl1-wire §9.7)."""

    nwid: int
    ethertype: int
    payload: bytes

    def encode(self) -> bytes:
        return _FRAME.pack(self.nwid, self.ethertype) + self.payload

    @classmethod
    def decode(cls, payload: bytes) -> Frame:
        if len(payload) < _FRAME.size:
            raise WireError("truncated_verb")
        nwid, ethertype = _FRAME.unpack_from(payload)
        return cls(nwid, ethertype, payload[_FRAME.size :])


@dataclass(frozen=True, slots=True)
class ExtFrame:
    """EXT_FRAME: with both MACs (vl1-wire §9.8). Flag 0x01 is set by `com` alone; `flags` holds it after decoding."""

    COM: ClassVar[int] = 0x01
    OK_REQUESTED: ClassVar[int] = 0x10
    NORMAL: ClassVar[int] = 0x00
    TEE_OUTBOUND: ClassVar[int] = 0x02
    REDIRECT_OUTBOUND: ClassVar[int] = 0x04
    WATCH_OUTBOUND: ClassVar[int] = 0x16
    TEE_INBOUND: ClassVar[int] = 0x08
    REDIRECT_INBOUND: ClassVar[int] = 0x0A
    WATCH_INBOUND: ClassVar[int] = 0x1C

    nwid: int
    destination: int
    source: int
    ethertype: int
    payload: bytes
    flags: int = 0
    com: CertificateOfMembership | None = None

    @property
    def subtype(self) -> int:
        return (self.flags >> 1) & 7

    @property
    def ok_requested(self) -> bool:
        return bool(self.flags & self.OK_REQUESTED)

    def encode(self) -> bytes:
        com = b"" if self.com is None else self.com.encode()
        flags = self.flags & ~self.COM | (self.COM if com else 0)
        macs = self.destination.to_bytes(6, "big") + self.source.to_bytes(6, "big")
        head = self.nwid.to_bytes(8, "big") + bytes((flags,)) + com
        return head + macs + self.ethertype.to_bytes(2, "big") + self.payload

    @classmethod
    def decode(cls, payload: bytes) -> ExtFrame:
        reader = Reader(payload)
        nwid, flags = reader.u64(), reader.u8()
        com = CertificateOfMembership.read(reader) if flags & cls.COM else None
        destination, source, ethertype = reader.mac(), reader.mac(), reader.u16()
        return cls(nwid, destination, source, ethertype, reader.rest(), flags, com)


@dataclass(frozen=True, slots=True)
class OkExtFrame:
    """Body of OK(EXT_FRAME)."""

    nwid: int

    def encode(self) -> bytes:
        return self.nwid.to_bytes(8, "big")

    @classmethod
    def decode(cls, body: bytes) -> OkExtFrame:
        return cls(Reader(body).u64())


class Like(NamedTuple):
    """A subscription of the sender."""

    nwid: int
    group: MulticastGroup


@dataclass(frozen=True, slots=True)
class MulticastLike:
    """MULTICAST_LIKE: the sender's subscriptions (vl1-wire §9.10). A partial record at the end is ignored."""

    RECORD: ClassVar[int] = 18

    likes: tuple[Like, ...]

    def encode(self) -> bytes:
        return b"".join(nwid.to_bytes(8, "big") + _write_group(group) for nwid, group in self.likes)

    @classmethod
    def decode(cls, payload: bytes) -> MulticastLike:
        whole = len(payload) // cls.RECORD * cls.RECORD
        records = _LIKE.iter_unpack(payload[:whole])
        return cls(tuple(Like(nwid, MulticastGroup(int.from_bytes(mac, "big"), adi)) for nwid, mac, adi in records))


def _read_list(reader: Reader, read: Callable[[Reader], _Credential]) -> tuple[_Credential, ...]:
    """A counted list; none at all at the end of the packet (old senders stop early)."""
    if not reader.remaining:
        return ()
    return tuple(read(reader) for _ in range(reader.u16()))


def _write_list(items: Sequence[Capability | Tag | Revocation | CertificateOfOwnership]) -> bytes:
    return len(items).to_bytes(2, "big") + b"".join(item.encode() for item in items)


@dataclass(frozen=True, slots=True)
class NetworkCredentials:
    """NETWORK_CREDENTIALS: credentials of any member, for any networks (vl2 §3.9)."""

    coms: tuple[CertificateOfMembership, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    tags: tuple[Tag, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    coos: tuple[CertificateOfOwnership, ...] = ()

    def encode(self) -> bytes:
        coms = b"".join(com.encode() for com in self.coms) + b"\0"
        tail = _write_list(self.tags) + _write_list(self.revocations) + _write_list(self.coos)
        return coms + _write_list(self.capabilities) + tail

    @classmethod
    def decode(cls, payload: bytes) -> NetworkCredentials:
        reader = Reader(payload)
        coms: list[CertificateOfMembership] = []
        while payload[reader.offset : reader.offset + 1] == b"\x01":
            coms.append(CertificateOfMembership.read(reader))
        if reader.u8() != 0:
            raise WireError("bad_credential")
        return cls(
            tuple(coms),
            _read_list(reader, Capability.read),
            _read_list(reader, Tag.read),
            _read_list(reader, Revocation.read),
            _read_list(reader, CertificateOfOwnership.read),
        )


@dataclass(frozen=True, slots=True)
class NetworkConfigRequest:
    """NETWORK_CONFIG_REQUEST (vl1-wire §9.12): an encoded dictionary; revision and timestamp of what is held."""

    nwid: int
    metadata: bytes
    revision: int = 0
    timestamp: int = 0

    def encode(self) -> bytes:
        head = self.nwid.to_bytes(8, "big") + len(self.metadata).to_bytes(2, "big")
        return head + self.metadata + self.revision.to_bytes(8, "big") + self.timestamp.to_bytes(8, "big")

    @classmethod
    def decode(cls, payload: bytes) -> NetworkConfigRequest:
        """Revision and timestamp may be missing: nobody reads them."""
        reader = Reader(payload)
        nwid = reader.u64()
        metadata = reader.take(reader.u16())
        revision = reader.u64() if reader.remaining >= 8 else 0
        return cls(nwid, metadata, revision, reader.u64() if reader.remaining >= 8 else 0)

    def entries(self) -> dict[str, bytes]:
        """The metadata, decoded."""
        return dictionary.decode(self.metadata)


@dataclass(frozen=True, slots=True)
class OkConfig:
    """Body of the OK that acknowledges a NETWORK_CONFIG push; its in-re verb is ECHO (vl2 §2.5)."""

    nwid: int
    update_id: int

    def encode(self) -> bytes:
        return self.nwid.to_bytes(8, "big") + self.update_id.to_bytes(8, "big")

    @classmethod
    def decode(cls, body: bytes) -> OkConfig:
        reader = Reader(body)
        return cls(reader.u64(), reader.u64())


@dataclass(frozen=True, slots=True)
class MulticastGather:
    """MULTICAST_GATHER: who is in this group? (vl1-wire §9.14). An unparsable COM is ignored."""

    COM: ClassVar[int] = 0x01

    nwid: int
    group: MulticastGroup
    limit: int
    com: CertificateOfMembership | None = None

    def encode(self) -> bytes:
        com = b"" if self.com is None else self.com.encode()
        head = self.nwid.to_bytes(8, "big") + bytes((self.COM if com else 0,))
        return head + _write_group(self.group) + self.limit.to_bytes(4, "big") + com

    @classmethod
    def decode(cls, payload: bytes) -> MulticastGather:
        reader = Reader(payload)
        nwid, flags, group, limit = reader.u64(), reader.u8(), _group(reader), reader.u32()
        com = None
        if flags & cls.COM:
            try:
                com = CertificateOfMembership.read(reader)
            except WireError:
                com = None
        return cls(nwid, group, min(limit, MAX_GATHER_LIMIT), com)


def _read_members(reader: Reader) -> tuple[int, tuple[int, ...]]:
    """Total, and the members listed; a list that is cut off ends early."""
    total, count = reader.u32(), reader.u16()
    return total, tuple(reader.address() for _ in range(min(count, reader.remaining // 5)))


def _write_members(total: int, members: tuple[int, ...]) -> bytes:
    head = total.to_bytes(4, "big") + len(members).to_bytes(2, "big")
    return head + b"".join(member.to_bytes(5, "big") for member in members)


@dataclass(frozen=True, slots=True)
class OkMulticastGather:
    """Body of OK(MULTICAST_GATHER): how many members are known in `total`, and some of them."""

    nwid: int
    group: MulticastGroup
    total: int
    members: tuple[int, ...]

    def encode(self) -> bytes:
        return self.nwid.to_bytes(8, "big") + _write_group(self.group) + _write_members(self.total, self.members)

    @classmethod
    def decode(cls, body: bytes) -> OkMulticastGather:
        reader = Reader(body)
        nwid, group = reader.u64(), _group(reader)
        return cls(nwid, group, *_read_members(reader))


@dataclass(frozen=True, slots=True)
class MulticastFrame:
    """MULTICAST_FRAME (vl1-wire §9.15). `source` None: the sender's own MAC; `gather_limit` 0: no gathering."""

    COM: ClassVar[int] = 0x01
    GATHER: ClassVar[int] = 0x02
    SOURCE: ClassVar[int] = 0x04
    REPLICATE: ClassVar[int] = 0x08

    nwid: int
    group: MulticastGroup
    ethertype: int
    payload: bytes
    gather_limit: int = 0
    source: int | None = None
    replicate: bool = False
    com: CertificateOfMembership | None = None

    def encode(self) -> bytes:
        flags = self.COM if self.com is not None else 0
        parts = [b"" if self.com is None else self.com.encode()]
        if self.gather_limit:
            flags |= self.GATHER
            parts.append(self.gather_limit.to_bytes(4, "big"))
        if self.source is not None:
            flags |= self.SOURCE
            parts.append(self.source.to_bytes(6, "big"))
        if self.replicate:
            flags |= self.REPLICATE
        parts += [_write_group(self.group), self.ethertype.to_bytes(2, "big"), self.payload]
        return self.nwid.to_bytes(8, "big") + bytes((flags,)) + b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> MulticastFrame:
        reader = Reader(payload)
        nwid, flags = reader.u64(), reader.u8()
        com = CertificateOfMembership.read(reader) if flags & cls.COM else None
        gather_limit = reader.u32() if flags & cls.GATHER else 0
        source = reader.mac() if flags & cls.SOURCE else None
        group, ethertype = _group(reader), reader.u16()
        data = reader.rest()
        if not 1 <= len(data) <= MAX_MULTICAST_PAYLOAD:
            raise WireError("bad_multicast_frame")
        return cls(nwid, group, ethertype, data, gather_limit, source, bool(flags & cls.REPLICATE), com)


@dataclass(frozen=True, slots=True)
class OkMulticastFrame:
    """Body of OK(MULTICAST_FRAME). `gathered` False: no member list (`total` 0, `members` empty)."""

    COM: ClassVar[int] = 0x01
    GATHERED: ClassVar[int] = 0x02

    nwid: int
    group: MulticastGroup
    total: int = 0
    members: tuple[int, ...] = ()
    gathered: bool = True
    com: CertificateOfMembership | None = None

    def encode(self) -> bytes:
        flags = (self.COM if self.com is not None else 0) | (self.GATHERED if self.gathered else 0)
        com = b"" if self.com is None else self.com.encode()
        members = _write_members(self.total, self.members) if self.gathered else b""
        return self.nwid.to_bytes(8, "big") + _write_group(self.group) + bytes((flags,)) + com + members

    @classmethod
    def decode(cls, body: bytes) -> OkMulticastFrame:
        reader = Reader(body)
        nwid, group, flags = reader.u64(), _group(reader), reader.u8()
        com = CertificateOfMembership.read(reader) if flags & cls.COM else None
        gathered = bool(flags & cls.GATHERED)
        total, members = _read_members(reader) if gathered else (0, ())
        return cls(nwid, group, total, members, gathered, com)
