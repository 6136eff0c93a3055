"""The host as it changes: the underlay is followed, and what others removed of ours comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ztpipe.host import underlay
from ztpipe.host.netevents import Change
from ztpipe.log import get_logger

if TYPE_CHECKING:
    from ztpipe.host.netlink import Netlink, UnderlayAddress
    from ztpipe.host.policyrouting import PolicyRouting
    from ztpipe.runtime.bindings import Bindings
    from ztpipe.runtime.hostnetworks import HostNetworks
    from ztpipe.runtime.slowpath import SlowPathCounters

log = get_logger("control")

_MEND_PAUSE = 0.5  # seconds
_LIST_AGAIN = 300.0  # seconds, though netlink has told of nothing


class Surroundings:
    """Follows netlink.

    underlay_filter: what `underlay.select` wants to know besides our own devices. only_tcp: nothing may be bound now.
    links_changed: called after the sockets follow a change of links or addresses.
    """

    def __init__(
        self,
        netlink: Netlink,
        networks: HostNetworks,
        bindings: Bindings,
        policy: PolicyRouting,
        counters: SlowPathCounters,
        *,
        underlay_filter: Callable[[], Mapping[str, Any]],
        only_tcp: Callable[[], bool],
        links_changed: Callable[[], None],
    ) -> None:
        self._netlink, self._networks, self._bindings = netlink, networks, bindings
        self._policy, self._counters = policy, counters
        self._underlay_filter, self._only_tcp, self._links_changed = underlay_filter, only_tcp, links_changed
        self._excluded: set[str] = set()
        self._found: list[UnderlayAddress] | None = None  # since when nothing has changed
        self._listed = 0.0
        self._changed = asyncio.Event()

    async def sync_underlay(self) -> None:
        """Sockets on every address that may carry us. Raises OSError while interfaces change under our hands."""
        self._found = None
        found = await self._netlink.underlay()
        self._found, self._listed = found, asyncio.get_running_loop().time()
        self._take(found)

    def _take(self, found: list[UnderlayAddress]) -> None:
        self._networks.take_addresses(found)
        own = {network.device_name for network in self._networks.by_id.values()}
        chosen = underlay.select(found, own_devices=own, **self._underlay_filter())
        self._tell_excluded(chosen.saved)
        self._bindings.sync([] if self._only_tcp() else chosen.usable)

    def _tell_excluded(self, saved: Mapping[str, str]) -> None:
        """One line when an interface is left out that the user may have wanted: the first time we see it."""
        for interface, reason in saved.items():
            if interface not in self._excluded:
                self._excluded.add(interface)
                self._counters.add("underlay_excluded_interfaces", 1)
                hint = "list it in ztpipe.underlayInterfaces to use it"
                log.info("interface left out of the underlay", interface=interface, reason=reason, hint=hint)

    async def follow(self) -> None:
        """For good: whatever happens to one change or to the listener, the next change is followed."""
        while True:
            try:
                async for change in self._netlink.changes():
                    self._changed.set()
                    if Change.LINKS in change:
                        await self.sync_underlay()
                        self._links_changed()
            except Exception as error:
                self._found = None
                log.warning("underlay not followed for a second", error=str(error) or type(error).__name__)
            await asyncio.sleep(1)
            with contextlib.suppress(Exception):  # what changed meanwhile, if the host can tell
                await self.sync_underlay()

    async def mend(self) -> None:
        """What somebody removed comes back within a second, and no sooner: two programs may disagree for ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(_MEND_PAUSE)
            self._changed.clear()
            await self.put_back()

    async def put_back(self) -> None:
        """Also every 300 s, in case that the kernel's notices fail us."""
        await self._policy.ensure()
        await self._networks.reassert()

    async def reassert(self) -> None:
        """Every 30 s, whatever netlink told (vl1-behaviour §1.2).

        The addresses are those of the last listing, which costs tens of milliseconds, if netlink would have told of
        others: it does not tell where a tunnel's far end is reached now.
        """
        self._networks.make_missing()
        await self._networks.reassert_name_servers()
        known, age = self._found, asyncio.get_running_loop().time() - self._listed
        if known is None or age >= _LIST_AGAIN or any(entry.over for entry in known):
            await self.sync_underlay()
        else:
            self._take(known)
