"""Who is in which multicast group, as far as we were told (vl2 §6.2, §6.5). Bounded; entries age."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ztpipe.node.membership import NEVER

if TYPE_CHECKING:
    from ztpipe.node.filter import EthernetFrame
    from ztpipe.wire.address import MulticastGroup

MEMBER_TIMEOUT_MS: Final = 600_000
FRAME_TIMEOUT_MS: Final = 5_000
GATHER_INTERVAL_MS: Final = 60_000
MAX_PENDING: Final = 32
"""Queued frames per group."""
MAX_GROUPS_PER_MEMBER: Final = 1_024
MAX_ENTRIES: Final = 262_144
"""(group, member) pairs of all networks together."""
MAX_GROUPS: Final = 65_536


@dataclass(slots=True)
class PendingFrame:
    """A multicast frame still looking for recipients: `served` counts towards `limit`."""

    expires: int
    frame: EthernetFrame
    payload: bytes
    limit: int
    served: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Group:
    """One group of one network: members with the time each was last reported, frames waiting for more members."""

    members: dict[int, int] = field(default_factory=dict)
    pending: deque[PendingFrame] = field(default_factory=lambda: deque(maxlen=MAX_PENDING))
    last_gather: int = NEVER

    def idle(self, now: int) -> bool:
        """True if nothing would be lost by forgetting the group."""
        return not self.members and not self.pending and now - self.last_gather >= GATHER_INTERVAL_MS


class GroupTable:
    """All groups, of joined networks and (on roots and controllers) of others."""

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_per_member: int = MAX_GROUPS_PER_MEMBER) -> None:
        self._groups: dict[tuple[int, MulticastGroup], Group] = {}
        self._held: dict[tuple[int, int], int] = {}  # (network, member): number of groups it is in
        self._entries = 0
        self._max_entries = max_entries
        self._max_per_member = max_per_member

    def get(self, nwid: int, group: MulticastGroup) -> Group | None:
        return self._groups.get((nwid, group))

    def obtain(self, nwid: int, group: MulticastGroup) -> Group | None:
        """The group's state, made if missing; None if there are too many groups."""
        held = self._groups.get((nwid, group))
        if held is None and len(self._groups) < MAX_GROUPS:
            held = self._groups[nwid, group] = Group()
        return held

    def add(self, now: int, nwid: int, group: MulticastGroup, address: int) -> bool:
        """Note that a node is in a group; False if there is no room for it."""
        state = self.obtain(nwid, group)
        if state is None:
            return False
        if address not in state.members:
            count = self._held.get((nwid, address), 0)
            if count >= self._max_per_member or self._entries >= self._max_entries:
                return False
            self._held[nwid, address] = count + 1
            self._entries += 1
        state.members[address] = now
        return True

    def remove(self, nwid: int, group: MulticastGroup, address: int) -> None:
        """The node does not want this group's frames."""
        state = self._groups.get((nwid, group))
        if state is not None and state.members.pop(address, None) is not None:
            self._release(nwid, address)

    def members(self, nwid: int, group: MulticastGroup) -> list[int]:
        """Addresses of the group's members."""
        state = self._groups.get((nwid, group))
        return [] if state is None else list(state.members)

    def forget_network(self, nwid: int) -> None:
        """Forget all groups of a network."""
        for key in [key for key in self._groups if key[0] == nwid]:
            for address in self._groups.pop(key).members:
                self._release(nwid, address)

    def expire(self, now: int) -> None:
        """Forget members not reported for ten minutes, frames that found nobody, and empty groups."""
        for (nwid, group), state in list(self._groups.items()):
            for address in [a for a, seen in state.members.items() if now - seen >= MEMBER_TIMEOUT_MS]:
                del state.members[address]
                self._release(nwid, address)
            while state.pending and state.pending[0].expires <= now:
                state.pending.popleft()
            if state.idle(now):
                del self._groups[nwid, group]

    def _release(self, nwid: int, address: int) -> None:
        self._entries -= 1
        left = self._held[nwid, address] - 1
        if left:
            self._held[nwid, address] = left
        else:
            del self._held[nwid, address]

    def __len__(self) -> int:
        return self._entries
