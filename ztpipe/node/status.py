"""What a node tells about itself: frozen records with everything the API objects of service §4.5-4.8 need."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ztpipe.node.tally import Traffic
    from ztpipe.wire.address import MulticastGroup
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.netconf import NetworkConfig
    from ztpipe.wire.world import World


class Role(Enum):
    """How a peer is shown (service §4.7)."""

    LEAF = "LEAF"
    MOON = "MOON"
    PLANET = "PLANET"


class NetworkStatus(Enum):
    """State of a joined network; the values are the API's texts (service §4.6)."""

    REQUESTING_CONFIGURATION = "REQUESTING_CONFIGURATION"
    OK = "OK"
    ACCESS_DENIED = "ACCESS_DENIED"
    NOT_FOUND = "NOT_FOUND"
    PORT_ERROR = "PORT_ERROR"
    CLIENT_TOO_OLD = "CLIENT_TOO_OLD"
    AUTHENTICATION_REQUIRED = "AUTHENTICATION_REQUIRED"


@dataclass(frozen=True, slots=True)
class PathStatus:
    """One usable path of a peer. Times in node milliseconds, 0 = never. `latency` -1 = unknown."""

    binding: int
    remote: InetAddress
    last_send: int
    last_receive: int
    preferred: bool
    latency: int
    doubted: bool


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer. `version` is None before it told us; `latency` -1 = unknown."""

    address: int
    identity: Identity
    protocol_version: int
    version: tuple[int, int, int] | None
    latency: int
    role: Role
    last_receive: int
    paths: tuple[PathStatus, ...]


class PeerTraffic(NamedTuple):
    """What metrics tell of one peer. `latency` -1 = unknown; `remote`: its preferred path, None when it is relayed.

    `alive` and `dead` count its paths; `unanswered` is how many probes of the preferred path in a row had no answer.
    """

    address: int
    latency: int
    alive: int
    dead: int
    remote: InetAddress | None
    unanswered: int
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class MoonStatus:
    """A moon held (`world`), or one being fetched from `seed` (`world` None)."""

    id: int
    world: World | None
    seed: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The node itself."""

    address: int
    identity: Identity
    online: bool
    is_root: bool
    clock: int
    planet: World | None
    moons: tuple[MoonStatus, ...]
    surface_addresses: tuple[InetAddress, ...]
    protocol_version: int
    version: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class NetworkStatusRecord:
    """One joined network as the node sees it; what the host did with it (device name, permissions) control adds."""

    nwid: int
    mac: int
    status: NetworkStatus
    config: NetworkConfig | None
    mtu: int
    bridge: bool
    multicast_groups: tuple[MulticastGroup, ...]
    authentication_url: str = ""
    authentication_expiry: int = 0
    controller_reached: bool = False
    """It answered since the start (a cached configuration is not an answer); true where no controller is needed."""
    refused_received: int = 0
    refused_sent: int = 0
