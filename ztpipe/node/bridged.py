"""What the data plane is told about MACs behind bridges, so that it carries their frames by itself (vl2 §5.4, §5.7).

The first frame from such a MAC takes the slow path, is learned and gets an entry. While frames come, the data plane
says so now and then, and the MAC is learned anew: it ages by its last frame, to `RENEW_MS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import InstallBridged, RemoveBridged
from ztpipe.node.bridge import ROUTE_TIMEOUT_MS
from ztpipe.wire.address import address_of_mac, is_member_mac

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.network import Network

RENEW_MS: Final = 60_000


class Bridged:
    """Keeps the data plane's entries in step with the bridge tables of the networks."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def learned(self, now: int, network: Network, mac: int, bridge: int) -> None:
        """A frame from `mac` came through `bridge`, which is an active bridge."""
        told = network.bridge.learn(now, mac, bridge)
        for gone in network.bridge.take_forgotten():
            self._core.vl1.emit(RemoveBridged(network.nwid, gone))
        if told is not None and now - told < RENEW_MS:
            return
        if is_member_mac(mac, network.nwid) and self._core.identity_of(address_of_mac(mac, network.nwid)) is not None:
            return  # a member's, if anybody's: frames to it are not for the bridge
        network.bridge.tell(now, mac)
        times = {"renew_at": now + RENEW_MS, "until": now + ROUTE_TIMEOUT_MS}
        self._core.vl1.emit(InstallBridged(network.nwid, mac, bridge, **times))

    def in_use(self, now: int, network: Network, mac: int, bridge: int) -> None:
        """The data plane let a frame from there in, by its entry."""
        if network.config is not None and bridge in network.config.active_bridges:
            self.learned(now, network, mac, bridge)

    def network_changed(self, network: Network) -> None:
        """Its configuration is another one: entries of those that are no bridges any more go."""
        assert network.config is not None
        for mac in network.bridge.untell(network.config.active_bridges):
            self._core.vl1.emit(RemoveBridged(network.nwid, mac))

    def expire(self, now: int, network: Network) -> None:
        """Every 30 s: forget what is old."""
        network.bridge.expire(now)
        for gone in network.bridge.take_forgotten():
            self._core.vl1.emit(RemoveBridged(network.nwid, gone))
