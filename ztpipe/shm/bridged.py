"""Entries for MACs behind bridges in the region of the tables (kernel/bridged.h): which bridge carries their frames.

They mirror `ztpipe.node.actions.InstallBridged`. One that is refused costs speed only: the MAC's frames are punted.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeAlias

from ztpipe.kernel._kernel import lib

__all__ = ["Bridged"]

Key: TypeAlias = tuple[int, int]  # nwid, MAC


class Bridged:
    """The entries of one region; `tables` is its ``struct zt_tables *``."""

    def __init__(self, tables: Any) -> None:
        self._t = tables
        self._indices: dict[int, int] = {}  # of networks that have entries, by nwid
        self._macs: defaultdict[int, set[int]] = defaultdict(set)  # of those written, by nwid

    def __len__(self) -> int:
        return sum(map(len, self._macs.values()))

    def install(self, network: int, key: Key, address: int, *, renew_at: int, until: int) -> bool:
        """Insert or change. `network`: index of the network `key[0]`. renew_at, until: node ms. False: no room."""
        nwid, mac = key
        if lib.zt_bridged_put(self._t, network, mac, address, renew_at, until) < 0:
            return False
        self._indices[nwid] = network
        self._macs[nwid].add(mac)
        return True

    def remove(self, key: Key) -> None:
        """Frames of this MAC take the slow path."""
        nwid, mac = key
        if mac in self._macs.get(nwid, ()):
            self._macs[nwid].discard(mac)
            lib.zt_bridged_remove(self._t, self._indices[nwid], mac)

    def remove_network(self, nwid: int) -> None:
        """All entries of a network: before it is removed itself."""
        for mac in list(self._macs.get(nwid, ())):
            self.remove((nwid, mac))
        self._macs.pop(nwid, None)
        self._indices.pop(nwid, None)
