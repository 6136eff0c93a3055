"""Who may do what, how often: gates, trust, paths, relaying, waiting rooms. One node, puppets around it."""

from __future__ import annotations

import pytest

from tests.node.puppet import BINDING, LOCAL, Bench
from tests.node.sim import planet_of
from ztpipe.node.actions import Drop, SendDatagram
from ztpipe.node.seam import NullVl2, Outcome
from ztpipe.node.settings import NodeSettings, PhysicalNetwork, VirtualPeer
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.packet import split
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import DirectPath, Ok, OkHello, OkWhois, PushDirectPaths, Rendezvous, Whois
from ztpipe.wire.world import Root


@pytest.fixture
def bench():
    """The root has been met; nobody else."""
    bench = Bench()
    bench.meet(bench.root)
    return bench


@pytest.fixture
def peer(bench):
    """Puppet 5, met: known, with a direct path."""
    peer = bench.puppet(5)
    bench.meet(peer)
    return peer


def root_bench(**options):
    """A bench whose node is the only root."""
    identity = Bench().identity
    return Bench(planet=planet_of([Root(identity.without_private(), (LOCAL,))]), **options)


# -- replies ---------------------------------------------------------------------------------------------------


def test_echo_is_answered_once_per_166_ms_and_path(bench, peer):
    for wait, answered in ((0, True), (165, False), (1, True)):
        bench.now += wait
        actions = bench.say(peer, Verb.ECHO, b"abc")
        assert (Verb.OK in bench.verbs(peer, actions)) is answered
    elsewhere = peer.remote._replace(port=1)
    assert bench.answer(peer, bench.say(peer, Verb.ECHO, b"y", remote=elsewhere), Verb.ECHO).body == b"y"


def test_long_answers_come_in_fragments(bench, peer):
    sent = [a.data for a in bench.say(peer, Verb.ECHO, b"x" * 5_000) if isinstance(a, SendDatagram)]
    whole = 28 + 9 + 5_000
    assert [len(data) for data in sent] == [1432, 1432, 1432, 16 + whole - 1432 - 2 * 1416]
    assert sent[0][18] & 0x40


def test_unexpected_ok_teaches_nothing(bench):
    peer = bench.puppet(5)
    bench.hello(peer)
    before = bench.status(peer).last_receive
    bench.now += 5
    bench.say(peer, Verb.OK, Ok(Verb.ECHO, 0x1234).encode())
    assert bench.drops["ok_unexpected"] == 1
    assert bench.status(peer).last_receive == before
    assert bench.paths(peer) == []


def test_nobody_answers_for_another(bench, peer):
    """Relays see the IDs of what they pass on; beyond the reference."""
    other = bench.puppet(6)
    bench.hello(other)
    bench.node.send_verb(bench.now, peer.address, Verb.ECHO, b"")
    (echo,) = [o for o in bench.opened(peer, bench.collect()) if o.verb is Verb.ECHO]
    answer = Ok(Verb.ECHO, echo.packet_id).encode()
    bench.say(other, Verb.OK, answer)
    assert (bench.drops["ok_unexpected"], bench.paths(other)) == (1, [])
    bench.now += 29_999
    bench.say(peer, Verb.OK, answer)
    bench.now += 1
    bench.say(peer, Verb.OK, answer)
    assert bench.drops["ok_unexpected"] == 2


def test_path_is_learned_from_an_expected_direct_ok_only(bench, peer):
    other = InetAddress(bytes((10, 2, 5, 77)), 1000)
    (hello,) = bench.opened(peer, bench.say(peer, Verb.ECHO, b"", remote=other))[1:]
    assert hello.verb is Verb.HELLO
    assert bench.paths(peer) == [peer.remote]
    bench.say(peer, Verb.OK, Ok(Verb.ECHO, hello.packet_id).encode(), remote=other, hops=1)
    assert bench.paths(peer) == [peer.remote]
    bench.say(peer, Verb.OK, Ok(Verb.ECHO, hello.packet_id).encode(), remote=other)
    assert bench.paths(peer) == [peer.remote, other]


def test_unknown_path_is_questioned_once_per_second(bench, peer):
    other = InetAddress(bytes((10, 2, 5, 77)), 1000)
    asked = []
    for _ in range(25):
        verbs = bench.verbs(peer, bench.say(peer, Verb.NOP, remote=other))
        asked += [bench.now for verb in verbs if verb is Verb.HELLO]
        bench.now += 100
    assert [time - asked[0] for time in asked] == [0, 1_000, 2_000]


def test_other_port_of_a_live_path_is_left_alone(bench, peer):
    port = peer.remote._replace(port=7)
    assert bench.verbs(peer, bench.say(peer, Verb.NOP, remote=port)) == []
    bench.now += 19_000
    assert Verb.HELLO in bench.verbs(peer, bench.say(peer, Verb.NOP, remote=port))


@pytest.mark.parametrize(
    "remote",
    [
        *("127.0.0.1/9993", "169.254.1.1/9993", "224.0.0.1/9993", "2001:470::1/9993"),
        *("10.5.0.1/0", "10.66.0.9/5", "10.77.0.9/5"),
    ],
)
def test_unusable_addresses_never_become_paths(remote):
    """vl1-behaviour §2.7, the last two: `physical` and `virtual` blacklists."""
    bench = Bench()
    peer = bench.puppet(5)
    bench.node.set_settings(
        bench.now,
        NodeSettings(
            physical=(PhysicalNetwork(InetAddress.parse("10.66.0.0/16"), blacklist=True),),
            virtual={peer.address: VirtualPeer(blacklist=(InetAddress.parse("10.77.0.0/16"),))},
        ),
    )
    bench.meet(peer)
    assert bench.verbs(peer, bench.say(peer, Verb.NOP, remote=InetAddress.parse(remote))) == []


def test_our_own_socket_is_no_path_of_a_peer(bench, peer):
    """Who pushes our own address to us makes us send nothing to ourselves; our IP at another port is another's."""
    push = PushDirectPaths((DirectPath(LOCAL), DirectPath(LOCAL._replace(port=5)))).encode()
    assert probes(bench.say(peer, Verb.PUSH_DIRECT_PATHS, push)) == {LOCAL._replace(port=5)}


def test_no_path_leads_through_a_managed_network(bench):
    class Managed(NullVl2):
        def managed_prefixes(self):
            return [InetAddress.parse("10.2.5.0/24")]

    bench = Bench(vl2=lambda vl1, networks: Managed())
    peer = bench.puppet(5)
    assert bench.verbs(peer, bench.hello(peer)) == [Verb.OK]


def test_no_path_leads_where_a_tap_is_by_hand(bench, peer):
    bench.node.set_overlay_subnets(bench.now, {InetAddress.parse("10.2.5.0/24"), InetAddress.parse("fd00::/64")})
    elsewhere = [peer.remote._replace(ip=bytes((10, 2, third, 77))) for third in (5, 6)]
    verbs = [bench.verbs(peer, bench.say(peer, Verb.NOP, remote=remote)) for remote in elsewhere]
    assert verbs == [[], [Verb.HELLO]]


def test_root_is_only_believed_at_its_declared_ips(bench):
    elsewhere = InetAddress(bytes((10, 3, 3, 3)), 9993)
    assert bench.verbs(bench.root, bench.say(bench.root, Verb.NOP, remote=elsewhere)) == []


# -- WHOIS -----------------------------------------------------------------------------------------------------


def test_whois_is_answered_from_memory_in_order(bench, peer):
    stranger = bench.puppet(9)
    request = Whois((bench.root.address, stranger.address, bench.identity.address, peer.address)).encode()
    actions = bench.say(peer, Verb.WHOIS, request)
    found = OkWhois.decode(bench.answer(peer, actions, Verb.WHOIS).body).identities
    assert [identity.address for identity in found] == [bench.root.address, bench.identity.address, peer.address]
    (asked,) = [o for o in bench.opened(bench.root, actions) if o.verb is Verb.WHOIS]
    assert Whois.decode(asked.payload).addresses == (stranger.address,)


def test_whois_for_nobody_gets_no_answer(bench, peer):
    assert bench.verbs(peer, bench.say(peer, Verb.WHOIS, Whois((bench.puppet(9).address,)).encode())) == []


def test_whois_gate_of_a_leaf_is_100_ms_and_a_root_has_none(bench, peer):
    request = Whois((bench.identity.address,)).encode()
    answers = [Verb.OK in bench.verbs(peer, bench.say(peer, Verb.WHOIS, request)) for _ in range(2)]
    assert answers == [True, False]
    assert bench.drops["whois_rate"] == 1
    root = root_bench()
    asker = root.puppet(5)
    root.meet(asker)
    request = Whois((root.identity.address,)).encode()
    assert all(Verb.OK in root.verbs(asker, root.say(asker, Verb.WHOIS, request)) for _ in range(5))


def test_whois_answers_count_only_from_roots(bench, peer):
    stranger = bench.puppet(9)
    bench.node.send_verb(bench.now, stranger.address, Verb.NOP, b"")
    (asked,) = [o for o in bench.opened(bench.root, bench.collect()) if o.verb is Verb.WHOIS]
    answer = Ok(Verb.WHOIS, asked.packet_id, OkWhois((stranger.identity,)).encode()).encode()
    bench.say(peer, Verb.OK, answer)
    assert bench.status(stranger) is None
    bench.say(bench.root, Verb.OK, answer)
    assert bench.status(stranger) is not None


def test_whois_is_repeated_every_500_ms_while_something_waits_and_not_longer(bench):
    stranger = bench.puppet(9)
    bench.node.send_verb(bench.now, stranger.address, Verb.NOP, b"")
    actions = bench.collect() + bench.pass_time(12_000)
    asked = [
        o
        for o in bench.opened(bench.root, actions)
        if o.verb is Verb.WHOIS and Whois.decode(o.payload).addresses == (stranger.address,)
    ]
    assert 9 <= len(asked) <= 11
    assert bench.drops["tx_queue_timeout"] == 1


def test_flood_of_unknown_sources_asks_little_and_keeps_little(bench):
    packet = bytearray(bench.packet(bench.puppet(9), Verb.NOP, bytes(100)))
    asked = 0
    for number in range(2_000):
        packet[13:18] = (0x1000000000 + number).to_bytes(5, "big")
        asked += len(bench.datagrams(bench.datagram(bytes(packet), bench.puppet(9).remote), bench.root))
    assert asked <= 128
    assert len(bench.node._vl1.inbound.deferral) <= 256
    assert bench.drops["rx_queue_full"] == 2_000 - 256
    assert len(bench.node._vl1.paths) < 10
    bench.pass_time(6_000)
    assert len(bench.node._vl1.inbound.deferral) == 0
    assert bench.drops["rx_identity_timeout"] == 256


# -- waiting rooms ---------------------------------------------------------------------------------------------


class Recorder(NullVl2):
    """A VL2 that notes the frames it is shown, and defers as long as `ready` is false."""

    def __init__(self, vl1=None, networks=None):
        super().__init__()
        self.vl1 = vl1
        self.ready = True
        self.seen = []
        self.handlers = {Verb.FRAME: self.frame, Verb.NETWORK_CREDENTIALS: self.credentials}

    def frame(self, ctx):
        self.seen.append((ctx.now, ctx.payload, ctx.attempt))
        return Outcome.TRUSTED if self.ready else Outcome.DEFER

    def credentials(self, ctx):
        self.ready = True
        self.vl1.retry_deferred(ctx.now)
        return Outcome.TRUSTED


def test_packets_of_an_unknown_sender_are_handled_in_order_as_soon_as_it_is_known():
    bench = Bench(vl2=Recorder)
    bench.meet(bench.root)
    stranger = bench.puppet(9)
    asked = []
    for number in range(5):
        actions = bench.say(stranger, Verb.FRAME, bytes((number,)), hops=1, remote=bench.root.remote)
        asked += [o for o in bench.opened(bench.root, actions) if o.verb is Verb.WHOIS]
    (question,) = asked
    seen = bench.node._vl2.seen
    assert seen == []
    answer = OkWhois((stranger.identity,)).encode()
    bench.say(bench.root, Verb.OK, Ok(Verb.WHOIS, question.packet_id, answer).encode())
    assert [payload for _, payload, _ in seen] == [bytes((number,)) for number in range(5)]


def test_a_hello_of_the_sender_releases_its_packets_too():
    bench = Bench(vl2=Recorder)
    stranger = bench.puppet(9)
    bench.say(stranger, Verb.FRAME, b"early")
    bench.hello(stranger)
    assert [payload for _, payload, _ in bench.node._vl2.seen] == [b"early"]


def test_deferred_frames_are_retried_every_500_ms_for_5_s():
    bench = Bench(vl2=Recorder)
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.node._vl2.ready = False
    start = bench.now
    bench.say(peer, Verb.FRAME, b"f")
    bench.pass_time(10_000)
    tries = [time - start for time, _, _ in bench.node._vl2.seen]
    assert 10 <= len(tries) <= 11 and tries[-1] <= 5_000
    assert [attempt for _, _, attempt in bench.node._vl2.seen] == list(range(len(tries)))
    assert bench.drops["rx_deferred_timeout"] == 1


def test_one_sender_without_credentials_does_not_take_the_room_of_all():
    bench = Bench(vl2=Recorder)
    flood, other = bench.puppet(5), bench.puppet(6)
    for puppet in (flood, other):
        bench.meet(puppet)
    bench.node._vl2.ready = False
    bench.say(other, Verb.FRAME, b"mine")
    for number in range(300):
        bench.say(flood, Verb.FRAME, number.to_bytes(2, "big"))
    assert bench.drops == {"rx_deferred_source_full": 300 - 32}
    bench.node._vl2.seen.clear()
    bench.node._vl2.ready = True
    bench.pass_time(500)
    assert [payload for _, payload, _ in bench.node._vl2.seen] == [b"mine", *(n.to_bytes(2, "big") for n in range(32))]
    bench.node._vl2.ready = False
    bench.say(flood, Verb.FRAME, b"again")
    assert bench.drops == {"rx_deferred_source_full": 300 - 32}


def test_credentials_release_deferred_frames_at_once():
    bench = Bench(vl2=Recorder)
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.node._vl2.ready = False
    bench.say(peer, Verb.FRAME, b"f")
    bench.say(peer, Verb.NETWORK_CREDENTIALS, b"")
    assert [(time, payload) for time, payload, _ in bench.node._vl2.seen] == [(bench.now, b"f")] * 2


# -- direct paths ----------------------------------------------------------------------------------------------


def pushed(bench, puppet, actions):
    return [o for o in bench.opened(puppet, actions) if o.verb is Verb.PUSH_DIRECT_PATHS]


def test_our_addresses_are_pushed_to_trusted_peers_only_and_not_too_often():
    bench = Bench(vl2=Recorder)
    peer = bench.puppet(5)
    bench.meet(peer)
    assert pushed(bench, peer, bench.say(peer, Verb.ECHO)) == []
    times = []
    for _ in range(300):
        times += [bench.now for _ in pushed(bench, peer, bench.say(peer, Verb.FRAME, b""))]
        bench.now += 1_000
    assert [time - times[0] for time in times] == [0, 120_000, 240_000]


def test_relayed_peers_get_a_push_every_15_s_through_the_relay():
    bench = Bench(vl2=Recorder)
    bench.meet(bench.root)
    peer = bench.puppet(5)
    bench.meet(peer)
    times, remotes = [], set()
    for _ in range(60):
        actions = bench.say(peer, Verb.FRAME, b"", hops=1, remote=bench.root.remote)
        if pushed(bench, peer, actions):
            times.append(bench.now)
            sent = [a for a in actions if isinstance(a, SendDatagram)]
            remotes |= {a.remote for a in sent if pushed(bench, peer, [a])}
        bench.now += 1_000
    assert [time - times[0] for time in times] == [0, 15_000, 30_000, 45_000]
    assert remotes == {bench.root.remote}


def known_by_whois(bench):
    """A peer whose identity the root told us, and nothing else of it."""
    peer = bench.puppet(5)
    bench.node.send_verb(bench.now, peer.address, Verb.NOP, b"")
    (asked,) = [o for o in bench.opened(bench.root, bench.collect()) if o.verb is Verb.WHOIS]
    bench.say(bench.root, Verb.OK, Ok(Verb.WHOIS, asked.packet_id, OkWhois((peer.identity,)).encode()).encode())
    return peer


def test_relayed_peers_of_unknown_version_get_a_hello_every_30_s_through_the_relay():
    bench = Bench(vl2=Recorder)
    bench.meet(bench.root)
    peer = known_by_whois(bench)
    times = []
    for second in range(101):
        actions = bench.say(peer, Verb.FRAME, b"", hops=1, remote=bench.root.remote)
        hellos = [o for o in bench.opened(peer, actions) if o.verb is Verb.HELLO]
        if hellos:
            times.append(second)
            hello_id = hellos[0].packet_id
            assert {a.remote for a in actions if isinstance(a, SendDatagram)} == {bench.root.remote}
        if second == 70:
            answer = OkHello(timestamp=bench.now, received_from=LOCAL, protocol=12)
            asked = Ok(Verb.HELLO, hello_id, answer.encode())
            bench.say(peer, Verb.OK, asked.encode(), hops=1, remote=bench.root.remote)
        bench.now += 1_000
    assert times == [0, 30, 60]
    assert bench.status(peer).version is not None


def test_the_data_planes_word_for_a_relayed_peer_is_enough_to_ask_for_its_version():
    """Once the tables are complete, its frames no longer come this way."""
    bench = Bench(vl2=Recorder)
    bench.meet(bench.root)
    peer = known_by_whois(bench)
    bench.now += 1_000
    bench.node.peer_activity(bench.now, peer.address, 0, bench.now)
    actions = bench.collect()
    assert [o.verb for o in bench.opened(peer, actions)].count(Verb.HELLO) == 1
    assert {a.remote for a in actions if isinstance(a, SendDatagram)} == {bench.root.remote}


def test_push_lists_mapped_local_and_reported_addresses_once_each():
    bench = Bench(vl2=Recorder)
    mapped, outside = InetAddress(bytes((8, 8, 1, 1)), 7), InetAddress(bytes((10, 8, 8, 8)), 8)
    bench.node.set_external_addresses(bench.now, [mapped])
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.hello(peer, sent_to=outside)
    (push,) = pushed(bench, peer, bench.say(peer, Verb.FRAME, b""))
    assert [path.endpoint for path in PushDirectPaths.decode(push.payload).paths] == [mapped, LOCAL, outside]


def probes(actions):
    return {a.remote for a in actions if isinstance(a, SendDatagram)}


def test_pushed_addresses_are_tried_8_per_class_and_8_packets_in_a_row(bench, peer):
    private = [InetAddress(bytes((10, 2, 5, n)), 1) for n in range(10, 25)]
    public = [InetAddress(bytes((8, 8, 8, n)), 1) for n in range(3)]
    push = PushDirectPaths(tuple(DirectPath(endpoint) for endpoint in (*private, *public))).encode()
    tried = [probes(bench.say(peer, Verb.PUSH_DIRECT_PATHS, push)) for _ in range(10)]
    assert tried[0] == {*private[:8], *public}
    assert [bool(each) for each in tried] == [True] * 8 + [False] * 2
    assert bench.drops["push_rate"] == 2
    bench.now += 30_001
    assert probes(bench.say(peer, Verb.PUSH_DIRECT_PATHS, push))


def test_forget_flag_is_ignored_and_redirect_counts_when_it_has_answered(bench, peer):
    target = InetAddress(bytes((10, 2, 5, 99)), 4)
    forget = PushDirectPaths((DirectPath(peer.remote, 1),)).encode()
    assert probes(bench.say(peer, Verb.PUSH_DIRECT_PATHS, forget)) == set()
    assert bench.paths(peer) == [peer.remote]
    redirect = PushDirectPaths((DirectPath(target, 2),)).encode()
    actions = bench.say(peer, Verb.PUSH_DIRECT_PATHS, redirect)
    assert probes(actions) == {target}
    assert bench.paths(peer) == [peer.remote]
    (hello,) = bench.opened(peer, actions)
    answer = OkHello(timestamp=bench.now, received_from=LOCAL).encode()
    bench.say(peer, Verb.OK, Ok(Verb.HELLO, hello.packet_id, answer).encode(), remote=target)
    assert bench.paths(peer) == [target]
    bench.say(peer, Verb.ECHO)
    assert bench.paths(peer) == [target]


def test_a_redirect_to_another_port_of_the_same_host_is_followed_too(bench, peer):
    target = peer.remote._replace(port=4)
    (hello,) = bench.opened(
        peer, bench.say(peer, Verb.PUSH_DIRECT_PATHS, PushDirectPaths((DirectPath(target, 2),)).encode())
    )
    bench.now += 9_000
    answer = OkHello(timestamp=bench.now, received_from=LOCAL).encode()
    bench.say(peer, Verb.OK, Ok(Verb.HELLO, hello.packet_id, answer).encode(), remote=target)
    assert bench.paths(peer) == [target]


@pytest.mark.parametrize(("sender", "believed"), [("root", True), ("peer", False)])
def test_rendezvous_is_believed_from_roots_only(bench, peer, sender, believed):
    target = InetAddress(bytes((10, 2, 5, 99)), 4)
    by = bench.root if sender == "root" else peer
    actions = bench.say(by, Verb.RENDEZVOUS, Rendezvous(peer.address, target).encode())
    sent = [a for a in actions if isinstance(a, SendDatagram)]
    assert bool(sent) is believed
    if believed:
        assert (len(sent[0].data), sent[0].ttl, sent[0].binding) == (4, 2, BINDING)
        assert sent[1].remote == target


def test_introductions_are_followed_up_until_there_is_a_path(bench):
    """Our addition: after 1, 3 and 7 s, since the other one's filter may open later than ours."""
    stranger = bench.puppet(6)
    bench.node._vl1.add_peer(bench.now, stranger.identity)
    bench.say(bench.root, Verb.RENDEZVOUS, Rendezvous(stranger.address, stranger.remote).encode())
    sent = [bool(bench.datagrams(bench.pass_time(500), stranger)) for _ in range(20)]
    assert [n for n, each in enumerate(sent, start=1) if each] == [2, 6, 14]
    bench.now += 60_000
    bench.say(bench.root, Verb.RENDEZVOUS, Rendezvous(stranger.address, stranger.remote).encode())
    bench.meet(stranger)
    assert Verb.HELLO not in bench.verbs(stranger, bench.pass_time(2_000))


def test_external_address_change_reported_by_a_root_resets_paths(bench, peer):
    bench.hello(bench.root, sent_to=LOCAL._replace(port=2))
    assert bench.paths(peer) == [peer.remote]
    actions = bench.hello(bench.root, sent_to=InetAddress(bytes((10, 8, 8, 9)), 1))
    assert bench.paths(peer) == []
    assert Verb.ECHO in bench.verbs(peer, actions)
    assert "external_address_changed" in dict(bench.events)
    bench.say(peer, Verb.NOP)
    assert bench.paths(peer) == [peer.remote]


def test_leaf_reports_never_reset_anything(bench, peer):
    for last in (8, 9):
        bench.hello(peer, sent_to=InetAddress(bytes((10, 8, 8, last)), 1))
        bench.now += 10
    assert bench.paths(peer) == [peer.remote]
    assert len(bench.node.status(bench.now).surface_addresses) >= 1


# -- relaying --------------------------------------------------------------------------------------------------


@pytest.fixture
def relay():
    """A root that two puppets have met."""
    bench = root_bench()
    pair = bench.puppet(5), bench.puppet(6)
    for puppet in pair:
        bench.meet(puppet)
    return bench, *pair


def forwarded(actions, remote):
    return [a.data for a in actions if isinstance(a, SendDatagram) and a.remote == remote]


def test_root_forwards_heads_and_fragments_with_one_more_hop(relay):
    bench, one, other = relay
    packet = bench.packet(one, Verb.FRAME, bytes(3_000), destination=other.address)
    pieces = split(packet, 1432)
    arrived = []
    for piece in pieces:
        arrived += [d for d in forwarded(bench.datagram(piece, one.remote), other.remote) if len(d) > 100]
    assert [len(piece) for piece in arrived] == [len(piece) for piece in pieces]
    assert arrived[0][18] & 7 == 1 and arrived[1][15] & 7 == 1
    assert arrived[1][16:] == pieces[1][16:]


@pytest.mark.parametrize(("hops", "passes"), [(0, True), (2, True), (3, False), (7, False)])
def test_hop_limit(relay, hops, passes):
    bench, one, other = relay
    actions = bench.say(one, Verb.FRAME, bytes(200), destination=other.address, hops=hops)
    assert bool(forwarded(actions, other.remote)) is passes
    assert bench.drops["relay_too_many_hops"] == (not passes)


def test_both_ends_are_introduced_once_per_30_s(relay):
    bench, one, other = relay
    introductions = []
    for _ in range(70):
        actions = bench.say(one, Verb.FRAME, bytes(200), destination=other.address)
        for puppet, named in ((one, other), (other, one)):
            for opened in bench.opened(puppet, actions):
                assert opened.verb is Verb.RENDEZVOUS
                letter = Rendezvous.decode(opened.payload)
                assert (letter.peer, letter.endpoint) == (named.address, named.remote)
                introductions.append(bench.now)
        bench.now += 1_000
    assert [time - introductions[0] for time in introductions] == [0, 0, 30_000, 30_000, 60_000, 60_000]


def test_packets_to_and_from_the_same_address_are_never_relayed(relay):
    bench, one, _other = relay
    assert forwarded(bench.say(one, Verb.FRAME, bytes(200), destination=one.address), one.remote) == []
    assert bench.drops["source_is_destination"] == 1


def test_unknown_destinations_of_a_lone_root_are_dropped(relay):
    bench, one, _other = relay
    assert probes(bench.say(one, Verb.FRAME, bytes(200), destination=bench.puppet(9).address)) == set()
    assert bench.drops["relay_no_route"] == 1


def test_leaf_relays_only_for_paths_with_recent_trust():
    bench = Bench(vl2=Recorder)
    one, other = bench.puppet(5), bench.puppet(6)
    bench.meet(one)
    bench.meet(other)
    assert forwarded(bench.say(one, Verb.FRAME, bytes(9), destination=other.address), other.remote) == []
    assert bench.drops["relay_not_trusted"] == 1
    bench.say(one, Verb.FRAME, b"trusted")
    assert forwarded(bench.say(one, Verb.FRAME, bytes(9), destination=other.address), other.remote)
    bench.now += 600_000
    assert forwarded(bench.say(one, Verb.FRAME, bytes(9), destination=other.address), other.remote) == []


def test_nothing_is_ever_sent_to_ourselves(bench):
    bench.node.send_verb(bench.now, bench.identity.address, Verb.NOP, b"")
    assert bench.collect() == [Drop("send_to_self")]


# -- small things ----------------------------------------------------------------------------------------------


def test_legacy_beacon_of_a_known_peer_gets_a_nop(bench, peer):
    beacon = bytes(8) + peer.address.to_bytes(5, "big")
    assert bench.verbs(peer, bench.datagram(beacon, peer.remote)) == [Verb.NOP]
    assert bench.verbs(peer, bench.datagram(beacon, peer.remote)) == []
    bench.now += 2_500
    assert bench.verbs(peer, bench.datagram(beacon, peer.remote)) == [Verb.NOP]


def test_suite_0_is_accepted_for_every_verb_and_trusted_paths_are_not(bench, peer):
    assert bench.answer(peer, bench.say(peer, Verb.ECHO, b"clear", suite=0), Verb.ECHO).body == b"clear"
    bench.say(peer, Verb.ECHO, b"x", suite=2, trusted_path_id=1)
    assert bench.drops["untrusted_path"] == 1


def test_bond_verbs_do_not_count_as_received(bench, peer):
    before = bench.status(peer).last_receive
    bench.now += 5
    for verb in (Verb.ACK, Verb.QOS_MEASUREMENT, Verb.PATH_NEGOTIATION_REQUEST):
        bench.say(peer, verb, bytes(10))
    assert bench.drops["no_bond"] == 3
    assert bench.status(peer).last_receive == before


def test_messages_and_traces_become_events(bench, peer):
    bench.say(peer, Verb.USER_MESSAGE, (70_000).to_bytes(8, "big") + b"hi")
    assert ("user_message", {"source": peer.address, "type": 70_000, "data": b"hi"}) in bench.events
    bench.say(peer, Verb.REMOTE_TRACE, b"a=1\0\0b=2\0unterminated")
    assert [e["data"] for k, e in bench.events if k == "remote_trace"] == [b"a=1", b"b=2"]


def test_physical_mtu_applies_to_what_is_sent():
    network = PhysicalNetwork(InetAddress.parse("10.2.5.0/24"), mtu=1_400)
    bench = Bench(settings=NodeSettings(physical=(network,)))
    peer = bench.puppet(5)
    bench.meet(peer)
    sent = [a.data for a in bench.say(peer, Verb.ECHO, b"x" * 2_000) if isinstance(a, SendDatagram)]
    assert len(sent[0]) == 1_400


def test_local_hint_is_tried_for_a_peer_without_a_path():
    hint = InetAddress(bytes((10, 5, 5, 5)), 5)
    bench = Bench()
    peer = bench.puppet(5)
    bench.node.set_settings(bench.now, NodeSettings(virtual={peer.address: VirtualPeer(hints=(hint,))}))
    bench.hello(peer)
    bench.node.send_verb(bench.now, peer.address, Verb.NOP, b"")
    assert hint in probes(bench.collect())
    bench.node.send_verb(bench.now, peer.address, Verb.NOP, b"")
    assert hint not in probes(bench.collect())
