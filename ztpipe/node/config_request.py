"""Asking the controller for our configuration, and being asked (vl2 §2.2, §2.3, §2.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import ControllerRequest
from ztpipe.node.seam import Outcome
from ztpipe.wire import dictionary
from ztpipe.wire.protocol import PROTOCOL_VERSION, ErrorCode, Verb
from ztpipe.wire.verbs import NetworkConfigRequest

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.settings import NodeSettings

REFRESH_MS: Final = 60_000
LOW_BANDWIDTH_FACTOR: Final = 64
MIN_INTERVAL_MS: Final = 1_000
"""Controllers ignore requests that follow each other faster than this."""
EARLY_REQUESTS: Final = 4
EARLY_INTERVAL_MS: Final = 1_250
"""How often a network just joined asks, and how far apart, until the background pass goes on alone."""
OWN_REQUEST_ID: Final = (1 << 64) - 1
"""The packet ID that marks a request of our own to our own controller."""

_CONFIG_FORMAT: Final = 7
_VENDOR_ZEROTIER: Final = 1
_MAX_RULES: Final = 1_024
_MAX_CAPABILITIES: Final = 128
_MAX_CAPABILITY_RULES: Final = 64
_MAX_TAGS: Final = 128
_RULES_ENGINE: Final = 1


def request_metadata(settings: NodeSettings) -> bytes:
    """The dictionary that tells a controller what we are, keys in the reference's order (vl2 §2.3)."""
    major, minor, revision = settings.version
    numbers = {
        "v": _CONFIG_FORMAT,
        "vend": _VENDOR_ZEROTIER,
        "pv": PROTOCOL_VERSION,
        "majv": major,
        "minv": minor,
        "revv": revision,
        "mr": _MAX_RULES,
        "mc": _MAX_CAPABILITIES,
        "mcr": _MAX_CAPABILITY_RULES,
        "mt": _MAX_TAGS,
        "f": 0,
        "revr": _RULES_ENGINE,
    }
    items = [(key, f"{value:016x}".encode()) for key, value in numbers.items()]
    return dictionary.encode([*items, ("o", settings.platform.encode())])


class ConfigRequester:
    """Sends NETWORK_CONFIG_REQUEST when due and takes those that are meant for our controller."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def due(self, now: int, network: Network) -> bool:
        """Whether this background pass should ask: no configuration yet, or none accepted for a minute."""
        if now - network.last_request < MIN_INTERVAL_MS:
            return False
        if network.config is None:
            return True
        interval = REFRESH_MS * (LOW_BANDWIDTH_FACTOR if self._core.vl1.settings.low_bandwidth else 1)
        return now - network.last_config_update >= interval

    def due_early(self, now: int, network: Network) -> bool:
        """Whether a network should ask before the next background pass.

        One that was just joined: its first request may have been lost, have waited for the controller's identity, or
        have come too soon after one of an earlier membership for the controller to look at it. And one about whose
        bridges there is reason to think that we do not know all (`Network.ask_about_bridges`).
        """
        if network.asks and now >= network.asks[0]:
            network.asks = tuple(at for at in network.asks if at > now)
            return now - network.last_request >= EARLY_INTERVAL_MS
        waiting = network.config is None and network.failure is None and network.requests < EARLY_REQUESTS
        return waiting and now - network.last_request >= EARLY_INTERVAL_MS

    def request(self, now: int, network: Network) -> None:
        """Ask the controller of a network, which may be our own; not for ad-hoc networks."""
        network.last_request = now
        network.requests += 1
        metadata = request_metadata(self._core.vl1.settings)
        if network.controller == self._core.address:
            identity = self._core.vl1.identity.without_private()
            self._core.vl1.emit(ControllerRequest(network.nwid, identity, metadata, OWN_REQUEST_ID, None))
            return
        config = network.config
        request = NetworkConfigRequest(
            nwid=network.nwid,
            metadata=metadata,
            revision=0 if config is None else config.revision,
            timestamp=0 if config is None else config.timestamp,
        )
        self._core.vl1.send(
            now, network.controller, Verb.NETWORK_CONFIG_REQUEST, request.encode(), compress=True, register=True
        )

    def receive(self, ctx: PacketContext) -> Outcome:
        """NETWORK_CONFIG_REQUEST from a member: for our controller, or "unsupported"."""
        request = NetworkConfigRequest.decode(ctx.payload)
        if not self._core.vl1.settings.controller:
            self._core.vl1.reply_error(ctx, ErrorCode.UNSUPPORTED_OPERATION, request.nwid.to_bytes(8, "big"))
        elif request.nwid >> 24 != self._core.address:
            self._core.drop("config_request_not_ours")
        else:
            source = ctx.remote if ctx.hops == 0 else None
            self._core.vl1.emit(
                ControllerRequest(request.nwid, ctx.peer.identity, request.metadata, ctx.packet_id, source)
            )
        return Outcome.HANDLED
