"""An Ethernet frame in a few words."""

from __future__ import annotations

import ipaddress
import time
from typing import Final

from ztpipe.rules.frameview import ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, FrameView

_HEADER: Final = 14
_PROTOCOLS: Final = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 58: "ICMPv6", 132: "SCTP"}
_WITH_PORTS: Final = frozenset({6, 17, 132})
_ARP: Final = {1: "who-has", 2: "is-at"}
_FRAGMENT_OFFSET: Final = 0x1FFF


def when(at: int) -> str:
    """Local time of day of `at` (ns since 1970), in µs."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at // 10**9))}.{at // 1000 % 10**6:06}"


def length_on_wire(frame: bytes) -> int:
    """Bytes the frame had before a rule cut it short, as its IP header says; its own length if there is none."""
    view = FrameView(int.from_bytes(frame[12:14], "big"), frame[_HEADER:])
    if view.is_ipv4:
        return max(len(frame), _HEADER + view.number(2, 2))
    return max(len(frame), _HEADER + 40 + view.number(4, 2)) if view.is_ipv6 else len(frame)


def describe(frame: bytes) -> str:
    """Addresses, protocol, ports and length; never raises."""
    view = FrameView(int.from_bytes(frame[12:14], "big"), frame[_HEADER:])
    macs = f"{frame[6:12].hex(':')} > {frame[:6].hex(':')}"
    return f"{macs} {_payload(view)}, {length_on_wire(frame)} bytes"


def _payload(view: FrameView) -> str:
    data = view.data
    if view.is_ipv4:
        first = view.number(6, 2) & _FRAGMENT_OFFSET == 0
        return _ip("IPv4", data[12:16], data[16:20], data[9], data[view.ipv4_header :] if first else b"")
    if view.is_ipv6:
        walk = view.ipv6_walk()
        offset, protocol = walk if walk is not None else (len(data), data[6])
        return _ip("IPv6", data[8:24], data[24:40], protocol, data[offset:])
    if view.ethertype == ETHERTYPE_ARP and len(data) >= 28:
        asked, own = ipaddress.ip_address(data[24:28]), ipaddress.ip_address(data[14:18])
        return f"ARP {_ARP.get(view.number(6, 2), 'operation ' + str(view.number(6, 2)))} {own} > {asked}"
    names = {ETHERTYPE_IPV4: "short IPv4", ETHERTYPE_IPV6: "short IPv6", ETHERTYPE_ARP: "short ARP"}
    return names.get(view.ethertype, f"ethertype {view.ethertype:04x}")


def _ip(family: str, source: bytes, destination: bytes, protocol: int, body: bytes) -> str:
    ports = ["", ""]
    if protocol in _WITH_PORTS and len(body) >= 4:
        ports = [f" port {int.from_bytes(body[at : at + 2], 'big')}" for at in (0, 2)]
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    return f"{family} {ipaddress.ip_address(source)}{ports[0]} > {ipaddress.ip_address(destination)}{ports[1]} {name}"
