"""Worlds: planets and moons, the lists of roots (vl1-wire §11)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import SIGNATURE_LENGTH, Identity, sign_with, verify_with
from ztpipe.wire.inetaddress import InetAddress, write_inet
from ztpipe.wire.reader import Reader

MAX_ROOTS: Final = 4
MAX_ENDPOINTS: Final = 32

_HEAD_GUARD: Final = b"\x7f" * 8
_TAIL_GUARD: Final = b"\xf7" * 8


class WorldType(IntEnum):
    NULL = 0
    PLANET = 1
    MOON = 127


_TYPES: Final = {int(kind): kind for kind in WorldType}


@dataclass(frozen=True, slots=True)
class Root:
    """A root server and the endpoints it can always be reached at, perhaps none.

    `nils`: where in the list nil endpoints stand as well. They are of no use, but signed with the others.
    """

    identity: Identity
    endpoints: tuple[InetAddress, ...] = ()
    nils: tuple[int, ...] = ()

    def encode(self) -> bytes:
        listed: list[InetAddress | None] = list(self.endpoints)
        for at in self.nils:
            listed.insert(at, None)
        return self.identity.encode() + bytes((len(listed),)) + b"".join(map(write_inet, listed))

    @classmethod
    def read(cls, reader: Reader) -> Root:
        identity = reader.identity().without_private()
        count = reader.u8()
        if count > MAX_ENDPOINTS:
            raise WireError("bad_world")
        endpoints = [reader.inet() for _ in range(count)]
        nils = tuple(at for at, endpoint in enumerate(endpoints) if endpoint is None)
        return cls(identity, tuple(endpoint for endpoint in endpoints if endpoint is not None), nils)


@dataclass(frozen=True, slots=True)
class World:
    """A planet or moon. `update_key` (64 bytes) must sign the next version."""

    type: WorldType
    id: int
    timestamp: int
    update_key: bytes
    signature: bytes
    roots: tuple[Root, ...]

    @classmethod
    def read(cls, reader: Reader) -> World:
        """The world at the reader's offset; endpoints of reserved types become nil, a moon's dictionary is skipped."""
        kind = _TYPES.get(reader.u8())
        if kind is None:
            raise WireError("bad_world")
        world_id, timestamp = reader.u64(), reader.u64()
        update_key, signature = reader.take(64), reader.take(SIGNATURE_LENGTH)
        count = reader.u8()
        if count > MAX_ROOTS:
            raise WireError("bad_world")
        roots = tuple(Root.read(reader) for _ in range(count))
        if kind is WorldType.MOON:
            reader.take(reader.u16())
        return cls(kind, world_id, timestamp, update_key, signature, roots)

    @classmethod
    def decode(cls, data: bytes) -> World:
        return cls.read(Reader(data, reason="truncated_world"))

    def _before_signature(self) -> bytes:
        head = bytes((self.type,)) + self.id.to_bytes(8, "big") + self.timestamp.to_bytes(8, "big")
        return head + self.update_key

    def _after_signature(self) -> bytes:
        dictionary = b"\0\0" if self.type is WorldType.MOON else b""
        return bytes((len(self.roots),)) + b"".join(root.encode() for root in self.roots) + dictionary

    def encode(self) -> bytes:
        signature = self.signature.ljust(SIGNATURE_LENGTH, b"\0")
        return self._before_signature() + signature + self._after_signature()

    def signed_bytes(self) -> bytes:
        """What the signature covers (vl1-wire §11.2); note that the two guards differ."""
        return _HEAD_GUARD + self._before_signature() + self._after_signature() + _TAIL_GUARD

    def sign(self, public: bytes, private: bytes) -> World:
        """A copy signed by a 64/64-byte key pair, whose public half is the `update_key` of the version before."""
        return replace(self, signature=sign_with(private, public, self.signed_bytes()))

    def verify(self, public: bytes) -> bool:
        """Whether the holder of `public` (64 bytes) signed this."""
        return verify_with(public, self.signed_bytes(), self.signature)

    def root(self, address: int) -> Root | None:
        """The root with that address."""
        return next((root for root in self.roots if root.identity.address == address), None)


def verify_update(old: World | None, new: World) -> bool:
    """Whether `new` may replace `old` (vl1-wire §11.3). Whether to take a first world is the caller's decision."""
    if old is None or old.type is WorldType.NULL or old.id == 0:
        return True
    if new.id != old.id or new.type is not old.type or new.timestamp <= old.timestamp:
        return False
    return new.verify(old.update_key)


EARTH: Final = World.decode(
    bytes.fromhex(
        "010000000008eac90a0000017ee95760cdb8b388a469221491aa9acd66cc764cdefd56039f1067ae15e69c6fb42d7b55330e3fdaac529c0792fd7340"
        "a6aa21aba8a489fdaea44a39bf2d00659ac9c818eb3600927637ef4d1404a44d544684851379751faa79b4c4ea85040175ea065860482402e1eb3420"
        "52000e6290061a9be0cd293c8b55f1c3d2524808afc54922080e3539a75addc3cef0f6ad260d588293bb7786e71efa4b9057dad9867afe12dd04cafe"
        "9efeb900ccdef76bc7b97ded904eabc5df09886d9c1514a610036cb9139cc214001a2958978efcec15712dd3948c6e6b3a8e893df01ff493d1f8d980"
        "6a860c5420571bf000020468c208862709062605988002001200003005710e3400512709778cde7190003f6681a99e5ad1895e9fba33e6212d4454e1"
        "68bcec7112101bf000956ed8e92e42892cb6f2ec410881a84ab19da50e1287ba3d926c3a1f755cccf299a120705500020467c3674227090626059880"
        "040000c30254f2bca1f70019270962f865ae7100e2076c57de870e6288d7d5e7404408b1545efca37d67f77b87e9e54168c25d3ef1a9abf2905ea5e7"
        "85c01dff23887ad4232d95c7a8fd2c27111a72bd159322dc0002043207fc8a270906200149f0d0db000200000000000000022709cafe04eba9006c6a"
        "9d1dea55c1616bfe2a2b8f0ff9a8cacaf70374fb1f39e3bef81cbfebef17b7228268a0a2a29d3488c752565c6c965cbd6506ec24397cc8a5d9d15285"
        "a87f0002045411359b2709062a026ea0d405000000000000000099932709"
    )
)
"""The built-in planet of 1.14.1 (vl1-wire §11.6)."""
