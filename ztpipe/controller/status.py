"""Which members asked lately, and what is needed to answer them unasked (controller §9.1, §7.1 step 4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from ztpipe.wire.identity import Identity

ONLINE_WINDOW: Final = 120_000
GRANT_MEMORY: Final = 180_000
MIN_INTERVAL: Final = 1_000
MAX_STATUSES: Final = 65_536


@dataclass(slots=True)
class MemberStatus:
    """The last genuine request of one node for one network, granted or not."""

    nwid: int
    identity: Identity
    metadata: bytes
    last_request: int  # ms
    last_grant: int | None = None  # when a configuration was sent last, ms

    @property
    def address(self) -> int:
        """The node."""
        return self.identity.address

    def online(self, now: int) -> bool:
        """Whether it is worth sending it anything."""
        return now - self.last_request < ONLINE_WINDOW

    def granted_recently(self, now: int) -> bool:
        """Whether it was given a configuration within the time that a controller remembers (controller §8.9)."""
        return self.last_grant is not None and now - self.last_grant < GRANT_MEMORY


class StatusTable:
    """Statuses by (network, member), oldest request first, at most `capacity`: the oldest gives way."""

    def __init__(self, capacity: int = MAX_STATUSES) -> None:
        self._capacity = capacity
        self._statuses: OrderedDict[tuple[int, int], MemberStatus] = OrderedDict()
        self._by_network: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self._statuses)

    def admit(self, now: int, nwid: int, identity: Identity, metadata: bytes) -> bool:
        """Note a request unless the last accepted one is at most MIN_INTERVAL ago; whether it was noted."""
        key = (nwid, identity.address)
        status = self._statuses.get(key)
        if status is not None and 0 <= now - status.last_request <= MIN_INTERVAL:
            return False
        last_grant = status.last_grant if status else None
        self._statuses[key] = MemberStatus(nwid, identity, metadata, now, last_grant)
        self._statuses.move_to_end(key)
        self._by_network.setdefault(nwid, set()).add(identity.address)
        while len(self._statuses) > self._capacity:
            self._remove(next(iter(self._statuses)))
        return True

    def recall(self, status: MemberStatus) -> None:
        """Take over what was known before a restart, in the order of the requests."""
        self._statuses[status.nwid, status.address] = status
        self._by_network.setdefault(status.nwid, set()).add(status.address)

    def since(self, time: int) -> Iterator[MemberStatus]:
        """Those whose last request was at `time` or later, newest first."""
        return takewhile(lambda status: status.last_request >= time, reversed(self._statuses.values()))

    def get(self, nwid: int, address: int) -> MemberStatus | None:
        """The status of one member."""
        return self._statuses.get((nwid, address))

    def online(self, now: int, nwid: int) -> Iterator[MemberStatus]:
        """The online statuses of one network, by ascending address."""
        for address in sorted(self._by_network.get(nwid, ())):
            status = self._statuses[nwid, address]
            if status.online(now):
                yield status

    def of(self, nwid: int) -> Iterator[MemberStatus]:
        """All statuses of one network, online or not."""
        return (self._statuses[nwid, address] for address in self._by_network.get(nwid, ()))

    def forget(self, nwid: int, address: int) -> None:
        """Another controller answers the member now."""
        if (nwid, address) in self._statuses:
            self._remove((nwid, address))

    def prune(self, now: int) -> None:
        """Drop statuses that are of no further use: offline, and their grant forgotten."""
        while self._statuses:
            key, status = next(iter(self._statuses.items()))
            if now - status.last_request < GRANT_MEMORY:
                return
            self._remove(key)

    def _remove(self, key: tuple[int, int]) -> None:
        del self._statuses[key]
        nwid, address = key
        addresses = self._by_network[nwid]
        addresses.discard(address)
        if not addresses:
            del self._by_network[nwid]
