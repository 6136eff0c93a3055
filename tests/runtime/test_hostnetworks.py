"""The host side of networks when the host does not play along."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ztpipe.host.managed import LocalSettings
from ztpipe.host.tap import Tap, TapError
from ztpipe.node.actions import ConfigureNetwork
from ztpipe.node.status import NetworkStatus
from ztpipe.runtime.hostnetworks import HostNetworks

NWID = 0x8056C2E21C000001


class Carrier:
    def add_tap(self, network: int, queues: list[int]) -> None: ...
    def remove_tap(self, network: int) -> None: ...


class Netlink:
    async def link_index(self, name: str) -> None:
        return None


async def test_a_tap_that_cannot_be_made_is_told_once_and_again_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, bool]] = []
    fails = True

    def create(names: Any, mac: int, mtu: int, **options: Any) -> Tap:
        if fails:
            raise TapError(errno.EPERM, "cannot open /dev/net/tun")
        return Tap(next(names), mac, mtu)

    networks = HostNetworks(
        0x1122334455,
        Netlink(),  # type: ignore[arg-type]
        Carrier(),
        queues=1,
        tso=True,
        uso=True,
        settings=lambda nwid: LocalSettings(),
        groups_changed=lambda nwid, groups: None,
        tap_failed=lambda nwid, failed: told.append((nwid, failed)),
    )
    monkeypatch.setattr(Tap, "create", create)
    joined = ConfigureNetwork(NWID, None, NetworkStatus.REQUESTING_CONFIGURATION)
    networks.configure(joined)
    assert told == [(NWID, True)]
    assert "cannot open /dev/net/tun" in networks.by_id[NWID].error
    await networks.reassert()  # tried again, still in vain
    fails = False
    await networks.reassert()
    assert told[-1] == (NWID, False) and not networks.by_id[NWID].error
    assert networks.by_id[NWID].device_name.startswith("zt")
    networks.configure(joined)
    assert told.count((NWID, False)) == 1
    networks.close()
