"""What the slow path counts: control's own block beside those of the workers, by name."""

from __future__ import annotations

from collections import Counter


class SlowPathCounters:
    """Counters of control itself. Every event that enters the slow path ends in one of `handled` or a drop."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()

    def add(self, name: str, count: int) -> None:
        self.counts[name] += count

    def drop(self, reason: str, count: int) -> None:
        self.drops[reason] += count

    def snapshot(self) -> dict[str, int]:
        """All of them in one mapping, drops as `drop_<reason>`."""
        return {**self.counts, **{f"drop_{reason}": count for reason, count in self.drops.items()}}
