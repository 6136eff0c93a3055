"""The secondary UDP port changes while nobody can be reached (vl1-behaviour §6.1): some router may have a mapping of
the old one that leads nowhere. Unlike in the reference it stays after a suspend, when paths over it are asked at once
(docs/recovery.md) and usually still work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ztpipe.host.sockets import random_port

OFFLINE_MS: Final = 120_000
SECONDARY: Final = 1
"""Its place in the list of ports."""


class SecondaryPort:
    """`ports`: those of the bindings, changed in place. `fixed`: somebody configured it, or there is to be none."""

    __slots__ = ("_fixed", "_online", "_pick", "_ports", "_since")

    def __init__(self, now: int, ports: list[int], *, fixed: bool, pick: Callable[[], int] = random_port) -> None:
        self._ports, self._fixed, self._pick = ports, fixed, pick
        self._online, self._since = False, now

    def set_online(self, now: int, online: bool) -> None:
        self._online, self._since = online, now

    def renew(self, now: int, last_heard: Callable[[], int]) -> bool:
        """Choose another one if we are offline for long, and again after as long; the next rebinding opens it.

        `last_heard`: when anybody was. Where nobody is a root, peers may be reached all the same.
        """
        if self._fixed or self._online or now - self._since <= OFFLINE_MS:
            return False
        self._since = max(last_heard(), self._since)
        if now - self._since <= OFFLINE_MS:
            return False
        self._since = now
        port = self._pick()
        if port == 0 or port in self._ports:
            return False
        self._ports[SECONDARY] = port
        return True
