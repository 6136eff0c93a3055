"""What a `Node` is told about its surroundings: settings that may change while it runs, and its UDP sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ztpipe.wire.inetaddress import InetAddress


TUNNEL: Final = 255
"""`Binding.id` of the connection to a TCP relay (vl1-behaviour §6.6): the data plane does not know it."""


class Binding(NamedTuple):
    """One bound UDP socket. `id` names it in actions and shared tables; `local` is what it is bound to.

    `mtu`: of the IP link, 0 if not known.
    """

    id: int
    local: InetAddress
    interface: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class PhysicalNetwork:
    """One entry of ``physical`` in local.conf (vl1-behaviour §6.7). `network.port`: prefix length; `mtu` 0: default.

    `trusted_path_id` not 0: no cryptography to and from there (vl1-wire §5.8).
    """

    network: InetAddress
    blacklist: bool = False
    mtu: int = 0
    trusted_path_id: int = 0


@dataclass(frozen=True, slots=True)
class VirtualPeer:
    """One entry of ``virtual`` in local.conf: endpoints to try for a node, prefixes never to use for it."""

    hints: tuple[InetAddress, ...] = ()
    blacklist: tuple[InetAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Everything about a node that is configuration rather than state. Replace it whole with `Node.set_settings`.

    protocol_version: announced in HELLO and OK(HELLO). 5..11 makes every peer speak suite 1 to us (vl1-wire §5.1).
    max_suite: the strongest suite we send; 1 keeps us on Salsa20/12 even towards peers that announce 12.
    identity_gate_ms: one unknown identity per source prefix in this time, after a few (vl1-behaviour §2.6 gate 1).
    platform: the ``o`` key of configuration requests.
    path_mtu_discovery: probe the paths of active peers for the size of datagram that they carry.
    strict_filtering: drop inbound frames that rules cannot judge (docs/filtering.md), where a network has rules.
    controller: a network controller runs beside this node; without one, config requests are answered "unsupported".
    """

    protocol_version: int = 12
    version: tuple[int, int, int] = (1, 14, 1)
    max_suite: int = 3
    mtu: int = 1432
    low_bandwidth: bool = False
    identity_gate_ms: int = 2_000
    platform: str = "linux/x86_64"
    controller: bool = True
    path_mtu_discovery: bool = False
    strict_filtering: bool = False
    physical: tuple[PhysicalNetwork, ...] = ()
    virtual: Mapping[int, VirtualPeer] = field(default_factory=dict)
