"""FRAME, EXT_FRAME and MULTICAST_FRAME from other members (vl2 §5.5-5.8, §6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import WriteFrame
from ztpipe.node.filter import EthernetFrame, Inbound
from ztpipe.node.seam import Outcome
from ztpipe.wire.address import is_multicast_mac, mac_of
from ztpipe.wire.verbs import ExtFrame, Frame, MulticastFrame, OkExtFrame

if TYPE_CHECKING:
    from ztpipe.node.bridged import Bridged
    from ztpipe.node.core import Core
    from ztpipe.node.credentials import CredentialReceiver
    from ztpipe.node.fanout import Fanout
    from ztpipe.node.filter import Filter
    from ztpipe.node.gate import Gate
    from ztpipe.node.gather import Gatherer
    from ztpipe.node.multicast import Multicaster
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext

_BRIDGE_ASK_MS: Final = 10_000
"""A member that sends what only bridges may has perhaps become one: ask, at most this often."""


class InboundFrames:
    """Takes frames off the wire: gate, filter, bridging rules, TAP."""

    def __init__(
        self,
        core: Core,
        gate: Gate,
        filter_: Filter,
        receiver: CredentialReceiver,
        gatherer: Gatherer,
        multicaster: Multicaster,
        fanout: Fanout,
        bridged: Bridged,
    ) -> None:
        self._core = core
        self._gate = gate
        self._filter = filter_
        self._receiver = receiver
        self._gatherer = gatherer
        self._multicaster = multicaster
        self._fanout = fanout
        self._bridged = bridged

    def _network(self, nwid: int) -> Network | None:
        network = self._core.networks.get(nwid)
        if network is None:
            self._core.drop("network_not_joined")
        return network

    # --- FRAME ----------------------------------------------------------------------------------------------

    def on_frame(self, ctx: PacketContext) -> Outcome:
        """FRAME: MACs are those of sender and receiver."""
        packet = Frame.decode(ctx.payload)
        network = self._network(packet.nwid)
        if network is None:
            return Outcome.HANDLED
        if not self._gate.passes(ctx.now, network, ctx.peer.identity):
            return self._gate.refuse(ctx, network)
        if packet.payload:
            source = mac_of(ctx.peer.address, network.nwid)
            frame = EthernetFrame(network.mac, source, packet.ethertype, packet.payload)
            if self._filter.inbound(ctx.now, network, ctx.peer.address, frame) is not Inbound.DROP:
                self._deliver(network, frame)
        return Outcome.TRUSTED

    # --- EXT_FRAME ------------------------------------------------------------------------------------------

    def on_ext_frame(self, ctx: PacketContext) -> Outcome:
        """EXT_FRAME: a bridged frame, or a copy that rules asked for."""
        packet = ExtFrame.decode(ctx.payload)
        network = self._network(packet.nwid)
        if network is None:
            return Outcome.HANDLED
        if packet.com is not None:
            self._receiver.take_com(ctx.now, packet.com)
        if not self._gate.passes(ctx.now, network, ctx.peer.identity):
            return self._gate.refuse(ctx, network)
        acknowledge = True
        if packet.payload:
            frame = EthernetFrame(packet.destination, packet.source, packet.ethertype, packet.payload)
            acknowledge = self._take_ext_frame(ctx, network, frame, packet.flags)
        if acknowledge and packet.ok_requested:
            self._core.vl1.reply_ok(ctx, OkExtFrame(network.nwid).encode())
        return Outcome.TRUSTED

    def _take_ext_frame(self, ctx: PacketContext, network: Network, frame: EthernetFrame, flags: int) -> bool:
        """Deliver the frame if it may be; False if it is one that is never acknowledged."""
        if frame.source in (0, network.mac):
            self._core.drop("bad_source_mac")
            return False
        verdict = self._filter.inbound(ctx.now, network, ctx.peer.address, frame, flags=flags)
        if verdict is Inbound.DROP:
            return True
        if verdict is Inbound.ACCEPT:
            reason = self._check_bridging(ctx, network, frame)
            if reason:
                self._core.drop(reason)
                self._core.trace.incoming_dropped(ctx, network, frame, reason.replace("_", " "))
                return False
        self._deliver(network, frame)
        return True

    def _check_bridging(self, ctx: PacketContext, network: Network, frame: EthernetFrame) -> str:
        """Why the frame's MACs are not acceptable; empty if they are. Learns where a bridged source is."""
        if network.config is None:
            return "no_config"
        if frame.source != mac_of(ctx.peer.address, network.nwid):
            return self._learn_bridged_source(ctx, network, frame.source)
        if frame.destination != network.mac:
            if is_multicast_mac(frame.destination):
                return "" if network.config.multicast_limit else "multicast_disabled"
            return "" if network.is_active_bridge else "not_a_bridge"
        return ""

    def _learn_bridged_source(self, ctx: PacketContext, network: Network, mac: int) -> str:
        if network.config is None or ctx.peer.address not in network.config.active_bridges:
            if ctx.now - network.last_request >= _BRIDGE_ASK_MS:
                network.ask_about_bridges(ctx.now, 0)
            return "peer_not_a_bridge"
        self._bridged.learned(ctx.now, network, mac, ctx.peer.address)
        return ""

    # --- MULTICAST_FRAME ------------------------------------------------------------------------------------

    def on_multicast_frame(self, ctx: PacketContext) -> Outcome:
        """MULTICAST_FRAME, possibly with a gather riding on it."""
        packet = MulticastFrame.decode(ctx.payload)
        network = self._network(packet.nwid)
        if network is None:
            return Outcome.HANDLED
        if packet.com is not None:
            self._receiver.take_com(ctx.now, packet.com)
        if not self._gate.passes(ctx.now, network, ctx.peer.identity):
            return self._gate.refuse(ctx, network)
        if network.config is None or network.config.multicast_limit == 0:
            self._core.drop("multicast_disabled")
            return Outcome.HANDLED
        reason = self._take_multicast(ctx, network, packet)
        if reason:
            self._core.drop(reason)
            return Outcome.HANDLED
        if packet.gather_limit:
            self._gatherer.answer_on_frame(ctx, network, packet.group, packet.gather_limit)
        return Outcome.TRUSTED

    def _take_multicast(self, ctx: PacketContext, network: Network, packet: MulticastFrame) -> str:
        """Replicate and deliver; why the packet ends here, or empty."""
        peer_mac = mac_of(ctx.peer.address, network.nwid)
        source = peer_mac if packet.source is None else packet.source
        if not is_multicast_mac(packet.group.mac):
            return "not_multicast"
        if source == 0 or is_multicast_mac(source) or source == network.mac:
            return "bad_source_mac"
        frame = EthernetFrame(packet.group.mac, source, packet.ethertype, packet.payload)
        if packet.replicate and network.config is not None and self._core.address in network.config.replicators:
            self._multicaster.send(ctx.now, network, packet.group, frame, source_given=True, origin=ctx.peer.address)
            self._fanout.sent(ctx.now, network, packet.group)
        if source != peer_mac:
            reason = self._learn_bridged_source(ctx, network, source)
            if reason:
                return reason
        if self._filter.inbound(ctx.now, network, ctx.peer.address, frame) is not Inbound.DROP:
            self._deliver(network, frame)
        return ""

    def _deliver(self, network: Network, frame: EthernetFrame) -> None:
        if len(frame.payload) > network.mtu:
            self._core.drop("over_mtu")
            return
        self._core.vl1.emit(WriteFrame(network.nwid, frame.destination, frame.source, frame.ethertype, frame.payload))
