"""Which multicast groups the kernel wants on a TAP (vl2 §6.1)."""

from __future__ import annotations

from collections.abc import Iterable

from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup
from ztpipe.wire.inetaddress import InetAddress

_NDP_BASE = 0x3333_FF00_0000


def read_groups(path: str = "/proc/net/dev_mcast") -> dict[str, set[MulticastGroup]]:
    """Link-layer groups of every device from the kernel's list, read once for all; unreadable lines are skipped."""
    groups: dict[str, set[MulticastGroup]] = {}
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) == 5 and len(fields[4]) == 12:
                    groups.setdefault(fields[1], set()).add(MulticastGroup(int(fields[4], 16), 0))
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
