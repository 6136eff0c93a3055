"""Which local addresses carry the underlay (vl1-behaviour §6.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ztpipe.host.netlink import UnderlayAddress
from ztpipe.wire.inetaddress import InetAddress, IpScope

_SCOPES = frozenset({IpScope.PRIVATE, IpScope.PSEUDO_PRIVATE, IpScope.SHARED, IpScope.GLOBAL})
# lo and our own kind of device; wg: an overlay inside an overlay pays twice
_EXCLUDED = ("lo", "zt", "tun", "tap")


def usable(
    found: Iterable[UnderlayAddress],
    *,
    prefix_blacklist: Sequence[str] = (),
    blacklist: Sequence[InetAddress] = (),
    own_devices: Collection[str] = (),
) -> list[UnderlayAddress]:
    """The addresses to bind: right scope, interface not excluded by name, address not in a blacklisted prefix."""
    prefixes = (*_EXCLUDED, *prefix_blacklist)
    return [
        a
        for a in found
        if a.address.scope in _SCOPES
        and a.interface not in own_devices
        and not a.interface.startswith(prefixes)
        and not any(len(net.ip) == len(a.address.ip) and a.address.in_prefix(net) for net in blacklist)
    ]
