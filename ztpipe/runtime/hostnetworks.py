"""The host side of joined networks: a TAP each, addresses and routes, multicast groups, local permissions.

A TAP is made as soon as the network is joined (vl2 §2.1), given to the workers once the network is in the shared table,
and removed with all that is on it when the network is left.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ztpipe.host.dns import HostDns, choose_resolver
from ztpipe.host.managed import LocalSettings, ManagedDevice, Plan, plan
from ztpipe.host.multicast import address_groups, read_groups
from ztpipe.host.netlink import Netlink, UnderlayAddress
from ztpipe.host.tap import VNET_HEADER, Tap, TapError
from ztpipe.log import get_logger
from ztpipe.node.actions import ConfigureNetwork, WriteFrame
from ztpipe.node.status import NetworkStatus
from ztpipe.wire.address import MulticastGroup, device_name, mac_of
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import NO_DNS, NetworkConfig

log = get_logger("network")
_DEFAULT_MTU = 2800
_NAME_TRIALS = 256
_NO_VNET = bytes(VNET_HEADER)


class TapCarrier(Protocol):
    """Who reads and writes TAP queues: the supervisor of the workers."""

    def add_tap(self, network: int, queues: list[int]) -> None: ...
    def remove_tap(self, network: int) -> None: ...


@dataclass(slots=True)
class HostNetwork:
    """One joined network on this host. `index` is its place in the shared table, None while it is not there."""

    nwid: int
    settings: LocalSettings
    tap: Tap | None = None
    device: ManagedDevice | None = None
    config: NetworkConfig | None = None
    status: NetworkStatus = NetworkStatus.REQUESTING_CONFIGURATION
    error: str = ""  # why there is no TAP
    index: int | None = None
    groups: set[MulticastGroup] = field(default_factory=set)
    present: frozenset[InetAddress] = frozenset()  # addresses on the device, whoever put them there
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def device_name(self) -> str:
        return self.tap.name if self.tap else ""

    def assigned(self) -> list[InetAddress]:
        return list(self.device.applied.addresses) if self.device else []


class HostNetworks:
    """All joined networks, by id. Everything here runs in control's loop."""

    def __init__(
        self,
        address: int,
        netlink: Netlink,
        carrier: TapCarrier,
        *,
        queues: int,
        tso: bool,
        uso: bool,
        settings: Callable[[int], LocalSettings],
        groups_changed: Callable[[int, set[MulticastGroup]], None],
        tap_failed: Callable[[int, bool], None],
        subnets_changed: Callable[[frozenset[InetAddress]], None] = lambda found: None,
        dns: HostDns | None = None,
        names: Mapping[int, str] | None = None,
    ) -> None:
        """`dns` None: the host's own. Name servers that a killed process left are taken back here.

        `names`: what the file `devicemap` wants devices to be called, by network (vl2 §1.4). `subnets_changed`: hears
        of all subnets that our devices are in.
        """
        self._names = names or {}
        self._address, self._netlink, self._carrier = address, netlink, carrier
        self._queues, self._tso, self._uso = queues, tso, uso
        self._load_settings, self._groups_changed, self._tap_failed = settings, groups_changed, tap_failed
        self._subnets_changed = subnets_changed
        self._subnets: frozenset[InetAddress] = frozenset()
        self._dns = dns or HostDns(choose_resolver())
        self._dns.start()
        self.by_id: dict[int, HostNetwork] = {}
        self.online = True

    def configure(self, action: ConfigureNetwork) -> None:
        """Make or update a network; addresses and routes follow in a task of its own."""
        network = self.by_id.get(action.nwid)
        if network is None:
            network = self.by_id[action.nwid] = HostNetwork(action.nwid, self._load_settings(action.nwid))
            network.task = asyncio.create_task(self._reconcile(network), name=f"network {action.nwid:016x}")
        network.config, network.status = action.config, action.status
        mtu = action.config.mtu if action.config else _DEFAULT_MTU
        if network.tap is None:
            self._open_tap(network, mtu)
        elif network.tap.mtu != mtu:
            try:
                network.tap.set_mtu(mtu)
            except OSError as error:
                log.warning("cannot set MTU", network=f"{action.nwid:016x}", mtu=mtu, error=str(error))
        network.changed.set()

    def _open_tap(self, network: HostNetwork, mtu: int) -> None:
        name = self._names.get(network.nwid, "")
        wanted = [name] if 0 < len(name.encode()) < 16 and not set(name) & set("/: \t") else []
        names: Iterator[str] = itertools.chain(
            wanted, (device_name(network.nwid, trial) for trial in itertools.count())
        )
        try:
            network.tap = Tap.create(
                itertools.islice(names, _NAME_TRIALS),
                mac_of(self._address, network.nwid),
                mtu,
                queues=self._queues,
                tso=self._tso,
                uso=self._uso,
            )
        except TapError as error:
            if not network.error:
                log.error("no TAP device", network=f"{network.nwid:016x}", error=str(error))
            network.error = str(error)
            self._tap_failed(network.nwid, True)
            return
        if network.error:
            network.error = ""
            self._tap_failed(network.nwid, False)
        log.info("TAP device up", network=f"{network.nwid:016x}", device=network.tap.name)
        self._hand_over(network)

    def installed(self, nwid: int, index: int) -> None:
        """The network got its place in the shared table: the workers may read and write its TAP now."""
        network = self.by_id.get(nwid)
        if network is not None and network.index != index:
            if network.index is not None:
                self._carrier.remove_tap(network.index)
            network.index = index
            self._hand_over(network)

    def removed(self, nwid: int) -> None:
        """The network left the shared table; its TAP stays, unread."""
        network = self.by_id.get(nwid)
        if network is not None and network.index is not None:
            self._carrier.remove_tap(network.index)
            network.index = None

    def _hand_over(self, network: HostNetwork) -> None:
        if network.tap is not None and network.index is not None:
            self._carrier.add_tap(network.index, network.tap.queues)

    def widen(self, queues: int) -> None:
        """Have at least so many queues on every TAP; surplus ones stay until `trim`."""
        self._queues = queues
        for network in self.by_id.values():
            if network.tap is not None:
                try:
                    network.tap.add_queues(queues)
                except TapError as error:
                    log.warning("no queue for another worker", device=network.tap.name, error=str(error))

    def hand_out(self) -> None:
        """Give all queues to the workers, who have none; a TAP that lacks some is made anew."""
        for network in self.by_id.values():
            if network.tap is not None and len(network.tap.queues) < self._queues:
                network.tap.close()
                network.tap = network.device = None
                self._open_tap(network, network.config.mtu if network.config else _DEFAULT_MTU)
                network.changed.set()
            else:
                self._hand_over(network)

    def trim(self) -> None:
        """Close what has become surplus; what waits in there is lost, so let the workers read it first."""
        for network in self.by_id.values():
            if network.tap is not None and len(network.tap.queues) > self._queues:
                network.tap.drop_queues(self._queues)
                self._hand_over(network)

    def destroy(self, nwid: int) -> None:
        """Left: the TAP goes, and with it every address and route on it."""
        network = self.by_id.pop(nwid, None)
        if network is None:
            return
        if network.task is not None:
            network.task.cancel()
        if network.index is not None:
            self._carrier.remove_tap(network.index)
        if network.tap is not None:
            self._dns.remove(network.tap.name)
            network.tap.close()

    def close(self) -> None:
        for nwid in list(self.by_id):
            self.destroy(nwid)

    def write(self, action: WriteFrame) -> str:
        """Write one frame to a TAP. Returns "" or the name of the drop."""
        network = self.by_id.get(action.nwid)
        if network is None or network.tap is None:
            return "no_tap"
        if len(action.payload) > network.tap.mtu:
            return "frame_over_mtu"
        header = (
            action.destination.to_bytes(6, "big")
            + action.source.to_bytes(6, "big")
            + action.ethertype.to_bytes(2, "big")
        )
        try:
            os.write(network.tap.queues[0], _NO_VNET + header + action.payload)
        except OSError:
            return "tap_write"
        return ""

    def set_settings(self, nwid: int, settings: LocalSettings) -> None:
        network = self.by_id[nwid]
        network.settings = settings
        network.changed.set()

    def set_online(self, online: bool) -> None:
        """Default routes through a gateway are there only while the node is online (vl2 §7.4)."""
        if online != self.online:
            self.online = online
            for network in self.by_id.values():
                network.changed.set()

    async def _reconcile(self, network: HostNetwork) -> None:
        """Follow the network's configuration for as long as it is joined."""
        while True:
            await network.changed.wait()
            network.changed.clear()
            try:
                await self._apply(network)
            except Exception as error:  # the kernel's refusals are many; the next change or the 30 s pass tries again
                log.warning("cannot configure device", network=f"{network.nwid:016x}", error=str(error))

    async def _apply(self, network: HostNetwork) -> None:
        if network.tap is None:
            return
        if network.device is None:
            index = await self._netlink.link_index(network.tap.name)
            if index is None:
                return
            network.device = ManagedDevice(self._netlink, index, network.tap.name)
        await network.device.apply(plan(network.config, network.settings, online=self.online))
        servers = network.config.dns if network.config and network.settings.allow_dns else NO_DNS
        await asyncio.to_thread(self._dns.apply, network.tap.name, servers)
        self.scan_groups([network])

    def scan_groups(self, networks: Iterable[HostNetwork]) -> None:
        """Tell the node which groups the devices are in (vl2 §6.1); only changes are told."""
        listed = read_groups()
        for network in networks:
            if network.tap is not None:
                addresses = network.present.union(network.assigned())
                self._tell_groups(network, listed.get(network.tap.name, set()) | address_groups(addresses))

    def _tell_groups(self, network: HostNetwork, groups: set[MulticastGroup]) -> None:
        if groups != network.groups:
            network.groups = groups
            self._groups_changed(network.nwid, groups)

    def scan_all_groups(self) -> None:
        self.scan_groups(self.by_id.values())

    def take_addresses(self, found: Iterable[UnderlayAddress]) -> None:
        """The addresses of all devices of this host: those that somebody else put on ours are to be found too."""
        by_device: defaultdict[str, set[InetAddress]] = defaultdict(set)
        for entry in found:
            by_device[entry.interface].add(entry.address)
        for network in self.by_id.values():
            network.present = frozenset(by_device.get(network.device_name, ()))
        self.scan_all_groups()
        subnets = frozenset(address.network() for network in self.by_id.values() for address in network.present)
        if subnets != self._subnets:
            self._subnets = subnets
            self._subnets_changed(subnets)

    def make_missing(self) -> None:
        """Every 30 s and after a change of the host: TAPs that could not be made."""
        for network in list(self.by_id.values()):
            if network.tap is None:
                self._open_tap(network, network.config.mtu if network.config else _DEFAULT_MTU)
                network.changed.set()

    async def reassert(self) -> None:
        """After a change of the host, and now and then: addresses and routes that somebody removed are put back."""
        self.make_missing()
        for network in list(self.by_id.values()):
            if network.tap is not None and network.device is not None and network.device.applied != Plan():
                try:
                    await network.device.reassert()
                except Exception as error:
                    log.warning("cannot restore routes", network=f"{network.nwid:016x}", error=str(error))

    async def reassert_name_servers(self) -> None:
        """Every 30 s."""
        await asyncio.to_thread(self._dns.reassert)

    async def watch_name_servers(self) -> None:
        """Every 3 s, where looking costs next to nothing: a file that other programs write whole."""
        if self._dns.in_a_file:
            await asyncio.to_thread(self._dns.reassert)
