"""Which multicast groups the kernel wants on a TAP (vl2 §6.1)."""

from __future__ import annotations

from collections.abc import Iterable

from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup
from ztpipe.wire.inetaddress import InetAddress

_NDP_BASE = 0x3333_FF00_0000


def read_groups(device: str, path: str = "/proc/net/dev_mcast") -> set[MulticastGroup]:
    """Link-layer groups of `device` from the kernel's list; unreadable lines are skipped."""
    groups = set()
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) == 5 and fields[1] == device and len(fields[4]) == 12:
                    groups.add(MulticastGroup(int(fields[4], 16), 0))
    except (OSError, ValueError):
        return groups
    return groups


def address_groups(addresses: Iterable[InetAddress]) -> set[MulticastGroup]:
    """The groups by which others resolve our addresses: ARP by broadcast + IPv4, NDP by the last three bytes."""
    return {
        MulticastGroup(BROADCAST_MAC, int.from_bytes(a.ip, "big"))
        if len(a.ip) == 4
        else MulticastGroup(_NDP_BASE | int.from_bytes(a.ip[-3:], "big"), 0)
        for a in addresses
    }
