"""The seam between VL1 (peers and paths) and VL2 (networks): what each half may ask of the other, and nothing else.

VL1 authenticates and decrypts, then calls the handler that VL2 registered for the verb. VL2 sends through `Vl1`.
Tests of VL2 implement `Vl1` with a fake; tests of VL1 use `NullVl2`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ztpipe.node.actions import Action
    from ztpipe.node.settings import NodeSettings
    from ztpipe.node.status import NetworkStatusRecord
    from ztpipe.wire.address import MulticastGroup
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.protocol import ErrorCode, Verb
    from ztpipe.wire.verbs import Error, Ok


class PeerView(Protocol):
    """What VL2 may know about a peer (`ztpipe.node.peer.Peer`)."""

    @property
    def identity(self) -> Identity: ...
    @property
    def address(self) -> int: ...
    @property
    def protocol_version(self) -> int: ...
    @property
    def latency(self) -> int: ...  # ms of its best path, -1 unknown

    def alive(self, now: int) -> bool: ...
    def has_direct_path(self, now: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class PacketContext:
    """One authenticated, decrypted, decompressed packet.

    `binding`, `remote`: the path its head arrived on. `packet_id`: the ID on the wire. `payload`: from offset 28.
    `size`: of the packet as it came.
    A deferred packet is presented again with a later `now`; `attempt` counts from 0.
    """

    now: int
    peer: PeerView
    binding: int
    remote: InetAddress
    hops: int
    packet_id: int
    verb: Verb
    payload: bytes
    suite: int
    attempt: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class GatherQuestion:
    """A gather limit that came with a MULTICAST_FRAME (vl2 §6.4). The rest: of that packet, as in `PacketContext`."""

    group: MulticastGroup
    limit: int
    packet_id: int
    size: int
    hops: int
    suite: int


class Outcome(Enum):
    """What a handler did with a packet.

    HANDLED: receipt is recorded. TRUSTED: also establishes trust with the peer (vl1-behaviour §2.1). DEFER: keep it and
    present it again every 500 ms for 5 s and on `retry_deferred`. DROP: the handler emitted a `Drop`; nothing is
    recorded. Raising `WireError` is a drop with the error's reason.
    """

    HANDLED = "handled"
    TRUSTED = "trusted"
    DEFER = "defer"
    DROP = "drop"


class PathNews(Enum):
    """What a packet that came directly says about the path it came on, if anything."""

    QUESTIONED = "questioned"
    LEARNED = "learned"


class Vl1(Protocol):
    """What VL2 may ask of VL1."""

    @property
    def identity(self) -> Identity: ...
    @property
    def settings(self) -> NodeSettings: ...
    @property
    def random(self) -> Callable[[int], bytes]: ...

    def emit(self, action: Action) -> None: ...

    def send(
        self, now: int, destination: int, verb: Verb, payload: bytes, *, compress: bool = False, register: bool = False
    ) -> None:
        """Send by the best path, direct or relayed; waits for WHOIS (5 s) if the peer is unknown.

        `register`: an OK to it may come back (WHOIS, GATHER, CONFIG_REQUEST, ... are registered without asking).
        """

    def reply(self, ctx: PacketContext, verb: Verb, payload: bytes) -> None:
        """Send OK or ERROR straight back over the path of `ctx`. `payload` is the whole one: `Ok(...).encode()`."""

    def reply_ok(self, ctx: PacketContext, body: bytes, *, in_re_verb: Verb | None = None) -> None:
        """OK in reply to `ctx`; `body` is the verb-specific part. `in_re_verb` None: the verb of `ctx`."""

    def reply_error(self, ctx: PacketContext, code: ErrorCode, body: bytes = b"") -> None:
        """ERROR in reply to `ctx`."""

    def whois(self, now: int, address: int) -> None:
        """Ask the best root for an identity; at most once per 500 ms and address."""

    def peer(self, address: int) -> PeerView | None: ...
    def peers(self) -> Iterable[PeerView]: ...

    def carried(self, address: int) -> bool:
        """Does the data plane know how to reach this peer by itself?"""

    def tunnelled(self, now: int, address: int) -> bool:
        """Is it reached over a tunnel, by which the data plane cannot?"""

    def upstreams(self) -> list[int]:
        """Addresses of all roots except ourselves."""

    def is_upstream(self, address: int) -> bool: ...
    def we_are_root(self) -> bool: ...
    def best_upstream(self, now: int) -> int | None: ...

    def retry_deferred(self, now: int) -> None:
        """Present deferred packets again soon (credentials came in): done right after the current packet."""


Handler = Callable[[PacketContext], Outcome]
OkHandler = Callable[[PacketContext, "Ok"], Outcome]
ErrorHandler = Callable[[PacketContext, "Error"], Outcome]


class Vl2(Protocol):
    """What VL1 (and, through `Node`, control) may ask of VL2.

    handlers: FRAME EXT_FRAME MULTICAST_LIKE NETWORK_CREDENTIALS NETWORK_CONFIG_REQUEST NETWORK_CONFIG MULTICAST_GATHER
    MULTICAST_FRAME. ok_handlers: by in-re verb. error_handlers: by code (IDENTITY_COLLISION is VL1's).
    """

    @property
    def handlers(self) -> Mapping[Verb, Handler]: ...
    @property
    def ok_handlers(self) -> Mapping[Verb, OkHandler]: ...
    @property
    def error_handlers(self) -> Mapping[ErrorCode, ErrorHandler]: ...

    def tick(self, now: int) -> None:
        """Every ping check (5 s, 25 s in low-bandwidth mode)."""

    def soon(self, now: int) -> None:
        """Every 500 ms: what must not wait for the next ping check."""

    def housekeeping(self, now: int) -> None:
        """Every 30 s."""

    def peer_forgotten(self, address: int) -> None: ...
    def peer_activity(self, now: int, address: int, nwid: int, last_frame: int) -> None: ...

    def path_news(self, ctx: PacketContext, news: PathNews) -> None:
        """For observers: a packet came over a path that is not known, or taught us one (vl1-behaviour §4.8)."""

    def paths_reset(self, now: int, reporter: int, remote: InetAddress, seen: InetAddress) -> None:
        """For observers: `reporter` at `remote` sees us as `seen`, which is new (vl1-behaviour §2.8)."""

    def always_contact(self) -> set[int]:
        """Anchors and replicators of all joined networks (vl1-behaviour §1.3)."""

    def managed_prefixes(self) -> list[InetAddress]:
        """Managed subnets of all joined networks: no path may lead through them (vl1-behaviour §2.7)."""

    def frame_received(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes
    ) -> None: ...
    def group_in_use(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes, origin: int
    ) -> None: ...
    def bridged_in_use(self, now: int, nwid: int, mac: int, bridge: int) -> None: ...
    def gather_asked(self, ctx: PacketContext, nwid: int, group: MulticastGroup, limit: int) -> None:
        """A MULTICAST_FRAME that the data plane delivered asked for up to `limit` members of its group."""

    def join(self, now: int, nwid: int) -> None: ...
    def leave(self, now: int, nwid: int) -> None: ...
    def set_multicast_groups(self, now: int, nwid: int, groups: set[MulticastGroup]) -> None: ...
    def config_from_controller(self, now: int, nwid: int, dictionary: bytes) -> None: ...
    def controller_error(self, now: int, nwid: int, code: ErrorCode) -> None: ...
    def sent_by_controller(self, now: int, destination: int, verb: Verb, payload: bytes) -> None:
        """Our controller is sending this: whoever gets a configuration may gather for 180 s (vl2 §6.2)."""

    def set_tap_error(self, now: int, nwid: int, failed: bool) -> None:
        """The host cannot provide the TAP of a network, or can again."""

    def statuses(self) -> list[NetworkStatusRecord]: ...


Vl2Factory = Callable[[Vl1, Mapping[int, bytes]], Vl2]


@dataclass(slots=True)
class NullVl2:
    """A VL2 that joined nothing: for tests of VL1, and for a node that is only a root."""

    handlers: Mapping[Verb, Handler] = field(default_factory=dict)
    ok_handlers: Mapping[Verb, OkHandler] = field(default_factory=dict)
    error_handlers: Mapping[ErrorCode, ErrorHandler] = field(default_factory=dict)

    def tick(self, now: int) -> None:
        pass

    def soon(self, now: int) -> None:
        pass

    def housekeeping(self, now: int) -> None:
        pass

    def peer_forgotten(self, address: int) -> None:
        pass

    def peer_activity(self, now: int, address: int, nwid: int, last_frame: int) -> None:
        pass

    def path_news(self, ctx: PacketContext, news: PathNews) -> None:
        pass

    def paths_reset(self, now: int, reporter: int, remote: InetAddress, seen: InetAddress) -> None:
        pass

    def always_contact(self) -> set[int]:
        return set()

    def managed_prefixes(self) -> list[InetAddress]:
        return []

    def frame_received(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes
    ) -> None:
        pass

    def group_in_use(
        self, now: int, nwid: int, destination: int, source: int, ethertype: int, payload: bytes, origin: int
    ) -> None:
        pass

    def bridged_in_use(self, now: int, nwid: int, mac: int, bridge: int) -> None:
        pass

    def gather_asked(self, ctx: PacketContext, nwid: int, group: MulticastGroup, limit: int) -> None:
        pass

    def join(self, now: int, nwid: int) -> None:
        pass

    def leave(self, now: int, nwid: int) -> None:
        pass

    def set_multicast_groups(self, now: int, nwid: int, groups: set[MulticastGroup]) -> None:
        pass

    def config_from_controller(self, now: int, nwid: int, dictionary: bytes) -> None:
        pass

    def controller_error(self, now: int, nwid: int, code: ErrorCode) -> None:
        pass

    def sent_by_controller(self, now: int, destination: int, verb: Verb, payload: bytes) -> None:
        pass

    def set_tap_error(self, now: int, nwid: int, failed: bool) -> None:
        pass

    def statuses(self) -> list[NetworkStatusRecord]:
        return []
