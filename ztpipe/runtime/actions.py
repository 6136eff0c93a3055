"""Carrying out what the node wants done: each action goes to the one who owns that part of the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ztpipe.log import get_logger
from ztpipe.node import actions as act
from ztpipe.runtime.bindings import Bindings
from ztpipe.runtime.hostnetworks import HostNetworks
from ztpipe.runtime.slowpath import SlowPathCounters
from ztpipe.shm.tables import Tables
from ztpipe.store import Home

log = get_logger("control")


class ActionRunner:
    """Runs actions in the order the node gave them. Nothing here decides anything."""

    def __init__(
        self,
        tables: Tables,
        bindings: Bindings,
        networks: HostNetworks,
        home: Home,
        counters: SlowPathCounters,
        *,
        controller: Callable[[act.ControllerRequest], None],
        event: Callable[[act.Event], None],
        observed: Callable[[act.ObservedFrame], None] = lambda _: None,
    ) -> None:
        self._tables, self._bindings, self._networks = tables, bindings, networks
        self._home, self._counters = home, counters
        self._by_type: dict[type, Callable[[Any], None]] = {
            act.SendDatagram: self._send,
            act.WriteFrame: self._write_frame,
            act.InstallPeer: self._install_peer,
            act.RemovePeer: lambda a: tables.remove_peer(a.address),
            act.AllowRelay: lambda a: tables.set_relay(a.allowed),
            act.InstallPath: self._install_path,
            act.RemovePath: lambda a: tables.remove_path(a.address, a.binding, a.remote),
            act.InstallNetwork: self._install_network,
            act.RemoveNetwork: self._remove_network,
            act.InstallMember: self._install_member,
            act.InstallCredentials: self._install_credentials,
            act.RemoveMember: lambda a: tables.remove_member(a.nwid, a.address),
            act.InstallGroup: self._install_group,
            act.RemoveGroup: lambda a: tables.groups.remove((a.nwid, a.mac, a.adi)),
            act.InstallBridged: self._install_bridged,
            act.RemoveBridged: lambda a: tables.bridged.remove((a.nwid, a.mac)),
            act.ConfigureNetwork: networks.configure,
            act.DestroyNetwork: lambda a: networks.destroy(a.nwid),
            act.ObservedFrame: observed,
            act.SaveState: self._save,
            act.ControllerRequest: controller,
            act.Drop: lambda a: counters.drop(a.reason, a.count),
            act.Event: event,
        }

    def run(self, actions: Iterable[act.Action]) -> None:
        for action in actions:
            self._by_type[type(action)](action)

    def _send(self, action: act.SendDatagram) -> None:
        sent, failed = self._bindings.send(action)
        self._counters.add("sent_datagrams", sent)
        self._counters.add("sent_bytes", sent * len(action.data))
        if failed:
            self._counters.drop("send_error", failed)

    def _write_frame(self, action: act.WriteFrame) -> None:
        if reason := self._networks.write(action):
            self._counters.drop(reason, 1)
        else:
            self._counters.add("written_frames", 1)

    def _save(self, action: act.SaveState) -> None:
        try:
            self._home.save(action.kind, action.id, action.data)
        except OSError as error:
            log.error("cannot save state", kind=action.kind, id=f"{action.id:x}", error=str(error))

    # A full table of peers, paths, members, groups or bridged MACs costs speed only: what has no entry is punted, the
    # slow way. The table of networks has room for as many as can be joined.

    def _install_peer(self, a: act.InstallPeer) -> None:
        index = self._tables.install_peer(
            a.address, a.salsa_key, a.k0, a.k1, a.suite, a.binding, a.remote, a.mtu, a.direct
        )
        self._note(index is not None)

    def _install_path(self, a: act.InstallPath) -> None:
        self._note(self._tables.install_path(a.address, a.binding, a.remote))

    def _install_member(self, a: act.InstallMember) -> None:
        self._note(self._tables.install_member(a.nwid, a.address, a.receive, a.send_until))

    def _install_credentials(self, a: act.InstallCredentials) -> None:
        self._note(self._tables.install_credentials(a.nwid, a.address, a.credentials))

    def _install_group(self, a: act.InstallGroup) -> None:
        how = {"first": a.first, "limit": a.limit, "replicated": a.replicated}
        times = {"renew_at": a.renew_at, "until": a.until}
        self._note(self._tables.install_group(a.nwid, a.mac, a.adi, a.recipients, **how, **times))

    def _install_bridged(self, a: act.InstallBridged) -> None:
        self._note(self._tables.install_bridged(a.nwid, a.mac, a.address, renew_at=a.renew_at, until=a.until))

    def _install_network(self, a: act.InstallNetwork) -> None:
        index = self._tables.install_network(
            a.nwid,
            a.mac,
            a.mtu,
            accept_all=a.accept_all,
            bridge=a.bridge,
            multicast=a.multicast,
            replicator=a.replicator,
            bridged=a.bridged,
            policy=a.policy,
        )
        self._note(index is not None)
        if index is not None:
            self._networks.installed(a.nwid, index)

    def _remove_network(self, a: act.RemoveNetwork) -> None:
        self._networks.removed(a.nwid)
        self._tables.remove_network(a.nwid)

    def _note(self, installed: bool) -> None:
        if not installed:
            self._counters.drop("table_full", 1)
