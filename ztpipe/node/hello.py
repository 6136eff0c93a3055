"""HELLO and OK(HELLO): how nodes get to know each other (vl1-behaviour §2.3, vl1-wire §9.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import SaveState
from ztpipe.node.budget import Newcomers
from ztpipe.node.ratelimit import PrefixGate
from ztpipe.node.seam import Outcome
from ztpipe.wire.armor import SessionKeys, check_salsa_mac, crypt_hello_tail, open_packet, seal
from ztpipe.wire.packet import Header, parse_header
from ztpipe.wire.protocol import MINIMUM_PROTOCOL_VERSION, ErrorCode, Suite, Verb
from ztpipe.wire.verbs import Error, Hello, OkHello, WorldVersion
from ztpipe.wire.verbs_vl1 import encode_hello_tail
from ztpipe.wire.world import WorldType

if TYPE_CHECKING:
    from ztpipe.node.path import Path
    from ztpipe.node.peer import Peer
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.verbs import Ok
    from ztpipe.wire.world import World

WORLDS_MAX_BYTES: Final = 8_192
LATENCY_MAX_MS: Final = 60_000


class Hellos:
    """Sends HELLOs, admits those who send them, and learns from the answers."""

    __slots__ = ("_gate", "_newcomers", "core")

    def __init__(self, core: Vl1Engine, salt: bytes) -> None:
        self.core = core
        self._gate = PrefixGate(salt)
        self._newcomers = Newcomers()

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self, now: int, peer: Peer, binding: int | None, remote: InetAddress) -> None:
        """One HELLO, with one packet ID, from every socket; in low-bandwidth mode from the caller's if it has one."""
        core = self.core
        packet = self._build(now, peer, remote)
        if binding is not None and core.settings.low_bandwidth:
            core.put(now, core.paths.get(binding, remote), packet)
        else:
            core.put_everywhere(now, remote, packet)

    def send_via(self, now: int, peer: Peer, relay: Path) -> None:
        """A HELLO to `peer` through a root."""
        self.core.put(now, relay, self._build(now, peer, None))

    def _build(self, now: int, peer: Peer, remote: InetAddress | None) -> bytes:
        core = self.core
        topology = core.topology
        packet_id = int.from_bytes(core.random(8), "big")
        moons = [WorldVersion(WorldType.MOON, moon.id, moon.timestamp) for moon in topology.moons.values()]
        moons += [WorldVersion(WorldType.MOON, moon_id, 0) for moon_id in topology.wanted]
        planet = topology.planet
        major, minor, revision = core.settings.version
        hello = Hello(
            timestamp=now,
            identity=core.identity,
            sent_to=remote,
            planet_id=planet.id if planet is not None else 0,
            planet_timestamp=planet.timestamp if planet is not None else 0,
            tail=crypt_hello_tail(peer.keys, packet_id, encode_hello_tail(tuple(moons))),
            protocol=core.settings.protocol_version,
            major=major,
            minor=minor,
            revision=revision,
        )
        core.replies.expect(now, packet_id, peer.address)
        payload = hello.encode()
        core.count_sent(peer, Verb.HELLO, payload)
        return seal(
            peer.keys,
            destination=peer.address,
            source=core.identity.address,
            verb=Verb.HELLO,
            payload=payload,
            packet_id=packet_id,
            suite=Suite.POLY1305_NONE,
        )

    # -- receiving ------------------------------------------------------------------------------------------------

    def admit(self, now: int, binding: int, remote: InetAddress, packet: bytes) -> Peer | None:
        """Who sent this clear HELLO? Makes an unknown but genuine sender known; None (and a drop) if it is ignored.

        The MAC of the packet is checked here for newcomers only; the caller opens it with the peer's keys in any case.
        """
        core = self.core
        header = parse_header(packet)
        hello = Hello.decode(packet[28:])
        if hello.protocol < MINIMUM_PROTOCOL_VERSION:
            core.drop("hello_old_protocol")
            return None
        if hello.identity.address != header.source:
            core.drop("hello_wrong_source")
            return None
        peer = core.find(now, header.source)
        if peer is not None and peer.identity == hello.identity:
            return peer
        if not self._gate.allow(now, remote.ip, core.settings.identity_gate_ms):
            core.drop("hello_identity_rate")
            return None
        root = core.topology.we_are_root
        if peer is None and not self._newcomers.hash_left(now, root=root):
            core.drop("hello_hash_budget")
            return None
        if not self._newcomers.may_agree(now):
            core.drop("hello_agreement_budget")
            return None
        agreed = core.identity.agree(hello.identity)
        check_salsa_mac(agreed, packet)  # before the other keys, which cost as much again as all checks above
        keys = SessionKeys(agreed)
        open_packet(keys, packet)
        if peer is not None:
            self._report_collision(now, core.paths.get(binding, remote), header, hello.identity, keys)
            return None
        if not self._newcomers.may_hash(now, root=root):
            core.drop("hello_hash_budget")
            return None
        if not hello.identity.validate():
            core.drop("hello_identity_invalid")
            return None
        return core.add_peer(now, hello.identity, keys)

    def _report_collision(self, now: int, path: Path, header: Header, stranger: Identity, keys: SessionKeys) -> None:
        """The address is somebody else's, as far as we know: say so, under the stranger's key (vl1-behaviour §1.5)."""
        core = self.core
        payload = Error(Verb.HELLO, header.packet_id, ErrorCode.IDENTITY_COLLISION, b"").encode()
        core.tally.packet_sent(Verb.ERROR, payload)
        answer = seal(
            keys,
            destination=stranger.address,
            source=core.identity.address,
            verb=Verb.ERROR,
            payload=payload,
            packet_id=int.from_bytes(core.random(8), "big"),
            suite=Suite.SALSA2012,
        )
        core.put(now, path, answer)
        core.drop("hello_collision")

    def received(self, ctx: PacketContext) -> Outcome:
        """An authentic HELLO of a known peer: answer it, then note the version it announces (in this order: §5.1)."""
        core = self.core
        peer = core.known(ctx.peer.address)
        if peer is None:
            return Outcome.DROP
        hello = Hello.decode(ctx.payload)
        if hello.protocol < MINIMUM_PROTOCOL_VERSION or hello.identity != peer.identity:
            core.drop("hello_refused")
            return Outcome.DROP
        moons = hello.moons(peer.keys, ctx.packet_id)
        if ctx.hops == 0 and hello.sent_to is not None:
            self._seen_as(ctx, hello.sent_to)
        self._answer(ctx, hello, moons)
        peer.protocol_version = hello.protocol
        peer.version = (hello.major, hello.minor, hello.revision)
        return Outcome.HANDLED

    def _answer(self, ctx: PacketContext, hello: Hello, moons: Sequence[WorldVersion]) -> None:
        core = self.core
        remote = ctx.remote if hello.protocol >= 5 else ctx.remote._replace(port=0)
        held = [(moon.id, moon.timestamp) for moon in moons]
        major, minor, revision = core.settings.version
        worlds = _as_fits(core.topology.newer_worlds((hello.planet_id, hello.planet_timestamp), held))
        answer = OkHello(
            timestamp=hello.timestamp,
            received_from=remote,
            worlds=(),
            protocol=core.settings.protocol_version,
            major=major,
            minor=minor,
            revision=revision,
        )
        full = replace(answer, worlds=worlds).encode()
        if worlds and not core.unproven.fits(ctx, len(full)):
            core.reply_ok(ctx, answer.encode())  # proves us to the peer; the worlds follow when it is proved to us
        core.reply_ok(ctx, full)

    def ok_received(self, ctx: PacketContext, ok: Ok) -> Outcome:
        """The answer to a HELLO of ours: version, latency, our own address, newer worlds."""
        core = self.core
        peer = core.known(ctx.peer.address)
        answer = OkHello.decode(ok.body, with_worlds=core.topology.may_update(ctx.peer.address))
        if peer is None or answer.protocol < MINIMUM_PROTOCOL_VERSION:
            core.drop("hello_old_protocol")
            return Outcome.DROP
        peer.protocol_version = answer.protocol
        peer.version = (answer.major, answer.minor, answer.revision)
        if ctx.hops == 0:
            sample = ctx.now - answer.timestamp
            if 0 <= sample <= LATENCY_MAX_MS:
                core.paths.get(ctx.binding, ctx.remote).add_latency_sample(sample)
            if answer.received_from is not None:
                self._seen_as(ctx, answer.received_from)
        for world in answer.worlds:
            self._take_world(ctx.now, world)
        return Outcome.HANDLED

    def _seen_as(self, ctx: PacketContext, seen: InetAddress) -> None:
        core = self.core
        changed = core.surface.report(
            ctx.now,
            reporter=ctx.peer.address,
            root=core.topology.is_root(ctx.peer.address),
            binding=ctx.binding,
            remote=ctx.remote,
            seen=seen,
        )
        if changed is not None:
            core.event("external_address_changed", seen=seen, reporter=ctx.peer.address)
            core.vl2.paths_reset(ctx.now, ctx.peer.address, ctx.remote, seen)
            core.contact.reset_scope(ctx.now, changed, len(seen.ip))

    def _take_world(self, now: int, world: World) -> None:
        core = self.core
        if core.topology.accept(world):
            core.emit(SaveState("planet" if world.type is WorldType.PLANET else "moon", world.id, world.encode()))
            core.event("world_updated", id=world.id, timestamp=world.timestamp)
            core.add_roots(now)


def _as_fits(worlds: list[World]) -> tuple[World, ...]:
    """As many worlds as one packet holds; the rest is told with the next HELLO."""
    fitting: list[World] = []
    size = 0
    for world in worlds:
        size += len(world.encode())
        if size > WORLDS_MAX_BYTES:
            break
        fitting.append(world)
    return tuple(fitting)
