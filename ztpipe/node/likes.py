"""MULTICAST_LIKE, outbound: telling others which groups we are in (vl2 §6.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from ztpipe.node.membership import Member
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import Like, MulticastLike

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.network import Network
    from ztpipe.wire.address import MulticastGroup

ANNOUNCE_MS: Final = 60_000
_RECORDS_PER_PACKET: Final = 550
"""18 bytes each; a packet holds 10024."""


class Likes:
    """Announces our groups to those who keep membership lists, and to members."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def listeners(self, network: Network) -> set[int]:
        """Everybody who is told on behalf of the whole network: roots, the controller, anchors and replicators."""
        listeners = {*self._core.vl1.upstreams(), *network.always_contact()}
        if not network.is_adhoc:  # the "controller" in an ad-hoc network ID is nobody
            listeners.add(network.controller)
        return listeners - {self._core.address}

    def announce(self, now: int, network: Network) -> None:
        """Tell the listeners all our groups."""
        network.last_announce = now
        self._send(now, network.nwid, network.groups, self.listeners(network))

    def announce_to(self, now: int, network: Network, member: Member) -> None:
        """Tell one member all our groups, if a minute has passed since the last time."""
        if now - member.last_like >= ANNOUNCE_MS:
            member.last_like = now
            self._send(now, network.nwid, network.groups, (member.address,))

    def announce_new(
        self,
        now: int,
        network: Network,
        groups: Collection[MulticastGroup],
        members: Iterable[Member],
        *,
        skip_listeners: bool = False,
    ) -> None:
        """Tell listeners (unless they have just been told) and members at once about groups that are new."""
        recipients = set() if skip_listeners else self.listeners(network)
        for member in members:
            recipients.add(member.address)
            if now - member.last_like >= ANNOUNCE_MS:
                member.last_like = now
        self._send(now, network.nwid, groups, recipients)

    def _send(self, now: int, nwid: int, groups: Collection[MulticastGroup], recipients: Collection[int]) -> None:
        if not groups or not recipients:
            return
        records = [Like(nwid, group) for group in sorted(groups)]
        for first in range(0, len(records), _RECORDS_PER_PACKET):
            payload = MulticastLike(tuple(records[first : first + _RECORDS_PER_PACKET])).encode()
            for address in sorted(recipients):
                self._core.vl1.send(now, address, Verb.MULTICAST_LIKE, payload, compress=True)
