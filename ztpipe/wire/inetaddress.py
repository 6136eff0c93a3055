"""IP endpoints, and prefixes written as endpoints (vl1-wire §3). The nil endpoint is `None`."""

from __future__ import annotations

from enum import IntEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

from ztpipe.wire.errors import WireError


class IpScope(IntEnum):
    """Scope of an IP address; the number is its rank as a path, higher preferred (vl1-behaviour §2.7)."""

    NONE = 0
    MULTICAST = 1
    LOOPBACK = 2
    PSEUDO_PRIVATE = 3
    GLOBAL = 4
    LINK_LOCAL = 5
    SHARED = 6
    PRIVATE = 7


_PSEUDO_PRIVATE_8: Final = frozenset({6, 11, 21, 22, 25, 26, 28, 29, 30, 51, 55, 56})
_PRIVATE_V4: Final = tuple(
    (int(IPv4Address(net)), (0xFFFFFFFF << (32 - bits)) & 0xFFFFFFFF)
    for net, bits in (
        ("10.0.0.0", 8),
        ("172.16.0.0", 12),
        ("192.168.0.0", 16),
        ("100.64.0.0", 10),
        ("192.0.2.0", 24),
        ("198.18.0.0", 15),
        ("198.51.100.0", 24),
        ("203.0.113.0", 24),
    )
)


def _scope_v4(ip: bytes) -> IpScope:
    first = ip[0]
    if first in (0, 255):
        return IpScope.NONE
    if first == 127:
        return IpScope.LOOPBACK
    if 224 <= first < 240:
        return IpScope.MULTICAST
    if first == 169 and ip[1] == 254:
        return IpScope.LINK_LOCAL
    value = int.from_bytes(ip, "big")
    if any(value & mask == net for net, mask in _PRIVATE_V4):
        return IpScope.PRIVATE
    if first in _PSEUDO_PRIVATE_8 or first >= 240:
        return IpScope.PSEUDO_PRIVATE
    return IpScope.GLOBAL


def _scope_v6(ip: bytes) -> IpScope:
    first = ip[0]
    if first == 0xFF:
        return IpScope.MULTICAST
    if first == 0xFE and ip[1] & 0xC0 == 0x80:
        return IpScope.LINK_LOCAL
    if first & 0xFE == 0xFC:
        return IpScope.PRIVATE
    if not any(ip[:15]):
        return {0: IpScope.NONE, 1: IpScope.LOOPBACK}.get(ip[15], IpScope.GLOBAL)
    return IpScope.GLOBAL


class InetAddress(NamedTuple):
    """IPv4 or IPv6 address (4 or 16 bytes) with a UDP port, or with a prefix length in its place (configurations)."""

    ip: bytes
    port: int

    @classmethod
    def parse(cls, text: str) -> InetAddress:
        """`ip/port`, or an IP alone (port 0). `WireError("bad_inetaddress")` for anything else."""
        host, _, port_text = text.partition("/")
        if port_text and not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
            raise WireError("bad_inetaddress")
        port = int(port_text) if port_text else 0
        if port > 0xFFFF or "%" in host:
            raise WireError("bad_inetaddress")
        try:
            ip = IPv6Address(host).packed if ":" in host else IPv4Address(host).packed
        except AddressValueError:
            raise WireError("bad_inetaddress") from None
        return cls(ip, port)

    @property
    def is_ipv4(self) -> bool:
        return len(self.ip) == 4

    @property
    def is_ipv6(self) -> bool:
        return len(self.ip) == 16

    @property
    def host(self) -> str:
        """The IP alone, as text."""
        return str(IPv4Address(self.ip) if len(self.ip) == 4 else IPv6Address(self.ip))

    def text(self) -> str:
        """`ip/port`."""
        return f"{self.host}/{self.port}"

    def __str__(self) -> str:
        return self.text()

    @property
    def scope(self) -> IpScope:
        return _scope_v4(self.ip) if len(self.ip) == 4 else _scope_v6(self.ip)

    def same_ip(self, other: InetAddress) -> bool:
        """True if the IPs are equal, whatever the ports."""
        return self.ip == other.ip

    def in_prefix(self, net: InetAddress) -> bool:
        """True if our IP lies in `net`, whose port is its prefix length (too great: the whole address)."""
        bits = 8 * len(self.ip)
        if len(net.ip) != len(self.ip):
            return False
        shift = bits - min(net.port, bits)
        return int.from_bytes(self.ip, "big") >> shift == int.from_bytes(net.ip, "big") >> shift

    def network(self) -> InetAddress:
        """With the host bits cleared; the port is the prefix length."""
        bits = 8 * len(self.ip)
        shift = bits - min(self.port, bits)
        value = int.from_bytes(self.ip, "big") >> shift << shift
        return InetAddress(value.to_bytes(len(self.ip), "big"), self.port)


def read_inet(buffer: bytes, offset: int) -> tuple[InetAddress | None, int]:
    """The endpoint at `offset` and the offset after it; reserved types 1-3 are skipped and give nil."""
    size = len(buffer)
    if offset >= size:
        raise WireError("truncated_inetaddress")
    kind = buffer[offset]
    start = offset + 1
    if kind == 0:
        return None, start
    if kind in (4, 6):
        end = start + (4 if kind == 4 else 16)
        if end + 2 > size:
            raise WireError("truncated_inetaddress")
        return InetAddress(buffer[start:end], buffer[end] << 8 | buffer[end + 1]), end + 2
    if kind in (1, 2):
        end = start + 6
    elif kind == 3:
        if start + 2 > size:
            raise WireError("truncated_inetaddress")
        end = start + 2 + (buffer[start] << 8 | buffer[start + 1])
    else:
        raise WireError("bad_inetaddress")
    if end > size:
        raise WireError("truncated_inetaddress")
    return None, end


def write_inet(address: InetAddress | None) -> bytes:
    """1, 7 or 19 bytes."""
    if address is None:
        return b"\x00"
    kind = b"\x04" if len(address.ip) == 4 else b"\x06"
    return kind + address.ip + address.port.to_bytes(2, "big")
