"""The one exception of this package."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes that are not what they claim to be. `reason` is the name of the drop reason, e.g. "truncated_verb"."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
