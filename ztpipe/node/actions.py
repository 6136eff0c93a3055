"""What a `Node` wants done. Every input method appends to one list; `Node.take_actions()` hands it over, in order.

Actions are data: nothing here knows sockets, tables or Linux. `control` makes datagrams, entries, files of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztpipe.node.status import NetworkStatus
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.netconf import NetworkConfig
    from ztpipe.wire.rule import Rule

StateKind = Literal["planet", "moon", "network", "peer"]


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send one UDP datagram. `binding` None: once from every binding of the remote's family. `ttl` 0: the default.

    `whole`: no router may cut it (a probe of the path's MTU).
    """

    binding: int | None
    remote: InetAddress
    data: bytes
    ttl: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class WriteFrame:
    """Write an Ethernet frame to the TAP of a network. `destination` and `source` are MACs."""

    nwid: int
    destination: int
    source: int
    ethertype: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class InstallPeer:
    """Upsert: session keys of a peer and where frames for it are sent now.

    `direct` False: (`binding`, `remote`) is the path of a root that relays. `suite`: what we send, 1 or 3.
    `mtu`: largest UDP payload on that path.
    """

    address: int
    salsa_key: bytes
    k0: bytes
    k1: bytes
    suite: int
    binding: int
    remote: InetAddress
    mtu: int
    direct: bool


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Forget keys and path of a peer, and its learned paths."""

    address: int


@dataclass(frozen=True, slots=True)
class AllowRelay:
    """May the data plane forward what is for others, whoever it comes from? Not before this says so."""

    allowed: bool


@dataclass(frozen=True, slots=True)
class InstallPath:
    """A learned direct path: frames of this peer arriving there need no punt."""

    address: int
    binding: int
    remote: InetAddress


@dataclass(frozen=True, slots=True)
class RemovePath:
    """The path is no longer one of that peer's."""

    address: int
    binding: int
    remote: InetAddress


@dataclass(frozen=True, slots=True)
class InstallNetwork:
    """Upsert a network of the data plane. `accept_all`: base rules are an unconditional accept.

    `multicast`: the limit is not 0. `replicator`: we replicate multicast frames for others.
    `bridged`: there are active bridges besides us.
    `policy`: the rules and our own credentials in the flat form (`ztpipe.rules.flat`), None if it cannot hold them.
    """

    nwid: int
    mac: int
    mtu: int
    accept_all: bool
    rules: tuple[Rule, ...]
    flags: int
    bridge: bool
    multicast: bool = False
    replicator: bool = False
    bridged: bool = False
    policy: bytes | None = None


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    """The data plane must not carry frames of this network any more."""

    nwid: int


@dataclass(frozen=True, slots=True)
class InstallMember:
    """Upsert a membership. `receive`: it passes the gate. `send_until`: until then (ms) frames need no credentials."""

    nwid: int
    address: int
    receive: bool
    send_until: int


@dataclass(frozen=True, slots=True)
class InstallCredentials:
    """What rules need to know of a member: its credentials in force, in the flat form (`ztpipe.rules.flat`).

    b"" if there are none or no rule asks; None if the flat form cannot hold them. Comes before the InstallMember.
    """

    nwid: int
    address: int
    credentials: bytes | None


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """The peer is no member (any more) of that network."""

    nwid: int
    address: int


@dataclass(frozen=True, slots=True)
class InstallGroup:
    """Upsert: who gets the frames for a multicast group that the data plane repeats by itself.

    The `first` of `recipients` come before the others, always; `limit`: most recipients of one frame. `replicated`: the
    one recipient is a replicator. From `renew_at` on (ms) the data plane says that the entry is in use; from `until` on
    it is none.
    """

    nwid: int
    mac: int
    adi: int
    recipients: tuple[int, ...]
    first: int
    limit: int
    replicated: bool
    renew_at: int
    until: int


@dataclass(frozen=True, slots=True)
class RemoveGroup:
    """Frames for this group take the slow path."""

    nwid: int
    mac: int
    adi: int


@dataclass(frozen=True, slots=True)
class InstallBridged:
    """Upsert: frames to and from `mac` go through the bridge `address`.

    From `renew_at` on (ms) the data plane says that frames still come from there; from `until` on the entry is none.
    """

    nwid: int
    mac: int
    address: int
    renew_at: int
    until: int


@dataclass(frozen=True, slots=True)
class RemoveBridged:
    """Frames to and from this MAC take the slow path."""

    nwid: int
    mac: int


@dataclass(frozen=True, slots=True)
class ConfigureNetwork:
    """Host side: TAP up, addresses, routes, DNS. On join (`config` None), each applied config, each status change."""

    nwid: int
    config: NetworkConfig | None
    status: NetworkStatus


@dataclass(frozen=True, slots=True)
class DestroyNetwork:
    """Host side: remove the TAP and all that was configured on it."""

    nwid: int


@dataclass(frozen=True, slots=True)
class ObservedFrame:
    """A copy that a TEE or WATCH made for us, or a frame that a REDIRECT sent us (vl2 §4.8), for whoever monitors.

    flags: those of the EXT_FRAME. rule: index of the rule that names us, in the base rules or, if `capability` is not
    None, in that capability of the sender. `payload` may be cut short by the rule.
    """

    nwid: int
    sender: int
    flags: int
    rule: int
    capability: int | None
    destination: int
    source: int
    ethertype: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SaveState:
    """Write (`data`) or delete (None) a state object of the home directory (vl1-behaviour §1.4)."""

    kind: StateKind
    id: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class ControllerRequest:
    """A NETWORK_CONFIG_REQUEST for a network that we control. Our own: `packet_id` 2**64-1, `source` None."""

    nwid: int
    member: Identity
    metadata: bytes
    packet_id: int
    source: InetAddress | None


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that came in went nowhere, and why."""

    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """For logs, traces and the controller: "online", "offline", "collision", "user_message", "remote_trace", ..."""

    kind: str
    fields: Mapping[str, object]


Action = (
    SendDatagram
    | WriteFrame
    | InstallPeer
    | RemovePeer
    | AllowRelay
    | InstallPath
    | RemovePath
    | InstallNetwork
    | RemoveNetwork
    | InstallMember
    | InstallCredentials
    | RemoveMember
    | InstallGroup
    | RemoveGroup
    | InstallBridged
    | RemoveBridged
    | ConfigureNetwork
    | DestroyNetwork
    | ObservedFrame
    | SaveState
    | ControllerRequest
    | Drop
    | Event
)
