"""Which controller of a fleet answers a member: one at a time, and another as soon as that one is not reached."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from ztpipe.controller.store import SharedStore, StoreError

HOLD_MS: Final = 50_000
"""How long a lease is trusted without renewing it: less than the minute between two requests of a member."""
REFUSAL_MS: Final = 1_000
"""How long a refusal is remembered without asking the store again."""
INSIST_MS: Final = 20_000
"""A member that asks again within this time does not reach the controller that holds its lease."""
MAX_KEYS: Final = 65_536

_Key = tuple[int, int]


class Leases(Protocol):
    """Asked at every request of a member. Times are ms."""

    def answers(self, now: int, nwid: int, address: int, metadata: bytes) -> bool:
        """Whether this controller answers the member."""

    def lost(self, nwid: int, address: int) -> None:
        """Another controller has taken the lease."""


class AloneLeases:
    """There is one controller."""

    def answers(self, now: int, nwid: int, address: int, metadata: bytes) -> bool:
        return True

    def lost(self, nwid: int, address: int) -> None:
        pass


class SharedLeases:
    """Leases in the store of a fleet. While that is away everybody answers: two answers are better than none."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._held: OrderedDict[_Key, int] = OrderedDict()  # trusted until
        self._refused: OrderedDict[_Key, int] = OrderedDict()  # when

    def answers(self, now: int, nwid: int, address: int, metadata: bytes) -> bool:
        key = (nwid, address)
        if self._held.get(key, 0) > now:
            return True
        refused = self._refused.get(key)
        if refused is not None and 0 <= now - refused < REFUSAL_MS:
            return False
        insist = refused is not None and now - refused <= INSIST_MS
        try:
            ours = self._store.lease(nwid, address, metadata, insist=insist)
        except StoreError:
            return True
        self._forget(key)
        _note(self._held if ours else self._refused, key, now + HOLD_MS if ours else now)
        return ours

    def lost(self, nwid: int, address: int) -> None:
        self._forget((nwid, address))

    def _forget(self, key: _Key) -> None:
        self._held.pop(key, None)
        self._refused.pop(key, None)


def _note(table: OrderedDict[_Key, int], key: _Key, time: int) -> None:
    table[key] = time
    if len(table) > MAX_KEYS:
        table.popitem(last=False)
