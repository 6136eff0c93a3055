"""Configuration chunks: cutting a dictionary into signed pieces and putting them together (vl2 §2.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import SIGNATURE_LENGTH, Identity
from ztpipe.wire.reader import Reader

MAX_CHUNK: Final = 9740
MAX_CHUNKS: Final = 474
MAX_DICTIONARY: Final = 484_520
"""Dictionaries must be shorter."""
ASSEMBLY_SLOTS: Final = 3
FAST_PROPAGATE: Final = 0x01


@dataclass(frozen=True, slots=True)
class ConfigChunk:
    """Body of OK(NETWORK_CONFIG_REQUEST), payload of NETWORK_CONFIG. `update_id` 0: the unsigned legacy form."""

    nwid: int
    data: bytes
    update_id: int = 0
    total_length: int = 0
    offset: int = 0
    flags: int = 0
    signature: bytes = b""

    @property
    def is_legacy(self) -> bool:
        return self.update_id == 0 and not self.signature

    @property
    def fast_propagate(self) -> bool:
        return bool(self.flags & FAST_PROPAGATE)

    @property
    def chunk_id(self) -> bytes:
        """8 bytes that tell chunks of one update apart."""
        a, b = int.from_bytes(self.signature[:8], "big"), int.from_bytes(self.signature[8:16], "big")
        return (a ^ b).to_bytes(8, "big")

    def _head(self) -> bytes:
        return self.nwid.to_bytes(8, "big") + len(self.data).to_bytes(2, "big") + self.data

    def signed_bytes(self) -> bytes:
        """Network ID through chunk offset."""
        place = self.total_length.to_bytes(4, "big") + self.offset.to_bytes(4, "big")
        return self._head() + bytes((self.flags,)) + self.update_id.to_bytes(8, "big") + place

    def sign(self, sign: Callable[[bytes], bytes]) -> ConfigChunk:
        """A signed copy; `sign` is the controller's `Identity.sign`."""
        return replace(self, signature=sign(self.signed_bytes()))

    def verify(self, controller: Identity) -> bool:
        """Whether the network's controller, whose identity `controller` must be, signed this."""
        return controller.address == self.nwid >> 24 and controller.verify(self.signed_bytes(), self.signature)

    def encode(self) -> bytes:
        if self.is_legacy:
            return self._head()
        return self.signed_bytes() + b"\x01\x00\x60" + self.signature

    @classmethod
    def decode(cls, payload: bytes) -> ConfigChunk:
        reader = Reader(payload)
        nwid = reader.u64()
        data = reader.take(reader.u16())
        if not reader.remaining:
            return cls(nwid, data, total_length=len(data))
        flags, update_id, total, offset = reader.u8(), reader.u64(), reader.u32(), reader.u32()
        if reader.u8() != 1 or reader.u16() != SIGNATURE_LENGTH:
            raise WireError("bad_config_chunk")
        signature = reader.take(SIGNATURE_LENGTH)
        if not update_id or offset + len(data) > total or total >= MAX_DICTIONARY:
            raise WireError("bad_config_chunk")
        return cls(nwid, data, update_id, total, offset, flags, signature)


def chunk_config(
    dictionary: bytes, nwid: int, update_id: int, sign: Callable[[bytes], bytes], *, max_chunk: int = MAX_CHUNK
) -> list[bytes]:
    """The bodies of a whole configuration, signed. `update_id`: 64 random bits, not 0. ValueError if it is too long."""
    total = len(dictionary)
    if total >= MAX_DICTIONARY or not update_id:
        raise ValueError("configuration too long, or update ID 0")
    starts = range(0, total, max_chunk)
    chunks = (ConfigChunk(nwid, dictionary[at : at + max_chunk], update_id, total, at) for at in starts)
    return [chunk.sign(sign).encode() for chunk in chunks]


@dataclass(frozen=True, slots=True)
class Assembly:
    """What became of a chunk. `new`: not seen before (if flagged so, to be propagated); `dictionary`: the whole one."""

    new: bool
    update_id: int
    dictionary: bytes | None = None


@dataclass(slots=True)
class _Slot:
    update_id: int = 0
    uses: int = 0
    received: int = 0
    data: bytearray = field(default_factory=bytearray)
    chunks: set[bytes] = field(default_factory=set)

    def restart(self, update_id: int) -> None:
        self.update_id, self.received = update_id, 0
        self.data = bytearray()
        self.chunks = set()


class ConfigAssembler:
    """Puts the chunks of one network's configurations together; three updates at a time, the oldest gives way."""

    def __init__(self, nwid: int) -> None:
        self.nwid = nwid
        self._slots = tuple(_Slot() for _ in range(ASSEMBLY_SLOTS))
        self._clock = 0

    def add(self, chunk: ConfigChunk, controller: Identity | None, *, sender: int, packet_id: int) -> Assembly:
        """Take a chunk of this network that `sender` delivered in a packet with that ID.

        Raises `WireError`: "wrong_network", "unsigned_config" (legacy form, not from the controller),
        "unknown_controller", "bad_config_signature", "bad_config_chunk".
        """
        if chunk.nwid != self.nwid:
            raise WireError("wrong_network")
        if chunk.is_legacy:
            if sender != self.nwid >> 24:
                raise WireError("unsigned_config")
            return Assembly(True, packet_id, chunk.data)
        slot = next((slot for slot in self._slots if slot.update_id == chunk.update_id), None)
        if slot is not None and chunk.chunk_id in slot.chunks:
            return Assembly(False, chunk.update_id)
        if controller is None:
            raise WireError("unknown_controller")
        if not chunk.verify(controller):
            raise WireError("bad_config_signature")
        if slot is None:
            slot = min(self._slots, key=lambda candidate: candidate.uses)
            slot.restart(chunk.update_id)
        return self._store(slot, chunk)

    def _store(self, slot: _Slot, chunk: ConfigChunk) -> Assembly:
        if len(slot.chunks) >= MAX_CHUNKS:
            raise WireError("bad_config_chunk")
        self._clock += 1
        slot.uses = self._clock
        slot.chunks.add(chunk.chunk_id)
        end = chunk.offset + len(chunk.data)
        if end > len(slot.data):
            slot.data.extend(bytes(end - len(slot.data)))
        slot.data[chunk.offset : end] = chunk.data
        slot.received += len(chunk.data)
        if slot.received != chunk.total_length:
            return Assembly(True, chunk.update_id)
        whole = bytes(slot.data[: chunk.total_length])
        slot.data = bytearray()
        return Assembly(True, chunk.update_id, whole)
