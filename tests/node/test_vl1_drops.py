"""Every fault of every verb ends in exactly one drop with the name that belongs to it, and in nothing else."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.node.puppet import LOCAL, Bench, Puppet
from ztpipe.node.actions import SendDatagram
from ztpipe.node.vl2 import Vl2Engine
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.packet import split
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import DirectPath, Hello, Ok, OkHello, PushDirectPaths, Rendezvous, seal_hello

NO_BOND = (Verb.ACK, Verb.QOS_MEASUREMENT, Verb.PATH_NEGOTIATION_REQUEST)
#: verb -> bytes of payload without which it means nothing (vl1-wire §8, §9); verbs not named may be empty
SHORTEST = {
    Verb.HELLO: 13 + 71, Verb.ERROR: 10, Verb.OK: 9, Verb.RENDEZVOUS: 9, Verb.FRAME: 10, Verb.EXT_FRAME: 23,
    Verb.NETWORK_CREDENTIALS: 1, Verb.NETWORK_CONFIG_REQUEST: 10, Verb.NETWORK_CONFIG: 10, Verb.MULTICAST_GATHER: 23,
    Verb.MULTICAST_FRAME: 21, Verb.PUSH_DIRECT_PATHS: 2, Verb.USER_MESSAGE: 8,
}  # fmt: skip
TRUNCATED = {"truncated_verb", "truncated_identity"}
ELSEWHERE = InetAddress(bytes((10, 2, 77, 1)), 9993)


@pytest.fixture(scope="module")
def scene() -> tuple[Bench, Puppet]:
    """A node with both layers, its root and a peer."""
    bench = Bench(vl2=Vl2Engine)
    bench.meet(bench.root)
    peer = bench.puppet(5)
    bench.meet(peer)
    return bench, peer


def speaker(scene: tuple[Bench, Puppet], verb: Verb) -> Puppet:
    """RENDEZVOUS is looked into only if a root sends it."""
    return scene[0].root if verb is Verb.RENDEZVOUS else scene[1]


def fate(bench: Bench, *datagrams: bytes, remote: InetAddress) -> tuple[int, dict[str, int], int]:
    """(accepted, drops, datagrams sent in return) of what arrives; queues have time to give up."""
    bench.pass_time(3_000)  # past every gate
    for puppet in (bench.root, bench.puppet(5)):
        bench.say(puppet, Verb.NOP)  # so that they are not forgotten meanwhile
    handled, drops = bench.node.packets_handled, Counter(bench.drops)
    actions = [action for data in datagrams for action in bench.datagram(data, remote)]
    sent = sum(isinstance(action, SendDatagram) for action in actions)
    bench.pass_time(6_000)
    return bench.node.packets_handled - handled, dict(Counter(bench.drops) - drops), sent


def test_the_table_names_every_verb() -> None:
    empty_is_fine = {Verb.NOP, Verb.WHOIS, Verb.ECHO, Verb.MULTICAST_LIKE, Verb.REMOTE_TRACE}
    assert set(SHORTEST) | set(NO_BOND) | empty_is_fine == set(Verb)


@pytest.mark.parametrize("verb", list(Verb), ids=lambda verb: verb.name)
def test_truncated(scene: tuple[Bench, Puppet], verb: Verb) -> None:
    """Authentic, and ends too early: at each length up to what the verb needs."""
    bench, puppet = scene[0], speaker(scene, verb)
    expected = {"no_bond"} if verb in NO_BOND else TRUNCATED
    for length in range(8 if verb in NO_BOND else SHORTEST.get(verb, 0)):
        accepted, drops, sent = fate(bench, bench.packet(puppet, verb, bytes(length)), remote=puppet.remote)
        assert (accepted, sum(drops.values())) == (0, 1), (length, drops)
        assert set(drops) <= expected, (length, drops)
        assert sent == 0


def plausible(bench: Bench, verb: Verb) -> bytes:
    """A payload long enough to be looked at."""
    return b"\x01" + bytes(SHORTEST.get(verb, 0) + 40)


@pytest.mark.parametrize("suite", [0, 1, 3])
@pytest.mark.parametrize("verb", list(Verb), ids=lambda verb: verb.name)
def test_forged(scene: tuple[Bench, Puppet], verb: Verb, suite: int) -> None:
    """One bit is wrong: of the ID, the MAC, the verb or the payload."""
    bench, puppet = scene[0], speaker(scene, verb)
    good = bench.packet(puppet, verb, plausible(bench, verb), suite=suite)
    for at in (0, 7, 18, 19, 26, len(good) - 1):
        data = bytearray(good)
        data[at] ^= 0x80
        accepted, drops, sent = fate(bench, bytes(data), remote=puppet.remote)
        assert (accepted, sum(drops.values()), sent) == (0, 1, 0), (at, drops)
        names = {"bad_mac"}
        if suite == 0 and verb is Verb.HELLO:  # read before it is authentic: its identity is a stranger's
            names |= TRUNCATED | {"hello_old_protocol", "hello_wrong_source", "hello_identity_rate", "bad_identity"}
        assert set(drops) <= names, (at, drops)


@pytest.mark.parametrize("verb", list(Verb), ids=lambda verb: verb.name)
def test_replayed(scene: tuple[Bench, Puppet], verb: Verb) -> None:
    """A second copy of what was authentic, from where it came or, but for probes, from elsewhere."""
    bench, puppet = scene[0], speaker(scene, verb)
    data = bench.packet(puppet, verb, plausible(bench, verb))
    fate(bench, data, remote=puppet.remote)
    places = [puppet.remote] if verb in (Verb.HELLO, Verb.ECHO, Verb.NOP) else [puppet.remote, ELSEWHERE]
    for remote in places:
        assert fate(bench, data, remote=remote) == (0, {"replayed": 1}, 0)
    assert ELSEWHERE not in bench.paths(puppet)


@pytest.mark.parametrize("verb", list(Verb), ids=lambda verb: verb.name)
def test_reflected_and_mis_addressed(scene: tuple[Bench, Puppet], verb: Verb) -> None:
    bench, puppet = scene[0], speaker(scene, verb)
    us, others = bench.identity.address, 0x1122334455
    for source, destination, name in (
        (us, puppet.address, "own_source"),  # our own packet, sent back
        (us, us, "own_source"),
        (puppet.address, puppet.address, "source_is_destination"),
        (puppet.address, others, "relay_not_trusted"),
    ):
        data = bytearray(bench.packet(puppet, verb, plausible(bench, verb)))
        data[8:13], data[13:18] = destination.to_bytes(5, "big"), source.to_bytes(5, "big")
        assert fate(bench, bytes(data), remote=puppet.remote) == (0, {name: 1}, 0)


@pytest.mark.parametrize("verb", list(Verb), ids=lambda verb: verb.name)
def test_short_and_oversized(scene: tuple[Bench, Puppet], verb: Verb) -> None:
    bench, puppet = scene[0], speaker(scene, verb)
    good = bench.packet(puppet, verb, b"")
    for length in (0, 1, 12, 14, 16):
        assert fate(bench, good[:length], remote=puppet.remote) == (0, {"short_datagram": 1}, 0)
    for length in (17, 27):
        assert fate(bench, good[:length], remote=puppet.remote) == (0, {"short_packet": 1}, 0)
    long = good + bytes(10_030)
    accepted, drops, sent = fate(bench, long, remote=puppet.remote)
    assert (accepted, set(drops), sent) == (0, {"oversize_packet"}, 0)


def test_fragments_that_never_become_a_packet(scene: tuple[Bench, Puppet]) -> None:
    bench, puppet = scene
    head, *rest = split(bench.packet(puppet, Verb.ECHO, bytes(3_000), mtu=1432), 1432)
    bad = bytearray(rest[0])
    for numbers in (0x00, 0x10, 0x11, 0x80, 0x22, 0xFF):
        bad[14] = numbers
        assert fate(bench, bytes(bad), remote=puppet.remote) == (0, {"bad_fragment": 1}, 0)
    accepted, drops, sent = fate(bench, head, *rest[:-1], remote=puppet.remote)
    assert (accepted, drops, sent) == (0, {"fragment_expired": 1 + len(rest[:-1])}, 0)
    accepted, drops, sent = fate(bench, head, *rest, remote=puppet.remote)
    assert (accepted, drops, bench.node.pieces_joined) == (1, {}, len(rest))


# ---- peers that lie --------------------------------------------------------------------------------------------------

LIES = [InetAddress.parse(text) for text in (
    "127.0.0.1/9993", "224.0.0.1/9993", "255.255.255.255/9993", "0.0.0.0/9993", "169.254.1.1/9993", "10.3.3.3/0",
    "::1/9993", "ff02::1/9993", "fe80::1/9993", "::/9993", "2001:470::1/9993",
)]  # fmt: skip


def aimed(actions: list[object], remote: InetAddress) -> list[SendDatagram]:
    return [a for a in actions if isinstance(a, SendDatagram) and a.remote == remote]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.text())
def test_endpoints_that_can_be_nobody_s_are_not_tried(lie: InetAddress) -> None:
    bench = Bench()
    bench.meet(bench.root)
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.pass_time(3_000)
    pushed = bench.say(peer, Verb.PUSH_DIRECT_PATHS, PushDirectPaths((DirectPath(lie),)).encode())
    introduced = bench.say(bench.root, Verb.RENDEZVOUS, Rendezvous(peer.address, lie).encode()) if lie.port else []
    assert aimed([*pushed, *introduced, *bench.pass_time(5_000)], lie) == []
    bench.hello(peer, sent_to=lie)  # "that is where I reached you": advertised to others only if it can be ours
    assert lie not in bench.node._vl1.surface.addresses()
    bench.say(peer, Verb.ECHO, b"", remote=lie)
    assert lie not in bench.paths(peer)


def test_our_own_endpoint_as_a_peer_s_does_no_harm() -> None:
    """Tried, it comes back to us, where a packet from ourselves is a drop; it never becomes a path."""
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.pass_time(3_000)
    for action in aimed(bench.say(peer, Verb.PUSH_DIRECT_PATHS, PushDirectPaths((DirectPath(LOCAL),)).encode()), LOCAL):
        bench.datagram(action.data, LOCAL)
        assert set(bench.drops) == {"own_source"}
    assert LOCAL not in bench.paths(peer)


def test_a_recorded_answer_from_elsewhere_is_no_path() -> None:
    """Without a memory of packets, an OK(HELLO) that is sent again makes its new sender a path of the peer."""
    bench = Bench()
    peer = bench.puppet(5)
    (hello,) = [o for o in bench.opened(peer, bench.hello(peer)) if o.verb is Verb.HELLO]
    body = OkHello(timestamp=Hello.decode(hello.payload).timestamp, received_from=LOCAL).encode()
    answer = bench.packet(peer, Verb.OK, Ok(Verb.HELLO, hello.packet_id, body).encode())
    bench.datagram(answer, peer.remote)
    bench.datagram(answer, ELSEWHERE)
    assert bench.paths(peer) == [peer.remote]
    assert bench.drops == {"replayed": 1}


def test_one_hello_from_several_sockets_is_answered_each_time() -> None:
    """As the reference sends it; what comes twice from one of them is answered once."""
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    letter = Hello(timestamp=bench.now, identity=peer.identity, sent_to=LOCAL)
    packet = seal_hello(peer.keys, letter, (), destination=bench.identity.address, packet_id=77)
    ports = [peer.remote._replace(port=port) for port in (9993, 20_000, 30_000)]
    answers = [bench.verbs(peer, bench.datagram(packet, remote)).count(Verb.OK) for remote in (*ports, *ports)]
    assert answers == [1, 1, 1, 0, 0, 0]


def test_garbage_does_not_keep_a_path_alive() -> None:
    """Unlike in the reference (vl1-behaviour §9 item 7): anybody can send it with a forged source."""
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    path = bench.node._vl1.paths.find(1, peer.remote)
    assert path is not None
    heard = path.last_in
    bench.pass_time(2_000)
    forged = bytearray(bench.packet(peer, Verb.ECHO, b""))
    forged[-1] ^= 1
    bench.datagram(bytes(forged), peer.remote)
    bench.datagram(b"garbage, and not little of it", peer.remote)
    assert path.last_in == heard
    bench.say(peer, Verb.ECHO, b"")
    assert path.last_in == bench.now


# ---- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-86_400_000, 86_400_000], ids=["a day back", "a day on"])
def test_a_peer_whose_clock_steps_stays(step: int) -> None:
    """Its HELLOs and OKs carry other times; nothing is concluded from that but that no latency is measured."""
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.pass_time(2_000)
    letter = Hello(timestamp=bench.now + step, identity=peer.identity, sent_to=LOCAL)
    packet = seal_hello(peer.keys, letter, (), destination=bench.identity.address, packet_id=78)
    answer = bench.answer(peer, bench.datagram(packet, peer.remote), Verb.HELLO)
    assert OkHello.decode(answer.body).timestamp == bench.now + step
    assert bench.paths(peer) == [peer.remote]
    assert not bench.drops


@pytest.mark.parametrize("step", [-86_400_000, 86_400_000], ids=["a day back", "a day on"])
def test_our_own_clock_may_step(step: int) -> None:
    """Control's clock is monotonic; but even if node time jumped, within a minute all is as it was."""
    from tests.node.sim import Sim
    from tests.node.test_vl1_meeting import message, messages

    sim = Sim()
    root, a, b = sim.root("R"), sim.leaf("A"), sim.leaf("B")
    sim.run(10_000)
    message(sim, a, b)
    sim.run(5_000)
    real = a.node

    class Stepped:
        """A's node, told times that are off by `step`."""

        def __getattr__(self, name: str) -> object:
            value = getattr(real, name)
            if name == "next_deadline":
                return lambda: value() - step
            timed = name in ("datagram_received", "tick", "send_verb", "peers", "status", "set_bindings")
            return (lambda now, *args, **named: value(now + step, *args, **named)) if timed else value

    a.node = Stepped()  # type: ignore[assignment]
    a.node.tick(sim.now)
    a.after_event()
    sim.run(60_000)
    message(sim, b, a, b"after the step")
    message(sim, a, b, b"and back")
    sim.run(10_000)
    assert b"after the step" in messages(a)
    assert b"and back" in messages(b)
    assert a.node.status(sim.now).online
    assert root.knows(a)
