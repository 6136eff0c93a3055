"""The host side of networks when the host does not play along."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ztpipe.host.managed import LocalSettings
from ztpipe.host.netlink import UnderlayAddress
from ztpipe.host.tap import Tap, TapError
from ztpipe.node.actions import ConfigureNetwork
from ztpipe.node.status import NetworkStatus
from ztpipe.runtime.hostnetworks import HostNetworks
from ztpipe.wire.inetaddress import InetAddress

NWID = 0x8056C2E21C000001


class Carrier:
    def add_tap(self, network: int, queues: list[int]) -> None: ...
    def remove_tap(self, network: int) -> None: ...


class Netlink:
    async def link_index(self, name: str) -> None:
        return None


def host_networks(**told: Any) -> HostNetworks:
    """Networks over the stand-ins; `told`: the callbacks that a test listens to."""
    return HostNetworks(
        0x1122334455,
        Netlink(),  # type: ignore[arg-type]
        Carrier(),
        queues=1,
        tso=True,
        uso=True,
        settings=lambda nwid: LocalSettings(),
        groups_changed=lambda nwid, groups: None,
        **{"tap_failed": lambda nwid, failed: None} | told,
    )


async def test_a_tap_that_cannot_be_made_is_told_once_and_again_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, bool]] = []
    fails = True

    def create(names: Any, mac: int, mtu: int, **options: Any) -> Tap:
        if fails:
            raise TapError(errno.EPERM, "cannot open /dev/net/tun")
        return Tap(next(names), mac, mtu)

    networks = host_networks(tap_failed=lambda nwid, failed: told.append((nwid, failed)))
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


async def test_subnets_on_our_devices_are_told_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[set[str]] = []
    networks = host_networks(subnets_changed=lambda found: told.append({subnet.text() for subnet in found}))
    monkeypatch.setattr(Tap, "create", lambda names, mac, mtu, **options: Tap(next(names), mac, mtu))
    networks.configure(ConfigureNetwork(NWID, None, NetworkStatus.REQUESTING_CONFIGURATION))
    ours = networks.by_id[NWID].device_name
    lan = UnderlayAddress("eth0", 2, InetAddress.parse("192.0.2.7/24"))
    by_hand = UnderlayAddress(ours, 9, InetAddress.parse("10.50.0.7/24"))
    for found in ([lan], [lan, by_hand], [by_hand, lan], [lan]):
        networks.take_addresses(found)
    assert told == [{"10.50.0.0/24"}, set()]
    networks.close()
