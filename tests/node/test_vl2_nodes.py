"""Whole nodes, VL1 and VL2, on the simulated Internet: a private network from join to ping, and back out of it."""

from __future__ import annotations

import pytest

from tests.node.sim import Host, Sim
from tests.node.vl2_lab import Controller
from ztpipe.node.actions import Action, ControllerRequest, InstallMember, InstallNetwork
from ztpipe.node.node import Node
from ztpipe.node.status import NetworkStatus
from ztpipe.node.vl2 import Vl2Engine
from ztpipe.wire.address import BROADCAST_MAC, mac_of
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.verbs import Error, Ok

ARP, IPV4 = 0x0806, 0x0800


class World:
    """A root, a controller that is no root, and members of its network."""

    def __init__(self, members: int = 2, *, loss: float = 0.0, seed: int = 1) -> None:
        self.sim = Sim(seed=seed, loss=loss)
        engine = {"vl2": Vl2Engine}
        self.sim.root("R", **engine)
        self.hub = self.sim.leaf("C", **engine)
        self.members = [self.sim.leaf(name, **engine) for name in "ABDE"[:members]]
        self.controller = Controller(self.hub.identity)
        self.hub.on_action = self._serve
        for number, host in enumerate(self.members, 1):
            self.controller.authorise(host.identity, f"10.9.0.{number}/24")

    @property
    def nwid(self) -> int:
        return self.controller.nwid

    def _serve(self, action: Action) -> None:
        if not isinstance(action, ControllerRequest):
            return
        address, id_ = action.member.address, action.packet_id
        if address in self.controller.members:
            for chunk in self.controller.chunks(self.sim.now, address):
                self.say(address, Verb.OK, Ok(Verb.NETWORK_CONFIG_REQUEST, id_, chunk).encode())
        else:
            body = self.nwid.to_bytes(8, "big")
            refusal = Error(Verb.NETWORK_CONFIG_REQUEST, id_, ErrorCode.NETWORK_ACCESS_DENIED, body)
            self.say(address, Verb.ERROR, refusal.encode())

    def say(self, destination: int, verb: Verb, payload: bytes) -> None:
        self.sim.at(self.sim.now, lambda: self._say(destination, verb, payload))

    def _say(self, destination: int, verb: Verb, payload: bytes) -> None:
        self.hub.node.send_verb(self.sim.now, destination, verb, payload, compress=True)
        self.hub.after_event()

    def join(self) -> int:
        for host in self.members:
            host.node.join(self.sim.now, self.nwid)
            host.after_event()
        return self.sim.run_until(lambda: all(self.status(host) is NetworkStatus.OK for host in self.members))

    def status(self, host: Host) -> NetworkStatus:
        return host.node.network_statuses()[0].status

    def mac(self, host: Host) -> int:
        return mac_of(host.address, self.nwid)

    def tap(self, source: Host, destination: int, ethertype: int, payload: bytes) -> None:
        source.node.frame_received(self.sim.now, self.nwid, destination, self.mac(source), ethertype, payload)
        source.after_event()

    def arp_request(self, source: Host, target: Host) -> None:
        ips = [(10 << 24 | 9 << 16 | self.members.index(host) + 1).to_bytes(4, "big") for host in (source, target)]
        head = b"\x00\x01\x08\x00\x06\x04\x00\x01"
        body = head + self.mac(source).to_bytes(6, "big") + ips[0] + bytes(6) + ips[1]
        self.tap(source, BROADCAST_MAC, ARP, body)


def got(host: Host, payload: bytes) -> bool:
    return any(frame.payload == payload for frame in host.frames)


def test_from_join_to_ping_without_losing_a_frame() -> None:
    world = World()
    a, b = world.members
    world.sim.run(10_000)
    assert world.join() < 1_000
    world.sim.run(200)
    world.arp_request(a, b)
    assert world.sim.run_until(lambda: any(frame.ethertype == ARP for frame in b.frames), limit=1_000) < 500
    world.tap(b, world.mac(a), IPV4, b"answer")
    assert world.sim.run_until(lambda: got(a, b"answer"), limit=1_000) < 300
    installed = [action for action in a.actions[InstallMember] if action.address == b.address]  # type: ignore[attr-defined]
    assert installed[-1].receive  # type: ignore[attr-defined]
    assert a.actions[InstallNetwork]


@pytest.mark.parametrize("seed", range(3))
def test_under_loss_it_takes_longer_and_works(seed: int) -> None:
    world = World(loss=0.2, seed=seed)
    a, b = world.members
    world.sim.run(20_000)
    world.join()
    for _ in range(60):
        if any(frame.ethertype == ARP for frame in b.frames):
            break
        world.arp_request(a, b)
        world.sim.run(1_000)
    for _ in range(60):
        if got(a, b"answer"):
            return
        world.tap(b, world.mac(a), IPV4, b"answer")
        world.sim.run(1_000)
    pytest.fail("no answer")


def test_a_member_without_authorisation_is_denied_and_not_heard() -> None:
    world = World()
    a, b = world.members
    del world.controller.members[b.address]
    world.sim.run(10_000)
    for host in world.members:
        host.node.join(world.sim.now, world.nwid)
        host.after_event()
    world.sim.run_until(lambda: world.status(b) is NetworkStatus.ACCESS_DENIED)
    world.tap(b, world.mac(a), IPV4, b"hello")
    world.sim.run(6_000)
    assert not got(a, b"hello") and b.drops["no_config"]


def test_a_revoked_member_is_silenced_within_a_moment() -> None:
    world = World(3)
    a, b, d = world.members
    world.sim.run(10_000)
    world.join()
    for one in world.members:
        for other in world.members:
            if one is not other:
                world.tap(one, world.mac(other), IPV4, b"hello")
    world.sim.run(3_000)
    assert all(got(host, b"hello") for host in world.members)
    del world.controller.members[b.address]
    world.say(a.address, Verb.NETWORK_CREDENTIALS, world.controller.revocation(world.sim.now, b.address))
    world.sim.run(200)
    for other in (a, d):  # d was told by a
        world.tap(b, world.mac(other), IPV4, b"still here")
    world.sim.run(6_000)
    assert not got(a, b"still here") and not got(d, b"still here")
    world.tap(d, world.mac(a), IPV4, b"we are")
    world.sim.run(1_000)
    assert got(a, b"we are")


def test_a_restarted_member_works_from_its_cache_while_the_controller_is_down() -> None:
    world = World()
    a, b = world.members
    world.sim.run(10_000)
    world.join()
    world.hub.stop()
    cached = a.saved["network", world.nwid]
    assert cached is not None
    a.stop()
    a.make = lambda: Node(
        a.identity,
        random=world.sim.random.randbytes,
        planet=world.sim.planet,
        networks={world.nwid: cached},
        vl2=Vl2Engine,
    )
    a.start()
    assert world.status(a) is NetworkStatus.OK
    world.sim.run(10_000)
    world.tap(b, world.mac(a), IPV4, b"good morning")
    world.sim.run_until(lambda: got(a, b"good morning"), limit=2_000)


def test_members_that_only_a_relay_joins_learn_to_speak_aes() -> None:
    """A HELLO goes back through the relay: nothing else tells what the other one speaks (vl1-behaviour §2.13)."""
    world = World()
    a, b = world.members
    world.sim.wall(a, b)
    world.sim.run(10_000)
    world.join()
    for _ in range(3):
        world.tap(a, world.mac(b), IPV4, b"hello")
        world.tap(b, world.mac(a), IPV4, b"hello")
        world.sim.run(2_000)
    assert got(a, b"hello") and got(b, b"hello")
    for host, other in ((a, b), (b, a)):
        assert host.paths_to(other) == []
        installed = host.plane.peers[other.address]
        assert (installed.direct, installed.suite) == (False, 3)
