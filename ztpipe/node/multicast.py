"""Sending multicast frames: to known members at once, to those found by gathering while they are fresh (vl2 §6.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from ztpipe.node.filter import EthernetFrame
from ztpipe.node.groups import FRAME_TIMEOUT_MS, GATHER_INTERVAL_MS, Group, GroupTable, PendingFrame
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import MulticastFrame, MulticastGather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ztpipe.node.core import Core
    from ztpipe.node.credentials import CredentialPusher
    from ztpipe.node.filter import Filter
    from ztpipe.node.network import Network
    from ztpipe.wire.address import MulticastGroup

_LOW_BANDWIDTH_FACTOR: Final = 3
_MAX_GATHER_RECIPIENTS: Final = 16
_LATENCY_UNKNOWN: Final = 65_535

_T = TypeVar("_T")


def shuffled(items: Iterable[_T], random: Callable[[int], bytes]) -> list[_T]:
    """The items in random order."""
    return sorted(items, key=lambda _: random(8))


def recipients_of(network: Network, members: Iterable[int]) -> list[int]:
    """Who is to get a frame for a group with these members: active bridges first, and never we."""
    bridges = () if network.config is None else network.config.active_bridges
    return [address for address in dict.fromkeys((*bridges, *members)) if address != network.own_address]


class Multicaster:
    """Distributes our multicast frames, and as a replicator those of others."""

    def __init__(self, core: Core, groups: GroupTable, filter_: Filter, pusher: CredentialPusher) -> None:
        self._core = core
        self._groups = groups
        self._filter = filter_
        self._pusher = pusher

    def send(
        self,
        now: int,
        network: Network,
        group: MulticastGroup,
        frame: EthernetFrame,
        *,
        source_given: bool = False,
        origin: int = 0,
    ) -> None:
        """Send a frame to a group. `source_given`: its source MAC is not ours; `origin`: who wants it replicated."""
        config = network.config
        if config is None or config.multicast_limit == 0:
            return
        replicator = self.replicator(now, network)
        if replicator is not None:
            payload = _encode(network, group, frame, source_given=True, replicate=True)
            self._core.vl1.send(
                now, replicator, Verb.MULTICAST_FRAME, payload, compress=config.compress_frames, register=True
            )
            return
        members = shuffled(self._groups.members(network.nwid, group), self._core.vl1.random)
        if len(members) >= config.multicast_limit:
            self._send_in_one_pass(now, network, group, frame, members, source_given, origin)
        else:
            self._send_and_queue(now, network, group, frame, members, source_given, origin)

    def _send_in_one_pass(
        self,
        now: int,
        network: Network,
        group: MulticastGroup,
        frame: EthernetFrame,
        members: list[int],
        source_given: bool,
        origin: int,
    ) -> None:
        """There are members enough: bridges first, then as many others as the limit allows."""
        assert network.config is not None
        payload = _encode(network, group, frame, source_given=source_given, gather_limit=1)
        recipients = [address for address in recipients_of(network, members) if address != origin]
        for address in recipients[: network.config.multicast_limit]:
            self._send_one(now, network, address, frame, payload)

    def _send_and_queue(
        self,
        now: int,
        network: Network,
        group: MulticastGroup,
        frame: EthernetFrame,
        members: list[int],
        source_given: bool,
        origin: int,
    ) -> None:
        """Too few members are known: look for more, and keep the frame for those who turn up in time."""
        assert network.config is not None
        limit = network.config.multicast_limit
        wanted = limit - len(members) + 1
        state = self._groups.obtain(network.nwid, group)
        if state is None:
            self._core.drop("multicast_groups_full")
            return
        self._gather_if_due(now, network, group, state, wanted)
        payload = _encode(network, group, frame, source_given=source_given, gather_limit=wanted)
        pending = PendingFrame(now + FRAME_TIMEOUT_MS, frame, payload, limit)
        if origin:
            pending.served.add(origin)
        for address in recipients_of(network, members):
            if not self._serve(now, network, pending, address):
                return
        if len(state.pending) == state.pending.maxlen:
            self._core.drop("multicast_queue_full")
        state.pending.append(pending)

    def _serve(self, now: int, network: Network, pending: PendingFrame, address: int) -> bool:
        """Send a queued frame to one more recipient unless it has had it; False once the limit is reached."""
        if len(pending.served) >= pending.limit:
            return False
        if address not in pending.served and address != self._core.address:
            pending.served.add(address)
            self._send_one(now, network, address, pending.frame, pending.payload)
        return len(pending.served) < pending.limit

    def send_to(
        self, now: int, network: Network, group: MulticastGroup, frame: EthernetFrame, recipients: list[int]
    ) -> None:
        """A frame that others have got already, for these as well."""
        if recipients:
            bridged = frame.source != network.mac
            payload = _encode(network, group, frame, source_given=bridged, gather_limit=1)
            for address in recipients:
                self._send_one(now, network, address, frame, payload)

    def member_learned(self, now: int, nwid: int, group: MulticastGroup, address: int) -> None:
        """A node is in a group: note it, and let it have the frames that wait for members."""
        if address == self._core.address or not address:
            return
        if not self._groups.add(now, nwid, group, address):
            self._core.drop("multicast_members_full")
            return
        network = self._core.networks.get(nwid)
        state = self._groups.get(nwid, group)
        if network is None or network.config is None or state is None or not state.pending:
            return
        still_waiting = [p for p in state.pending if p.expires > now and self._serve(now, network, p, address)]
        state.pending.clear()
        state.pending.extend(still_waiting)

    def _send_one(self, now: int, network: Network, address: int, frame: EthernetFrame, payload: bytes) -> None:
        if self._filter.outbound(now, network, address, frame, copies=False):
            self._pusher.push_if_due(now, network, address)
            compress = network.config is not None and network.config.compress_frames
            self._core.vl1.send(now, address, Verb.MULTICAST_FRAME, payload, compress=compress, register=True)

    # --- replication ----------------------------------------------------------------------------------------

    def replicator(self, now: int, network: Network) -> int | None:
        """The nearest replicator that can be reached directly, if frames have to go through one."""
        config = network.config
        if config is None or network.is_active_bridge or self._core.address in config.replicators:
            return None
        usable: list[tuple[int, int]] = []
        for address in config.replicators:
            peer = self._core.vl1.peer(address)
            if (
                peer is not None
                and peer.alive(now)
                and peer.has_direct_path(now)
                and 0 <= peer.latency < _LATENCY_UNKNOWN
            ):
                usable.append((peer.latency, address))
        return min(usable)[1] if usable else None

    # --- gathering ------------------------------------------------------------------------------------------

    def gather_for(self, now: int, network: Network, group: MulticastGroup) -> None:
        """Look for more members of a group in use, if there may be any that its frames should reach."""
        state = self._groups.obtain(network.nwid, group)
        if state is not None and network.config is not None:
            wanted = network.config.multicast_limit - len(state.members) + 1
            if wanted > 1:
                self._gather_if_due(now, network, group, state, wanted)

    def _gather_if_due(self, now: int, network: Network, group: MulticastGroup, state: Group, wanted: int) -> None:
        interval = GATHER_INTERVAL_MS * (_LOW_BANDWIDTH_FACTOR if self._core.vl1.settings.low_bandwidth else 1)
        if state.members and now - state.last_gather < interval:
            return
        state.last_gather = now
        assert network.config is not None
        request = MulticastGather(network.nwid, group, wanted, network.config.com).encode()
        for address in self._gather_recipients(now, network):
            self._core.vl1.send(now, address, Verb.MULTICAST_GATHER, request, register=True)

    def _gather_recipients(self, now: int, network: Network) -> list[int]:
        """The best root, the controller, anchors and replicators, at most sixteen."""
        recipients: dict[int, None] = {}
        upstream = self._core.vl1.best_upstream(now)
        if upstream is not None:
            recipients[upstream] = None
        if not network.is_adhoc:
            recipients[network.controller] = None
        for address in shuffled(network.always_contact(), self._core.vl1.random):
            recipients[address] = None
        recipients.pop(self._core.address, None)
        return list(recipients)[:_MAX_GATHER_RECIPIENTS]


def _encode(
    network: Network,
    group: MulticastGroup,
    frame: EthernetFrame,
    *,
    source_given: bool,
    gather_limit: int = 0,
    replicate: bool = False,
) -> bytes:
    return MulticastFrame(
        nwid=network.nwid,
        group=group,
        ethertype=frame.ethertype,
        payload=frame.payload,
        gather_limit=gather_limit,
        source=frame.source if source_given else None,
        replicate=replicate,
    ).encode()
