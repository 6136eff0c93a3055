"""The C stages between rings in private memory: records in, records out, no process and no socket of its own."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.counters import Counters
from ztpipe.shm.rings import RingRegion, RingSet
from ztpipe.shm.tables import Endpoint, Sizes, Tables
from ztpipe.wire.address import mac_of
from ztpipe.wire.armor import SessionKeys

ALIGN = int(lib.ZT_REC_ALIGN)
FILLER = 1
NWID = 0x267FCF9DF000CC03
A, B = 0x9E1DAD2D10, 0x42241DC871
REMOTE_A: Endpoint = (bytes((10, 55, 14, 3)), 9993)
REMOTE_B: Endpoint = (bytes((10, 55, 14, 4)), 9993)
KEYS = SessionKeys(bytes(range(48)))
ALL_OFFLOADS = int(
    lib.ZT_OFFLOAD_TAP_VNET
    | lib.ZT_OFFLOAD_TAP_TSO
    | lib.ZT_OFFLOAD_TAP_USO
    | lib.ZT_OFFLOAD_UDP_GSO
    | lib.ZT_OFFLOAD_UDP_GRO
)
FOREVER = 1 << 60


@dataclass
class Record:
    """One record of a slot (abi.h)."""

    data: bytes
    network: int = 0
    peer: int = 0
    binding: int = 0
    remote: Endpoint | None = None
    seg: int = 0
    nseg: int = 1
    flow: int = 0
    adi: int = 0
    recipients: int = 0
    multicast: int = 0
    flags: int = 0
    via: bytes = bytes(5)

    def datagrams(self) -> list[bytes]:
        """Cut every `seg` bytes, as UDP_SEGMENT does."""
        if self.nseg == 1:
            return [self.data]
        return [self.data[i : i + self.seg] for i in range(0, len(self.data), self.seg)]


@dataclass(frozen=True)
class Punt:
    """What a stage handed to the slow path."""

    kind: int
    data: bytes
    binding: int = 0
    remote: Endpoint | None = None
    nwid: int = 0
    address: int = 0


@dataclass
class Pipe:
    """A ring with both its ends."""

    slots: int = 4
    region: RingRegion = field(init=False)
    producer: RingSet = field(init=False)
    consumer: RingSet = field(init=False)

    def __post_init__(self) -> None:
        self.region = RingRegion.create("lab", self.slots, 0, 1, private=True)
        self.producer, self.consumer = RingSet(), RingSet()
        self.producer.add(self.region)
        self.consumer.add(self.region)

    def put(self, records: Iterable[Record]) -> None:
        """Publish one slot with these records."""
        slot = lib.zt_ring_reserve(self.producer.end(0))
        assert slot, "the lab's ring is full"
        base = ffi.cast("uint8_t *", slot)
        used, count = ALIGN, 0
        for record in records:
            assert used + ALIGN + len(record.data) <= lib.ZT_SLOT_BYTES
            ffi.memmove(base + used, bytes(ALIGN), ALIGN)
            rec = ffi.cast("struct zt_rec *", base + used)
            rec.len, rec.flow, rec.peer, rec.network = len(record.data), record.flow, record.peer, record.network
            rec.binding, rec.seg, rec.nseg = record.binding, record.seg, record.nseg
            rec.adi, rec.recipients, rec.multicast = record.adi, record.recipients, record.multicast
            rec.flags, rec.via = record.flags, list(record.via)
            if record.remote is not None:
                ip, port = record.remote
                ffi.memmove(rec.remote.ip, ip, len(ip))
                rec.remote.port, rec.remote.family = port, 4 if len(ip) == 4 else 6
            ffi.memmove(base + used + ALIGN, record.data, len(record.data))
            used += ALIGN + -(-len(record.data) // ALIGN) * ALIGN
            count += 1
        slot.nrec, slot.used = count, used
        lib.zt_ring_publish(self.producer.end(0))

    def take(self) -> list[Record]:
        """Every record of every published slot, fillers left out."""
        return [record for slot in self.take_slots() for record in slot]

    def take_slots(self) -> Iterator[list[Record]]:
        """The published slots, each released after it was read."""
        while slot := lib.zt_ring_peek(self.consumer.end(0)):
            yield list(_records(slot))
            lib.zt_ring_release(self.consumer.end(0))


def _records(slot: Any) -> Iterator[Record]:
    base = ffi.cast("uint8_t *", slot)
    at = ALIGN
    for _ in range(slot.nrec):
        rec = ffi.cast("struct zt_rec *", base + at)
        assert at + ALIGN + rec.len <= lib.ZT_SLOT_BYTES, "record beyond its slot"
        if rec.flags & FILLER == 0:
            remote = _endpoint(rec.remote)
            data = bytes(ffi.buffer(base + at + ALIGN, rec.len))
            more = (rec.adi, rec.recipients, rec.multicast, rec.flags, bytes(rec.via))
            yield Record(data, rec.network, rec.peer, rec.binding, remote, rec.seg, rec.nseg, rec.flow, *more)
        at += ALIGN + -(-rec.len // ALIGN) * ALIGN
    assert slot.used == at, "slot.used is not where the records end"


def _endpoint(e: Any) -> Endpoint | None:
    if e.family == 0:
        return None
    return bytes(ffi.buffer(e.ip, 4 if e.family == 4 else 16)), int(e.port)


class Lab:
    """One node's tables and context, with one pipe per direction; use as a context manager.

    `replay_sets`: 0 so that tests may put in one packet several times.
    """

    def __init__(self, address: int = A, *, offload: int = ALL_OFFLOADS, slots: int = 4, replay_sets: int = 0) -> None:
        self.tables = Tables.create(address, Sizes(8, 64, 64, 64, replay_sets), 1_000_000)
        self.counters = Counters.create(["lab"])
        self.context = lib.zt_context_new(
            self.tables.pointer, self.tables.keys_pointer, self.counters.block(0), ffi.NULL, offload
        )
        self.address = address
        self.from_tap, self.to_peer, self.from_peer, self.to_tap = (Pipe(slots) for _ in range(4))
        self.crypto = lib.zt_crypto_new(
            self.context,
            self.from_tap.consumer.pointer,
            self.to_peer.producer.pointer,
            self.from_peer.consumer.pointer,
            self.to_tap.producer.pointer,
        )
        assert self.crypto

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the stages, and close the regions' descriptors, of which hundreds of labs would keep thousands.

        The memory stays as long as somebody looks at it.
        """
        lib.zt_crypto_free(self.crypto)
        lib.zt_context_free(self.context)
        for region in (self.tables.region, self.tables.keys, self.counters.region):
            if region is not None and region.fd >= 0:
                os.close(region.fd)
                region.fd = -1

    def join(self, nwid: int = NWID, *, mtu: int = 2800, accept_all: bool = True) -> int:
        """Install a network; its index."""
        index = self.tables.install_network(nwid, mac_of(self.address, nwid), mtu, accept_all=accept_all, bridge=False)
        assert index is not None
        return index

    def meet(
        self,
        address: int,
        remote: Endpoint,
        *,
        suite: int = 3,
        mtu: int = 1432,
        keys: SessionKeys = KEYS,
        nwid: int = NWID,
        path: bool = True,
        receive: bool = True,
        send_until: int = FOREVER,
    ) -> int:
        """Install a peer that is a member, with a learned path; its index."""
        index = self.tables.install_peer(address, keys.salsa32, keys.k0, keys.k1, suite, 0, remote, mtu, True)
        assert index is not None
        if path:
            self.tables.install_path(address, 0, remote)
        self.tables.install_member(nwid, address, receive, send_until)
        return index

    def punts(self) -> list[Punt]:
        """Drain the punt buffer."""
        p = self.context.punts
        at, out = 0, []
        for _ in range(p.count):
            head = ffi.cast("struct zt_punt *", p.data + at)
            size = ffi.sizeof("struct zt_punt")
            data = bytes(ffi.buffer(p.data + at + size, head.len))
            out.append(Punt(head.kind, data, head.binding, _endpoint(head.remote), head.nwid, head.address))
            at += size + -(-head.len // 8) * 8
        p.used = p.count = p.urgent = 0
        return out

    def counts(self) -> dict[str, int]:
        """Every counter that is not zero."""
        return {name: value for name, value in self.counters.read(0).items() if value}

    def seal(self, records: Iterable[Record], budget: int = 64) -> list[Record]:
        """Frames in, datagram records out."""
        self.from_tap.put(records)
        out: list[Record] = []
        while lib.zt_seal(self.crypto, budget):
            out += self.to_peer.take()
        return out + self.to_peer.take()

    def open(self, records: Iterable[Record], budget: int = 64) -> list[Record]:
        """Datagram records in, frame records out."""
        self.from_peer.put(records)
        out: list[Record] = []
        while lib.zt_open(self.crypto, budget):
            out += self.to_tap.take()
        return out + self.to_tap.take()


def pair(*, suite: int = 3, offload: int = ALL_OFFLOADS, mtu: int = 2800, path_mtu: int = 1432) -> tuple[Lab, Lab]:
    """Two nodes that know each other and share a network."""
    a, b = Lab(A, offload=offload), Lab(B, offload=offload)
    for lab, other, remote in ((a, B, REMOTE_B), (b, A, REMOTE_A)):
        lab.join(mtu=mtu)
        lab.meet(other, remote, suite=suite, mtu=path_mtu)
    return a, b


VNET = struct.Struct("=BBHHHHH")
PLAIN_VNET = bytes(VNET.size)


def vnet(*, flags: int = 0, gso: int = 0, header: int = 0, size: int = 0, start: int = 0, offset: int = 0) -> bytes:
    """struct virtio_net_hdr_mrg_rxbuf."""
    return VNET.pack(flags, gso, header, size, start, offset, 0)
