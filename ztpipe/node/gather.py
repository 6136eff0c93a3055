"""Learning and telling who is in a group: LIKE, GATHER and their answers (vl2 §6.2, §6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.multicast import shuffled
from ztpipe.node.seam import Outcome
from ztpipe.wire.verbs import MulticastGather, MulticastLike, OkMulticastFrame, OkMulticastGather, UnwantedMulticast

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.credentials import CredentialReceiver
    from ztpipe.node.fanout import Fanout
    from ztpipe.node.gate import Gate
    from ztpipe.node.groups import GroupTable
    from ztpipe.node.multicast import Multicaster
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext
    from ztpipe.wire.address import MulticastGroup
    from ztpipe.wire.verbs import Error, Ok

MAX_ANSWER: Final = 1_900
"""Addresses in one answer; 5 bytes each, and the packet has to fit into seven fragments."""


class Gatherer:
    """Keeps the group table by what others say, and answers those who ask."""

    def __init__(
        self,
        core: Core,
        gate: Gate,
        receiver: CredentialReceiver,
        groups: GroupTable,
        multicaster: Multicaster,
        fanout: Fanout,
    ) -> None:
        self._core = core
        self._gate = gate
        self._receiver = receiver
        self._groups = groups
        self._multicaster = multicaster
        self._fanout = fanout

    def _admitted(self, ctx: PacketContext, nwid: int) -> bool:
        """Whether the peer's word about groups of a network counts."""
        network = self._core.networks.get(nwid)
        if network is not None and self._gate.passes(ctx.now, network, ctx.peer.identity):
            return True
        return self._core.may_learn_groups(ctx, nwid)

    def on_like(self, ctx: PacketContext) -> Outcome:
        """MULTICAST_LIKE: the peer is in these groups. Decided for each network on its own, unlike the reference."""
        admitted: dict[int, bool] = {}
        for nwid, group in MulticastLike.decode(ctx.payload).likes:
            if nwid not in admitted:
                admitted[nwid] = self._admitted(ctx, nwid)
            if admitted[nwid]:
                self._learned(ctx.now, nwid, group, ctx.peer.address)
        if not all(admitted.values()):
            self._core.drop("like_not_admitted")
        return Outcome.HANDLED

    def on_gather(self, ctx: PacketContext) -> Outcome:
        """MULTICAST_GATHER: the peer wants to know who is in a group."""
        request = MulticastGather.decode(ctx.payload)
        if request.com is not None:
            self._receiver.take_com(ctx.now, request.com)
        if request.limit == 0 or not self._admitted(ctx, request.nwid):
            self._core.drop("gather_not_admitted")
            return Outcome.HANDLED
        result = self.known(request.nwid, request.group, ctx.peer.address, request.limit)
        if result is not None:
            answer = OkMulticastGather(request.nwid, request.group, *result)
            self._core.vl1.reply_ok(ctx, answer.encode())
        return Outcome.TRUSTED if request.nwid in self._core.networks else Outcome.HANDLED

    def known(self, nwid: int, group: MulticastGroup, asker: int, limit: int) -> tuple[int, tuple[int, ...]] | None:
        """(number known, up to `limit` members): we first if subscribed, never the asker; None if there are none."""
        network = self._core.networks.get(nwid)
        subscribed = network is not None and group in network.groups
        members = self._groups.members(nwid, group)
        others = shuffled((m for m in members if m not in (asker, self._core.address)), self._core.vl1.random)
        found = [*([self._core.address] if subscribed else []), *others][: min(limit, MAX_ANSWER)]
        return (len(members) + subscribed, tuple(found)) if found else None

    def answer_on_frame(self, ctx: PacketContext, network: Network, group: MulticastGroup, limit: int) -> None:
        """OK(MULTICAST_FRAME): the answer to a gather limit that came with a frame, if there is anybody to name."""
        result = self.known(network.nwid, group, ctx.peer.address, limit)
        if result is not None:
            self._core.vl1.reply_ok(ctx, OkMulticastFrame(network.nwid, group, *result).encode())

    def on_ok_gather(self, ctx: PacketContext, ok: Ok) -> Outcome:
        """OK(MULTICAST_GATHER): members of a group."""
        answer = OkMulticastGather.decode(ok.body)
        self._learn(ctx, answer.nwid, answer.group, answer.members)
        return Outcome.HANDLED

    def on_ok_multicast_frame(self, ctx: PacketContext, ok: Ok) -> Outcome:
        """OK(MULTICAST_FRAME): the answer to the gather that rode on a frame."""
        answer = OkMulticastFrame.decode(ok.body)
        if answer.com is not None:
            self._receiver.take_com(ctx.now, answer.com)
        self._learn(ctx, answer.nwid, answer.group, answer.members)
        return Outcome.HANDLED

    def _learn(self, ctx: PacketContext, nwid: int, group: MulticastGroup, members: tuple[int, ...]) -> None:
        if nwid not in self._core.networks:
            self._core.drop("network_not_joined")
            return
        for address in members:
            self._learned(ctx.now, nwid, group, address)

    def _learned(self, now: int, nwid: int, group: MulticastGroup, address: int) -> None:
        self._multicaster.member_learned(now, nwid, group, address)
        if address != self._core.address:
            self._fanout.learned(now, nwid, group, address)

    def on_unwanted(self, ctx: PacketContext, error: Error) -> Outcome:
        """ERROR UNWANTED_MULTICAST: a member wants no more of a group."""
        unwanted = UnwantedMulticast.decode(error.body)
        network = self._core.networks.get(unwanted.nwid)
        if network is not None and self._gate.passes(ctx.now, network, ctx.peer.identity):
            self._groups.remove(unwanted.nwid, unwanted.group, ctx.peer.address)
        return Outcome.HANDLED
