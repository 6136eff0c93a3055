"""Configurations and refusals from the controller: chunks, signatures, putting in force (vl2 §2.5-2.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import ConfigureNetwork, Event, InstallNetwork, SaveState
from ztpipe.node.membership import NEVER
from ztpipe.node.policy import network_policy
from ztpipe.node.seam import Outcome
from ztpipe.node.status import NetworkStatus
from ztpipe.node.trace import wants_decisions, wants_drops
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.rule import RuleType
from ztpipe.wire.verbs import AuthenticationRequired, ConfigChunk, OkConfig

if TYPE_CHECKING:
    from ztpipe.node.bridged import Bridged
    from ztpipe.node.core import Core
    from ztpipe.node.fanout import Fanout
    from ztpipe.node.gate import Gate
    from ztpipe.node.likes import Likes
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext
    from ztpipe.wire.address import MulticastGroup
    from ztpipe.wire.verbs import Error, Ok

_FAILURES: Final = {
    ErrorCode.OBJ_NOT_FOUND: NetworkStatus.NOT_FOUND,
    ErrorCode.UNSUPPORTED_OPERATION: NetworkStatus.NOT_FOUND,
    ErrorCode.NETWORK_ACCESS_DENIED: NetworkStatus.ACCESS_DENIED,
}
_BRIDGE_ASKS_MS: Final = (2_000, 6_000, 20_000)
"""Whoever makes us a bridge is about to make another one: ask so long after it."""
_RULE_TYPES: Final = frozenset(RuleType)
_REQUEST_ONLY: Final = frozenset({ErrorCode.OBJ_NOT_FOUND, ErrorCode.UNSUPPORTED_OPERATION})


class ConfigReceiver:
    """Takes configurations from the wire, from disk and from our own controller."""

    def __init__(self, core: Core, gate: Gate, likes: Likes, fanout: Fanout, bridged: Bridged) -> None:
        self._core = core
        self._gate = gate
        self._likes = likes
        self._fanout = fanout
        self._bridged = bridged

    # --- chunks ---------------------------------------------------------------------------------------------

    def on_ok(self, ctx: PacketContext, ok: Ok) -> Outcome:
        """OK(NETWORK_CONFIG_REQUEST)."""
        self._chunk(ctx, ok.body)
        return Outcome.HANDLED

    def on_push(self, ctx: PacketContext) -> Outcome:
        """NETWORK_CONFIG: from anybody, what counts is the controller's signature."""
        complete = self._chunk(ctx, ctx.payload)
        if complete is not None:
            # 1.14.1 answers with the verb of ECHO, and so does everybody who wants to be understood (vl2 §2.5).
            self._core.vl1.reply_ok(ctx, complete.encode(), in_re_verb=Verb.ECHO)
        return Outcome.HANDLED

    def _chunk(self, ctx: PacketContext, body: bytes) -> OkConfig | None:
        """Take one chunk; its acknowledgement if it completed a configuration that could be parsed."""
        chunk = ConfigChunk.decode(body)
        network = self._core.networks.get(chunk.nwid)
        if network is None:
            self._core.drop("network_not_joined")
            return None
        controller = self._core.identity_of(network.controller)
        taken = network.assembler.add(chunk, controller, sender=ctx.peer.address, packet_id=ctx.packet_id)
        if not taken.new:
            self._core.drop("config_duplicate_chunk")
            return None
        if chunk.fast_propagate:
            self._propagate(ctx, network, body)
        if taken.dictionary is None:
            return None
        self.apply(ctx.now, network, NetworkConfig.decode(taken.dictionary))
        return OkConfig(chunk.nwid, taken.update_id)

    def _propagate(self, ctx: PacketContext, network: Network, body: bytes) -> None:
        """Hand a chunk on to every other member that we know."""
        for member in network.members:
            if member.address not in (ctx.peer.address, network.controller, self._core.address):
                self._core.vl1.send(ctx.now, member.address, Verb.NETWORK_CONFIG, body, compress=True)

    # --- putting in force -----------------------------------------------------------------------------------

    def apply(self, now: int, network: Network, config: NetworkConfig, *, live: bool = True, save: bool = True) -> bool:
        """Put a configuration in force; False if it is not ours, not newer, or nothing new.

        `live`: it comes from the controller, not from disk. `save`: it is to outlive us. Older ones than that in
        force are refused, so that nobody can bring back a former state by replaying it (vl2 §2.8).
        """
        held = network.config
        if config.network_id != network.nwid or config.issued_to != self._core.address:
            self._core.drop("config_not_for_us")
            return False
        if held is not None and config.timestamp < held.timestamp:
            self._core.drop("config_older")
            return False
        if config == held:
            return False
        first = network.last_config_update == NEVER
        groups_before = network.groups
        bridging = network.is_active_bridge
        network.set_config(config)
        if live and network.is_active_bridge and not bridging:
            network.ask_about_bridges(now, *_BRIDGE_ASKS_MS)
        if live:
            network.last_config_update = now
            network.authentication_url = config.authentication_url
            network.authentication_expiry = config.authentication_expiry
        if save:
            self._core.vl1.emit(SaveState("network", network.nwid, config.encode()))
        self._tell_unknown_rules(network, config)
        self.install(network)
        self.configure(network)
        self._gate.sync_all(now, network)
        self._fanout.network_changed(now, network)
        self._bridged.network_changed(network)
        if live:
            self._announce(now, network, groups_before, first=first)
        return True

    def _tell_unknown_rules(self, network: Network, config: NetworkConfig) -> None:
        """Rules of a newer controller are kept and do nothing (vl2 §4.1); each of their types is told once."""
        lists = (config.rules, *(capability.rules for capability in config.capabilities))
        types = {rule.type for rules in lists for rule in rules if rule.type not in _RULE_TYPES}
        new = types - network.unknown_rules
        if new:
            network.unknown_rules |= new
            fields = {"network": network.nwid, "types": ", ".join(str(type_) for type_ in sorted(new))}
            self._core.vl1.emit(Event("unknown_rules", fields))

    def _announce(self, now: int, network: Network, before: frozenset[MulticastGroup], *, first: bool) -> None:
        """Let others find us at once: nobody can resolve our address before they know the group (vl2 §10 step 5)."""
        if first:
            self._likes.announce(now, network)
        new = network.groups - before
        if new:
            self._likes.announce_new(now, network, new, self._gate.agreeing_members(network), skip_listeners=first)

    def install(self, network: Network) -> None:
        """Tell the data plane the network as it is now."""
        config = network.config
        if config is not None:
            slow = network.rules.accepts_everything or wants_drops(config)
            strict = self._core.vl1.settings.strict_filtering
            self._core.vl1.emit(
                InstallNetwork(
                    nwid=network.nwid,
                    mac=network.mac,
                    mtu=config.mtu,
                    accept_all=network.rules.accepts_everything and not wants_decisions(config),
                    rules=config.rules,
                    flags=config.flags,
                    bridge=network.is_active_bridge,
                    multicast=config.multicast_limit > 0,
                    replicator=network.own_address in config.replicators,
                    bridged=any(address != network.own_address for address in config.active_bridges),
                    policy=None if slow else network_policy(network, strict=strict),
                )
            )

    def configure(self, network: Network) -> None:
        """Tell the host what the network is like now, and the log if its status is another."""
        if network.status is not network.told_status:
            network.told_status = network.status
            fields = {"network": network.nwid, "status": network.status.value}
            self._core.vl1.emit(Event("network_status", fields))
        self._core.vl1.emit(ConfigureNetwork(network.nwid, network.config, network.status))

    # --- refusals -------------------------------------------------------------------------------------------

    def on_refusal(self, ctx: PacketContext, error: Error) -> Outcome:
        """An ERROR of the controller that says why there is no configuration."""
        network = self._controlled_by(ctx, error)
        failure = _FAILURES.get(error.code)
        if network is None or failure is None:
            return Outcome.HANDLED
        if error.code not in _REQUEST_ONLY or error.in_re_verb == Verb.NETWORK_CONFIG_REQUEST:
            self.fail(network, failure)
        return Outcome.HANDLED

    def on_authentication_required(self, ctx: PacketContext, error: Error) -> Outcome:
        """ERROR NETWORK_AUTHENTICATION_REQUIRED: single sign-on, with a URL to open."""
        network = self._controlled_by(ctx, error)
        if network is None:
            return Outcome.HANDLED
        wanted = AuthenticationRequired.decode(error.body)
        if wanted.has_dictionary and wanted.version == 0 and not wanted.url:
            self._core.drop("authentication_without_url")
        else:
            network.authentication_url = wanted.url if wanted.version == 0 else wanted.issuer_url
            self.fail(network, NetworkStatus.AUTHENTICATION_REQUIRED)
        return Outcome.HANDLED

    def _controlled_by(self, ctx: PacketContext, error: Error) -> Network | None:
        network = self._core.networks.get(error.nwid)
        if network is None or network.controller != ctx.peer.address:
            self._core.drop("error_not_from_controller")
            return None
        return network

    def fail(self, network: Network, failure: NetworkStatus) -> None:
        """Record why there is no (fresh) configuration; the one in force stays so (vl2 §2.10)."""
        if network.failure is not failure:
            network.failure = failure
            self.configure(network)

    def fail_by_code(self, network: Network, code: ErrorCode) -> None:
        """Our own controller refused us."""
        if code is ErrorCode.NETWORK_AUTHENTICATION_REQUIRED:
            self.fail(network, NetworkStatus.AUTHENTICATION_REQUIRED)
        elif code in _FAILURES:
            self.fail(network, _FAILURES[code])
