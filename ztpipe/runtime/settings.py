"""From the validated Config to what the node and the underlay are told."""

from __future__ import annotations

import ipaddress
import platform
from collections.abc import Iterable
from typing import Any

from ztpipe.config import Config
from ztpipe.node.settings import NodeSettings, PhysicalNetwork, VirtualPeer
from ztpipe.wire.inetaddress import InetAddress


def node_settings(config: Config) -> NodeSettings:
    """The part of the configuration that the protocol core acts on."""
    local = config.local
    return NodeSettings(
        protocol_version=config.protocol_version,
        max_suite=3 if config.protocol_version >= 12 else 1,
        low_bandwidth=local.settings.low_bandwidth_mode,
        path_mtu_discovery=not local.settings.low_bandwidth_mode,
        platform=f"linux/{platform.machine()}",
        physical=tuple(
            PhysicalNetwork(net, entry.blacklist, entry.mtu, entry.trusted_path_id)
            for entry in local.physical
            if (net := prefix(entry.network)) is not None
        ),
        virtual={
            peer.address: VirtualPeer(
                tuple(InetAddress.parse(text) for text in peer.try_addresses), tuple(prefixes(peer.blacklist))
            )
            for peer in local.virtual
        },
    )


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
