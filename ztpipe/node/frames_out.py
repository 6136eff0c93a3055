"""A frame read from the TAP, on its way into the network (vl2 §5.2-5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import WriteFrame
from ztpipe.node.filter import EthernetFrame
from ztpipe.node.multicast import shuffled
from ztpipe.node.ndp import arp_request_target, emulated_answer
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, address_of_mac, is_member_mac, is_multicast_mac
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import ExtFrame, Frame

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.credentials import CredentialPusher
    from ztpipe.node.fanout import Fanout
    from ztpipe.node.filter import Filter
    from ztpipe.node.gate import Gate
    from ztpipe.node.likes import Likes
    from ztpipe.node.multicast import Multicaster
    from ztpipe.node.network import Network
    from ztpipe.wire.netconf import NetworkConfig

MAX_PAYLOAD: Final = 9_870
"""A greater frame does not fit into seven fragments at the default MTU, whatever the verb."""
_MAX_BRIDGES: Final = 32


class OutboundFrames:
    """Sends what the data plane could not send by itself."""

    def __init__(
        self,
        core: Core,
        gate: Gate,
        filter_: Filter,
        pusher: CredentialPusher,
        likes: Likes,
        multicaster: Multicaster,
        fanout: Fanout,
    ) -> None:
        self._core = core
        self._gate = gate
        self._filter = filter_
        self._pusher = pusher
        self._likes = likes
        self._multicaster = multicaster
        self._fanout = fanout

    def send(self, now: int, network: Network, frame: EthernetFrame) -> None:
        """Bring one frame to whom it concerns."""
        config = network.config
        if config is None:
            self._core.drop("no_config")
        elif len(frame.payload) > MAX_PAYLOAD:
            self._core.drop("frame_too_large")
        elif frame.source != network.mac and not network.is_active_bridge:
            self._core.drop("not_a_bridge")
            self._core.trace.outgoing_dropped(now, network, frame, "not a bridge")
        elif is_multicast_mac(frame.destination):
            self._multicast(now, network, config, frame)
        elif frame.destination == network.mac:
            self._core.vl1.emit(
                WriteFrame(network.nwid, frame.destination, frame.source, frame.ethertype, frame.payload)
            )
        elif is_member_mac(frame.destination, network.nwid) and not self._is_behind_bridge(now, network, config, frame):
            self._to_member(now, network, frame)
        else:
            self._to_bridges(now, network, config, frame)

    # --- unicast --------------------------------------------------------------------------------------------

    def _is_behind_bridge(self, now: int, network: Network, config: NetworkConfig, frame: EthernetFrame) -> bool:
        """Whether a MAC that looks like a member's is that of something bridged (beyond the reference, vl2 §5.4).

        One in 64 network cards begins like the members of a given network. A member that exists is never taken for one.
        """
        bridge = network.bridge.route(now, frame.destination)
        if bridge is None or bridge == self._core.address or bridge not in config.active_bridges:
            return False
        return self._core.identity_of(address_of_mac(frame.destination, network.nwid)) is None

    def _to_member(self, now: int, network: Network, frame: EthernetFrame) -> None:
        address = address_of_mac(frame.destination, network.nwid)
        if not self._filter.outbound(now, network, address, frame, copies=True):
            return
        self._pusher.push_if_due(now, network, address)
        if frame.source == network.mac:
            packet = Frame(network.nwid, frame.ethertype, frame.payload)
            self._core.vl1.send(now, address, Verb.FRAME, packet.encode())
        else:
            self._core.vl1.send(now, address, Verb.EXT_FRAME, _bridged(network, frame))

    def _to_bridges(self, now: int, network: Network, config: NetworkConfig, frame: EthernetFrame) -> None:
        """The destination is not a member's MAC: somewhere behind an active bridge, if anywhere."""
        if not self._filter.outbound(now, network, 0, frame, copies=True):
            return
        recipients = self._bridges_for(now, network, config, frame.destination)
        if not recipients:
            self._core.drop("no_bridge")
        payload = _bridged(network, frame)
        for address in recipients:
            if self._filter.outbound(now, network, address, frame, copies=False):
                self._core.vl1.send(now, address, Verb.EXT_FRAME, payload)

    def _bridges_for(self, now: int, network: Network, config: NetworkConfig, mac: int) -> list[int]:
        bridges = [address for address in config.active_bridges if address != self._core.address]
        learned = network.bridge.route(now, mac)
        if learned in bridges:
            return [learned]
        if len(bridges) > _MAX_BRIDGES:
            return shuffled(bridges, self._core.vl1.random)[:_MAX_BRIDGES]
        return bridges

    # --- multicast and broadcast ----------------------------------------------------------------------------

    def _multicast(self, now: int, network: Network, config: NetworkConfig, frame: EthernetFrame) -> None:
        group = MulticastGroup(frame.destination, 0)
        if frame.destination == BROADCAST_MAC:
            target = arp_request_target(frame.ethertype, frame.payload)
            if target is not None:
                group = MulticastGroup(BROADCAST_MAC, target)
            elif not config.broadcast:
                self._core.drop("broadcast_disabled")
                self._core.trace.outgoing_dropped(now, network, frame, "broadcast disabled")
                return
        elif self._answer_solicitation(network, config, frame):
            return
        if config.multicast_limit == 0:
            self._core.drop("multicast_disabled")
            self._core.trace.outgoing_dropped(now, network, frame, "multicast disabled")
            return
        bridged = frame.source != network.mac
        self.group_behind_us(now, network, group, frame.source)
        if not self._filter.outbound(now, network, 0, frame, copies=True):
            return
        self._multicaster.send(now, network, group, frame, source_given=bridged)
        self._fanout.sent(now, network, group)

    def group_behind_us(self, now: int, network: Network, group: MulticastGroup, source: int) -> None:
        """Whoever sent to a group from behind us is taken to be in it; news is announced at once."""
        if source != network.mac and network.bridge.see_group(now, group):
            self._likes.announce_new(now, network, (group,), self._gate.agreeing_members(network))

    def _answer_solicitation(self, network: Network, config: NetworkConfig, frame: EthernetFrame) -> bool:
        """NDP emulation: True if the solicitation was answered here (vl2 §5.3)."""
        if not config.ndp_emulation:
            return False
        answer = emulated_answer(
            frame.ethertype,
            frame.payload,
            nwid=network.nwid,
            own_address=self._core.address,
            static_ips=config.static_ips,
        )
        if answer is None:
            return False
        mac, payload = answer
        self._core.vl1.emit(WriteFrame(network.nwid, frame.source, mac, frame.ethertype, payload))
        return True


def _bridged(network: Network, frame: EthernetFrame) -> bytes:
    return ExtFrame(
        nwid=network.nwid,
        flags=0,
        destination=frame.destination,
        source=frame.source,
        ethertype=frame.ethertype,
        payload=frame.payload,
    ).encode()
