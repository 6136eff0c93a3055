"""Between the node and the controller that lives beside it: requests one way, packets and configurations the other."""

from __future__ import annotations

from collections.abc import Iterable

from ztpipe.controller.actions import ControllerAction, LocalConfig, LocalError, SendPacket
from ztpipe.node.node import Node


def deliver(node: Node, now: int, actions: Iterable[ControllerAction]) -> None:
    """Hand the controller's answers to the node. Its own member never sees a packet: it is served in the process."""
    for action in actions:
        if isinstance(action, SendPacket):
            node.send_verb(now, action.destination, action.verb, action.payload, compress=action.compress)
        elif isinstance(action, LocalConfig):
            node.network_config_from_controller(now, action.nwid, action.dictionary)
        elif isinstance(action, LocalError):
            node.controller_error(now, action.nwid, action.code)
