"""What the data plane is told about multicast groups: who gets the frames that it repeats by itself (vl2 §6.5).

A group gets an entry when frames for it come often; before, each takes the slow path, is kept for members that turn up
within seconds, and asks for them. An entry is good for a few seconds: while it is in use, the data plane says so, and
it is made anew from what is known by then. ARP and neighbour solicitations never get here twice: C always asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import InstallGroup, RemoveGroup
from ztpipe.node.gate import PUSH_IDLE_MS
from ztpipe.node.multicast import recipients_of, shuffled
from ztpipe.wire.address import BROADCAST_MAC

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.credentials import CredentialPusher
    from ztpipe.node.filter import EthernetFrame
    from ztpipe.node.groups import GroupTable
    from ztpipe.node.multicast import Multicaster
    from ztpipe.node.network import Network
    from ztpipe.wire.address import MulticastGroup

BUSY_FRAMES: Final = 5
"""Frames of one group within `BUSY_MS` from which on it is worth an entry."""
BUSY_MS: Final = 1_000
LIFETIME_MS: Final = 10_000
RENEW_MS: Final = 5_000
"""An entry in use is renewed after this time; if it leaves somebody out, and if it has nobody, sooner."""
RENEW_SOON_MS: Final = 1_000
SETTLE_MS: Final = 250
"""Frames that come so soon after an entry was made were on their way before."""
MAX_TRACKED: Final = 1_024
MAX_RECIPIENTS: Final = 1_024
"""More than this: the group keeps to the slow path."""


@dataclass(slots=True)
class _Use:
    """How often a group is sent to, and what the data plane knows of it."""

    since: int
    count: int = 0
    installed: InstallGroup | None = None
    installed_at: int = 0
    left_out: list[int] = field(default_factory=list)


class Fanout:
    """Keeps the data plane's entries for groups in step with what we know."""

    def __init__(self, core: Core, groups: GroupTable, pusher: CredentialPusher, multicaster: Multicaster) -> None:
        self._core = core
        self._groups = groups
        self._pusher = pusher
        self._multicaster = multicaster
        self._uses: dict[tuple[int, MulticastGroup], _Use] = {}

    def __len__(self) -> int:
        return len(self._uses)

    # --- events ---------------------------------------------------------------------------------------------

    def sent(self, now: int, network: Network, group: MulticastGroup) -> None:
        """A frame took the slow path to a group, ours or one that we replicate; once they come often, they need not."""
        if not _eligible(network, group):
            return
        use = self._obtain(now, network.nwid, group)
        if now - use.since >= BUSY_MS:
            use.since, use.count = now, 0
        use.count += 1
        if use.count >= BUSY_FRAMES and (use.installed is None or now - use.installed_at >= SETTLE_MS):
            self._install(now, network, group, use)

    def in_use(self, now: int, network: Network, group: MulticastGroup, frame: EthernetFrame, origin: int = 0) -> None:
        """The data plane has sent this frame by its entry, which is due: make it anew; the frame is for the others."""
        use = self._uses.get((network.nwid, group))
        if use is None or use.installed is None or not _eligible(network, group):
            return
        self._multicaster.gather_for(now, network, group)
        self._install(now, network, group, use)
        others = [address for address in use.left_out if address != origin]
        self._multicaster.send_to(now, network, group, frame, others)

    def learned(self, now: int, nwid: int, group: MulticastGroup, address: int) -> None:
        """Somebody is in a group."""
        use = self._uses.get((nwid, group))
        network = self._core.networks.get(nwid)
        if use is None or use.installed is None or network is None:
            return
        if address not in use.installed.recipients and address not in use.left_out:
            self._install(now, network, group, use)

    def network_changed(self, now: int, network: Network) -> None:
        """Its configuration is another one."""
        for (nwid, group), use in list(self._uses.items()):
            if nwid == network.nwid and use.installed is not None:
                if _eligible(network, group):
                    self._install(now, network, group, use)
                else:
                    self._remove(nwid, group)

    def forget_network(self, nwid: int) -> None:
        """We have left it; what the data plane had is gone with it."""
        for key in [key for key in self._uses if key[0] == nwid]:
            del self._uses[key]

    def housekeeping(self, now: int) -> None:
        """Every 30 s: forget groups that are not sent to any more."""
        for (nwid, group), use in list(self._uses.items()):
            if use.installed is None and now - use.since >= BUSY_MS:
                del self._uses[nwid, group]
            elif use.installed is not None and now >= use.installed.until:
                self._remove(nwid, group)

    # --- entries --------------------------------------------------------------------------------------------

    def _obtain(self, now: int, nwid: int, group: MulticastGroup) -> _Use:
        use = self._uses.pop((nwid, group), None)
        if use is None:
            use = _Use(now)
            if len(self._uses) >= MAX_TRACKED:
                self._remove(*next(iter(self._uses)))
        self._uses[nwid, group] = use  # at the end: in order of use
        return use

    def _remove(self, nwid: int, group: MulticastGroup) -> None:
        use = self._uses.pop((nwid, group))
        if use.installed is not None:
            self._core.vl1.emit(RemoveGroup(nwid, group.mac, group.adi))

    def _install(self, now: int, network: Network, group: MulticastGroup, use: _Use) -> None:
        """Make the entry from what is known now, or take it back."""
        wanted = self._entry(now, network, group, use)
        if wanted is None:
            if use.installed is not None:
                use.installed = None
                self._core.vl1.emit(RemoveGroup(network.nwid, group.mac, group.adi))
            return
        use.installed, use.installed_at = wanted, now
        self._core.vl1.emit(wanted)

    def _entry(self, now: int, network: Network, group: MulticastGroup, use: _Use) -> InstallGroup | None:
        """The entry; `use.left_out` becomes whom it does not reach. None: this group is for the slow path."""
        vl1, config = self._core.vl1, network.config
        assert config is not None
        use.left_out = []
        until = now + LIFETIME_MS
        replicator = self._multicaster.replicator(now, network)
        if replicator is not None:
            if not vl1.carried(replicator):
                return None
            return InstallGroup(
                network.nwid, group.mac, group.adi, (replicator,), 1, 1, True, now + RENEW_SOON_MS, until
            )
        everybody = recipients_of(network, shuffled(self._groups.members(network.nwid, group), vl1.random))
        if len(everybody) > MAX_RECIPIENTS or any(vl1.tunnelled(now, address) for address in everybody):
            return None
        carried: list[int] = []
        for address in everybody:
            if not vl1.carried(address):
                use.left_out.append(address)
                continue
            self._pusher.push_if_due(now, network, address)
            member = network.members.get(address)
            until = min(until, member.last_push + PUSH_IDLE_MS if member is not None else until)
            carried.append(address)
        bridges = set(config.active_bridges)
        first = sum(address in bridges for address in carried)
        settled = carried and not use.left_out
        renew_at = now + (RENEW_MS if settled else RENEW_SOON_MS)
        if not everybody:
            until = renew_at  # then a frame asks again who is there
        return InstallGroup(
            network.nwid,
            group.mac,
            group.adi,
            tuple(carried),
            first,
            config.multicast_limit,
            False,
            renew_at,
            until,
        )


def _eligible(network: Network, group: MulticastGroup) -> bool:
    """May frames for this group be sent at all without a look at each?"""
    config = network.config
    if config is None or config.multicast_limit == 0 or group.adi:
        return False
    return group.mac != BROADCAST_MAC or config.broadcast
