"""The node's events as lines of the log: one for each that an operator would want to know, none per packet.

Identifiers appear as everywhere else: nodes as 10 hex digits, networks as 16, endpoints as ``IP/port``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ztpipe.controller.actions import MemberChanged
from ztpipe.log import get_logger
from ztpipe.node.actions import Event
from ztpipe.wire.inetaddress import InetAddress

_log = get_logger("node")

#: Kind of event -> level and text. What is missing here is for debugging.
_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "online": ("info", "online"),
    "offline": ("warning", "offline: no root answers"),
    "joined": ("info", "joined network"),
    "too_many_networks": ("error", "not joined: too many networks"),
    "left": ("info", "left network"),
    "network_status": ("info", "network status"),
    "unknown_rules": ("warning", "rules of unknown types: they do nothing here"),
    "peer_direct": ("info", "peer reached directly"),
    "peer_relayed": ("info", "peer reached through a relay"),
    "path_changed": ("info", "path changed"),
    "path_doubted": ("info", "path does not answer"),
    "path_mtu": ("info", "path MTU"),
    "external_address_changed": ("info", "seen from outside at another address"),
    "world_updated": ("info", "roots updated"),
    "collision": ("error", "identity collision: a new identity is made at the next start"),
}
_NODES: Final = frozenset({"peer", "reporter", "source"})


def tell(event: Event) -> None:
    """Log one event of the node."""
    level, text = _TEXTS.get(event.kind, ("debug", event.kind.replace("_", " ")))
    getattr(_log, level)(text, **{key: _shown(key, value) for key, value in event.fields.items() if key != "binding"})


def tell_changes(changes: Iterable[MemberChanged]) -> None:
    """Log what became of members of our own controller's networks."""
    for change in changes:
        text = "member authorised" if change.authorized else "member no longer authorised"
        _log.info(text, network=f"{change.nwid:016x}", member=f"{change.address:010x}")


def _shown(key: str, value: object) -> object:
    if isinstance(value, InetAddress):
        return value.text()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int) and key in _NODES:
        return f"{value:010x}"
    if isinstance(value, int) and key == "network":
        return f"{value:016x}"
    return value
