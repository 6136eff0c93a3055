"""`Network`: one joined network, its configuration and what follows from it (vl2 §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.bridge import BridgeTable
from ztpipe.node.membership import NEVER, MemberTable
from ztpipe.node.ndp import resolution_group
from ztpipe.node.status import NetworkStatus, NetworkStatusRecord
from ztpipe.rules.evaluate import CompiledRules, compile_rules
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, is_adhoc, mac_of
from ztpipe.wire.netconf import ConfigAssembler, NetworkConfig
from ztpipe.wire.protocol import DEFAULT_NETWORK_MTU

if TYPE_CHECKING:
    from ztpipe.wire.credentials import Capability

MAX_GROUPS: Final = 1_024
"""Groups the TAP may subscribe to (vl2 §8)."""

_BROADCAST_GROUP: Final = MulticastGroup(BROADCAST_MAC, 0)


class Network:
    """State of one joined network. Changes only through its methods and the modules of VL2; sends nothing itself."""

    def __init__(self, nwid: int, own_address: int) -> None:
        self.nwid = nwid
        self.controller = nwid >> 24
        self.own_address = own_address
        self.mac = mac_of(own_address, nwid)
        self.config: NetworkConfig | None = None
        self.failure: NetworkStatus | None = None
        self.tap_error = False
        self.told_status = NetworkStatus.REQUESTING_CONFIGURATION
        self.authentication_url = ""
        self.authentication_expiry = 0
        self.last_config_update = NEVER
        """When a live configuration was last applied; NEVER after a cached one, so that we ask at once."""
        self.last_request = NEVER
        self.requests = 0
        self.asks: tuple[int, ...] = ()
        """When to ask for the configuration out of turn."""
        self.last_announce = NEVER
        self.members = MemberTable(nwid)
        self.bridge = BridgeTable()
        self.assembler = ConfigAssembler(nwid)
        self.tap_groups: frozenset[MulticastGroup] = frozenset()
        self.rules: CompiledRules = compile_rules(())
        self.capabilities: tuple[tuple[Capability, CompiledRules], ...] = ()
        self.local_tags: dict[int, int] = {}
        self.unknown_rules: set[int] = set()
        """Types of rules that we do not know, as far as told."""
        self.revision = 0
        """How many configurations have been in force."""
        self._config_groups: frozenset[MulticastGroup] = frozenset()
        self.refused_received = 0
        self.refused_sent = 0
        """Frames that the rules did not let pass."""

    @property
    def is_adhoc(self) -> bool:
        """True if the network has no controller (vl2 §1.5)."""
        return is_adhoc(self.nwid)

    @property
    def status(self) -> NetworkStatus:
        """The API's status (vl2 §2.10)."""
        if self.tap_error:
            return NetworkStatus.PORT_ERROR
        if self.failure is not None:
            return self.failure
        return NetworkStatus.REQUESTING_CONFIGURATION if self.config is None else NetworkStatus.OK

    @property
    def mtu(self) -> int:
        return DEFAULT_NETWORK_MTU if self.config is None else self.config.mtu

    @property
    def is_active_bridge(self) -> bool:
        """Whether we may bridge other MACs into this network."""
        return self.config is not None and self.config.may_bridge(self.own_address)

    @property
    def groups(self) -> frozenset[MulticastGroup]:
        """All our subscriptions: the TAP's, our addresses', broadcast, those behind us (vl2 §6.1)."""
        return self.tap_groups | self._config_groups | self.bridge.groups

    def set_config(self, config: NetworkConfig) -> None:
        """Put a configuration in force and derive from it what frames need."""
        self.config = config
        self.revision += 1
        self.failure = None
        self.rules = compile_rules(config.rules)
        self.capabilities = tuple((held, compile_rules(held.rules)) for held in config.capabilities)
        self.local_tags = {tag.id: tag.value for tag in config.tags}
        groups = {resolution_group(ip) for ip in config.static_ips}
        if config.broadcast:
            groups.add(_BROADCAST_GROUP)
        self._config_groups = frozenset(groups)

    def ask_about_bridges(self, now: int, *delays: int) -> None:
        """Who else is a bridge? An unmodified controller tells a new one at once, and the others when they ask."""
        if not self.asks and not self.is_adhoc:
            self.asks = tuple(now + delay for delay in delays)

    def always_contact(self) -> set[int]:
        """Anchors and replicators of the configuration, without ourselves."""
        if self.config is None:
            return set()
        return {*self.config.anchors, *self.config.replicators} - {self.own_address}

    def record(self) -> NetworkStatusRecord:
        """What the API shows."""
        return NetworkStatusRecord(
            nwid=self.nwid,
            mac=self.mac,
            status=self.status,
            config=self.config,
            mtu=self.mtu,
            bridge=self.is_active_bridge,
            multicast_groups=tuple(sorted(self.groups)),
            authentication_url=self.authentication_url,
            authentication_expiry=self.authentication_expiry,
            controller_reached=self.is_adhoc or self.last_config_update != NEVER,
            refused_received=self.refused_received,
            refused_sent=self.refused_sent,
        )
