"""Ethernet frames built and taken apart in plain Python: twin of kernel/segment.c, judge of kernel/coalesce.c."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

TCP, UDP, ICMPV6 = 6, 17, 58
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << i for i in range(8))
NEEDS_CSUM = 1
TCPV4, TCPV6, UDP_L4, ECN = 1, 4, 5, 0x80
DF, MF = 0x4000, 0x2000

VNET = struct.Struct("=BBHHHHH")
#: No offload at all.
PLAIN_VNET = bytes(VNET.size)


def ones_sum(data: bytes) -> int:
    """RFC 1071, folded, not complemented."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    """The field: complemented, with 0xffff for 0."""
    return ~ones_sum(data) & 0xFFFF or 0xFFFF


@dataclass(frozen=True)
class Frame:
    """One TCP or UDP packet in an Ethernet frame, every field that matters by name."""

    source: bytes = bytes((10, 0, 0, 1))
    destination: bytes = bytes((10, 0, 0, 2))
    proto: int = TCP
    ports: tuple[int, int] = (1000, 2000)
    payload: bytes = b""
    macs: bytes = bytes(12)
    vlan: int | None = None
    outer: int | None = None  # a second tag before that one, or alone: 802.1ad
    tos: int = 0
    ttl: int = 64
    ip_id: int = 0
    ip_flags: int = DF
    ip_options: bytes = b""  # IPv4, multiple of 4
    extension: bytes = b""  # IPv6: one whole extension header whose next header is proto; type 60
    flow_label: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = ACK
    reserved: int = 0  # the four bits before the flags; the lowest is a flag of accurate ECN
    window: int = 512
    options: bytes = b""  # TCP, multiple of 4
    urgent: int = 0

    @property
    def ipv6(self) -> bool:
        """By the length of the addresses."""
        return len(self.source) == 16

    @property
    def ethernet(self) -> bytes:
        """MACs, tags, EtherType."""
        tags = b"" if self.outer is None else struct.pack(">HH", 0x88A8, self.outer)
        tags += b"" if self.vlan is None else struct.pack(">HH", 0x8100, self.vlan)
        return self.macs + tags + struct.pack(">H", 0x86DD if self.ipv6 else 0x0800)

    def ip(self, length: int) -> bytes:
        """The IP header for `length` bytes of TCP or UDP."""
        if self.ipv6:
            first = 6 << 28 | self.tos << 20 | self.flow_label
            following = 60 if self.extension else self.proto
            size = length + len(self.extension)
            fixed = struct.pack(">IHBB", first, size & 0xFFFF, following, self.ttl)
            return fixed + self.source + self.destination + self.extension
        words = 5 + len(self.ip_options) // 4
        total = (words * 4 + length) & 0xFFFF
        head = struct.pack(">BBHHHBB", 0x40 | words, self.tos, total, self.ip_id, self.ip_flags, self.ttl, self.proto)
        rest = self.source + self.destination + self.ip_options
        # 0 is written as 0 here: an IPv4 header that sums to 0xffff cannot be, its first byte is not 0
        return head + struct.pack(">H", ~ones_sum(head + b"\0\0" + rest) & 0xFFFF) + rest

    def l4(self, length: int, field: int) -> bytes:
        """The TCP or UDP header with `field` as checksum; `length` of header and payload."""
        if self.proto == UDP:
            return struct.pack(">HHHH", *self.ports, length & 0xFFFF, field)
        first = 5 + len(self.options) // 4 << 4 | self.reserved
        head = struct.pack(
            ">HHIIBBHHH", *self.ports, self.seq, self.ack, first, self.flags, self.window, field, self.urgent
        )
        return head + self.options

    def pseudo(self, length: int) -> bytes:
        """What the checksum covers besides the packet."""
        return self.source + self.destination + struct.pack(">IHBB", length & 0xFFFFFFFF, 0, 0, self.proto)

    @property
    def header_length(self) -> int:
        """Of TCP or UDP."""
        return 8 if self.proto == UDP else 20 + len(self.options)

    def build(self) -> bytes:
        """The frame with correct checksums."""
        length = self.header_length + len(self.payload)
        field = checksum(self.pseudo(length) + self.l4(length, 0) + self.payload)
        return self.ethernet + self.ip(length) + self.l4(length, field) + self.payload

    def partial(self) -> bytes:
        """The frame as the kernel gives it with NEEDS_CSUM: the pseudo-header's sum in the checksum field."""
        length = self.header_length + len(self.payload)
        return self.ethernet + self.ip(length) + self.l4(length, ones_sum(self.pseudo(length))) + self.payload

    def vnet(self, gso_size: int = 0, ecn: bool = False) -> bytes:
        """The vnet header of `partial`."""
        start = len(self.ethernet) + len(self.ip(0))
        kind = 0 if gso_size == 0 else UDP_L4 if self.proto == UDP else TCPV6 if self.ipv6 else TCPV4
        kind |= ECN if ecn else 0
        offset = 6 if self.proto == UDP else 16
        return VNET.pack(NEEDS_CSUM, kind, start + self.header_length, gso_size, start, offset, 0)

    def segments(self, gso_size: int) -> Iterator[Frame]:
        """The packets that a super-frame stands for."""
        count = max(1, -(-len(self.payload) // gso_size))
        for i in range(count):
            flags = self.flags
            if i != count - 1:
                flags &= ~(FIN | PSH)
            if i != 0:
                flags &= ~CWR
            yield replace(
                self,
                payload=self.payload[i * gso_size : (i + 1) * gso_size],
                ip_id=(self.ip_id + i) & 0xFFFF,
                seq=(self.seq + i * gso_size) & 0xFFFFFFFF,
                flags=flags,
            )


def parse(frame: bytes) -> Frame:
    """The inverse of `build` and `partial`, checksums aside, for frames without extension headers."""
    at, vlan, outer = 14, None, None
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x88A8:
        outer, kind = struct.unpack_from(">HH", frame, at)
        at += 4
    if kind == 0x8100:
        vlan, kind = struct.unpack_from(">HH", frame, at)
        at += 4
    f = Frame(macs=frame[:12], vlan=vlan, outer=outer)
    if kind == 0x0800:
        end = at + (frame[at] & 15) * 4
        tos, _, ip_id, ip_flags, ttl, proto = struct.unpack_from(">xBHHHBB", frame, at)
        f = replace(f, tos=tos, ip_id=ip_id, ip_flags=ip_flags, ttl=ttl, proto=proto, source=frame[at + 12 : at + 16],
                    destination=frame[at + 16 : at + 20], ip_options=frame[at + 20 : end])  # fmt: skip
    else:
        end = at + 40
        first, _, proto, ttl = struct.unpack_from(">IHBB", frame, at)
        f = replace(f, tos=first >> 20 & 0xFF, flow_label=first & 0xFFFFF, ttl=ttl, proto=proto,
                    source=frame[at + 8 : at + 24], destination=frame[at + 24 : at + 40])  # fmt: skip
    ports = struct.unpack_from(">HH", frame, end)
    if f.proto == UDP:
        return replace(f, ports=ports, payload=frame[end + 8 :])
    seq, ack, words, flags, window, _, urgent = struct.unpack_from(">IIBBHHH", frame, end + 4)
    size = (words >> 4) * 4
    return replace(f, ports=ports, seq=seq, ack=ack, flags=flags, reserved=words & 15, window=window, urgent=urgent,
                   options=frame[end + 20 : end + size], payload=frame[end + size :])  # fmt: skip


def unfold(record: bytes) -> list[bytes]:
    """The Ethernet frames that vnet header + frame stand for, by this twin alone; it must describe itself correctly."""
    flags, kind, _, gso_size, start, offset, _ = VNET.unpack_from(record)
    frame = record[VNET.size :]
    if kind == 0 and not flags & NEEDS_CSUM:
        return [frame]
    if kind == 0:
        at = start + offset
        return [frame[:at] + struct.pack(">H", checksum(frame[start:])) + frame[at + 2 :]]
    whole = parse(frame)
    assert frame == whole.partial(), "a super-frame has lengths, header checksum and pseudo-header's sum of its own"
    assert record[: VNET.size] == whole.vnet(gso_size, ecn=bool(kind & ECN)), "the vnet header is that of the frame"
    return [segment.build() for segment in whole.segments(gso_size)]
