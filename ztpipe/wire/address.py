"""Node addresses, network IDs, MACs, and what is derived from them (vl1-wire §1, vl2 §1). All are plain integers."""

from __future__ import annotations

from typing import Final, NamedTuple

from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress

ADDRESS_LENGTH: Final = 5
BROADCAST_MAC: Final = 0xFFFFFFFFFFFF

_MULTICAST_BIT: Final = 0x010000000000
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


class MulticastGroup(NamedTuple):
    """A multicast group of a network: MAC and additional distinguishing information (vl1-wire §1.4)."""

    mac: int
    adi: int = 0


def is_reserved_address(address: int) -> bool:
    """True for addresses no node can have: zero, and those whose first byte is 0xff (vl1-wire §1.1)."""
    return address == 0 or address >> 32 == 0xFF


def is_adhoc(nwid: int) -> bool:
    """True for networks without a controller (vl2 §1.5)."""
    return nwid >> 56 == 0xFF


def controller_of(nwid: int) -> int:
    """The address of a network's controller (vl1-wire §1.2)."""
    return nwid >> 24


def is_multicast_mac(mac: int) -> bool:
    """True for multicast MACs, broadcast included."""
    return bool(mac & _MULTICAST_BIT)


def _mac_first_octet(nwid: int) -> int:
    first = (nwid & 0xFE) | 0x02
    return 0x32 if first == 0x52 else first


def _mac_mask(nwid: int) -> int:
    """The five octets that are XORed over the address: bits 8..47 of the network ID, lowest octet first."""
    return int.from_bytes(((nwid >> 8) & 0xFFFFFFFFFF).to_bytes(5, "little"), "big")


def mac_of(address: int, nwid: int) -> int:
    """The MAC of a member on a network (vl1-wire §1.3)."""
    return _mac_first_octet(nwid) << 40 | (address ^ _mac_mask(nwid))


def address_of_mac(mac: int, nwid: int) -> int:
    """The inverse of `mac_of`; meaningful if `is_member_mac`."""
    return (mac & 0xFFFFFFFFFF) ^ _mac_mask(nwid)


def is_member_mac(mac: int, nwid: int) -> bool:
    """True if a MAC has the first octet of this network's members (vl2 §1.2)."""
    return mac >> 40 == _mac_first_octet(nwid)


def rfc4193(nwid: int, address: int) -> InetAddress:
    """The member's embedded RFC 4193 address with its prefix length 88 (vl2 §1.3)."""
    return InetAddress(b"\xfd" + nwid.to_bytes(8, "big") + b"\x99\x93" + address.to_bytes(5, "big"), 88)


def sixplane(nwid: int, address: int) -> InetAddress:
    """The member's 6PLANE address with its prefix length 40 (vl2 §1.3)."""
    network = ((nwid ^ (nwid >> 32)) & 0xFFFFFFFF).to_bytes(4, "big")
    return InetAddress(b"\xfc" + network + address.to_bytes(5, "big") + b"\x00\x00\x00\x00\x00\x01", 40)


def device_name(nwid: int, trial: int = 0) -> str:
    """Name of the network's interface on Linux; `trial` counts up while the name is taken (vl2 §1.4)."""
    number = ((nwid ^ (nwid >> 24)) + trial) & 0xFFFFFFFFFF
    return "zt" + "".join(_BASE32[(number >> shift) & 31] for shift in range(35, -1, -5))


def format_address(address: int) -> str:
    """10 lower-case hex digits."""
    return f"{address:010x}"


def format_nwid(nwid: int) -> str:
    """16 lower-case hex digits."""
    return f"{nwid:016x}"


def format_mac(mac: int) -> str:
    """Lower-case hex pairs joined by colons."""
    return mac.to_bytes(6, "big").hex(":")


def _parse_hex(text: str, digits: int, reason: str) -> int:
    if len(text) != digits or not _HEX_DIGITS.issuperset(text):
        raise WireError(reason)
    return int(text, 16)


def parse_address(text: str) -> int:
    """Exactly 10 hex digits; `WireError("bad_address")` otherwise. Reserved addresses are not refused here."""
    return _parse_hex(text, 10, "bad_address")


def parse_nwid(text: str) -> int:
    """Exactly 16 hex digits; `WireError("bad_network_id")` otherwise."""
    return _parse_hex(text, 16, "bad_network_id")


def parse_mac(text: str) -> int:
    """`aa:bb:cc:dd:ee:ff` or the twelve digits alone; `WireError("bad_mac_address")` otherwise."""
    if len(text) == 17 and {text[i] for i in range(2, 17, 3)} == {":"}:
        text = text.replace(":", "")
    return _parse_hex(text, 12, "bad_mac_address")
