"""What the HTTP API asks of the control process: one small protocol, and records for what the host side knows.

The node's own records come from `ztpipe.node.status`; what it cannot know (devices, local permissions, sockets) is
added here. All methods are called from the control process's event loop and must not block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ztpipe.config import Config
    from ztpipe.controller.change import Change
    from ztpipe.controller.listing import MemberQuery, NetworkQuery, Page
    from ztpipe.node.status import MoonStatus, NetworkStatusRecord, NodeStatus, PeerStatus
    from ztpipe.store import NetworkSettings
    from ztpipe.wire.inetaddress import InetAddress

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class Underlay:
    """The UDP side of the process, as bound now. A port of 0 means "none"."""

    listening: tuple[InetAddress, ...]
    primary_port: int
    secondary_port: int = 0
    tertiary_port: int = 0
    tcp_fallback_active: bool = False


@dataclass(frozen=True, slots=True)
class JoinedNetwork:
    """A joined network: the node's record, and what the host made of it. `port_error` is -999 after a TAP failure."""

    record: NetworkStatusRecord
    settings: NetworkSettings
    device: str = ""
    port_error: int = 0


class ControllerApi(Protocol):
    """The controller as `ztpipe.controller` implements it: JSON objects; errors are `ControllerError`."""

    def status(self, now: int) -> JsonObject: ...
    def list_networks(self) -> list[str]: ...
    def get_network(self, nwid: int) -> JsonObject: ...
    def create_network(self, now: int, body: object, change: Change = ...) -> JsonObject: ...
    def update_network(self, now: int, nwid: int, body: object, change: Change = ...) -> JsonObject: ...
    def delete_network(self, now: int, nwid: int, change: Change = ...) -> JsonObject: ...
    def list_members(self, nwid: int) -> JsonObject: ...
    def get_member(self, nwid: int, address: int) -> JsonObject: ...
    def update_member(self, now: int, nwid: int, address: int, body: object, change: Change = ...) -> JsonObject: ...
    def delete_member(
        self, now: int, nwid: int, address: int, change: Change = ..., *, forget: bool = False
    ) -> JsonObject: ...
    def update_members(
        self, now: int, nwid: int, bodies: dict[int, object], change: Change = ...
    ) -> list[JsonObject]: ...
    def query_networks(self, query: NetworkQuery) -> Page: ...
    def query_members(self, now: int, nwid: int, query: MemberQuery) -> Page: ...
    def member_counts(self, nwid: int) -> tuple[int, int]: ...
    def metrics(self) -> dict[str, int]: ...
    def audit(
        self, before: int | None = ..., limit: int = ..., nwid: int | None = ..., address: int | None = ...
    ) -> list[JsonObject]: ...
    def reload(self, now: int, change: Change = ...) -> None: ...


class TooManyNetworks(Exception):
    """As many networks are joined as a node can hold."""


class WorkersUnchanged(Exception):
    """The present workers go on; the text says why."""


class Service(Protocol):
    """The running node."""

    @property
    def controller(self) -> ControllerApi:
        """The built-in controller; it is always on."""

    def now(self) -> int:
        """Milliseconds since the epoch."""

    def config(self) -> Config:
        """The configuration in force, with local.conf as last read."""

    def underlay(self) -> Underlay:
        """What is bound."""

    def status(self) -> NodeStatus:
        """The node itself."""

    def peers(self) -> Sequence[PeerStatus]:
        """All known peers, in any order."""

    def networks(self) -> Sequence[JoinedNetwork]:
        """All joined networks, in any order."""

    def set_network(self, nwid: int, settings: Mapping[str, bool]) -> JoinedNetwork | None:
        """Join if needed and apply local permissions.

        `settings` holds any of allow_managed, allow_global, allow_default, allow_dns; others keep their value. Called
        with an empty mapping too: the file is written and addresses and routes are applied again. None: the ID names
        no controller. Raises TooManyNetworks before anything is changed.
        """

    def leave(self, nwid: int) -> bool:
        """Leave; False if it was not joined."""

    def orbit(self, world_id: int, seed: int) -> MoonStatus:
        """Add a moon, or start to fetch it from `seed`."""

    def deorbit(self, world_id: int) -> None:
        """Forget a moon."""

    def set_settings(self, settings: Mapping[str, object]) -> None:
        """Merge into ``settings`` of local.conf and write the file; raises OSError."""

    def metrics_text(self) -> str:
        """Prometheus text of now."""

    def controller_changed(self) -> None:
        """Called after a request changed something in the controller, so that its pushes leave at once."""

    async def reshape(self, settings: Mapping[str, object]) -> None:
        """Change the workers while frames flow: `settings` by keys of the section ``ztpipe`` (tapWorkers, ...).

        Raises ConfigError for what cannot be, WorkersUnchanged when the new workers do not start.
        """

    def workers(self) -> list[JsonObject]:
        """Every process of the node, control first: name, pid, restarts, cpu_seconds, counters by name."""
