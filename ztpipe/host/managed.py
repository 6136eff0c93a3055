"""What a network's configuration puts on its TAP: addresses, routes, MTU (vl2 §7.1-7.4).

`plan()` decides, purely; `ManagedDevice` makes the kernel agree with the plan and remembers what it made.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ztpipe.host.netlink import ManagedRoute, Netlink
from ztpipe.wire.inetaddress import InetAddress, IpScope
from ztpipe.wire.netconf import NetworkConfig


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The per-network permissions of networks.d/<id>.local.conf (vl2 §7.1)."""

    allow_managed: bool = True
    allow_global: bool = False
    allow_default: bool = False
    allow_dns: bool = False
    managed_prefixes: tuple[InetAddress, ...] = ()  # allowManaged as a list: only inside one of these

    def allows(self, target: InetAddress) -> bool:
        """Whether an address or route target (`port` = prefix length) may be used."""
        if not self.allow_managed:
            return False
        if self.managed_prefixes and not any(_contains(p, target) for p in self.managed_prefixes):
            return False
        if target.port == 0 and not any(target.ip):
            return self.allow_default
        scope = target.scope
        if scope in (IpScope.NONE, IpScope.MULTICAST, IpScope.LOOPBACK, IpScope.LINK_LOCAL):
            return False
        return self.allow_global if scope == IpScope.GLOBAL else True


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be on the device. Routes are in the order of installation: without gateway first."""

    addresses: tuple[InetAddress, ...] = ()
    routes: tuple[ManagedRoute, ...] = ()


def plan(config: NetworkConfig | None, settings: LocalSettings, *, online: bool) -> Plan:
    """Addresses (vl2 §7.3) and routes (§7.4) that `config` gives us; default routes via a gateway only while online."""
    if config is None:
        return Plan()
    addresses = tuple(
        sorted({a for a in config.static_ips if settings.allows(a)}, key=lambda a: (len(a.ip), a.ip, a.port))
    )
    routes = [r for route in config.routes if (r := _route(route.target, route.via, addresses, settings)) is not None]
    if not online:
        routes = [r for r in routes if r.via is None or r.target.port != 0]
    return Plan(addresses, tuple(sorted(dict.fromkeys(routes), key=lambda r: r.via is not None)))


def _route(
    target: InetAddress | None, via: InetAddress | None, own: Sequence[InetAddress], settings: LocalSettings
) -> ManagedRoute | None:
    if target is None or not settings.allows(target):
        return None
    family = [a for a in own if len(a.ip) == len(target.ip)]
    if not family:
        return None  # no address to send from
    if via is not None and len(via.ip) == len(target.ip):
        if any(via.ip == a.ip for a in own):
            return None  # we are that router
    else:
        via = None
    if any(a.port == target.port and _contains(target, a) for a in family):
        return None  # the address itself implies the route
    return ManagedRoute(target, via, max(family, key=lambda a: _common_bits(a.ip, target.ip)))


def _contains(net: InetAddress, inner: InetAddress) -> bool:
    return len(net.ip) == len(inner.ip) and net.port <= inner.port and inner.in_prefix(net)


def _common_bits(a: bytes, b: bytes) -> int:
    return len(a) * 8 - (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()


@dataclass(slots=True)
class ManagedDevice:
    """Keeps one device's kernel state equal to a Plan, by differences; what it did not make it leaves alone."""

    netlink: Netlink
    index: int
    name: str
    applied: Plan = field(default_factory=Plan)
    made: set[InetAddress | ManagedRoute] = field(default_factory=set)
    """What of the plan is ours: not what somebody else had put there before us."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time: a plan that is being left must not be put back."""

    async def apply(self, wanted: Plan) -> None:
        """Move from the applied plan to `wanted`. Routes go before the addresses they need, and come after them."""
        async with self._lock:
            await self._apply(wanted)
            await self._reassert()

    async def _apply(self, wanted: Plan) -> None:
        for route in _without(self.applied.routes, wanted.routes):
            for half in self.netlink.parts(route):
                if half in self.made:
                    await self.netlink.remove_route(self.index, half)
                    self.made.discard(half)
        for address in _without(self.applied.addresses, wanted.addresses):
            if address in self.made:
                await self.netlink.remove_address(self.index, address)
                self.made.discard(address)
        present = await self.netlink.addresses_of(self.index) if wanted.addresses else set()
        for address in wanted.addresses:
            for other in present:
                if other.ip == address.ip and other.port != address.port:
                    await self.netlink.remove_address(self.index, other)
        self.applied = wanted

    async def reassert(self) -> None:
        """Put back what somebody removed (vl2 §7.2)."""
        async with self._lock:
            await self._reassert()

    async def _reassert(self) -> None:
        for address in self.applied.addresses:
            if await self.netlink.add_address(self.index, self.name, address):
                self.made.add(address)
        for route in self.applied.routes:
            for half in self.netlink.parts(route):
                if await self.netlink.add_route(self.index, half):
                    self.made.add(half)


def _without(old: Iterable, new: Iterable) -> list:  # type: ignore[type-arg]
    keep = set(new)
    return [item for item in old if item not in keep]


def parse_prefixes(text: str) -> tuple[InetAddress, ...]:
    """A comma-separated list of IP/prefix; raises ValueError naming the bad part."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        network = ipaddress.ip_network(part, strict=False)
        found.append(InetAddress(network.network_address.packed, network.prefixlen))
    return tuple(found)
