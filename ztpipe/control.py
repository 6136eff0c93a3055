"""The parent process: it owns everything that is decided, and starts, watches and restarts the workers that repeat it.

One asyncio loop. Events come in (punts from workers, timers, netlink, the HTTP API, signals), the sans-IO node decides,
its actions go out (`runtime/actions.py`). What is written here is only who talks to whom, and in which order it starts
and stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable

from ztpipe.api import http
from ztpipe.config import Config
from ztpipe.host.netlink import Netlink
from ztpipe.host.policyrouting import PolicyRouting
from ztpipe.ipc import iter_punts
from ztpipe.log import configure as configure_log
from ztpipe.log import get_logger
from ztpipe.node.actions import Event
from ztpipe.node.node import Node
from ztpipe.node.settings import TUNNEL, NodeSettings
from ztpipe.node.vl2 import MAX_NETWORKS
from ztpipe.runtime import controllers, eventlog, inherited, metrics, notify, punts
from ztpipe.runtime.actions import ActionRunner
from ztpipe.runtime.bindings import Bindings
from ztpipe.runtime.clock import Clock
from ztpipe.runtime.controllerdesk import ControllerDesk
from ztpipe.runtime.facade import Facade, local_settings
from ztpipe.runtime.fallback import Fallback
from ztpipe.runtime.hostnetworks import HostNetworks
from ztpipe.runtime.monitor import MonitorServer
from ztpipe.runtime.portmapping import PortMapper
from ztpipe.runtime.processes import cpu_seconds
from ztpipe.runtime.reload import LocalConfWatch, report
from ztpipe.runtime.reshape import Reshaper
from ztpipe.runtime.secondaryport import SecondaryPort
from ztpipe.runtime.settings import node_settings, tunnel_settings, underlay_filter
from ztpipe.runtime.slowpath import SlowPathCounters
from ztpipe.runtime.startup import (
    check_host,
    choose_ports,
    leave_root,
    load_peers,
    load_worlds,
    raise_file_limit,
    with_probed_offloads,
)
from ztpipe.runtime.surroundings import Surroundings
from ztpipe.runtime.tunnel import Tunnel
from ztpipe.shm.replay import SharedReplay
from ztpipe.shm.tables import Sizes, Tables
from ztpipe.store import Home
from ztpipe.supervisor import Supervisor, SupervisorError
from ztpipe.wire.inetaddress import InetAddress

log = get_logger("control")

_GROUP_SCAN = 5.0  # seconds: vl2 §6.1
_REASSERT = 30.0  # seconds: vl1-behaviour §1.2
_PUT_BACK = 300.0  # vl2 §7.2
_LOCAL_CONF = 10.0
_PEERS_CLEANED = 3600.0  # vl1-behaviour §1.2
_NAME_SERVERS = 3.0
_METRICS = 5.0


class Control:
    """One running node. `run()` returns the exit status."""

    def __init__(self, config: Config, home: Home) -> None:
        self.config, self.home = config, home
        self.clock = Clock()
        self.started = time.time()
        self.counters = SlowPathCounters()
        self.identity = home.identity()
        self.controller, self._store = controllers.open_controller(config, self.identity)
        self._stop = asyncio.Event()
        self._exit_status = 0
        self._tick: asyncio.TimerHandle | None = None
        self._draining = False
        self._settings_changed = asyncio.Event()
        self._notifier = notify.from_environment()
        self._listeners = inherited.listeners()
        self._trusted_paths = home.trusted_paths()
        if self._trusted_paths:
            log.warning("the file trustedpaths is of old: better write it as physical in local.conf")
        self._local_conf = LocalConfWatch(lambda: self.config, self._apply_local)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Start everything, wait for a signal, stop everything; undone in the opposite order even if a step fails."""
        async with contextlib.AsyncExitStack() as stack:
            table = self.config.routing_table
            self.netlink = await stack.enter_async_context(Netlink(table))
            self.policy = PolicyRouting(self.netlink, table, self.home.path / "routing-table")
            stack.push_async_callback(self.policy.stop)
            await self.policy.start()
            self._start_data_plane(stack)
            self._start_node(stack)
            await self.surroundings.sync_underlay()
            await self._start_api(stack)
            self._start_tasks(stack)
            self._install_signals()
            for write, number in ((self.home.write_port, self.bindings.ports[0]), (self.home.write_pid, os.getpid())):
                try:
                    write(number)
                except OSError as error:  # without them scripts are worse off, but frames flow
                    log.error("cannot be written", error=str(error))
            stack.callback(self.home.remove_pid)
            self.feed(lambda node, now: node.start(now))
            log.info("node up", address=f"{self.identity.address:010x}", port=self.bindings.ports[0])
            await self._stop.wait()
            self._notifier.stopping()
            log.info("stopping")
            self.controller.serving.remember(self.clock.now())
            self.feed(lambda node, now: node.stop(now))
        return self._exit_status

    def _start_data_plane(self, stack: contextlib.AsyncExitStack) -> None:
        config = self.config
        sizes = Sizes(networks=2 * MAX_NETWORKS)  # a place stays empty, and without an entry a TAP is not read
        self.tables = Tables.create(self.identity.address, sizes, clock_offset=self.clock.offset)
        stack.callback(self.tables.close)
        self.supervisor = Supervisor(config, self.tables, on_punts=self._on_punts, pause=self.clock.pause)
        stack.push_async_callback(self.supervisor.stop)
        self.supervisor.start()
        self.bindings = Bindings(
            self.supervisor,
            choose_ports(config, [sock.getsockname()[1] for sock in self._listeners]),
            workers=self.supervisor.socket_workers,
            gro=config.gro_offload,
            changed=lambda found: self.feed(lambda node, now: node.set_bindings(now, found)),
            mark=config.routing_table,
        )
        stack.callback(self.bindings.close)
        local = config.local.settings
        self.secondary = SecondaryPort(
            self.clock.now(),
            self.bindings.ports,
            fixed=local.secondary_port != 0 or not local.allow_secondary_port,
        )
        self.tunnel = self.bindings.tunnel = self._make_tunnel()
        stack.callback(self.tunnel.stop)
        self.mapper = PortMapper(
            self.bindings.ports[2],
            f"ztpipe/{self.identity.address:010x}@{self.bindings.ports[2]}",
            told=lambda found: self.feed(lambda node, now: node.set_external_addresses(now, found)),
        )
        self.networks = HostNetworks(
            self.identity.address,
            self.netlink,
            self.supervisor,
            queues=self.supervisor.tap_queues,
            tso=config.tso_offload,
            uso=config.uso_offload,
            settings=lambda nwid: local_settings(self.home.network_settings(nwid)),
            groups_changed=lambda nwid, groups: self.feed(
                lambda node, now: node.set_multicast_groups(now, nwid, groups)
            ),
            tap_failed=lambda nwid, failed: self.feed(lambda node, now: node.set_tap_error(now, nwid, failed)),
            subnets_changed=lambda found: self.feed(lambda node, now: node.set_overlay_subnets(now, found)),
            names=self.home.device_map(),
        )
        stack.callback(self.networks.close)
        self.surroundings = Surroundings(
            self.netlink,
            self.networks,
            self.bindings,
            self.policy,
            self.counters,
            underlay_filter=lambda: underlay_filter(self.config),
            only_tcp=self.tunnel.fallback.only_tcp,
            links_changed=self._links_changed,
        )
        self.reshaper = Reshaper(self.supervisor, self.bindings, self.networks)

    def _make_tunnel(self) -> Tunnel:
        wanted = tunnel_settings(self.config)
        return Tunnel(
            Fallback(self.clock.now(), allowed=wanted.allowed, forced=wanted.forced),
            self.counters,
            relay=wanted.relay,
            version=NodeSettings().version,
            now=self.clock.now,
            received=self._from_tunnel,
            changed=self.bindings.announce,
            mark=self.config.routing_table,
        )

    def _start_node(self, stack: contextlib.AsyncExitStack) -> None:
        self.monitor = MonitorServer(self.config.run_dir)
        self.monitor.start()
        stack.callback(self.monitor.stop)
        planet, moons = load_worlds(self.home)
        self.node = Node(
            self.identity,
            random=os.urandom,
            planet=planet,
            moons=moons,
            networks=self.home.networks(),
            peers=load_peers(self.home),
            settings=node_settings(self.config, self._trusted_paths),
            replay=SharedReplay(self.tables),
        )
        self.controller_desk = ControllerDesk(self.controller, self.node, self.clock, changed=self._drain)
        self.runner = ActionRunner(
            self.tables,
            self.bindings,
            self.networks,
            self.home,
            self.counters,
            controller=self.controller_desk.asked,
            event=self._on_event,
            observed=self.monitor.frame,
        )
        stack.callback(self._cancel_tick)

    async def _start_api(self, stack: contextlib.AsyncExitStack) -> None:
        self.facade = Facade(self, apply_local=self._apply_local)
        server = http.Server(self.facade, self.home, port=self.bindings.ports[0], inherited=self._listeners)
        await server.start()
        self._notifier.keep("api", server.descriptors)
        stack.push_async_callback(server.stop)

    def _start_tasks(self, stack: contextlib.AsyncExitStack) -> None:
        metrics_file = metrics.MetricsFile(self.metrics_text, self.home.write_metrics)
        metrics_file.refresh()
        stack.callback(metrics_file.refresh)
        for work in (
            self._every(_GROUP_SCAN, self.networks.scan_all_groups),
            self._every(_REASSERT, self._reassert),
            self._every(_PEERS_CLEANED, self._clean_peers),
            self._every(_PUT_BACK, self.surroundings.put_back),
            self._every(_LOCAL_CONF, self._local_conf.poll),
            self._follow_settings(),
            self.controller_desk.tend(),
            self._every(_METRICS, lambda: metrics_file.refresh_aside(metrics.take(self))),
            self.surroundings.follow(),
            self.surroundings.mend(),
            self._every(_NAME_SERVERS, self.networks.watch_name_servers),
            self._tell_ready(),
        ):
            task = asyncio.ensure_future(work)
            stack.callback(task.cancel)
        self._start_fleet(stack)
        if self.mapper.port:
            stack.callback(asyncio.ensure_future(self.mapper.run()).cancel)
        if self._notifier.watchdog is not None:
            stack.callback(asyncio.ensure_future(self._every(self._notifier.watchdog, self._notifier.alive)).cancel)

    def _start_fleet(self, stack: contextlib.AsyncExitStack) -> None:
        """Controllers that share a database hear of each other's changes."""
        if not self.config.controller_database:
            return
        from ztpipe.controller.store_postgres import PostgresStore
        from ztpipe.runtime.fleet import Fleet

        assert isinstance(self._store, PostgresStore)
        fleet = Fleet(self._store, self.controller, now=self.clock.now, changed=self.controller_desk.deliver)
        stack.push_async_callback(fleet.leave)
        for work in (fleet.listen(), fleet.beat()):
            stack.callback(asyncio.ensure_future(work).cancel)

    async def _tell_ready(self) -> None:
        """systemd starts what needs us once the workers run; it has a time limit of its own if they never do."""
        try:
            await self.supervisor.ready()
        except SupervisorError as error:
            log.error("data plane not ready", error=str(error))
            return
        self._notifier.ready(self._status())

    def _status(self) -> str:
        return f"node {self.identity.address:010x} on port {self.bindings.ports[0]}"

    def _reload(self) -> None:
        self._notifier.reloading()
        taken = self._local_conf.reload()
        self._notifier.ready(self._status() if taken else "local.conf not taken, see the log")

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGIO):  # service §7.6
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGALRM, os._exit, 0)  # at once; the workers end with control

    def request_stop(self, exit_status: int = 0) -> None:
        self._exit_status = exit_status
        self._stop.set()

    # -- the node ------------------------------------------------------------------------------------------------------

    def feed(self, event: Callable[[Node, int], None]) -> None:
        """Give the node one event and carry out what it decides."""
        event(self.node, self.clock.now())
        self._drain()

    def _drain(self) -> None:
        """Run actions until there are none; carrying one out may feed the node again (controller, groups)."""
        if self._draining:
            return
        self._draining = True
        try:
            while actions := self.node.take_actions():
                self.runner.run(actions)
        finally:
            self._draining = False
        self._schedule_tick()

    def _schedule_tick(self) -> None:
        self._cancel_tick()
        delay = self.clock.seconds_until(self.node.next_deadline())
        self._tick = asyncio.get_running_loop().call_later(delay, self._on_tick)

    def _cancel_tick(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _on_tick(self) -> None:
        """What the workers carried comes first, so that the node does not probe paths that are in use."""
        now = self.clock.now()
        try:
            for address, binding, remote, last_receive, last_send in self.tables.activity():
                self.node.path_activity(now, address, binding, InetAddress(*remote), last_receive, last_send)
                self.tunnel.fallback.received(last_receive, InetAddress(*remote))
            for address, nwid, last_frame in self.tables.frame_activity():
                self.node.peer_activity(now, address, nwid, last_frame)
            self.tunnel.tick(now)
            self.tables.set_tunnel(self.tunnel.open)
            if self.clock.was_away():
                self.tunnel.fallback.restarted(now)
                log.info("was asleep: asking all paths in use")
                self.feed(lambda node, at: node.resumed(at))
            for binding, remote in self.node.paths_to_look_up(now):
                if mtu := self.bindings.path_mtu(binding, remote):
                    self.node.path_mtu_heard(now, binding, remote, mtu)
            self.feed(lambda node, at: node.tick(at))
        finally:  # whatever happens to one tick, there is a next one
            self._schedule_tick()

    def _on_punts(self, blob: bytes) -> None:
        now = self.clock.now()
        for punt in iter_punts(blob):
            self.counters.add("punts", 1)
            if punt.remote is not None:
                self.tunnel.fallback.received(now, InetAddress(*punt.remote))
            if not punts.hand_over(self.node, now, punt):
                self.counters.drop("punt_without_endpoint", 1)
        self._drain()

    async def _reassert(self) -> None:
        now = self.clock.now()
        if self.secondary.renew(now, lambda: max((peer.last_receive for peer in self.node.peers(now)), default=0)):
            log.info("offline: trying another secondary port", port=self.bindings.ports[1])
        await self.surroundings.reassert()

    def _clean_peers(self) -> None:
        self.home.expire_peers()

    def _links_changed(self) -> None:
        self.feed(lambda node, now: node.links_changed(now))
        self.mapper.links_changed()

    def _from_tunnel(self, remote: InetAddress, datagram: bytes) -> None:
        self.counters.add("tcp_received_datagrams", 1)
        self.feed(lambda node, now: node.datagram_received(now, TUNNEL, remote, datagram))

    def _on_event(self, event: Event) -> None:
        eventlog.tell(event)
        if event.kind in ("online", "offline"):
            self.networks.set_online(event.kind == "online")
            self.secondary.set_online(self.clock.now(), event.kind == "online")
        elif event.kind == "collision":
            self.home.retire_identity()
            self.request_stop(1)
        elif event.kind == "remote_trace":
            self.monitor.trace(event)

    # -- settings ------------------------------------------------------------------------------------------------------

    def _apply_local(self, config: Config) -> None:
        settings = node_settings(config, self._trusted_paths)
        self.config = config
        wanted = tunnel_settings(config)
        self.tunnel.configure(wanted.relay, allowed=wanted.allowed, forced=wanted.forced)
        self.feed(lambda node, now: node.set_settings(now, settings))
        self._settings_changed.set()

    async def _follow_settings(self) -> None:
        """Settings that name interfaces and addresses are for the underlay to act upon."""
        while True:
            await self._settings_changed.wait()
            self._settings_changed.clear()
            try:
                await self.surroundings.sync_underlay()
            except OSError as error:  # the interfaces are changing just now: the next look comes within 30 s
                log.warning("underlay not synchronised", error=str(error))

    # -- what it tells -------------------------------------------------------------------------------------------------

    def metrics_text(self) -> str:
        return metrics.render(metrics.take(self))

    def worker_reports(self) -> list[dict[str, object]]:
        """Every process of this node: what it is, what it counted, what it cost."""
        own = {
            "name": "control",
            "role": "control",
            "pid": os.getpid(),
            "restarts": 0,
            "counters": self.counters.snapshot()
            | {"node_handled": self.node.packets_handled, "node_joined": self.node.pieces_joined},
        }
        return [report | {"cpu_seconds": cpu_seconds(report["pid"])} for report in (own, *self.supervisor.reports())]

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None] | None]) -> None:
        while True:
            await asyncio.sleep(self.clock.pause(seconds))
            try:
                result = work()
                if result is not None:
                    await result
            except Exception:
                log.exception("periodic work failed", work=getattr(work, "__name__", "?"))


def main(config: Config) -> int:
    """Run a node until SIGTERM or SIGINT. Raises HomeError, ConfigError, OSError before anything was started."""
    configure_log(config.log_level, config.log_format)
    report(config.local)
    check_host(config)
    raise_file_limit()
    home = Home.open(config.home)
    leave_root(config)
    return _run(config, home)


def _run(config: Config, home: Home) -> int:
    async def go() -> int:
        return await Control(with_probed_offloads(config), home).run()

    return asyncio.run(go())
