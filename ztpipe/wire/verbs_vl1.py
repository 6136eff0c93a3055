"""Payloads of the verbs between peers (vl1-wire §9): HELLO, WHOIS, RENDEZVOUS, ECHO, PUSH_DIRECT_PATHS, ...

Every class decodes a payload (from offset 28, decrypted and decompressed) or the body of an OK, and ignores what
follows the last known field.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ztpipe.wire import dictionary
from ztpipe.wire.address import ADDRESS_LENGTH
from ztpipe.wire.armor import SessionKeys, crypt_hello_tail, seal
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress, write_inet
from ztpipe.wire.protocol import PROTOCOL_VERSION, VERSION, Suite, Verb
from ztpipe.wire.reader import Reader
from ztpipe.wire.world import World, WorldType

MAX_QOS_RECORDS: Final = 140
MAX_QOS_PAYLOAD: Final = 1400
MAX_TRACE: Final = 10000

_VERSIONS: Final = struct.Struct(">BBBH")
_QOS_RECORD: Final = struct.Struct("<QH")
_WORLD_RECORD: Final = struct.Struct(">BQQ")


class WorldVersion(NamedTuple):
    """A moon listed in a HELLO and the timestamp of our copy; 0: wanted, but not held yet."""

    type: int
    id: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Hello:
    """HELLO (vl1-wire §9.2). `tail` is encrypted as on the wire: see `with_moons` and `moons`.

    Everything after the identity may be missing when received: then `sent_to` is None and the planet 0.
    """

    timestamp: int
    identity: Identity
    sent_to: InetAddress | None = None
    planet_id: int = 0
    planet_timestamp: int = 0
    tail: bytes = b""
    protocol: int = PROTOCOL_VERSION
    major: int = VERSION[0]
    minor: int = VERSION[1]
    revision: int = VERSION[2]

    def encode(self) -> bytes:
        return b"".join(
            (
                _VERSIONS.pack(self.protocol, self.major, self.minor, self.revision),
                self.timestamp.to_bytes(8, "big", signed=True),
                self.identity.encode(),
                write_inet(self.sent_to),
                self.planet_id.to_bytes(8, "big"),
                self.planet_timestamp.to_bytes(8, "big"),
                self.tail,
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Hello:
        reader = Reader(payload)
        protocol, major, minor, revision = _VERSIONS.unpack(reader.take(_VERSIONS.size))
        timestamp, identity = reader.i64(), reader.identity().without_private()
        sent_to = reader.inet() if reader.remaining else None
        planet_id = planet_timestamp = 0
        if reader.remaining >= 16:
            planet_id, planet_timestamp = reader.u64(), reader.u64()
        tail = reader.rest()
        return cls(timestamp, identity, sent_to, planet_id, planet_timestamp, tail, protocol, major, minor, revision)

    def with_moons(self, keys: SessionKeys, packet_id: int, moons: tuple[WorldVersion, ...]) -> Hello:
        """A copy whose tail lists `moons`, perhaps none, encrypted for a packet with that ID."""
        return replace(self, tail=crypt_hello_tail(keys, packet_id, encode_hello_tail(moons)))

    def moons(self, keys: SessionKeys, packet_id: int) -> tuple[WorldVersion, ...]:
        """The moons in the tail, without records of other types. On `WireError` the HELLO is dropped without an OK."""
        return decode_hello_tail(crypt_hello_tail(keys, packet_id, self.tail))


def encode_hello_tail(moons: tuple[WorldVersion, ...]) -> bytes:
    """Count and records, in the clear."""
    return len(moons).to_bytes(2, "big") + b"".join(_WORLD_RECORD.pack(*moon) for moon in moons)


def decode_hello_tail(plain: bytes) -> tuple[WorldVersion, ...]:
    """The moons of a decrypted tail."""
    if len(plain) < 2:
        return ()
    size = int.from_bytes(plain[:2], "big") * _WORLD_RECORD.size
    if len(plain) - 2 < size:
        raise WireError("truncated_verb")
    records = (WorldVersion(*record) for record in _WORLD_RECORD.iter_unpack(plain[2 : 2 + size]))
    return tuple(record for record in records if record.type == WorldType.MOON)


def seal_hello(
    keys: SessionKeys, hello: Hello, moons: tuple[WorldVersion, ...], *, destination: int, packet_id: int
) -> bytes:
    """A whole HELLO packet: in the clear with a MAC (suite 0), its tail encrypted (vl1-wire §5.7)."""
    payload = hello.with_moons(keys, packet_id, moons).encode()
    return seal(
        keys,
        destination=destination,
        source=hello.identity.address,
        verb=Verb.HELLO,
        payload=payload,
        packet_id=packet_id,
        suite=Suite.POLY1305_NONE,
    )


@dataclass(frozen=True, slots=True)
class OkHello:
    """Body of OK(HELLO): the echoed time, the responder's versions, where it saw the HELLO come from, newer worlds."""

    timestamp: int
    received_from: InetAddress | None = None
    worlds: tuple[World, ...] = ()
    protocol: int = PROTOCOL_VERSION
    major: int = VERSION[0]
    minor: int = VERSION[1]
    revision: int = VERSION[2]

    def encode(self) -> bytes:
        worlds = b"".join(world.encode() for world in self.worlds)
        return b"".join(
            (
                self.timestamp.to_bytes(8, "big", signed=True),
                _VERSIONS.pack(self.protocol, self.major, self.minor, self.revision),
                write_inet(self.received_from),
                len(worlds).to_bytes(2, "big"),
                worlds,
            )
        )

    @classmethod
    def decode(cls, body: bytes, *, with_worlds: bool = True) -> OkHello:
        """`with_worlds` false: whatever stands where worlds would is skipped, as from those who are not believed."""
        reader = Reader(body)
        timestamp = reader.i64()
        protocol, major, minor, revision = _VERSIONS.unpack(reader.take(_VERSIONS.size))
        received_from = reader.inet() if reader.remaining else None
        worlds: list[World] = []
        if with_worlds and reader.remaining >= 2:
            section = Reader(reader.take(reader.u16()), reason="truncated_world")
            while section.remaining:
                worlds.append(World.read(section))
        return cls(timestamp, received_from, tuple(worlds), protocol, major, minor, revision)


@dataclass(frozen=True, slots=True)
class Whois:
    """WHOIS: a request for the identities of addresses (vl1-wire §9.4). A partial address at the end is ignored."""

    addresses: tuple[int, ...]

    def encode(self) -> bytes:
        return b"".join(address.to_bytes(ADDRESS_LENGTH, "big") for address in self.addresses)

    @classmethod
    def decode(cls, payload: bytes) -> Whois:
        ends = range(ADDRESS_LENGTH, len(payload) + 1, ADDRESS_LENGTH)
        return cls(tuple(int.from_bytes(payload[end - ADDRESS_LENGTH : end], "big") for end in ends))


@dataclass(frozen=True, slots=True)
class OkWhois:
    """Body of OK(WHOIS): the identities found. At least one."""

    identities: tuple[Identity, ...]

    def encode(self) -> bytes:
        return b"".join(identity.encode() for identity in self.identities)

    @classmethod
    def decode(cls, body: bytes) -> OkWhois:
        """What follows the first identity and is none is ignored: the first is the one that counts."""
        identity, offset = Identity.read(body, 0)
        identities = [identity.without_private()]
        while offset < len(body):
            try:
                identity, offset = Identity.read(body, offset)
            except WireError:
                break
            identities.append(identity.without_private())
        return cls(tuple(identities))


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """RENDEZVOUS: contact `peer` at `endpoint` now (vl1-wire §9.6). Port 0 is no endpoint: "bad_rendezvous"."""

    peer: int
    endpoint: InetAddress
    flags: int = 0

    def encode(self) -> bytes:
        head = bytes((self.flags,)) + self.peer.to_bytes(5, "big") + self.endpoint.port.to_bytes(2, "big")
        return head + bytes((len(self.endpoint.ip),)) + self.endpoint.ip

    @classmethod
    def decode(cls, payload: bytes) -> Rendezvous:
        reader = Reader(payload)
        flags, peer, port, size = reader.u8(), reader.address(), reader.u16(), reader.u8()
        if port == 0 or size not in (4, 16):
            raise WireError("bad_rendezvous")
        return cls(peer, InetAddress(reader.take(size), port), flags)


@dataclass(frozen=True, slots=True)
class Echo:
    """ECHO and OK(ECHO): any bytes (vl1-wire §9.9)."""

    data: bytes = b""

    def encode(self) -> bytes:
        return self.data

    @classmethod
    def decode(cls, payload: bytes) -> Echo:
        return cls(payload)


PATH_FORGET: Final = 0x01
PATH_CLUSTER_REDIRECT: Final = 0x02


class DirectPath(NamedTuple):
    """One record of PUSH_DIRECT_PATHS; `flags` of `PATH_FORGET`, `PATH_CLUSTER_REDIRECT`."""

    endpoint: InetAddress
    flags: int = 0


@dataclass(frozen=True, slots=True)
class PushDirectPaths:
    """PUSH_DIRECT_PATHS: endpoints at which to try the sender (vl1-wire §9.16). Records of other types are left out."""

    paths: tuple[DirectPath, ...]

    def encode(self) -> bytes:
        parts = [len(self.paths).to_bytes(2, "big")]
        for endpoint, flags in self.paths:
            kind, size = (4, 6) if len(endpoint.ip) == 4 else (6, 18)
            parts.append(bytes((flags, 0, 0, kind, size)) + endpoint.ip + endpoint.port.to_bytes(2, "big"))
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> PushDirectPaths:
        """The records up to the first that is cut off; only a missing count is an error."""
        reader = Reader(payload)
        paths: list[DirectPath] = []
        for _ in range(reader.u16()):
            try:
                path = cls._read_path(reader)
            except WireError:
                break
            if path is not None:
                paths.append(path)
        return cls(tuple(paths))

    @staticmethod
    def _read_path(reader: Reader) -> DirectPath | None:
        flags = reader.u8()
        reader.take(reader.u16())
        kind, size = reader.u8(), reader.u8()
        data = reader.take(size)
        ip_length = {4: 4, 6: 16}.get(kind)
        if ip_length is None or len(data) < ip_length + 2:
            return None
        return DirectPath(InetAddress(data[:ip_length], int.from_bytes(data[ip_length : ip_length + 2], "big")), flags)


class QosRecord(NamedTuple):
    """A packet that was received (its ID on the wire) and how long it was held, ms."""

    packet_id: int
    holding_ms: int


@dataclass(frozen=True, slots=True)
class QosMeasurement:
    """QOS_MEASUREMENT (vl1-wire §9.20). The sender's byte order is taken to be little-endian."""

    records: tuple[QosRecord, ...]

    def encode(self) -> bytes:
        return b"".join(_swapped(record.packet_id) + record.holding_ms.to_bytes(2, "little") for record in self.records)

    @classmethod
    def decode(cls, payload: bytes) -> QosMeasurement:
        if not 9 <= len(payload) <= MAX_QOS_PAYLOAD:
            raise WireError("bad_qos_measurement")
        whole = len(payload) // _QOS_RECORD.size * _QOS_RECORD.size
        return cls(tuple(QosRecord(*record) for record in _QOS_RECORD.iter_unpack(payload[:whole])))


def _swapped(packet_id: int) -> bytes:
    return packet_id.to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK: bytes received since the last one (vl1-wire §9.19); 1.14.1 neither sends nor heeds it."""

    received: int

    def encode(self) -> bytes:
        return self.received.to_bytes(4, "big")

    @classmethod
    def decode(cls, payload: bytes) -> Ack:
        return cls(Reader(payload).u32())


@dataclass(frozen=True, slots=True)
class UserMessage:
    """USER_MESSAGE: a type above 65535, and bytes (vl1-wire §9.21)."""

    type: int
    data: bytes = b""

    def encode(self) -> bytes:
        return self.type.to_bytes(8, "big") + self.data

    @classmethod
    def decode(cls, payload: bytes) -> UserMessage:
        reader = Reader(payload)
        return cls(reader.u64(), reader.rest())


@dataclass(frozen=True, slots=True)
class RemoteTrace:
    """REMOTE_TRACE: dictionaries that report events (vl1-wire §9.22)."""

    traces: tuple[bytes, ...]
    """Each as sent, without its final zero byte."""

    def encode(self) -> bytes:
        return b"".join(trace + b"\0" for trace in self.traces)

    @classmethod
    def decode(cls, payload: bytes) -> RemoteTrace:
        """Empty dictionaries, too long ones, and a last one that is not terminated are left out."""
        pieces = payload.split(b"\0")[:-1]
        return cls(tuple(piece for piece in pieces if 0 < len(piece) <= MAX_TRACE))

    def entries(self) -> tuple[dict[str, bytes], ...]:
        """The dictionaries, decoded."""
        return tuple(dictionary.decode(trace) for trace in self.traces)


@dataclass(frozen=True, slots=True)
class PathNegotiationRequest:
    """PATH_NEGOTIATION_REQUEST: the utility of a path (vl1-wire §9.23). Exactly two bytes."""

    utility: int

    def encode(self) -> bytes:
        return self.utility.to_bytes(2, "big", signed=True)

    @classmethod
    def decode(cls, payload: bytes) -> PathNegotiationRequest:
        if len(payload) != 2:
            raise WireError("bad_path_negotiation")
        return cls(int.from_bytes(payload, "big", signed=True))
