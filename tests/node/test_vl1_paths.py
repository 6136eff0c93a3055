"""Which path is used, which one is learned in place of which, which root is asked: the formulas of vl1-behaviour §2.5,
§2.10, §3.5 and §3.8, in numbers."""

from __future__ import annotations

import pytest

from tests.node.puppet import Bench
from tests.node.sim import START, identities, planet_of
from ztpipe.node.actions import SendDatagram
from ztpipe.node.path import PathTable, PeerPath
from ztpipe.node.peer import MAX_PATHS, Peer
from ztpipe.node.peercache import PeerRecord
from ztpipe.node.ratelimit import NEVER
from ztpipe.node.relay import best_endpoint_by_class
from ztpipe.wire.armor import SessionKeys
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import Hello, Ok, OkHello, OkWhois, Rendezvous, Whois
from ztpipe.wire.world import Root

PRIVATE, GLOBAL, PSEUDO = (InetAddress.parse(f"{ip}/9993") for ip in ("10.0.0.1", "8.8.8.8", "11.0.0.1"))
PRIVATE6, GLOBAL6 = (InetAddress.parse(f"{ip}/9993") for ip in ("fd00::1", "2a00::1"))


class Paths:
    """A peer without a node, and paths for it."""

    def __init__(self) -> None:
        identity = identities()[3]
        self.peer = Peer(identity, SessionKeys(bytes(48)), START)
        self.table = PathTable()

    def learn(self, remote: InetAddress, *, binding: int = 1, latency: int = 10, heard: int = START) -> PeerPath:
        entry = self.peer.learn(START, self.table.get(binding, remote))
        entry.path.latency, entry.path.last_in = latency, heard
        return entry

    def best(self, now: int = START) -> InetAddress:
        entry = self.peer.best_path(now)
        assert entry is not None
        return entry.path.remote


@pytest.mark.parametrize(
    ("remote", "latency", "age", "priority", "score"),
    [
        (PRIVATE, 30, 0, 1, 30),
        (GLOBAL, 30, 0, 1, 30 * 4),
        (PSEUDO, 30, 0, 1, 30 * 5),
        (GLOBAL, 30, 18_999, 1, 30 * 4),
        (GLOBAL, 30, 19_000, 1, (30 + 65_535 + 19_000) * 4),
        (PRIVATE, 30, 500_000, 1, 30 + 65_535 + 140_000),
        (PRIVATE, 0xFFFF, 0, 1, 65_535),
        (GLOBAL, 30, 0, 3, 40),
        (GLOBAL, 31, 0, 7, 31 * 4 // 7),
    ],
)
def test_score(remote: InetAddress, latency: int, age: int, priority: int, score: int) -> None:
    entry = Paths().learn(remote, latency=latency)
    entry.priority = priority
    assert entry.score(START + age) == score


def test_the_last_of_equal_paths_is_used() -> None:
    paths = Paths()
    for port in (1, 2, 3):
        paths.learn(PRIVATE._replace(port=port))
    assert paths.best().port == 3


def test_a_near_path_is_preferred_to_a_global_one_that_is_quicker_by_less_than_four_times() -> None:
    paths = Paths()
    paths.learn(PRIVATE, latency=39)
    paths.learn(GLOBAL, latency=10)
    assert paths.best() == PRIVATE
    paths.learn(GLOBAL6, latency=9)
    assert paths.best() == GLOBAL6


def test_a_silent_path_gives_way_after_19_s_and_a_sole_one_counts_for_243_s() -> None:
    paths = Paths()
    quick = paths.learn(PRIVATE, latency=1)
    slow = paths.learn(GLOBAL, latency=500, heard=START + 30_000)
    assert paths.best(START + 18_999) == PRIVATE
    assert paths.best(START + 19_000) == GLOBAL
    paths.peer.keep_paths([quick])
    assert paths.best(START + 242_999) == PRIVATE
    assert paths.peer.best_path(START + 243_000) is None
    assert slow.path.refs == 0


def test_a_dead_path_to_the_same_host_on_the_same_socket_is_replaced_first() -> None:
    paths = Paths()
    paths.learn(PRIVATE, heard=START - 19_000)
    paths.learn(GLOBAL, heard=START - 19_000)
    paths.learn(PRIVATE, binding=2, heard=START - 19_000)
    paths.learn(PRIVATE._replace(port=5))
    found = [(entry.path.binding, entry.path.remote) for entry in paths.peer.paths]
    assert found == [(1, PRIVATE._replace(port=5)), (1, GLOBAL), (2, PRIVATE)]


def test_a_full_list_gives_up_the_path_that_was_not_heard_for_longest() -> None:
    paths = Paths()
    for number in range(MAX_PATHS):
        paths.learn(InetAddress(bytes((10, 0, 1, number)), 9993)).last_receive = START - abs(number - 30) * 10
    stalest = paths.peer.paths[-1].path.remote  # 33 away from the freshest; the first is 30 away
    paths.learn(GLOBAL)
    remotes = [entry.path.remote for entry in paths.peer.paths]
    assert len(remotes) == MAX_PATHS == 64
    assert stalest not in remotes
    assert GLOBAL in remotes


def test_a_full_table_of_paths_gives_up_unused_ones_and_keeps_those_of_peers() -> None:
    table = PathTable(capacity=300)
    used = [table.get(1, InetAddress(bytes((10, 0, number >> 8, number & 255)), 1)) for number in range(200)]
    for path in used:
        path.refs = 1
    for number in range(1_000):
        table.get(1, InetAddress(bytes((10, 1, number >> 8, number & 255)), 1))
    assert len(table) == 300
    assert all(table.find(1, path.remote) is path for path in used)


def test_what_a_peer_learned_is_kept_in_a_full_table() -> None:
    """Else it would not be heard on it any more: its next packet would count for another object."""
    bench = Bench()
    peer = bench.puppet(5)
    bench.node._vl1.paths.capacity = 0
    bench.meet(peer)
    entry = bench.node._vl1.known(peer.address).path(1, peer.remote)
    bench.now += 10_000
    bench.say(peer, Verb.ECHO)
    assert entry.path.last_in == bench.now


# -- roots -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latencies", "silences", "chosen"),
    [
        ((30, 20), (0, 0), 1),
        ((30, 20), (0, 61_000), 0),  # 30 against 20 * 2
        ((30, 20), (60_999, 60_999), 1),
        ((30, 0xFFFF), (61_000, 0), 0),
        ((0xFFFF, 20), (0, 500_000), 0),
        ((0, 20), (0, 0), 1),  # a latency of 0 counts as unknown
        ((20, 20), (0, 0), "highest address"),
        ((20, 20), (500_000, 500_000), "highest address"),
    ],
)
def test_the_best_root(latencies: tuple[int, int], silences: tuple[int, int], chosen: int | str) -> None:
    bench = Bench(roots=2)
    for puppet, latency, silence in zip(bench.root_puppets, latencies, silences, strict=True):
        bench.meet(puppet)
        peer = bench.node._vl1.known(puppet.address)
        assert peer is not None
        peer.paths[0].path.latency, peer.last_receive = latency, bench.now - silence
    addresses = [puppet.address for puppet in bench.root_puppets]
    expected = max(addresses) if isinstance(chosen, str) else addresses[chosen]
    best = bench.node._vl1.best_root(bench.now)
    assert best is not None and best.address == expected


def test_introductions_name_the_highest_scope_and_ipv6_before_ipv4_that_both_have() -> None:
    one, other = Paths(), Paths()
    for paths, remotes in ((one, (PSEUDO, GLOBAL, GLOBAL6, PRIVATE)), (other, (PSEUDO, GLOBAL, GLOBAL6, PRIVATE6))):
        for remote in remotes:
            paths.learn(remote)
    common = best_endpoint_by_class(START, one.peer).keys() & best_endpoint_by_class(START, other.peer).keys()
    assert best_endpoint_by_class(START, one.peer)[max(common)][1] == GLOBAL6
    other.learn(PRIVATE._replace(port=7), latency=20)
    other.learn(PRIVATE._replace(port=8), latency=10, heard=NEVER)  # dead: the worse one
    common = best_endpoint_by_class(START, one.peer).keys() & best_endpoint_by_class(START, other.peer).keys()
    assert best_endpoint_by_class(START, other.peer)[max(common)][1] == PRIVATE._replace(port=7)


# -- what else is remembered of peers ----------------------------------------------------------------------------------


def test_the_record_of_a_peer() -> None:
    """vl1-behaviour §1.4, vl1-wire §11.4: byte by byte."""
    identity = identities()[3].without_private()
    record = PeerRecord(identity, 12, (1, 14, 1), (GLOBAL, GLOBAL6))
    raw = "02" + identity.encode().hex() + "000c 0001 000e 0001 0002" + "04 08080808 2709"
    raw += "06 2a000000000000000000000000000001 2709"
    assert record.encode().hex() == bytes.fromhex(raw).hex()
    assert PeerRecord.decode(bytes.fromhex(raw)) == record


def test_damaged_and_foreign_records_are_no_peers() -> None:
    stranger = identities()[9]
    good = PeerRecord(stranger.without_private(), 12, (1, 14, 1), (GLOBAL,)).encode()
    weak = PeerRecord(Identity(stranger.address, bytes(64)), 12, (1, 14, 1), ()).encode()
    others = PeerRecord(identities()[8].without_private(), 12, (1, 14, 1), ()).encode()
    for record in (*(good[:at] for at in range(len(good))), b"\x01" + good[1:], weak, others):
        bench = Bench(peers={stranger.address: record})
        bench.node.send_verb(bench.now, stranger.address, Verb.NOP, b"")
        bench.pass_time(500)
        assert bench.node._vl1.known(stranger.address) is None
    bench = Bench(peers={stranger.address: good})
    bench.node.send_verb(bench.now, stranger.address, Verb.NOP, b"")
    assert bench.node._vl1.known(stranger.address) is not None


def test_a_root_that_no_key_can_be_agreed_with_is_left_out() -> None:
    weak = Root(Identity(0x1234567890, bytes(64)), (GLOBAL,))
    good = Root(identities()[0].without_private(), (PRIVATE,))
    bench = Bench(planet=planet_of([weak, good]))
    assert [status.address for status in bench.node.peers(bench.now)] == [good.identity.address]
    assert bench.drops["weak_identity"] == 1


@pytest.mark.parametrize(
    ("protocol", "version", "probe"),
    [(12, (1, 14, 1), Verb.ECHO), (5, (1, 1, 1), Verb.ECHO), (5, (1, 1, 0), Verb.HELLO), (4, (1, 0, 5), Verb.HELLO)],
)
def test_old_versions_are_asked_by_hello(protocol: int, version: tuple[int, int, int], probe: Verb) -> None:
    """vl1-behaviour §2.3: ECHO from protocol 5 on, but not for 1.1.0."""
    bench = Bench()
    bench.meet(bench.root)
    peer = bench.puppet(5)
    major, minor, revision = version
    bench.hello(peer, protocol=protocol, major=major, minor=minor, revision=revision)
    there = InetAddress(bytes((10, 2, 5, 99)), 4)
    actions = bench.say(bench.root, Verb.RENDEZVOUS, Rendezvous(peer.address, there).encode())
    assert bench.verbs(peer, actions) == [probe]


def test_a_hello_through_a_relay_names_no_address_and_teaches_none() -> None:
    bench = Bench()
    bench.meet(bench.root)
    peer = bench.puppet(5)
    surface = bench.node._vl1.surface
    before = surface.addresses()
    actions = bench.say(
        peer, Verb.HELLO, Hello(bench.now, peer.identity, GLOBAL).encode(), suite=0, hops=1, remote=bench.root.remote
    )
    answer = OkHello.decode(bench.answer(peer, actions, Verb.HELLO).body)
    assert answer.received_from == bench.root.remote  # what we know; receivers ignore it, as it is not direct
    assert surface.addresses() == before
    assert bench.paths(peer) == []
    relay = bench.node._vl1.known(bench.root.address).paths[0].path
    bench.node._vl1.hellos.send_via(bench.now, bench.node._vl1.known(peer.address), relay)
    (hello,) = bench.opened(peer, bench.collect())
    assert Hello.decode(hello.payload).sent_to is None


def test_only_the_first_identity_of_a_whois_answer_is_read() -> None:
    bench = Bench()
    bench.meet(bench.root)
    first, second = bench.puppet(8), bench.puppet(9)
    bench.node.send_verb(bench.now, first.address, Verb.NOP, b"")
    (asked,) = [o for o in bench.opened(bench.root, bench.collect()) if o.verb is Verb.WHOIS]
    assert Whois.decode(asked.payload).addresses == (first.address,)
    both = OkWhois((first.identity, second.identity)).encode()
    bench.say(bench.root, Verb.OK, Ok(Verb.WHOIS, asked.packet_id, both).encode())
    assert bench.status(first) is not None
    assert bench.status(second) is None


def test_the_first_identity_of_an_address_stays_whatever_a_root_says_later() -> None:
    bench = Bench()
    bench.meet(bench.root)
    peer, stranger = bench.puppet(8), bench.puppet(9)
    bench.hello(peer)
    bench.node.send_verb(bench.now, stranger.address, Verb.NOP, b"")
    (asked,) = [o for o in bench.opened(bench.root, bench.collect()) if o.verb is Verb.WHOIS]
    other = Identity(peer.address, stranger.identity.public)
    bench.say(bench.root, Verb.OK, Ok(Verb.WHOIS, asked.packet_id, OkWhois((other,)).encode()).encode())
    assert bench.status(peer).identity == peer.identity


@pytest.mark.parametrize("code", [0x00, 0x01, 0x02, 0x0A, 0xFF])
def test_errors_that_nobody_acts_upon_count_as_received(code: int) -> None:
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.now += 5
    handled = bench.node.packets_handled
    bench.say(peer, Verb.ERROR, bytes((Verb.HELLO,)) + bytes(8) + bytes((code,)))
    assert bench.status(peer).last_receive == bench.now
    assert (bench.node.packets_handled - handled, bench.drops) == (1, {})


def test_an_ok_to_a_verb_nobody_knows_counts_as_received_and_teaches_a_path() -> None:
    bench = Bench()
    peer = bench.puppet(5)
    (hello,) = [o for o in bench.opened(peer, bench.hello(peer)) if o.verb is Verb.HELLO]
    bench.say(peer, Verb.OK, bytes((0x1F,)) + hello.packet_id.to_bytes(8, "big"))
    assert bench.paths(peer) == [peer.remote]


def test_a_root_is_not_looked_for_where_nobody_can_be() -> None:
    nowhere = tuple(InetAddress.parse(text) for text in ("0.0.0.0/9993", "::/9993", "10.7.7.7/0"))
    bench = Bench(planet=planet_of([Root(identities()[0].without_private(), (*nowhere, PRIVATE))]))
    bench.pass_time(60_000)
    remotes = {action.remote for action in bench.out if isinstance(action, SendDatagram)}
    assert remotes == {PRIVATE}
