"""What the data plane hands to Python: packets and frames without a table entry, as events of the node."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ztpipe.ipc import GatherAsked, PuntKind
from ztpipe.node.seam import GatherQuestion
from ztpipe.wire.address import MulticastGroup
from ztpipe.wire.inetaddress import InetAddress

if TYPE_CHECKING:
    from ztpipe.ipc import Punt
    from ztpipe.node.node import Node


def hand_over(node: Node, now: int, punt: Punt) -> bool:
    """Give the node one punt. False, and nothing is done, if it should say where it came from and does not."""
    if punt.kind in (PuntKind.FRAME, PuntKind.GROUP):
        frame = punt.data
        destination, source = int.from_bytes(frame[0:6], "big"), int.from_bytes(frame[6:12], "big")
        parts = (destination, source, int.from_bytes(frame[12:14], "big"), frame[14:])
        if punt.kind is PuntKind.FRAME:
            node.frame_received(now, punt.nwid, *parts)
        else:
            node.group_in_use(now, punt.nwid, *parts, punt.address)
        return True
    if punt.kind is PuntKind.BRIDGED:
        node.bridged_in_use(now, punt.nwid, int.from_bytes(punt.data, sys.byteorder), punt.address)
        return True
    if punt.remote is None:
        return False
    remote = InetAddress(*punt.remote)
    if punt.kind is PuntKind.DATAGRAM:
        node.datagram_received(now, punt.binding, remote, punt.data)
    elif punt.kind is PuntKind.PACKET:
        node.packet_received(now, punt.binding, remote, punt.data)
    elif punt.kind is PuntKind.GATHER:
        asked = GatherAsked.unpack(punt.data)
        group = MulticastGroup(asked.mac, asked.adi)
        question = GatherQuestion(group, asked.limit, asked.packet_id, asked.size, asked.hops, asked.suite)
        node.gather_asked(now, punt.address, punt.binding, remote, punt.nwid, question)
    else:
        node.unknown_path(now, punt.address, punt.binding, remote)
    return True
