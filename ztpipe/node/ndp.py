"""ARP and neighbour discovery: resolution groups, local answers to solicitations (vl2 §5.3, §6.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of
from ztpipe.wire.inetaddress import InetAddress

ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD

_ICMPV6: Final = 58
_SOLICITATION: Final = 0x87
_ADVERTISEMENT: Final = bytes((0x88, 0x00))
_SOLICITED_OVERRIDE: Final = bytes.fromhex("60000000")
_TARGET_LINK_LAYER: Final = bytes((2, 1))
_RFC4193_PREFIX: Final = 88
_SIXPLANE_PREFIX: Final = 40


def arp_request_target(ethertype: int, payload: bytes) -> int | None:
    """The IPv4 address an ARP request asks for, as an integer; None if the frame is not such a request."""
    if ethertype != ETHERTYPE_ARP or len(payload) < 28:
        return None
    if payload[2:4] != b"\x08\x00" or payload[4] != 6 or payload[5] != 4 or payload[7] != 1:
        return None
    return int.from_bytes(payload[24:28], "big")


def resolution_group(address: InetAddress) -> MulticastGroup:
    """The group a member joins to be found by ARP or neighbour discovery at `address`."""
    if len(address.ip) == 4:
        return MulticastGroup(BROADCAST_MAC, int.from_bytes(address.ip, "big"))
    return MulticastGroup(0x3333FF000000 | int.from_bytes(address.ip[13:], "big"), 0)


def emulated_owner(target: bytes, own: InetAddress, nwid: int) -> int | None:
    """The node embedded in `target` if that lies in the same RFC 4193 or 6PLANE network as our address `own`."""
    ip, bits = own.ip, own.port
    if bits == _RFC4193_PREFIX and ip[0] == 0xFD and ip[9:11] == b"\x99\x93" and target[:11] == ip[:11]:
        return int.from_bytes(target[11:16], "big")
    network = ((nwid ^ (nwid >> 32)) & 0xFFFFFFFF).to_bytes(4, "big")
    if bits == _SIXPLANE_PREFIX and ip[0] == 0xFC and ip[1:5] == network and target[:5] == ip[:5]:
        return int.from_bytes(target[5:10], "big")
    return None


def solicitation_target(ethertype: int, payload: bytes) -> bytes | None:
    """The address a neighbour solicitation asks for; None if the frame is none (or hides behind extension headers)."""
    if ethertype != ETHERTYPE_IPV6 or len(payload) < 64 or payload[6] != _ICMPV6 or payload[40] != _SOLICITATION:
        return None
    return payload[48:64]


def emulated_answer(
    ethertype: int, payload: bytes, *, nwid: int, own_address: int, static_ips: Iterable[InetAddress]
) -> tuple[int, bytes] | None:
    """(source MAC, IPv6 payload) of the advertisement that answers a solicitation on behalf of another member.

    None if NDP emulation does not apply, so that the solicitation has to go out as an ordinary multicast.
    """
    target = solicitation_target(ethertype, payload)
    if target is None:
        return None
    for own in static_ips:
        owner = emulated_owner(target, own, nwid) if len(own.ip) == 16 else None
        if owner is not None:
            if owner in (0, own_address):
                return None
            mac = mac_of(owner, nwid)
            return mac, _advertisement(target, own.ip, mac)
    return None


def _advertisement(target: bytes, destination: bytes, mac: int) -> bytes:
    body = _SOLICITED_OVERRIDE + target + _TARGET_LINK_LAYER + mac.to_bytes(6, "big")
    length = (4 + len(body)).to_bytes(4, "big")
    checksum = _checksum(
        target + destination + length + bytes((0, 0, 0, _ICMPV6)) + _ADVERTISEMENT + b"\x00\x00" + body
    )
    header = b"\x60\x00\x00\x00" + length[2:] + bytes((_ICMPV6, 0xFF)) + target + destination
    return header + _ADVERTISEMENT + checksum + body


def _checksum(data: bytes) -> bytes:
    """The Internet checksum of an even number of bytes."""
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
