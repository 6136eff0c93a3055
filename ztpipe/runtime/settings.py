"""From the validated Config to what the node and the underlay are told."""

from __future__ import annotations

import ipaddress
import platform
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ztpipe.config import Config
from ztpipe.node.settings import NodeSettings, PhysicalNetwork, VirtualPeer
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress


def node_settings(config: Config, trusted_paths: Mapping[str, int] = MappingProxyType({})) -> NodeSettings:
    """The part of the configuration that the protocol core acts on.

    `trusted_paths`: of the legacy file, network -> ID; what local.conf says of the same network counts.
    """
    local = config.local
    legacy = {
        net: PhysicalNetwork(net, trusted_path_id=n) for text, n in trusted_paths.items() if (net := prefix(text))
    }
    current = {
        net: PhysicalNetwork(net, entry.blacklist, entry.mtu, entry.trusted_path_id)
        for entry in local.physical
        if (net := prefix(entry.network)) is not None
    }
    return NodeSettings(
        protocol_version=config.protocol_version,
        max_suite=3 if config.protocol_version >= 12 else 1,
        low_bandwidth=local.settings.low_bandwidth_mode,
        path_mtu_discovery=not local.settings.low_bandwidth_mode,
        strict_filtering=config.strict_filtering,
        platform=f"linux/{platform.machine()}",
        physical=tuple((legacy | current).values()),
        virtual={
            peer.address: VirtualPeer(
                tuple(InetAddress.parse(text) for text in peer.try_addresses), tuple(prefixes(peer.blacklist))
            )
            for peer in local.virtual
        },
    )


class TunnelSettings(NamedTuple):
    """What local.conf says of the TCP relay; `relay` is None if it names none that can be used."""

    allowed: bool
    forced: bool
    relay: InetAddress | None


def tunnel_settings(config: Config) -> TunnelSettings:
    """``allowTcpFallbackRelay``, ``forceTcpRelay``, ``tcpFallbackRelay`` (vl1-behaviour §6.6)."""
    settings = config.local.settings
    try:
        relay: InetAddress | None = InetAddress.parse(settings.tcp_fallback_relay)
    except WireError:
        relay = None
    if relay is not None and relay.port == 0:
        relay = None
    return TunnelSettings(settings.allow_tcp_fallback_relay, settings.force_tcp_relay, relay)


def underlay_filter(config: Config) -> dict[str, Any]:
    """Arguments of `host.underlay.select` that come from the configuration."""
    physical = (prefix(entry.network) for entry in config.local.physical if entry.blacklist)
    return {
        "allow": config.underlay_interfaces,
        "bind": [address for text in config.local.settings.bind if (address := prefix(text)) is not None],
        "prefix_blacklist": config.local.settings.interface_prefix_blacklist,
        "blacklist": [net for net in physical if net is not None and net.port > 0],
    }


def prefix(text: str) -> InetAddress | None:
    """`IP/bits` as an InetAddress whose port is the prefix length; None if it is not one."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    return InetAddress(network.network_address.packed, network.prefixlen)


def prefixes(texts: Iterable[str]) -> list[InetAddress]:
    return [net for text in texts if (net := prefix(text)) is not None]
