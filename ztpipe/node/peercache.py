"""peers.d records: identity, version and addresses of peers we may meet again (vl1-behaviour §1.4, vl1-wire §11.4)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress, read_inet, write_inet

if TYPE_CHECKING:
    from ztpipe.node.peer import Peer

RECORD_VERSION: Final = 2
MAX_ADDRESSES: Final = 64
CAPACITY: Final = 16_384
_VERSIONS: Final = struct.Struct(">HHHHH")


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """One record. `version` is (major, minor, revision)."""

    identity: Identity
    protocol_version: int
    version: tuple[int, int, int]
    addresses: tuple[InetAddress, ...]

    def encode(self) -> bytes:
        head = bytes((RECORD_VERSION,)) + self.identity.without_private().encode()
        versions = _VERSIONS.pack(self.protocol_version, *self.version, len(self.addresses))
        return head + versions + b"".join(map(write_inet, self.addresses))

    @classmethod
    def decode(cls, data: bytes) -> PeerRecord:
        """Raises `WireError`."""
        if not data or data[0] != RECORD_VERSION:
            raise WireError("peer_record_version")
        identity, offset = Identity.read(data, 1)
        if len(data) < offset + _VERSIONS.size:
            raise WireError("peer_record_truncated")
        protocol, major, minor, revision, count = _VERSIONS.unpack_from(data, offset)
        offset += _VERSIONS.size
        addresses: list[InetAddress] = []
        for _ in range(min(count, MAX_ADDRESSES)):
            address, offset = read_inet(data, offset)
            if address is not None:
                addresses.append(address)
        return cls(identity, protocol, (major, minor, revision), tuple(addresses))


def record_of(peer: Peer) -> PeerRecord:
    """What is worth keeping of a peer."""
    addresses = tuple(entry.path.remote for entry in peer.paths[:MAX_ADDRESSES])
    return PeerRecord(peer.identity, peer.protocol_version, peer.version or (0, 0, 0), addresses)


class PeerCache:
    """Records by address, read at start and kept up to date with what is saved; oldest forgotten first."""

    __slots__ = ("_records",)

    def __init__(self, records: Mapping[int, bytes]) -> None:
        self._records = dict(list(records.items())[-CAPACITY:])

    def put(self, address: int, data: bytes) -> None:
        self._records.pop(address, None)
        if len(self._records) >= CAPACITY:
            del self._records[next(iter(self._records))]
        self._records[address] = data

    def take(self, address: int) -> PeerRecord | None:
        """The record of `address`, once; None if there is none or it is broken."""
        data = self._records.pop(address, None)
        if data is None:
            return None
        try:
            record = PeerRecord.decode(data)
        except WireError:
            return None
        return record if record.identity.address == address else None
