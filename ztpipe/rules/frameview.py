"""What the rules engine reads out of an Ethernet payload (vl2 §4.4).

A `FrameView` is made once per frame and shared by every rule list that looks at the frame; what is costly (the walk
over IPv6 extension headers) is done at the first question and kept. Nothing here raises on a short or malformed frame.
"""

from __future__ import annotations

from typing import Final

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD

PROTOCOL_ICMP: Final = 1
PROTOCOL_TCP: Final = 6
PROTOCOL_ICMPV6: Final = 0x3A

_EXTENSION_HEADERS: Final = frozenset({0, 43, 60, 135})
_NEIGHBOUR_SOLICITATION: Final = 0x87
_NEIGHBOUR_ADVERTISEMENT: Final = 0x88


class FrameView:
    """One Ethernet payload (without its 14-byte header) with its etherType."""

    __slots__ = ("_walk", "_walked", "data", "ethertype", "is_ipv4", "is_ipv6")

    def __init__(self, ethertype: int, data: bytes) -> None:
        self.ethertype = ethertype
        self.data = data
        self.is_ipv4 = ethertype == ETHERTYPE_IPV4 and len(data) >= 20
        self.is_ipv6 = ethertype == ETHERTYPE_IPV6 and len(data) >= 40
        self._walk: tuple[int, int] | None = None
        self._walked = False

    @property
    def ipv4_header(self) -> int:
        """IPv4 header length in bytes, as the frame states it (not validated)."""
        return 4 * (self.data[0] & 0x0F)

    def ipv6_walk(self) -> tuple[int, int] | None:
        """(offset of the payload, its protocol) behind the extension headers; None if the walk leaves the frame."""
        if not self._walked:
            self._walk = self._do_walk()
            self._walked = True
        return self._walk

    def _do_walk(self) -> tuple[int, int] | None:
        data = self.data
        if not self.is_ipv6:
            return None
        position, protocol = 40, data[6]
        while position <= len(data):
            if protocol not in _EXTENSION_HEADERS:
                return position, protocol
            if position + 8 > len(data):
                return None
            protocol, position = data[position], position + data[position + 1] * 8 + 8
        return None

    def number(self, offset: int, size: int) -> int:
        """Big-endian integer of `size` bytes at `offset`; the caller has checked the bounds."""
        return int.from_bytes(self.data[offset : offset + size], "big")

    def sender_ip(self) -> bytes | None:
        """The address that "sender IP authenticated" is about; None when there is none."""
        data = self.data
        if self.is_ipv4:
            return data[12:16]
        if self.is_ipv6:
            if self._icmpv6_at_40() == _NEIGHBOUR_ADVERTISEMENT:
                return data[48:64]
            return None if self.is_neighbour_solicitation else data[8:24]
        if self.ethertype == ETHERTYPE_ARP and len(data) >= 28:
            return data[14:18]
        return None

    @property
    def is_neighbour_solicitation(self) -> bool:
        """True for an IPv6 neighbour solicitation without extension headers."""
        return self._icmpv6_at_40() == _NEIGHBOUR_SOLICITATION

    def _icmpv6_at_40(self) -> int | None:
        data = self.data
        return data[40] if self.is_ipv6 and len(data) >= 64 and data[6] == PROTOCOL_ICMPV6 else None

    def tcp_flags(self) -> int:
        """The twelve TCP flag bits (reserved, NS, CWR … FIN); 0 if the frame is no TCP or too short to hold them."""
        data = self.data
        if self.is_ipv4:
            offset = self.ipv4_header
            if data[9] == PROTOCOL_TCP and len(data) > offset + 13:
                return data[offset + 13] | (data[offset + 12] & 0x0F) << 8
            return 0
        walk = self.ipv6_walk()
        if walk is not None and walk[1] == PROTOCOL_TCP and len(data) > walk[0] + 14:
            return data[walk[0] + 13] | (data[walk[0] + 12] & 0x0F) << 8
        return 0
