"""HELLO in all its forms: admission, answers, versions, collisions, worlds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import captures
from tests.node.puppet import LOCAL, Bench
from tests.node.sim import identities, planet_of
from ztpipe.node.actions import SaveState, SendDatagram
from ztpipe.node.node import Node
from ztpipe.node.seam import NullVl2
from ztpipe.node.settings import Binding, NodeSettings
from ztpipe.wire.armor import open_packet
from ztpipe.wire.identity import Identity
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.verbs import Error, Hello, Ok, OkHello, WorldVersion
from ztpipe.wire.world import Root, World, WorldType


@pytest.fixture
def bench():
    return Bench()


def test_first_answer_is_salsa_and_the_second_aes(bench):
    """The version is recorded after the reply has been built (vl1-wire §5.1)."""
    peer = bench.puppet(5)
    suites = []
    for _ in range(2):
        answers = [o for o in bench.opened(peer, bench.hello(peer)) if o.verb is Verb.OK]
        suites += [opened.suite for opened in answers]
    assert suites == [1, 3]


def test_answer_tells_time_version_and_address(bench):
    peer = bench.puppet(5)
    body = OkHello.decode(bench.answer(peer, bench.hello(peer), Verb.HELLO).body)
    assert body == OkHello(timestamp=bench.now, received_from=peer.remote)


def test_old_peer_is_told_no_port(bench):
    peer = bench.puppet(5)
    body = OkHello.decode(bench.answer(peer, bench.hello(peer, protocol=4), Verb.HELLO).body)
    assert body.received_from == peer.remote._replace(port=0)


def test_hello_may_end_after_the_identity(bench):
    peer = bench.puppet(5)
    payload = Hello(timestamp=bench.now, identity=peer.identity).encode()[: 13 + 71]
    actions = bench.say(peer, Verb.HELLO, payload, suite=0)
    assert bench.answer(peer, actions, Verb.HELLO)


@pytest.mark.parametrize(("protocol", "answered"), [(3, False), (4, True), (12, True), (13, True)])
def test_versions_below_4_are_ignored(bench, protocol, answered):
    peer = bench.puppet(5)
    assert (Verb.OK in bench.verbs(peer, bench.hello(peer, protocol=protocol))) is answered
    assert bench.drops["hello_old_protocol"] == (not answered)


def test_encrypted_hello_of_a_known_peer_is_answered(bench):
    peer = bench.puppet(5)
    bench.hello(peer)
    payload = Hello(timestamp=bench.now, identity=peer.identity).encode()
    for suite in (1, 3):
        assert bench.answer(peer, bench.say(peer, Verb.HELLO, payload, suite=suite), Verb.HELLO)


def test_identity_gate_admits_eight_newcomers_of_a_prefix_then_one_in_2_s(bench):
    """Nodes of one LAN that start together meet at once; a crowd from there does not cost more than it should."""
    remote = bench.puppet(5).remote
    crowd = [bench.puppet(number) for number in range(5, 15)]
    for port, newcomer in enumerate(crowd[:8], start=1):
        assert Verb.OK in bench.verbs(newcomer, bench.hello(newcomer, remote=remote._replace(port=port)))
    ninth, tenth = crowd[8:]
    near = remote._replace(port=9)
    assert bench.verbs(ninth, bench.hello(ninth, remote=near)) == []
    assert bench.drops["hello_identity_rate"] == 1
    bench.now += 1_999
    assert bench.verbs(ninth, bench.hello(ninth, remote=near)) == []
    bench.now += 1
    assert Verb.OK in bench.verbs(ninth, bench.hello(ninth, remote=near))
    assert bench.verbs(tenth, bench.hello(tenth, remote=near)) == []
    assert Verb.OK in bench.verbs(ninth, bench.hello(ninth, remote=near))  # known peers are not limited


def test_address_that_does_not_follow_from_the_key_is_refused(bench):
    genuine = identities()[5]
    forged = Identity(genuine.address ^ 1, genuine.public, genuine.private)
    peer = bench.puppet(5, forged)
    assert bench.verbs(peer, bench.hello(peer)) == []
    assert bench.drops["hello_identity_invalid"] == 1
    assert bench.status(peer) is None


def test_header_must_name_the_identity_s_address(bench):
    peer, other = bench.puppet(5), bench.puppet(6)
    payload = Hello(timestamp=bench.now, identity=other.identity).encode()
    bench.say(peer, Verb.HELLO, payload, suite=0)
    assert bench.drops["hello_wrong_source"] == 1


def test_forged_hello_leaves_no_trace(bench):
    peer = bench.puppet(5)
    packet = bytearray(bench.packet(peer, Verb.HELLO, Hello(bench.now, peer.identity).encode(), suite=0))
    packet[20] ^= 1
    bench.datagram(bytes(packet), peer.remote)
    assert bench.drops["bad_mac"] == 1
    assert bench.status(peer) is None


def test_collision_is_reported_to_the_stranger_and_the_first_identity_stays(bench):
    peer = bench.puppet(5)
    bench.hello(peer)
    stranger_keys = identities()[6]
    stranger = bench.puppet(6, Identity(peer.address, stranger_keys.public, stranger_keys.private))
    (opened,) = bench.opened(stranger, bench.hello(stranger))
    assert opened.suite == 1
    error = Error.decode(opened.payload)
    assert (error.in_re_verb, error.code) == (Verb.HELLO, ErrorCode.IDENTITY_COLLISION)
    assert bench.status(peer).identity == peer.identity


@pytest.mark.parametrize("from_root", [True, False])
def test_being_told_of_a_collision_counts_only_from_a_root(bench, from_root):
    peer = bench.root if from_root else bench.puppet(5)
    bench.hello(peer)
    bench.say(peer, Verb.ERROR, Error(Verb.HELLO, 1, ErrorCode.IDENTITY_COLLISION, b"").encode())
    assert ("collision" in dict(bench.events)) is from_root


def test_hello_leaves_from_every_socket_with_one_id(bench):
    bench.node.set_bindings(bench.now, [Binding(n, LOCAL._replace(port=n)) for n in (1, 2, 3)])
    sent = [a for a in bench.pass_time(500) if isinstance(a, SendDatagram) and len(a.data) == 137]
    assert [a.binding for a in sent] == [None]  # control sends it from each (actions.SendDatagram)


def test_latency_is_smoothed_and_shown(bench):
    peer = bench.puppet(5)
    for delay, shown in ((40, 40), (20, 30)):
        (hello,) = [o for o in bench.opened(peer, bench.hello(peer)) if o.verb is Verb.HELLO]
        bench.now += delay
        bench.answer_hello(peer, hello)
        assert bench.status(peer).latency == shown
        bench.node._vl1.known(peer.address).keep_paths([])  # so that the next HELLO is answered by one
        bench.now += 2_000


# -- worlds ----------------------------------------------------------------------------------------------------


def signing_pair():
    owner = identities()[50]
    return owner.public, owner.private


def signed_planet(bench, timestamp, roots=1):
    public, private = signing_pair()
    members = [Root(bench.puppet(n).identity.without_private(), (bench.puppet(n).remote,)) for n in range(roots)]
    return replace(planet_of(members, timestamp=timestamp), update_key=public).sign(public, private)


def test_newer_planet_from_a_root_is_taken_saved_and_told():
    template = Bench()
    old, new = signed_planet(template, 5), signed_planet(template, 6, roots=2)
    bench = Bench(planet=old)
    actions = offer_worlds(bench, bench.root, new)
    assert bench.node.status(bench.now).planet == new
    assert SaveState("planet", new.id, new.encode()) in actions
    assert bench.status(bench.puppet(1)).role.value == "PLANET"
    behind = bench.puppet(7)
    told = bench.hello(behind, planet_id=old.id, planet_timestamp=old.timestamp)
    assert OkHello.decode(bench.answer(behind, told, Verb.HELLO).body).worlds == ()  # longer than what it sent
    (hello,) = [opened for opened in bench.opened(behind, told) if opened.verb is Verb.HELLO]
    proved = bench.answer_hello(behind, hello)
    assert OkHello.decode(bench.answer(behind, proved, Verb.HELLO).body).worlds == (new,)
    current = bench.hello(behind, planet_id=new.id, planet_timestamp=new.timestamp)
    assert OkHello.decode(bench.answer(behind, current, Verb.HELLO).body).worlds == ()


def offer_worlds(bench, puppet, *worlds):
    """`puppet` answers a HELLO of the node with `worlds` in the OK."""
    actions = bench.hello(puppet) + bench.pass_time(5_000)
    hello = next(o for o in bench.opened(puppet, actions) if o.verb is Verb.HELLO)
    return bench.answer_hello(puppet, hello, worlds=tuple(worlds))


@pytest.mark.parametrize("spoil", ["signature", "age", "older", "id", "key", "sender"])
def test_planets_that_may_not_replace_ours(spoil):
    template = Bench()
    old, new = signed_planet(template, 5), signed_planet(template, 6, roots=2)
    bench = Bench(planet=old)
    if spoil == "signature":
        new = replace(new, signature=bytes(96))
    elif spoil == "age":
        new = signed_planet(template, 5, roots=2)
    elif spoil == "older":
        new = signed_planet(template, 4, roots=2)
    elif spoil == "key":  # well signed, but by somebody else
        other = identities()[51]
        new = replace(new, update_key=other.public).sign(other.public, other.private)
    elif spoil == "id":
        new = replace(new, id=2).sign(*signing_pair())
    offer_worlds(bench, bench.puppet(5) if spoil == "sender" else bench.root, new)
    assert bench.node.status(bench.now).planet == old


def test_moon_is_fetched_from_its_seed_and_listed_in_hello(bench):
    seed = bench.puppet(5)
    public, private = signing_pair()
    moon = World(WorldType.MOON, 0x77, 9, public, b"", (Root(seed.identity.without_private(), (seed.remote,)),))
    moon = moon.sign(public, private)
    bench.node.orbit(bench.now, 0x77, seed.address)
    (hello,) = [o for o in bench.opened(seed, bench.hello(seed)) if o.verb is Verb.HELLO]
    assert Hello.decode(hello.payload).moons(seed.keys, hello.packet_id) == (WorldVersion(WorldType.MOON, 0x77, 0),)
    actions = bench.answer_hello(seed, hello, worlds=(moon,))
    assert SaveState("moon", 0x77, moon.encode()) in actions
    assert [m.world for m in bench.node.moons()] == [moon]
    assert bench.status(seed).role.value == "MOON"
    bench.node.deorbit(bench.now, 0x77)
    assert SaveState("moon", 0x77, None) in bench.collect()
    assert bench.node.moons() == []


def test_a_moon_that_lies_on_disk_is_taken_at_once(bench):
    seed = bench.puppet(5)
    roots = (Root(seed.identity.without_private(), (seed.remote,)),)
    moon = World(WorldType.MOON, 0x77, 9, bytes(64), bytes(96), roots)
    bench.node.orbit(bench.now, 0x78, seed.address, moon)  # another one
    assert [(m.id, m.world) for m in bench.node.moons()] == [(0x78, None)]
    bench.node.orbit(bench.now, 0x77, seed.address, moon)
    assert [(m.id, m.world) for m in bench.node.moons()] == [(0x77, moon), (0x78, None)]
    assert Verb.HELLO in bench.verbs(seed, bench.collect())


def test_what_others_than_roots_send_in_place_of_worlds_is_skipped(bench):
    """vl1-wire §9.2: whoever is not believed may hold worlds of any kind; its answer is one all the same."""
    peer = bench.puppet(5)
    for junk, sender, learned in (
        (b"\x00\x03\x07\x07\x07", peer, True),
        (b"\xff\xff", bench.puppet(6), True),
        (b"\x00\x03\x07\x07\x07", bench.root, False),
    ):
        (hello, *_) = [o for o in bench.opened(sender, bench.hello(sender)) if o.verb is Verb.HELLO]
        body = OkHello(timestamp=bench.now, received_from=LOCAL).encode()[:-2] + junk
        bench.say(sender, Verb.OK, Ok(Verb.HELLO, hello.packet_id, body).encode())
        assert (bench.paths(sender) == [sender.remote]) is learned


@pytest.mark.parametrize("spoil", ["signature", "older", "key"])
def test_moons_that_may_not_replace_ours(bench, spoil):
    seed = bench.puppet(5)
    public, private = signing_pair()
    roots = (Root(seed.identity.without_private(), (seed.remote,)),)
    moon = World(WorldType.MOON, 0x77, 9, public, b"", roots).sign(public, private)
    bench.node.orbit(bench.now, 0x77, seed.address)
    offer_worlds(bench, seed, moon)
    assert [m.world for m in bench.node.moons()] == [moon]
    more = (*roots, Root(bench.puppet(6).identity.without_private(), (bench.puppet(6).remote,)))
    new = good = World(WorldType.MOON, 0x77, 10, public, b"", more).sign(public, private)
    if spoil == "signature":
        new = replace(new, signature=bytes(96))
    elif spoil == "older":
        new = replace(new, timestamp=8).sign(public, private)
    else:
        other = identities()[51]
        new = replace(new, update_key=other.public).sign(other.public, other.private)
    for offered, held in ((new, moon), (good, good)):
        bench.now += 300_000  # it is greeted again
        offer_worlds(bench, seed, offered)
        assert [m.world for m in bench.node.moons()] == [held]


def test_moon_nobody_asked_for_is_not_taken(bench):
    public, private = signing_pair()
    moon = World(WorldType.MOON, 0x77, 9, public, b"", (Root(bench.root.identity.without_private()),))
    moon = moon.sign(public, private)
    offer_worlds(bench, bench.root, moon)
    assert bench.node.moons() == []


def test_a_node_named_in_its_planet_is_a_root():
    identity = Bench().identity
    bench = Bench(planet=planet_of([Root(identity.without_private(), (LOCAL,))]))
    assert bench.node.status(bench.now).is_root
    assert bench.node.status(bench.now).online
    other = Bench(planet=planet_of([Root(replace_public(identity), (LOCAL,))]))
    assert not other.node.status(other.now).is_root


def replace_public(identity):
    return Identity(identity.address, identities()[1].public, None)


# -- captured traffic ------------------------------------------------------------------------------------------


def scenario_node(scenario, name):
    """A node with the identity of a captured one, open to everybody."""
    settings = NodeSettings(identity_gate_ms=0)
    bench = Bench(settings=settings)
    bench.identity = captures.nodes(scenario)[name].identity
    bench.node = Node(
        bench.identity, random=bench.random.randbytes, planet=None, settings=settings, vl2=lambda a, b: NullVl2()
    )
    bench.node.set_bindings(bench.now, [Binding(1, LOCAL)])
    bench.node.start(bench.now)
    return bench


@pytest.mark.parametrize("scenario", captures.SCENARIOS)
def test_captured_hellos_are_answered_with_ok(scenario):
    names = captures.nodes(scenario)
    answered = 0
    for name in list(names)[:3]:
        bench = scenario_node(scenario, name)
        me = names[name].identity.address.to_bytes(5, "big")
        for captured in captures.packets(scenario):
            if captured.packet[8:13] != me or captured.golden["verb"] != "HELLO":
                continue
            (first, *_rest) = captured.datagrams
            actions = bench.datagram(captured.packet, first.source)
            sent = [a.data for a in actions if isinstance(a, SendDatagram)]
            oks = [open_packet(captured.keys, data) for data in sent if data[8:13] == captured.packet[13:18]]
            ok = next(o for o in oks if o.verb is Verb.OK)
            assert OkHello.decode(ok.payload[9:]).received_from == first.source
            answered += 1
    assert answered
