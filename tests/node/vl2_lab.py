"""A laboratory for VL2 alone: engines over a fake VL1, packets as tuples, one clock; loss and delay as wanted.

A `Lab` delivers what an engine sends to the engine it is for, as VL1 would hand it over: authenticated, decrypted.
Identities are those of the captured scenarios, so that nothing has to be mined.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.captures import nodes
from ztpipe.node.actions import (
    Action,
    ConfigureNetwork,
    ControllerRequest,
    Drop,
    InstallMember,
    InstallNetwork,
    RemoveMember,
    WriteFrame,
)
from ztpipe.node.seam import Outcome, PacketContext
from ztpipe.node.settings import NodeSettings
from ztpipe.node.vl2 import Vl2Engine
from ztpipe.wire.credentials import CertificateOfMembership, Revocation
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import NetworkConfig, chunk_config
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.rule import ACCEPT
from ztpipe.wire.verbs import Error, NetworkConfigRequest, NetworkCredentials, Ok

REMOTE = InetAddress(b"\x0a\0\0\x01", 9993)
START = 1_800_000_000_000


def some_identities() -> list[Identity]:
    """Half a dozen identities with their secrets."""
    return [node.identity for scenario in ("f-rules", "i-bridge") for node in nodes(scenario).values()]


@dataclass
class FakePeer:
    """A peer as VL2 sees it."""

    identity: Identity
    latency: int = 5
    protocol_version: int = 12
    is_alive: bool = True
    direct: bool = True

    @property
    def address(self) -> int:
        return self.identity.address

    def alive(self, now: int) -> bool:
        return self.is_alive

    def has_direct_path(self, now: int) -> bool:
        return self.direct


@dataclass
class Sent:
    """Something an engine gave to VL1. `reply_to` None: by `send`."""

    now: int
    destination: int
    verb: Verb
    payload: bytes
    compress: bool = False
    reply_to: int | None = None


class FakeVl1:
    """`seam.Vl1` that records what is sent; `deliver` if given also carries it away."""

    def __init__(self, identity: Identity, *, seed: int = 1, settings: NodeSettings | None = None) -> None:
        self.identity = identity
        self.settings = settings or NodeSettings()
        self.random = Random(seed).randbytes
        self.known: dict[int, FakePeer] = {}
        self.roots: list[int] = []
        self.root = False
        self.actions: list[Action] = []
        self.sent: list[Sent] = []
        self.asked: list[int] = []
        self.retry_wanted = False
        self.beyond_reach: set[int] = set()
        self.by_tunnel: set[int] = set()
        self.deliver: Callable[[Sent], None] = lambda sent: None

    def learn(self, *identities: Identity) -> None:
        for identity in identities:
            if identity.address != self.identity.address:
                self.known[identity.address] = FakePeer(identity.without_private())

    def emit(self, action: Action) -> None:
        self.actions.append(action)

    def send(
        self, now: int, destination: int, verb: Verb, payload: bytes, *, compress: bool = False, register: bool = False
    ) -> None:
        assert len(payload) <= 9_900, "does not fit into seven fragments"
        if destination != self.identity.address:
            self._out(Sent(now, destination, verb, payload, compress))

    def reply(self, ctx: PacketContext, verb: Verb, payload: bytes) -> None:
        self._out(Sent(ctx.now, ctx.peer.address, verb, payload, reply_to=ctx.packet_id))

    def reply_ok(self, ctx: PacketContext, body: bytes, *, in_re_verb: Verb | None = None) -> None:
        self.reply(ctx, Verb.OK, Ok(in_re_verb if in_re_verb is not None else ctx.verb, ctx.packet_id, body).encode())

    def reply_error(self, ctx: PacketContext, code: ErrorCode, body: bytes = b"") -> None:
        self.reply(ctx, Verb.ERROR, Error(ctx.verb, ctx.packet_id, code, body).encode())

    def _out(self, sent: Sent) -> None:
        self.sent.append(sent)
        self.deliver(sent)

    def whois(self, now: int, address: int) -> None:
        self.asked.append(address)

    def peer(self, address: int) -> FakePeer | None:
        return self.known.get(address)

    def peers(self) -> Iterable[FakePeer]:
        return list(self.known.values())

    def carried(self, address: int) -> bool:
        return address in self.known and address not in self.beyond_reach | self.by_tunnel

    def tunnelled(self, now: int, address: int) -> bool:
        return address in self.by_tunnel

    def upstreams(self) -> list[int]:
        return [root for root in self.roots if root != self.identity.address]

    def is_upstream(self, address: int) -> bool:
        return address in self.roots

    def we_are_root(self) -> bool:
        return self.root

    def best_upstream(self, now: int) -> int | None:
        return next(iter(self.upstreams()), None)

    def retry_deferred(self, now: int) -> None:
        self.retry_wanted = True

    # -- for tests --------------------------------------------------------------------------------------------------

    def take_sent(self, *verbs: Verb) -> list[Sent]:
        """What was sent since the last call, of the verbs wanted (none: all)."""
        taken = [sent for sent in self.sent if not verbs or sent.verb in verbs]
        self.sent.clear()
        return taken

    def take(self, kind: type[Action]) -> list[Any]:
        """Actions of one kind since the last call; the others stay."""
        taken = [action for action in self.actions if isinstance(action, kind)]
        self.actions = [action for action in self.actions if not isinstance(action, kind)]
        return taken

    def drops(self) -> list[str]:
        return [drop.reason for drop in self.take(Drop)]


class Host:
    """An engine over a fake VL1, with the deferral that VL1 does."""

    def __init__(self, identity: Identity, *, seed: int = 1, networks: dict[int, bytes] | None = None) -> None:
        self.identity = identity
        self.address = identity.address
        self.vl1 = FakeVl1(identity, seed=seed)
        self.engine = Vl2Engine(self.vl1, networks)
        self.parked: list[tuple[int, PacketContext]] = []

    def context(
        self, now: int, source: Identity, verb: Verb, payload: bytes, *, packet_id: int = 1, hops: int = 0
    ) -> PacketContext:
        self.vl1.learn(*([] if source.address in self.vl1.known else [source]))
        peer = self.vl1.known[source.address]
        return PacketContext(now, peer, 0, REMOTE, hops, packet_id, verb, payload, 3)

    def receive(self, ctx: PacketContext) -> Outcome:
        """Hand a packet to the engine as VL1 would, and follow up on what had to wait."""
        outcome = self._handle(ctx)
        if outcome is Outcome.DEFER:
            self.parked.append((ctx.now + 5_000, ctx))
        if self.vl1.retry_wanted:
            self.retry(ctx.now)
        return outcome

    def _handle(self, ctx: PacketContext) -> Outcome:
        engine = self.engine
        try:
            if ctx.verb is Verb.OK:
                ok = Ok.decode(ctx.payload)
                handler = engine.ok_handlers.get(ok.in_re_verb)
                return handler(ctx, ok) if handler else Outcome.HANDLED
            if ctx.verb is Verb.ERROR:
                error = Error.decode(ctx.payload)
                error_handler = engine.error_handlers.get(error.code)
                return error_handler(ctx, error) if error_handler else Outcome.HANDLED
            return engine.handlers[ctx.verb](ctx)
        except WireError as error:
            self.vl1.emit(Drop(error.reason))
            return Outcome.DROP

    def retry(self, now: int) -> None:
        self.vl1.retry_wanted = False
        parked, self.parked = self.parked, []
        for deadline, ctx in parked:
            if now >= deadline:
                self.vl1.emit(Drop("rx_deferred_timeout"))
                continue
            again = replace(ctx, now=now, attempt=ctx.attempt + 1)
            if self._handle(again) is Outcome.DEFER:
                self.parked.append((deadline, again))


@dataclass(order=True)
class _InFlight:
    at: int
    order: int
    source: Host = field(compare=False)
    sent: Sent = field(compare=False)
    packet_id: int = field(compare=False)


class Controller:
    """Answers configuration requests of a lab; holds one private or public network."""

    def __init__(self, identity: Identity, number: int = 0xAB01) -> None:
        self.identity = identity
        self.nwid = identity.address << 24 | number
        self.delta = 1_800_000
        self.members: dict[int, dict[str, Any]] = {}
        self.identities: dict[int, Identity] = {}
        self.common: dict[str, Any] = {"multicast_limit": 32, "flags": 2, "rules": (ACCEPT,), "name": "lab"}
        self._updates = itertools.count(1)

    def authorise(self, identity: Identity, ip: str, **extra: Any) -> None:
        self.identities[identity.address] = identity
        self.members[identity.address] = {"static_ips": (InetAddress.parse(ip),), **extra}

    def config(self, now: int, address: int) -> NetworkConfig:
        identity = self.identities[address]
        com = CertificateOfMembership.issue(self.nwid, identity, now, self.delta).sign(self.identity)
        values = {
            "com": com,
            "credential_time_max_delta": self.delta,
            "revision": 1,
            **self.common,
            **self.members[address],
        }
        return NetworkConfig(network_id=self.nwid, timestamp=now, issued_to=address, **values)

    def chunks(self, now: int, address: int, *, max_chunk: int = 9_740) -> list[bytes]:
        data = self.config(now, address).encode()
        return chunk_config(data, self.nwid, next(self._updates), self.identity.sign, max_chunk=max_chunk)

    def revocation(self, now: int, address: int) -> bytes:
        revocation = Revocation(7, self.nwid, 0, now, Revocation.FAST_PROPAGATE, address, 1).sign(self.identity)
        return NetworkCredentials(revocations=(revocation,)).encode()


class Lab:
    """Hosts, a controller and the wire between them. `lose(source, sent)` True: the packet never arrives."""

    def __init__(self, identities: list[Identity], *, latency: int = 10) -> None:
        self.now = START
        self.latency = latency
        self.controller = Controller(identities[0])
        self.hosts: dict[int, Host] = {}
        self.lose: Callable[[Host, Sent], bool] = lambda source, sent: False
        self._wire: list[_InFlight] = []
        self._order = itertools.count()
        self._tick_at = START
        self._retry_at = START
        for seed, identity in enumerate(identities):
            host = Host(identity, seed=seed)
            host.vl1.learn(identities[0])
            host.vl1.deliver = lambda sent, host=host: self._transmit(host, sent)  # type: ignore[misc]
            host.vl1.roots = [identities[0].address]
            self.hosts[identity.address] = host
        self.hub = self.hosts[identities[0].address]
        self.hub.vl1.root = True

    @property
    def nwid(self) -> int:
        return self.controller.nwid

    def member(self, index: int) -> Host:
        return list(self.hosts.values())[index]

    def _transmit(self, source: Host, sent: Sent) -> None:
        if sent.destination in self.hosts and not self.lose(source, sent):
            packet_id = next(self._order) + 1
            heapq.heappush(self._wire, _InFlight(self.now + self.latency, packet_id, source, sent, packet_id))

    def run(self, milliseconds: int) -> None:
        """Let time pass: deliveries, a tick every 5 s, retries every 500 ms, the controller."""
        end = self.now + milliseconds
        while True:
            due = min(self._tick_at, self._retry_at, self._wire[0].at if self._wire else end + 1)
            if due > end:
                break
            self.now = max(self.now, due)
            self._step()
        self.now = end

    def _step(self) -> None:
        if self._tick_at <= self.now:
            self._tick_at += 5_000
            for host in self.hosts.values():
                host.engine.tick(self.now)
        if self._retry_at <= self.now:
            self._retry_at += 500
            for host in self.hosts.values():
                host.retry(self.now)
        while self._wire and self._wire[0].at <= self.now:
            flight = heapq.heappop(self._wire)
            host = self.hosts[flight.sent.destination]
            ctx = host.context(
                self.now, flight.source.identity, flight.sent.verb, flight.sent.payload, packet_id=flight.packet_id
            )
            host.receive(ctx)
        self._serve()

    def _serve(self) -> None:
        for request in self.hub.vl1.take(ControllerRequest):
            self.answer(request)

    def answer(self, request: ControllerRequest) -> None:
        address = request.member.address
        if request.nwid != self.nwid or address not in self.controller.members:
            body = Error(Verb.NETWORK_CONFIG_REQUEST, request.packet_id, ErrorCode.NETWORK_ACCESS_DENIED)
            self.say(address, Verb.ERROR, body.encode() + request.nwid.to_bytes(8, "big"))
            return
        for chunk in self.controller.chunks(self.now, address):
            self.say(address, Verb.OK, Ok(Verb.NETWORK_CONFIG_REQUEST, request.packet_id, chunk).encode())

    def say(self, destination: int, verb: Verb, payload: bytes) -> None:
        """A packet of the controller."""
        self.hub.engine.sent_by_controller(self.now, destination, verb, payload)
        self.hub.vl1.send(self.now, destination, verb, payload)

    def push(self, address: int) -> None:
        """An unasked configuration."""
        for chunk in self.controller.chunks(self.now, address):
            self.say(address, Verb.NETWORK_CONFIG, chunk)


def frames(host: Host) -> list[WriteFrame]:
    """Frames written to the host's TAP since the last call."""
    return host.vl1.take(WriteFrame)


__all__ = [
    "START",
    "ConfigureNetwork",
    "Controller",
    "FakePeer",
    "FakeVl1",
    "Host",
    "InstallMember",
    "InstallNetwork",
    "Lab",
    "NetworkConfigRequest",
    "RemoveMember",
    "Sent",
    "frames",
    "some_identities",
]
