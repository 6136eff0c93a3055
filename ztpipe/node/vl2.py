"""`Vl2Engine`: the network layer of a node, wired from its parts; all that others see of it (`seam.Vl2`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import DestroyNetwork, Event, RemoveNetwork, SaveState
from ztpipe.node.adhoc import AdhocNotFound, adhoc_config
from ztpipe.node.bridged import Bridged
from ztpipe.node.config_receive import ConfigReceiver
from ztpipe.node.config_request import ConfigRequester
from ztpipe.node.core import Core
from ztpipe.node.credentials import CredentialPusher, CredentialReceiver
from ztpipe.node.fanout import Fanout
from ztpipe.node.filter import EthernetFrame, Filter
from ztpipe.node.frames_in import InboundFrames
from ztpipe.node.frames_out import OutboundFrames
from ztpipe.node.gate import Gate
from ztpipe.node.gather import Gatherer
from ztpipe.node.groups import GroupTable
from ztpipe.node.likes import ANNOUNCE_MS, Likes
from ztpipe.node.multicast import Multicaster
from ztpipe.node.network import MAX_GROUPS, Network
from ztpipe.node.seam import Outcome
from ztpipe.node.status import NetworkStatus
from ztpipe.node.trace import network_of
from ztpipe.wire.address import MulticastGroup
from ztpipe.wire.errors import WireError
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.protocol import ErrorCode, Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztpipe.node.seam import ErrorHandler, Handler, OkHandler, PacketContext, PathNews, Vl1
    from ztpipe.node.status import NetworkStatusRecord
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.verbs import Error

MAX_NETWORKS: Final = 256
"""As many queues as a TAP worker holds (TAP_QUEUES in kernel/tap_impl.h)."""
_PLACEHOLDER: Final = b"\n"
"""What stands on disk for a network that has no configuration yet, so that the join itself outlives us (vl2 §2.9)."""


class Vl2Engine:
    """All joined networks of a node, and the multicast groups it keeps for others."""

    def __init__(self, vl1: Vl1, networks: Mapping[int, bytes] | None = None) -> None:
        """`networks`: cached configuration dictionaries of networks that will be joined."""
        self._vl1 = vl1
        self._cached = dict(networks or {})
        self._core = core = Core(vl1)
        self._groups = GroupTable()
        self._likes = Likes(core)
        self._gate = Gate(core, self._likes)
        self._pusher = CredentialPusher(core, self._gate)
        self._credentials = CredentialReceiver(core, self._gate)
        self._filter = Filter(core)
        self._multicaster = Multicaster(core, self._groups, self._filter, self._pusher)
        self._fanout = Fanout(core, self._groups, self._pusher, self._multicaster)
        self._gatherer = Gatherer(core, self._gate, self._credentials, self._groups, self._multicaster, self._fanout)
        self._requests = ConfigRequester(core)
        self._bridged = Bridged(core)
        self._configs = ConfigReceiver(core, self._gate, self._likes, self._fanout, self._bridged)
        self._outbound = OutboundFrames(
            core, self._gate, self._filter, self._pusher, self._likes, self._multicaster, self._fanout
        )
        self._inbound = InboundFrames(
            core,
            self._gate,
            self._filter,
            self._credentials,
            self._gatherer,
            self._multicaster,
            self._fanout,
            self._bridged,
        )
        self.handlers: Mapping[Verb, Handler] = {
            Verb.FRAME: self._inbound.on_frame,
            Verb.EXT_FRAME: self._inbound.on_ext_frame,
            Verb.MULTICAST_FRAME: self._inbound.on_multicast_frame,
            Verb.MULTICAST_LIKE: self._gatherer.on_like,
            Verb.MULTICAST_GATHER: self._gatherer.on_gather,
            Verb.NETWORK_CREDENTIALS: self._credentials.receive,
            Verb.NETWORK_CONFIG_REQUEST: self._requests.receive,
            Verb.NETWORK_CONFIG: self._configs.on_push,
        }
        self.ok_handlers: Mapping[Verb, OkHandler] = {
            Verb.NETWORK_CONFIG_REQUEST: self._configs.on_ok,
            Verb.MULTICAST_GATHER: self._gatherer.on_ok_gather,
            Verb.MULTICAST_FRAME: self._gatherer.on_ok_multicast_frame,
        }
        self.error_handlers: Mapping[ErrorCode, ErrorHandler] = {
            ErrorCode.OBJ_NOT_FOUND: self._configs.on_refusal,
            ErrorCode.UNSUPPORTED_OPERATION: self._configs.on_refusal,
            ErrorCode.NETWORK_ACCESS_DENIED: self._configs.on_refusal,
            ErrorCode.NETWORK_AUTHENTICATION_REQUIRED: self._configs.on_authentication_required,
            ErrorCode.NEED_MEMBERSHIP_CERTIFICATE: self._on_certificate_needed,
            ErrorCode.UNWANTED_MULTICAST: self._gatherer.on_unwanted,
        }

    # --- joining and leaving --------------------------------------------------------------------------------

    def join(self, now: int, nwid: int) -> None:
        """Join a network, with its cached configuration if there is one, and ask for a fresh one at once."""
        if nwid in self._core.networks:
            return
        if len(self._core.networks) >= MAX_NETWORKS or nwid >> 24 == 0:
            self._core.drop("join_refused")
            if nwid >> 24:
                self._vl1.emit(Event("too_many_networks", {"network": nwid, "limit": MAX_NETWORKS}))
            return
        network = self._core.networks[nwid] = Network(nwid, self._core.address)
        self._vl1.emit(Event("joined", {"network": nwid}))
        if not self._apply_cached(now, network):
            self._vl1.emit(SaveState("network", nwid, _PLACEHOLDER))
            self._configs.configure(network)
        self._request(now, network)

    def _apply_cached(self, now: int, network: Network) -> bool:
        cached = self._cached.pop(network.nwid, b"")
        if len(cached) <= 1:
            return False
        try:
            return self._configs.apply(now, network, NetworkConfig.decode(cached), live=False, save=False)
        except WireError as error:
            self._core.drop(error.reason)
            return False

    def leave(self, now: int, nwid: int) -> None:
        """Leave a network and forget everything about it."""
        if self._core.networks.pop(nwid, None) is None:
            return
        self._vl1.emit(Event("left", {"network": nwid}))
        self._groups.forget_network(nwid)
        self._fanout.forget_network(nwid)
        self._core.trace.forget(nwid)
        self._vl1.emit(RemoveNetwork(nwid))
        self._vl1.emit(DestroyNetwork(nwid))
        self._vl1.emit(SaveState("network", nwid, None))

    # --- time -----------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """The background pass, every 5 s: configurations, then announcements of groups, as due."""
        for network in tuple(self._core.networks.values()):
            if self._requests.due(now, network):
                self._request(now, network)
            if not self._vl1.settings.low_bandwidth:
                if now - network.last_announce >= ANNOUNCE_MS:
                    self._likes.announce(now, network)
                self._announce_to_members(now, network)

    def soon(self, now: int) -> None:
        """Every 500 ms: a network just joined asks again without waiting for the background pass."""
        for network in tuple(self._core.networks.values()):
            if self._requests.due_early(now, network):
                self._request(now, network)

    def _request(self, now: int, network: Network) -> None:
        if not network.is_adhoc:
            self._requests.request(now, network)
            return
        try:
            config = adhoc_config(network.nwid, self._core.address, now)
        except AdhocNotFound:
            self._configs.fail(network, NetworkStatus.NOT_FOUND)
            return
        if config is not None:
            self._configs.apply(now, network, config, save=False)

    def _announce_to_members(self, now: int, network: Network) -> None:
        listeners = self._likes.listeners(network)
        for member in network.members:
            if member.address in listeners or now - member.last_like < ANNOUNCE_MS:
                continue
            identity = self._core.identity_of(member.address)
            if identity is not None and self._gate.agrees(network, member, identity):
                self._likes.announce_to(now, network, member)

    def housekeeping(self, now: int) -> None:
        """Every 30 s: forget what is old."""
        self._groups.expire(now)
        self._fanout.housekeeping(now)
        self._core.expire_authorisations(now)
        for network in self._core.networks.values():
            self._bridged.expire(now, network)
            config = network.config
            if config is not None:
                for address in network.members.idle(now, config.timestamp, config.credential_time_max_delta):
                    self._gate.remove(network, address)

    # --- frames and groups ----------------------------------------------------------------------------------

    def frame_received(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes
    ) -> None:
        """A frame from the TAP that the data plane did not send by itself."""
        network = self._core.networks.get(nwid)
        if network is None:
            self._core.drop("network_not_joined")
            return
        self._outbound.send(now, network, EthernetFrame(destination, source, ethertype, payload))

    def group_in_use(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes, origin: int = 0
    ) -> None:
        """The data plane repeated this frame to its group by an entry that is due to be renewed.

        `origin`: the member whose frame it is, 0 if it came from our TAP.
        """
        network = self._core.networks.get(nwid)
        if network is None:
            return
        group = MulticastGroup(destination, 0)
        if not origin:
            self._outbound.group_behind_us(now, network, group, source)
        frame = EthernetFrame(destination, source, ethertype, payload)
        self._fanout.in_use(now, network, group, frame, origin)

    def bridged_in_use(self, now: int, nwid: int, mac: int, bridge: int) -> None:
        """The data plane let in a frame of a MAC behind a bridge, by an entry that is due to be renewed."""
        network = self._core.networks.get(nwid)
        if network is not None:
            self._bridged.in_use(now, network, mac, bridge)

    def gather_asked(self, ctx: PacketContext, nwid: int, group: MulticastGroup, limit: int) -> None:
        """With a MULTICAST_FRAME that the data plane delivered somebody asked who else is in the group (vl2 §6.4)."""
        network = self._core.networks.get(nwid)
        if network is None or not self._gate.passes(ctx.now, network, ctx.peer.identity):
            self._core.drop("gather_not_admitted")
            return
        self._gatherer.answer_on_frame(ctx, network, group, limit)

    def set_multicast_groups(self, now: int, nwid: int, groups: set[MulticastGroup]) -> None:
        """The groups that the TAP is in, as a whole; new ones are announced at once."""
        network = self._core.networks.get(nwid)
        if network is None:
            return
        before = network.groups
        network.tap_groups = frozenset(sorted(groups)[:MAX_GROUPS])
        new = network.groups - before
        if new:
            self._likes.announce_new(now, network, new, self._gate.agreeing_members(network))

    def peer_activity(self, now: int, address: int, nwid: int, last_frame: int) -> None:
        """The data plane accepted a frame of a member: what the gate does besides opening is done here (vl2 §3.10)."""
        network = self._core.networks.get(nwid)
        identity = self._core.identity_of(address)
        if network is not None and identity is not None:
            self._gate.passes(now, network, identity)

    def peer_forgotten(self, address: int) -> None:
        """VL1 dropped a peer from memory."""
        self._credentials.forget(address)

    def _on_certificate_needed(self, ctx: PacketContext, error: Error) -> Outcome:
        """ERROR NEED_MEMBERSHIP_CERTIFICATE: a peer keeps a packet of ours until it has our credentials."""
        network = self._core.networks.get(error.nwid)
        if network is None:
            self._core.drop("network_not_joined")
        else:
            self._pusher.push_on_request(ctx.now, network, ctx.peer.address)
        return Outcome.HANDLED

    # --- our own controller ---------------------------------------------------------------------------------

    def config_from_controller(self, now: int, nwid: int, dictionary: bytes) -> None:
        """The controller in this process has a configuration for ourselves."""
        network = self._core.networks.get(nwid)
        if network is None:
            return
        try:
            self._configs.apply(now, network, NetworkConfig.decode(dictionary))
        except WireError as error:
            self._core.drop(error.reason)

    def controller_error(self, now: int, nwid: int, code: ErrorCode) -> None:
        """The controller in this process refuses us."""
        network = self._core.networks.get(nwid)
        if network is not None:
            self._configs.fail_by_code(network, code)

    def sent_by_controller(self, now: int, destination: int, verb: Verb, payload: bytes) -> None:
        """Our controller sent this packet; a configuration makes its receiver authorised for a while (vl2 §6.2)."""
        if verb is Verb.NETWORK_CONFIG:
            body = payload
        elif verb is Verb.OK and payload[:1] == bytes((Verb.NETWORK_CONFIG_REQUEST,)):
            body = payload[9:]
        else:
            return
        if len(body) >= 8:
            self._core.authorise(now, int.from_bytes(body[:8], "big"), destination)

    # --- what others want to know ---------------------------------------------------------------------------

    def set_tap_error(self, now: int, nwid: int, failed: bool) -> None:
        """The host could not (or can again) provide the TAP."""
        network = self._core.networks.get(nwid)
        if network is not None and network.tap_error is not failed:
            network.tap_error = failed
            self._configs.configure(network)

    def path_news(self, ctx: PacketContext, news: PathNews) -> None:
        """A packet that belongs to a network with an observer said something about its path."""
        network = self._core.networks.get(network_of(ctx))
        if network is not None:
            self._core.trace.path_news(ctx, network, news)

    def paths_reset(self, now: int, reporter: int, remote: InetAddress, seen: InetAddress) -> None:
        """Our address has changed: all observers are told."""
        for network in self._core.networks.values():
            self._core.trace.paths_reset(now, network, reporter, remote, seen)

    def always_contact(self) -> set[int]:
        """Anchors and replicators of all networks."""
        return {address for network in self._core.networks.values() for address in network.always_contact()}

    def managed_prefixes(self) -> list[InetAddress]:
        """The subnets of all assigned addresses; the port is the prefix length."""
        return [
            address.network()
            for network in self._core.networks.values()
            if network.config is not None
            for address in network.config.static_ips
        ]

    def statuses(self) -> list[NetworkStatusRecord]:
        """Every joined network as it stands."""
        return [network.record() for network in self._core.networks.values()]
