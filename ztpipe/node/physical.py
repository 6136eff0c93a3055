"""What ``physical`` of local.conf says about an endpoint (vl1-behaviour §6.7), and how large datagrams to it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.wire.protocol import DEFAULT_MTU, MAX_MTU, MIN_MTU

if TYPE_CHECKING:
    from ztpipe.node.path import Path
    from ztpipe.node.settings import PhysicalNetwork
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

_HEADERS: Final = {4: 28, 16: 48}
"""Bytes of IP and UDP header by length of the IP."""
LEAST_PAYLOAD: Final = 1_232
"""UDP payload on the smallest IPv6 underlay."""


def payload_of(ip_mtu: int, remote: InetAddress) -> int:
    """The UDP payload that fits a link of `ip_mtu` bytes towards `remote`."""
    return ip_mtu - _HEADERS[len(remote.ip)]


class Physical:
    """Answers about endpoints, from the settings in force."""

    __slots__ = ("core",)

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core

    def entry(self, remote: InetAddress) -> PhysicalNetwork | None:
        """The smallest configured network that holds `remote`."""
        holding = [entry for entry in self.core.settings.physical if remote.in_prefix(entry.network)]
        return max(holding, key=lambda entry: entry.network.port, default=None)

    def trusted_id(self, remote: InetAddress) -> int:
        """The trusted path ID to send to `remote` with, 0 if none (vl1-wire §5.8)."""
        entry = self.entry(remote)
        return entry.trusted_path_id if entry is not None else 0

    def accepts(self, remote: InetAddress, path_id: int) -> bool:
        """Is what says to be of that trusted path believed from `remote`? Any configured network may say so."""
        networks = (entry.network for entry in self.core.settings.physical if entry.trusted_path_id == path_id)
        return path_id != 0 and any(remote.in_prefix(network) for network in networks)

    def blacklisted(self, remote: InetAddress) -> bool:
        """Is `remote` in a network that must not be used? Not everything can be one (prefix length 0)."""
        return any(
            entry.blacklist and entry.network.port > 0 and remote.in_prefix(entry.network)
            for entry in self.core.settings.physical
        )

    def configured_mtu(self, remote: InetAddress) -> int:
        """The UDP payload that somebody configured, 0 if nobody did."""
        entry = self.entry(remote)
        return min(max(entry.mtu, MIN_MTU), MAX_MTU) if entry is not None and entry.mtu else 0

    def mtu_to(self, remote: InetAddress) -> int:
        """Largest UDP payload towards an endpoint of which nothing is known (vl1-behaviour §4.1 step 6)."""
        return self.configured_mtu(remote) or self.core.settings.mtu

    def mtu_of(self, path: Path, *, relayed: bool) -> int:
        """Largest UDP payload on `path`: configured, else discovered, else the default as far as the link takes it.

        A relay passes on what it gets and cannot cut it, so relayed packets never exceed the default.
        """
        configured = self.configured_mtu(path.remote)
        if configured:
            return configured
        size = min(path.mtu or self.core.settings.mtu, self.link_limit(path))
        return min(size, DEFAULT_MTU) if relayed else size

    def link_limit(self, path: Path) -> int:
        """What the local link lets through in one piece; no limit if that is not known."""
        for binding in self.core.bindings:
            if binding.id == path.binding and binding.mtu:
                return max(payload_of(binding.mtu, path.remote), LEAST_PAYLOAD)
        return MAX_MTU
