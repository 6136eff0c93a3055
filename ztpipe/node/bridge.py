"""What a member learns about things bridged behind it and behind others (vl2 §5.9). Bounded and ageing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from ztpipe.wire.address import MulticastGroup

MAX_ROUTES: Final = 65_536
ROUTE_TIMEOUT_MS: Final = 1_800_000
MAX_GROUPS: Final = 4_096
GROUP_TIMEOUT_MS: Final = 1_200_000


@dataclass(slots=True)
class _Route:
    bridge: int
    at: int
    """When a frame came from there last."""
    told: int | None = None
    """When the data plane was told, if it was."""


class BridgeTable:
    """MACs behind remote bridges, and multicast groups behind ourselves, of one network."""

    def __init__(self, *, max_routes: int = MAX_ROUTES, max_groups: int = MAX_GROUPS) -> None:
        self._routes: OrderedDict[int, _Route] = OrderedDict()  # by MAC, oldest first
        self._groups: OrderedDict[MulticastGroup, int] = OrderedDict()  # group: last seen, oldest first
        self._forgotten: list[int] = []
        self._max_routes = max_routes
        self._max_groups = max_groups

    def learn(self, now: int, mac: int, bridge: int) -> int | None:
        """A frame from `mac` came through `bridge`; the latest word wins.

        Returns when the data plane was told just this last, None if it was not.
        """
        route = self._routes.get(mac)
        if route is None:
            route = self._routes[mac] = _Route(bridge, now)
            if len(self._routes) > self._max_routes:
                self._forget_oldest()
        else:
            self._routes.move_to_end(mac)
            route.told = route.told if route.bridge == bridge else None
            route.bridge, route.at = bridge, now
        return route.told

    def route(self, now: int, mac: int) -> int | None:
        """The bridge behind which `mac` was seen of late."""
        route = self._routes.get(mac)
        return route.bridge if route is not None and now - route.at < ROUTE_TIMEOUT_MS else None

    def tell(self, now: int, mac: int) -> None:
        """The data plane is being told where `mac` is."""
        self._routes[mac].told = now

    def untell(self, bridges: Container[int]) -> list[int]:
        """MACs that the data plane was told are behind somebody who is none of `bridges`: it is to forget them."""
        gone = [mac for mac, route in self._routes.items() if route.told is not None and route.bridge not in bridges]
        for mac in gone:
            self._routes[mac].told = None
        return gone

    def take_forgotten(self) -> list[int]:
        """MACs that were forgotten since the last call and that the data plane knows."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _forget_oldest(self) -> None:
        mac, route = self._routes.popitem(last=False)
        if route.told is not None:
            self._forgotten.append(mac)

    def see_group(self, now: int, group: MulticastGroup) -> bool:
        """Somebody behind us sent to `group`; True if that is news."""
        new = group not in self._groups
        self._groups[group] = now
        self._groups.move_to_end(group)
        if len(self._groups) > self._max_groups:
            self._groups.popitem(last=False)
        return new

    @property
    def groups(self) -> frozenset[MulticastGroup]:
        """The groups behind us."""
        return frozenset(self._groups)

    def expire(self, now: int) -> None:
        """Forget what is old."""
        while self._routes and now - next(iter(self._routes.values())).at >= ROUTE_TIMEOUT_MS:
            self._forget_oldest()
        while self._groups and now - next(iter(self._groups.values())) >= GROUP_TIMEOUT_MS:
            self._groups.popitem(last=False)

    def __len__(self) -> int:
        return len(self._routes)
