"""`Node`: the sans-IO protocol core. Every method is an event with its time; `take_actions()` is all that comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ztpipe.node.settings import Binding, NodeSettings

if TYPE_CHECKING:
    from ztpipe.node.actions import Action
    from ztpipe.node.seam import Vl2Factory
    from ztpipe.node.status import (
        MoonStatus,
        NetworkStatusRecord,
        NodeStatus,
        PeerStatus,
    )
    from ztpipe.wire.address import MulticastGroup
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.protocol import ErrorCode, Verb
    from ztpipe.wire.world import World


class Node:
    """One ZeroTier node. Not thread-safe; never raises on anything that came from a network."""

    def __init__(
        self,
        identity: Identity,
        *,
        random: Callable[[int], bytes],
        planet: World | None,
        moons: Sequence[World] = (),
        networks: Mapping[int, bytes] | None = None,
        peers: Mapping[int, bytes] | None = None,
        settings: NodeSettings | None = None,
        vl2: Vl2Factory | None = None,
    ) -> None:
        """`networks`: cached config dictionaries (b"" if none) of networks to join at start. `peers`: peers.d records.

        `vl2` makes the network layer (default: `ztpipe.node.vl2.Vl2Engine`).
        """
        raise NotImplementedError

    # -- life -----------------------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        """Join `networks`, contact the roots."""

    def stop(self, now: int) -> None:
        """Save every peer. No packet is sent (vl1-behaviour §1.6)."""

    def tick(self, now: int) -> None:
        """Do what is due. Call at `next_deadline()` or earlier."""

    def next_deadline(self) -> int:
        """Node time in ms at which `tick` wants to be called at the latest."""
        raise NotImplementedError

    def take_actions(self) -> list[Action]:
        """Everything to be done since the last call, in order."""
        raise NotImplementedError

    # -- surroundings ---------------------------------------------------------------------------------------------------

    def set_settings(self, now: int, settings: NodeSettings) -> None: ...
    def set_bindings(self, now: int, bindings: Sequence[Binding]) -> None: ...
    def set_external_addresses(self, now: int, addresses: Sequence[InetAddress]) -> None:
        """Addresses that a port mapper (UPnP, NAT-PMP) got for us; advertised first (vl1-behaviour §2.9)."""

    # -- traffic --------------------------------------------------------------------------------------------------------

    def datagram_received(self, now: int, binding: int, remote: InetAddress, data: bytes) -> None:
        """One UDP datagram, as it came."""

    def packet_received(self, now: int, binding: int, remote: InetAddress, packet: bytes) -> None:
        """A whole packet, already reassembled, still sealed."""

    def frame_received(self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes) -> None:
        """A frame read from a TAP that the data plane could not send by itself. MACs as integers."""

    def path_activity(
        self, now: int, address: int, binding: int, remote: InetAddress, last_receive: int, last_send: int
    ) -> None:
        """Traffic that the data plane carried over a path (0 = none); call before `tick`."""

    def peer_activity(self, now: int, address: int, nwid: int, last_frame: int) -> None:
        """The data plane accepted a frame of this peer at `last_frame`."""

    def unknown_path(self, now: int, address: int, binding: int, remote: InetAddress) -> None:
        """The data plane got an authentic, direct frame of this peer from a path that is not installed."""

    # -- networks, moons, controller --------------------------------------------------------------------------------------

    def join(self, now: int, nwid: int) -> None: ...
    def leave(self, now: int, nwid: int) -> None: ...
    def orbit(self, now: int, moon_id: int, seed: int) -> None: ...
    def deorbit(self, now: int, moon_id: int) -> None: ...
    def set_multicast_groups(self, now: int, nwid: int, groups: set[MulticastGroup]) -> None: ...
    def network_config_from_controller(self, now: int, nwid: int, dictionary: bytes) -> None: ...
    def controller_error(self, now: int, nwid: int, code: ErrorCode) -> None: ...
    def send_verb(
        self, now: int, destination: int, verb: Verb, payload: bytes, *, compress: bool = False
    ) -> None: ...

    # -- what it knows ----------------------------------------------------------------------------------------------------

    def status(self, now: int) -> NodeStatus:
        raise NotImplementedError

    def moons(self) -> list[MoonStatus]:
        raise NotImplementedError

    def peers(self, now: int) -> list[PeerStatus]:
        raise NotImplementedError

    def network_statuses(self) -> list[NetworkStatusRecord]:
        raise NotImplementedError
