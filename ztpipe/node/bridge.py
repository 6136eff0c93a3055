"""What a member learns about things bridged behind it and behind others (vl2 §5.9). Bounded and ageing."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ztpipe.wire.address import MulticastGroup

MAX_ROUTES: Final = 65_536
ROUTE_TIMEOUT_MS: Final = 1_800_000
MAX_GROUPS: Final = 4_096
GROUP_TIMEOUT_MS: Final = 1_200_000


class BridgeTable:
    """MACs behind remote bridges, and multicast groups behind ourselves, of one network."""

    def __init__(self, *, max_routes: int = MAX_ROUTES, max_groups: int = MAX_GROUPS) -> None:
        self._routes: OrderedDict[int, tuple[int, int]] = OrderedDict()  # MAC: (bridge, learned at), oldest first
        self._groups: OrderedDict[MulticastGroup, int] = OrderedDict()  # group: last seen, oldest first
        self._max_routes = max_routes
        self._max_groups = max_groups

    def learn(self, now: int, mac: int, bridge: int) -> None:
        """A frame from `mac` came through `bridge`; the latest word wins."""
        self._routes[mac] = (bridge, now)
        self._routes.move_to_end(mac)
        if len(self._routes) > self._max_routes:
            self._routes.popitem(last=False)

    def route(self, now: int, mac: int) -> int | None:
        """The bridge behind which `mac` was seen of late."""
        entry = self._routes.get(mac)
        return entry[0] if entry is not None and now - entry[1] < ROUTE_TIMEOUT_MS else None

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
        while self._routes and now - next(iter(self._routes.values()))[1] >= ROUTE_TIMEOUT_MS:
            self._routes.popitem(last=False)
        while self._groups and now - next(iter(self._groups.values())) >= GROUP_TIMEOUT_MS:
            self._groups.popitem(last=False)

    def __len__(self) -> int:
        return len(self._routes)
