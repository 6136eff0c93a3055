"""The running node as the HTTP API sees it (`ztpipe.api.service.Service`): records out, requests into events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ztpipe import localconf
from ztpipe.api.service import JoinedNetwork, TooManyNetworks, Underlay, WorkersUnchanged
from ztpipe.config import Config
from ztpipe.host.managed import LocalSettings, parse_prefixes
from ztpipe.node.status import MoonStatus, NetworkStatusRecord, NodeStatus, PeerStatus
from ztpipe.node.vl2 import MAX_NETWORKS
from ztpipe.runtime.startup import stored_moon
from ztpipe.store import NetworkSettings
from ztpipe.supervisor import SupervisorError

if TYPE_CHECKING:
    from ztpipe.control import Control
    from ztpipe.controller.controller import Controller

_PORT_ERROR = -999  # what the reference shows when a TAP cannot be made (vl2 §7.6)


def local_settings(stored: NetworkSettings) -> LocalSettings:
    """Permissions of networks.d/<id>.local.conf in the form that decides; unreadable prefixes allow nothing."""
    try:
        prefixes = parse_prefixes(",".join(stored.managed_only))
    except ValueError:
        return LocalSettings(allow_managed=False)
    return LocalSettings(
        allow_managed=stored.allow_managed,
        allow_global=stored.allow_global,
        allow_default=stored.allow_default,
        allow_dns=stored.allow_dns,
        managed_prefixes=prefixes,
    )


class Facade:
    """One per process; every method runs in control's loop."""

    def __init__(self, control: Control, *, apply_local: Callable[[Config], None]) -> None:
        self._control = control
        self._apply_local = apply_local

    @property
    def controller(self) -> Controller:
        return self._control.controller

    def now(self) -> int:
        return self._control.clock.now()

    def config(self) -> Config:
        return self._control.config

    def underlay(self) -> Underlay:
        bindings = self._control.bindings
        listening = tuple(b.local for b in bindings.by_id.values())
        primary, secondary, tertiary = bindings.ports
        return Underlay(listening, primary, secondary, tertiary, self._control.tunnel.open)

    def status(self) -> NodeStatus:
        return self._control.node.status(self.now())

    def peers(self) -> Sequence[PeerStatus]:
        return self._control.node.peers(self.now())

    def networks(self) -> Sequence[JoinedNetwork]:
        return [self._joined(record) for record in self._control.node.network_statuses()]

    def _joined(self, record: NetworkStatusRecord) -> JoinedNetwork:
        host = self._control.networks.by_id.get(record.nwid)
        settings = self._control.home.network_settings(record.nwid)
        if host is None:
            return JoinedNetwork(record, settings)
        return JoinedNetwork(record, settings, host.device_name, _PORT_ERROR if host.error else 0)

    def set_network(self, nwid: int, settings: Mapping[str, bool]) -> JoinedNetwork | None:
        """Settings are stored first: what cannot be kept is not done either (OSError)."""
        control = self._control
        joined = control.networks.by_id
        if nwid not in joined and len(joined) >= MAX_NETWORKS:
            raise TooManyNetworks(f"{len(joined)} networks are joined, and a node holds no more: leave one first")
        stored = msgspec.structs.replace(control.home.network_settings(nwid), **settings)
        control.home.save_network_settings(nwid, stored)
        if nwid not in control.networks.by_id:
            control.feed(lambda node, now: node.join(now, nwid))
        if nwid in control.networks.by_id:
            control.networks.set_settings(nwid, local_settings(stored))
        return next((self._joined(r) for r in control.node.network_statuses() if r.nwid == nwid), None)

    def leave(self, nwid: int) -> bool:
        if not any(record.nwid == nwid for record in self._control.node.network_statuses()):
            return False
        self._control.feed(lambda node, now: node.leave(now, nwid))
        return True

    def orbit(self, world_id: int, seed: int) -> MoonStatus:
        stored = stored_moon(self._control.home, world_id)
        self._control.feed(lambda node, now: node.orbit(now, world_id, seed, stored))
        for moon in self._control.node.moons():
            if moon.id == world_id:
                return moon
        return MoonStatus(world_id, None, seed)

    def deorbit(self, world_id: int) -> None:
        self._control.feed(lambda node, now: node.deorbit(now, world_id))

    def set_settings(self, settings: Mapping[str, object]) -> None:
        control = self._control
        document: dict[str, Any] = json.loads(json.dumps(control.config.local.raw))
        section = document.setdefault("settings", {})
        if isinstance(section, dict):
            section.update(settings)
        control.home.write_local_conf(document)
        self._apply_local(control.config.with_local(localconf.load(control.config.local_conf)))

    def metrics_text(self) -> str:
        return self._control.metrics_text()

    def controller_changed(self) -> None:
        self._control.controller_desk.deliver()

    async def reshape(self, settings: Mapping[str, object]) -> None:
        """Other workers; raises ConfigError and WorkersUnchanged."""
        control = self._control
        config = control.config.with_workers(settings, "request")
        try:
            await control.reshaper.reshape(config)
        except SupervisorError as error:
            raise WorkersUnchanged(str(error)) from None
        control.config = control.config.with_workers(settings, "request")  # local.conf may have been reloaded meanwhile

    def workers(self) -> list[dict[str, object]]:
        """Every process of the data plane with its pid, restarts and counters, and control's own."""
        return self._control.worker_reports()
