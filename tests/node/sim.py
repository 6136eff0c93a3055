"""A simulated Internet for nodes: one clock, addresses, latency, loss, walls. No sockets, no sleeping.

    sim = Sim()
    root, a, b = sim.root("R"), sim.leaf("A"), sim.leaf("B")
    sim.run(10_000)
    a.node.send_verb(sim.now, b.address, Verb.USER_MESSAGE, bytes(8))
    sim.run(1_000)
    assert b.events["user_message"]

Every host checks the actions its node emits: what is installed must be consistent (see `DataPlane`).
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

from tests import captures
from ztpipe.node.actions import (
    Action,
    Drop,
    Event,
    InstallPath,
    InstallPeer,
    RemovePath,
    RemovePeer,
    SaveState,
    SendDatagram,
    WriteFrame,
)
from ztpipe.node.node import Node
from ztpipe.node.seam import NullVl2, Vl2Factory
from ztpipe.node.settings import Binding, NodeSettings
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.world import Root, World, WorldType

START = 1_700_000_000_000
"""Node time of the beginning: like wall clock, not small numbers."""


@cache
def identities() -> tuple[Identity, ...]:
    """Genuine identities with secrets, in a fixed order."""
    found: dict[int, Identity] = {}
    for scenario in captures.SCENARIOS:
        for node in captures.nodes(scenario).values():
            found.setdefault(node.identity.address, node.identity)
    return tuple(found[address] for address in sorted(found))


def planet_of(roots: Iterable[Root], *, world_id: int = 1, timestamp: int = 1) -> World:
    """An unsigned planet: good enough where it is the first one (vl1-behaviour §3.2)."""
    return World(WorldType.PLANET, world_id, timestamp, bytes(64), bytes(96), tuple(roots))


@dataclass(frozen=True)
class Sent:
    """One datagram on the wire."""

    time: int
    source: InetAddress
    destination: InetAddress
    data: bytes
    ttl: int


@dataclass
class DataPlane:
    """What the shared tables would hold; every change is checked against what is there."""

    peers: dict[int, InstallPeer] = field(default_factory=dict)
    paths: set[tuple[int, int, InetAddress]] = field(default_factory=set)
    changes: int = 0

    def apply(self, action: Action) -> None:
        match action:
            case InstallPeer():
                assert self.peers.get(action.address) != action, "installed twice without a change"
                self.peers[action.address] = action
            case RemovePeer():
                assert not [path for path in self.paths if path[0] == action.address], "paths outlive their peer"
                del self.peers[action.address]
            case InstallPath():
                key = (action.address, action.binding, action.remote)
                assert action.address in self.peers and key not in self.paths
                self.paths.add(key)
            case RemovePath():
                self.paths.remove((action.address, action.binding, action.remote))
            case _:
                return
        self.changes += 1


class Host:
    """One machine with one node. `frames`, `events`, `drops`, `actions`: what the node wanted, by kind."""

    def __init__(self, sim: Sim, name: str, identity: Identity, bindings: Sequence[Binding]) -> None:
        self.sim = sim
        self.name = name
        self.identity = identity
        self.bindings = {binding.id: binding for binding in bindings}
        self.up = False
        self.generation = 0
        self.make: Callable[[], Node] = lambda: self.node
        self.node: Node
        self.plane = DataPlane()
        self.frames: list[WriteFrame] = []
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.drops: Counter[str] = Counter()
        self.saved: dict[tuple[str, int], bytes | None] = {}
        self.actions: dict[type, list[Action]] = defaultdict(list)
        self.on_action: Callable[[Action], None] | None = None

    @property
    def address(self) -> int:
        return self.identity.address

    @property
    def endpoints(self) -> list[InetAddress]:
        return [binding.local for binding in self.bindings.values()]

    def start(self) -> None:
        """(Re)start with a new `Node`: nothing is remembered but what `make` hands over."""
        self.generation += 1
        self.plane = DataPlane()
        self.node = self.make()
        self.up = True
        self.node.set_bindings(self.sim.now, list(self.bindings.values()))
        self.node.start(self.sim.now)
        self.after_event()

    def stop(self) -> None:
        """Power off, without a goodbye."""
        self.up = False
        self.generation += 1

    def after_event(self) -> None:
        """Carry out what the node wants, and wake it when it wants."""
        for action in self.node.take_actions():
            self._carry_out(action)
        self.sim.wake(self)

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendDatagram():
                self.sim.send(self, action)
            case Drop():
                self.drops[action.reason] += action.count
            case Event():
                self.events[action.kind].append(dict(action.fields))
            case WriteFrame():
                self.frames.append(action)
            case SaveState():
                self.saved[action.kind, action.id] = action.data
            case InstallPeer() | RemovePeer() | InstallPath() | RemovePath():
                self.plane.apply(action)
            case _:
                self.actions[type(action)].append(action)
        if self.on_action is not None:
            self.on_action(action)

    def paths_to(self, other: Host) -> list[InetAddress]:
        """Endpoints of the usable direct paths to `other`."""
        for status in self.node.peers(self.sim.now):
            if status.address == other.address:
                return [path.remote for path in status.paths]
        return []

    def knows(self, other: Host) -> bool:
        return any(status.address == other.address for status in self.node.peers(self.sim.now))


class Sim:
    """The Internet and its clock. `walls`: pairs of IPs between which nothing passes. `sent`: all that was sent.

    `largest`: pair of IPs -> longest UDP payload that passes between them. `jitter`: ms that a datagram may take
    longer, so that others overtake it. `copies`: share of datagrams that arrive twice.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        latency: int = 10,
        loss: float = 0.0,
        record: bool = True,
        jitter: int = 0,
        copies: float = 0.0,
    ) -> None:
        self.now = START
        self.latency = latency
        self.loss = loss
        self.jitter = jitter
        self.copies = copies
        self.record = record
        self.random = random.Random(seed)
        self.hosts: list[Host] = []
        self.walls: set[frozenset[bytes]] = set()
        self.largest: dict[frozenset[bytes], int] = {}
        self.sent: list[Sent] = []
        self.delivered = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._binding_ids = count(1)
        self._sockets: dict[InetAddress, tuple[Host, int]] = {}
        self._wake_at: dict[str, int] = {}
        self.planet: World | None = None

    # -- building -----------------------------------------------------------------------------------------------

    def root(self, name: str = "R", **options: Any) -> Host:
        """The (only) planet root; add it first."""
        host = self._host(name, options.pop("ports", 1))
        self.planet = planet_of([Root(host.identity.without_private(), tuple(host.endpoints))])
        return self._boot(host, **options)

    def roots(self, *names: str, **options: Any) -> list[Host]:
        """Several planet roots."""
        hosts = [self._host(name, 1) for name in names]
        self.planet = planet_of([Root(host.identity.without_private(), tuple(host.endpoints)) for host in hosts])
        return [self._boot(host, **options) for host in hosts]

    def leaf(self, name: str, **options: Any) -> Host:
        """An ordinary node."""
        return self._boot(self._host(name, options.pop("ports", 1)), **options)

    def _host(self, name: str, ports: int) -> Host:
        """Each in a /24 of its own, so that the identity gate does not hold it up."""
        number = len(self.hosts) + 1
        ip = bytes((10, 1, number, 1))
        bindings = [Binding(next(self._binding_ids), InetAddress(ip, 9993 + port), "eth0") for port in range(ports)]
        host = Host(self, name, identities()[number - 1], bindings)
        self.hosts.append(host)
        for binding in bindings:
            self._sockets[binding.local] = (host, binding.id)
        return host

    def _boot(
        self,
        host: Host,
        *,
        settings: NodeSettings | None = None,
        vl2: Vl2Factory | None = None,
        start: bool = True,
        keep_peers: bool = False,
        **options: Any,
    ) -> Host:
        def make() -> Node:
            saved = host.saved if keep_peers else {}
            peers = {address: data for (kind, address), data in saved.items() if kind == "peer" and data}
            return Node(
                host.identity,
                random=self.random.randbytes,
                planet=self.planet,
                settings=settings or NodeSettings(),
                vl2=vl2 or (lambda vl1, networks: NullVl2()),
                peers=peers,
                **options,
            )

        host.make = make
        if start:
            host.start()
        return host

    def wall(self, one: Host, other: Host) -> None:
        """Nothing passes between the two directly."""
        self.walls.add(frozenset((one.endpoints[0].ip, other.endpoints[0].ip)))

    def unwall(self, one: Host, other: Host) -> None:
        self.walls.discard(frozenset((one.endpoints[0].ip, other.endpoints[0].ip)))

    # -- running ------------------------------------------------------------------------------------------------

    def at(self, time: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._numbers), what))

    def run(self, duration: int) -> None:
        """Let `duration` ms pass."""
        end = self.now + duration
        while self._queue and self._queue[0][0] <= end:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit: int = 60_000, step: int = 5) -> int:
        """Run until `condition` holds; how long it took. Fails after `limit` ms."""
        start = self.now
        while not condition():
            assert self.now - start < limit, f"still not so after {limit} ms"
            self.run(step)
        return self.now - start

    def wake(self, host: Host) -> None:
        """Tick `host` when its node wants it; at most one pending wake-up per host that matters."""
        deadline = max(host.node.next_deadline(), self.now + 1)
        if self._wake_at.get(host.name, 0) > self.now and self._wake_at[host.name] <= deadline:
            return
        self._wake_at[host.name] = deadline
        self.at(deadline, lambda: self._tick(host, host.generation, deadline))

    def _tick(self, host: Host, generation: int, deadline: int) -> None:
        if host.up and host.generation == generation and self._wake_at.get(host.name) == deadline:
            host.node.tick(self.now)
            host.after_event()

    def send(self, host: Host, action: SendDatagram) -> None:
        for binding in host.bindings.values():
            if action.binding in (None, binding.id) and len(binding.local.ip) == len(action.remote.ip):
                self._transmit(Sent(self.now, binding.local, action.remote, action.data, action.ttl))

    def _transmit(self, sent: Sent) -> None:
        if self.record:
            self.sent.append(sent)
        pair = frozenset((sent.source.ip, sent.destination.ip))
        blocked = pair in self.walls or len(sent.data) > self.largest.get(pair, 65_535)
        if sent.ttl == 0 and not blocked and self.random.random() >= self.loss:
            for _ in range(1 + (self.copies > 0 and self.random.random() < self.copies)):
                late = self.random.randrange(self.jitter + 1) if self.jitter else 0
                self.at(self.now + self.latency + late, lambda: self._deliver(sent))

    def _deliver(self, sent: Sent) -> None:
        socket = self._sockets.get(sent.destination)
        if socket is not None and socket[0].up:
            self.delivered += 1
            host, binding = socket
            host.node.datagram_received(self.now, binding, sent.source, sent.data)
            host.after_event()

    # -- looking ------------------------------------------------------------------------------------------------

    def between(self, one: Host, other: Host, since: int = 0) -> list[Sent]:
        """Datagrams that `one` sent straight to `other`."""
        sources, destinations = set(one.endpoints), set(other.endpoints)
        return [s for s in self.sent if s.time >= since and s.source in sources and s.destination in destinations]
