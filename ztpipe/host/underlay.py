"""Which local addresses carry the underlay (vl1-behaviour §6.2), and which would make the overlay run through itself.

Beyond the reference: interfaces of containers and of other overlays are left out unless allowed. An address there is
often one that exists on every host (172.17.0.1), or one that is itself reached through a tunnel of ours (found by the
routes to the far ends of tunnels, and by the parents of VLANs). Sockets are bound to their device, so that a route into
the overlay never captures our own transport.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from ztpipe.host.netlink import UnderlayAddress
from ztpipe.wire.inetaddress import InetAddress, IpScope

_SCOPES: Final = frozenset({IpScope.PRIVATE, IpScope.PSEUDO_PRIVATE, IpScope.SHARED, IpScope.GLOBAL})

#: What the reference leaves out on Linux, by prefix of the name.
_REFERENCE: Final = ("lo", "zt", "tun", "tap")

#: Names by which container engines and other overlays call their devices. veth as such is not among them: in a
#: container it is eth0, and the only way out.
_VIRTUAL: Final = (
    "br-*", "cali*", "cbr*", "cilium*", "cni*", "docker*", "flannel*", "kube*", "lxcbr*", "lxdbr*", "nebula*",
    "nodelocaldns*", "nordlynx*", "podman*", "tailscale*", "utun*", "veth*", "virbr*", "vxlan*", "weave*", "wg*",
)  # fmt: skip

#: Kinds of device that are a tunnel whatever they are called.
_TUNNELS: Final = frozenset({"wireguard", "tun", "vxlan", "geneve"})


@dataclass(frozen=True, slots=True)
class Selection:
    """`usable`: what to bind. `saved`: interface -> why we left it out although the reference would have bound it."""

    usable: list[UnderlayAddress]
    saved: Mapping[str, str] = field(default_factory=dict)


def select(
    found: Iterable[UnderlayAddress],
    *,
    allow: Sequence[str] = (),
    prefix_blacklist: Sequence[str] = (),
    blacklist: Sequence[InetAddress] = (),
    own_devices: Collection[str] = (),
    bind: Sequence[InetAddress] = (),
) -> Selection:
    """The addresses to bind.

    `bind`: exactly these, whatever there is (wildcards too), not bound to a device. `allow`: patterns of interface
    names; if there are any, only such interfaces, and no automatic exclusion applies to them. Blacklists and our own
    devices (`own_devices`) count in any case.
    """
    if bind:
        return Selection([UnderlayAddress("", 0, address) for address in bind])
    usable: list[UnderlayAddress] = []
    saved: dict[str, str] = {}
    for candidate in found:
        name = candidate.interface
        if candidate.address.scope not in _SCOPES or name in own_devices or name.startswith(tuple(prefix_blacklist)):
            continue
        if any(len(n.ip) == len(candidate.address.ip) and candidate.address.in_prefix(n) for n in blacklist):
            continue
        if allow:
            if any(fnmatchcase(name, pattern) for pattern in allow):
                usable.append(candidate)
        elif not name.startswith(_REFERENCE):
            reason = _why_circular(candidate, own_devices) or _why_virtual(candidate)
            if reason is None:
                usable.append(candidate)
            else:
                saved[name] = reason
    return Selection(usable, saved)


def _why_circular(candidate: UnderlayAddress, own_devices: Collection[str]) -> str | None:
    """A VLAN on a TAP of ours, or a tunnel whose far end is reached through one: the overlay would carry itself."""
    own = next((name for name in candidate.over if name in own_devices or name.startswith("zt")), None)
    return None if own is None else f"it runs over {own}"


def _why_virtual(candidate: UnderlayAddress) -> str | None:
    if candidate.kind in _TUNNELS:
        return f"it is a {candidate.kind} device"
    if any(fnmatchcase(candidate.interface, pattern) for pattern in _VIRTUAL):
        return "its name is one of containers or of another overlay"
    return None
