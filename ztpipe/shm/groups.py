"""Entries for multicast groups in the region of the tables (kernel/fanout.h): who gets the frames for a group.

They mirror `ztpipe.node.actions.InstallGroup`. An entry for a network that has none itself is refused: the next frame
for that group takes the slow path and brings it back.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from ztpipe.kernel._kernel import lib
from ztpipe.shm.policies import Policies

__all__ = ["Groups"]

_HEAD: Final = struct.Struct("=IIHHHxx")  # struct zt_group_list
_LIMIT: Final = 0xFFFF_FFFF
Key: TypeAlias = tuple[int, int, int]  # nwid, MAC, ADI


class Groups:
    """The entries of one region; `tables` is its ``struct zt_tables *``."""

    def __init__(self, tables: Any, policies: Policies) -> None:
        self._t = tables
        self._policies = policies
        self._networks: dict[Key, int] = {}  # of those written: the network's index

    def __len__(self) -> int:
        return len(self._networks)

    def install(
        self,
        network: int,
        key: Key,
        recipients: Sequence[int],
        *,
        first: int,
        limit: int,
        replicated: bool,
        renew_at: int,
        until: int,
    ) -> bool:
        """Insert or change. `network`: index of the network `key[0]`. False: no room, or too many recipients.

        recipients: addresses, of which the `first` come before the others, always. limit: most recipients of one frame.
        replicated: to a replicator. renew_at, until: node ms.
        """
        if len(recipients) > lib.ZT_GROUP_RECIPIENTS:
            self.remove(key)
            return False
        flags = lib.ZT_GROUP_REPLICATED if replicated else 0
        head = _HEAD.pack(lib.ZT_GROUP_MAGIC, min(limit, _LIMIT), len(recipients), first, flags)
        packed = head + struct.pack(f"={len(recipients)}Q", *recipients)
        _, mac, adi = key
        put: list[int] = []
        kept = self._policies.put(
            key, packed, lambda ref: put.append(lib.zt_group_put(self._t, network, mac, adi, renew_at, until, ref))
        )
        if not kept or put[-1] < 0:
            self._networks[key] = network
            self.remove(key)
            return False
        self._networks[key] = network
        return True

    def remove(self, key: Key) -> None:
        """Frames for the group take the slow path."""
        network = self._networks.pop(key, None)
        if network is not None:
            lib.zt_group_remove(self._t, network, key[1], key[2])
        self._policies.forget(key)

    def network_removed(self, nwid: int) -> None:
        """Its entries are gone with it (zt_network_remove)."""
        for key in [key for key in self._networks if key[0] == nwid]:
            del self._networks[key]
            self._policies.forget(key)
