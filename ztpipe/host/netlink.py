"""Addresses and routes by rtnetlink (pyroute2), asynchronous so that control's loop never waits for the kernel.

What we made is remembered; what we did not make is never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ztpipe.host.netevents import Change, NetEvents
from ztpipe.wire.inetaddress import InetAddress

_AF_INET, _AF_INET6 = 2, 10
_PROTO_STATIC = 4
#: Attributes of a link's kind that hold the far end of a tunnel.
_FAR_ENDS = (
    "gre_remote", "ipip_remote", "sit_remote", "ip6tnl_remote", "vti_remote", "vxlan_group", "vxlan_group6",
    "geneve_remote", "geneve_remote6",
)  # fmt: skip
_METRIC = 5000  # what the reference gives routes with a gateway (vl2 §7.4)
_IFA_F_TEMPORARY, _IFA_F_TENTATIVE, _IFA_F_DADFAILED, _IFA_F_NODAD = 0x01, 0x40, 0x08, 0x02


@dataclass(frozen=True, slots=True)
class UnderlayAddress:
    """An address of an interface. `address.port` is the prefix length; `kind` as in `ip -d link`, "" if hardware.

    `mtu`: of the link, 0 if not known. `over`: names of the devices that carry it, from the nearest on: the parent of a
    VLAN or macvlan, and where the routes say that the far end of a tunnel is.
    """

    interface: str
    index: int
    address: InetAddress
    kind: str = ""
    mtu: int = 0
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagedRoute:
    """A route we keep: `target.port` and `source.port` are prefix lengths; `via` None = directly on the device."""

    target: InetAddress
    via: InetAddress | None
    source: InetAddress | None


class Netlink:
    """A netlink socket for requests, and one for events while somebody follows them. Use as `async with Netlink()`."""

    def __init__(self, table: int = 0) -> None:
        """`table`: where managed routes go, 0: the main one."""
        self._table = table
        self._route: AsyncIPRoute | None = None
        self._listing = asyncio.Lock()

    async def __aenter__(self) -> Netlink:
        self._route = await AsyncIPRoute().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._route is not None:
            with contextlib.suppress(Exception):
                await self._route.close()
        self._route = None

    @property
    def _ip(self) -> AsyncIPRoute:
        assert self._route is not None, "Netlink is used inside `async with`"
        return self._route

    async def _list(self, request: Callable[[], Awaitable[AsyncIterable[Any]]]) -> list[Any]:
        """A whole listing. One at a time: the kernel refuses a second one on the same socket with EBUSY."""
        async with self._listing:
            return [message async for message in await request()]

    async def underlay(self) -> list[UnderlayAddress]:
        """Every address of every interface that is up, temporary IPv6 ones left out (vl1-behaviour §6.2)."""
        names, kinds, mtus = {}, {}, {}
        carriers: dict[int, int] = {}
        for link in await self._list(self._ip.get_links):
            if link["flags"] & 1:
                names[link["index"]] = str(link.get("ifname"))
                kinds[link["index"]] = str(link.get(("linkinfo", "kind")) or "")
                mtus[link["index"]] = int(link.get("mtu") or 0)
                carrier = await self._carrier(link)
                if carrier is not None:
                    carriers[link["index"]] = carrier
        found = []
        for message in await self._list(self._ip.get_addr):
            flags = message.get("flags") or 0
            if message["index"] not in names or flags & (_IFA_F_TEMPORARY | _IFA_F_TENTATIVE | _IFA_F_DADFAILED):
                continue
            text = message.get("local") or message.get("address")
            if text:
                packed = ipaddress.ip_address(text).packed
                found.append(
                    UnderlayAddress(
                        names[message["index"]],
                        message["index"],
                        InetAddress(packed, message["prefixlen"]),
                        kinds[message["index"]],
                        mtus[message["index"]],
                        _chain(message["index"], carriers, names),
                    )
                )
        return sorted(found, key=lambda a: (a.interface, len(a.address.ip), a.address.ip))

    async def _carrier(self, link: Any) -> int | None:
        """Index of the device that carries this one, None if it carries itself (or its parent is in another place)."""
        far_end = next((text for name in _FAR_ENDS if (text := link.get(("linkinfo", "data", name)))), None)
        if far_end and not ipaddress.ip_address(far_end).is_unspecified:
            with contextlib.suppress(NetlinkError, OSError):  # no route: it carries nothing
                for route in await self._ip.route("get", dst=str(far_end)):
                    oif = route.get("oif")
                    return int(oif) if oif and oif != link["index"] else None
            return None
        parent = link.get("link")
        elsewhere = link.get("link_netnsid") is not None
        return int(parent) if parent and parent != link["index"] and not elsewhere else None

    async def link_index(self, name: str) -> int | None:
        async with self._listing:
            indexes = await self._ip.link_lookup(ifname=name)
        return indexes[0] if indexes else None

    async def addresses_of(self, index: int) -> set[InetAddress]:
        """The addresses on one interface; `port` = prefix length."""
        found = set()
        for message in await self._list(lambda: self._ip.get_addr(index=index)):
            text = message.get("local") or message.get("address")
            if text and message["index"] == index:
                found.add(InetAddress(ipaddress.ip_address(text).packed, message["prefixlen"]))
        return found

    async def add_address(self, index: int, label: str, address: InetAddress) -> bool:
        """Permanent, universe scope; IPv4 with broadcast = all host bits one (vl2 §7.3). False: it is there already."""
        text = str(ipaddress.ip_address(address.ip))
        fields: dict[str, Any] = {"index": index, "address": text, "prefixlen": address.port}
        if len(address.ip) == 4:
            network = ipaddress.ip_network((address.ip, address.port), strict=False)
            fields |= {"broadcast": str(network.broadcast_address), "label": label}
        else:
            fields |= {"IFA_FLAGS": _IFA_F_NODAD}  # the address is ours by construction: usable at once
        return await _added(self._ip.addr("add", **fields))

    async def remove_address(self, index: int, address: InetAddress) -> None:
        with _tolerate(99, 19, 3):  # EADDRNOTAVAIL, ENODEV, ESRCH: gone already
            await self._ip.addr(
                "del", index=index, address=str(ipaddress.ip_address(address.ip)), prefixlen=address.port
            )

    async def add_route(self, index: int, route: ManagedRoute) -> bool:
        """Protocol static. With a gateway: metric 5000. False: such a route is there already."""
        return await _added(self._ip.route("add", **self._route_fields(index, route)))

    async def remove_route(self, index: int, route: ManagedRoute) -> None:
        with _tolerate(3, 19):  # gone already
            await self._ip.route("del", **self._route_fields(index, route))

    def parts(self, route: ManagedRoute) -> tuple[ManagedRoute, ...]:
        """What is installed for a route; in a table of its own a default route replaces nobody's."""
        return (route,) if self._table else halves(route)

    async def rules(self) -> list[Any]:
        """The rules of both families, as the kernel tells them."""
        return await self._list(self._ip.get_rules)

    async def add_rule(self, fields: Mapping[str, Any]) -> bool:
        """False: it is there already."""
        return await _added(self._ip.rule("add", **fields))

    async def remove_rule(self, fields: Mapping[str, Any]) -> None:
        with _tolerate(errno.ENOENT, errno.ESRCH):  # gone already
            await self._ip.rule("del", **fields)

    def _route_fields(self, index: int, route: ManagedRoute) -> dict[str, Any]:
        target = route.target
        network = ipaddress.ip_network((target.ip, target.port), strict=False)
        fields: dict[str, Any] = {
            "family": _AF_INET if len(target.ip) == 4 else _AF_INET6,
            "dst": str(network),
            "oif": index,
            "proto": _PROTO_STATIC,
        }
        if self._table:
            fields["table"] = self._table
        if route.via is not None:
            fields |= {"gateway": str(ipaddress.ip_address(route.via.ip)), "priority": _METRIC}
        if route.source is not None:
            fields["prefsrc"] = str(ipaddress.ip_address(route.source.ip))
        return fields

    async def changes(self) -> AsyncIterator[Change]:
        """Yields after something changed, bursts folded into one. Raises OSError."""
        with NetEvents() as events:
            async for change in events:
                yield change


def _chain(index: int, carriers: Mapping[int, int], names: Mapping[int, str]) -> tuple[str, ...]:
    """Names of what carries device `index`, however many there are of them."""
    chain: list[int] = []
    while (carrier := carriers.get(index)) is not None and carrier not in chain:
        chain.append(carrier)
        index = carrier
    return tuple(names[carrier] for carrier in chain if carrier in names)


def halves(route: ManagedRoute) -> tuple[ManagedRoute, ...]:
    """A default route is split in two so that it never replaces the system's own (vl2 §7.4)."""
    if route.target.port != 0:
        return (route,)
    zero = bytes(len(route.target.ip))
    targets = (InetAddress(zero, 1), InetAddress(b"\x80" + zero[1:], 1))
    return tuple(replace(route, target=target) for target in targets)


async def _added(request: Awaitable[object]) -> bool:
    """Whether the request made something; False if it was there."""
    try:
        await request
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return False
    return True


@contextlib.contextmanager
def _tolerate(*codes: int) -> Any:
    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise
