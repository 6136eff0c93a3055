"""Rate gates (vl1-behaviour §2.6). Each is a few integers; whoever must remember one keeps it beside what it limits."""

from __future__ import annotations

from typing import Final

NEVER: Final = -(1 << 62)


class IntervalGate:
    """Lets one event through per `period` ms."""

    __slots__ = ("last", "period")

    def __init__(self, period: int) -> None:
        self.period = period
        self.last = NEVER

    def allow(self, now: int) -> bool:
        """True if the last event let through is at least `period` ago; then this one counts."""
        if now - self.last < self.period:
            return False
        self.last = now
        return True


class BurstGate:
    """Counts events that follow each other within `window` ms and lets the first `limit` of such a series through."""

    __slots__ = ("count", "last", "limit", "window")

    def __init__(self, window: int, limit: int) -> None:
        self.window = window
        self.limit = limit
        self.last = NEVER
        self.count = 0

    def allow(self, now: int) -> bool:
        """Every event, let through or not, is part of the series (gate 4)."""
        self.count = self.count + 1 if now - self.last <= self.window else 0
        self.last = now
        return self.count < self.limit


class KeyedGate:
    """One event per key and `period`; remembers at most `capacity` keys, forgetting the oldest first."""

    __slots__ = ("_last", "capacity", "period")

    def __init__(self, period: int, capacity: int) -> None:
        self.period = period
        self.capacity = capacity
        self._last: dict[object, int] = {}

    def allow(self, now: int, key: object) -> bool:
        last = self._last.get(key)
        if last is not None:
            if now - last < self.period:
                return False
            del self._last[key]
        elif len(self._last) >= self.capacity:
            del self._last[next(iter(self._last))]
        self._last[key] = now
        return True

    def forget(self, key: object) -> None:
        self._last.pop(key, None)

    def expire(self, now: int) -> None:
        """Drop what no longer limits anything: entries stand in the order of their time."""
        while self._last:
            key = next(iter(self._last))
            if now - self._last[key] < self.period:
                return
            del self._last[key]

    def __len__(self) -> int:
        return len(self._last)


class PrefixGate:
    """Gate 1: identity validation, one per source prefix (IPv4 /24, IPv6 first 48 bits) and `period`.

    Unlike the reference's, it lets `BURST` through at once after a pause: nodes of one LAN that start together are not
    to wait for each other. Prefixes share 16 384 slots as in the reference, so memory is fixed whatever addresses are
    forged. `salt` keeps an outsider from choosing prefixes that share a slot with a victim's.
    """

    SLOTS: Final = 16_384
    BURST: Final = 8
    __slots__ = ("_free_at", "_salt")

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._free_at: dict[int, int] = {}  # slot: when it has its whole burst again

    def allow(self, now: int, ip: bytes, period: int) -> bool:
        prefix = ip[:3] if len(ip) == 4 else ip[:6]
        slot = hash((self._salt, prefix)) % self.SLOTS
        free_at = max(self._free_at.get(slot, now), now)
        if free_at - now > (self.BURST - 1) * period:
            return False
        self._free_at[slot] = free_at + period
        return True
