"""What strangers may cost: token buckets in front of key agreements and address hashes.

The gate of the reference (one unknown identity per source prefix and 2 s, vl1-behaviour §2.6 gate 1) limits a source;
with forged sources it still lets 8 000 a second through. A key agreement costs some 40 µs, an address hash 5 ms.
"""

from __future__ import annotations

from typing import Final

AGREEMENTS_PER_S: Final = 1_000
HASHES_PER_S: Final = 25
HASHES_PER_S_ROOT: Final = 100
BURST_S: Final = 4


class TokenBucket:
    """Lets `rate` events per second through, and up to `rate * BURST_S` at once after a pause."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._at: int | None = None
        self._tokens = 0.0

    def left(self, now: int, rate: int) -> bool:
        """Would `take` let one through?"""
        self._fill(now, rate)
        return self._tokens >= 1

    def take(self, now: int, rate: int) -> bool:
        if not self.left(now, rate):
            return False
        self._tokens -= 1
        return True

    def _fill(self, now: int, rate: int) -> None:
        full = float(rate * BURST_S)
        if self._at is None:
            self._tokens = full
        else:
            self._tokens = min(full, self._tokens + max(0, now - self._at) * rate / 1000)
        self._at = now


class Newcomers:
    """The budget of all strangers together."""

    __slots__ = ("_agreements", "_hashes")

    def __init__(self) -> None:
        self._agreements = TokenBucket()
        self._hashes = TokenBucket()

    def may_agree(self, now: int) -> bool:
        """One more key agreement with an identity that nobody vouched for?"""
        return self._agreements.take(now, AGREEMENTS_PER_S)

    def hash_left(self, now: int, *, root: bool) -> bool:
        """Would `may_hash` say yes? Else a key agreement would be for nothing."""
        return self._hashes.left(now, HASHES_PER_S_ROOT if root else HASHES_PER_S)

    def may_hash(self, now: int, *, root: bool) -> bool:
        """One more address hash? Roots are there to meet strangers and may spend half a core on it."""
        return self._hashes.take(now, HASHES_PER_S_ROOT if root else HASHES_PER_S)
