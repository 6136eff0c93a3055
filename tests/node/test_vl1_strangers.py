"""What strangers may cost us, and what they can make us send to others."""

from __future__ import annotations

import pytest

from tests.node.puppet import Bench
from tests.node.test_vl1_gates import Recorder, root_bench
from ztpipe.node import budget, unproven
from ztpipe.node.actions import SendDatagram
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import Whois


def test_address_hashes_have_a_budget_whatever_the_sources(monkeypatch):
    """One genuine HELLO after another, each from another network: the worst that a forger can do."""
    bench = Bench()
    hashes = []
    monkeypatch.setattr(Identity, "validate", lambda self: hashes.append(1) and False)
    start = bench.now
    for number in range(3_000):
        puppet = bench.puppet(number % 30)
        puppet.remote = InetAddress(bytes((20, number >> 8, number & 255, 1)), 9993)
        bench.hello(puppet)
        bench.now += 1
    spent = budget.HASHES_PER_S * (budget.BURST_S + (bench.now - start) / 1000)
    assert 0 < len(hashes) <= spent + 1
    assert bench.drops["hello_hash_budget"] >= 2_000


def test_key_agreements_have_a_budget():
    bucket = budget.Newcomers()
    allowed = sum(bucket.may_agree(1_000 + number // 100) for number in range(100_000))
    assert allowed <= budget.AGREEMENTS_PER_S * (budget.BURST_S + 1)


def test_bucket_fills_again_and_no_further():
    bucket = budget.TokenBucket()
    assert sum(bucket.take(0, 10) for _ in range(1_000)) == 10 * budget.BURST_S
    assert not bucket.take(50, 10)
    assert bucket.take(150, 10)
    assert sum(bucket.take(1_000_000, 10) for _ in range(1_000)) == 10 * budget.BURST_S
    assert not bucket.take(0, 10)  # a clock that steps back gives nothing


def test_known_peers_cost_no_budget(monkeypatch):
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    monkeypatch.setattr(budget.Newcomers, "may_agree", lambda self, now: False)
    bench.now += 5_000
    assert Verb.OK in bench.verbs(peer, bench.hello(peer))


def elsewhere(bench, puppet, verb, payload, number=200):
    """The same authentic packet with a forged source; what went there."""
    remote = InetAddress(bytes((203, 0, 113, number)), 9993)
    actions = bench.say(puppet, verb, payload, remote=remote)
    return [a for a in actions if isinstance(a, SendDatagram) and a.remote == remote], actions


def test_whois_from_a_forged_address_is_not_amplified():
    root = root_bench()
    peer = root.puppet(5)
    root.hello(peer)  # known, no path proved
    request = Whois((root.identity.address,) * 30).encode()
    there, _ = elsewhere(root, peer, Verb.WHOIS, request)
    assert sum(len(a.data) for a in there if len(a.data) != 137) <= 28 + len(request) + unproven.NAMING


def test_answer_waits_for_the_proof_and_then_goes():
    root = root_bench()
    peer = root.puppet(5)
    actions = root.hello(peer)
    request = Whois((root.identity.address,)).encode()
    assert Verb.OK not in root.verbs(peer, root.say(peer, Verb.WHOIS, request))
    (greeting,) = [opened for opened in root.opened(peer, actions) if opened.verb is Verb.HELLO]
    assert Verb.OK in root.verbs(peer, root.answer_hello(peer, greeting))


def test_answer_goes_over_a_proved_path_if_there_is_one():
    root = root_bench()
    peer = root.puppet(5)
    root.meet(peer)
    there, actions = elsewhere(root, peer, Verb.WHOIS, Whois((root.identity.address,)).encode())
    assert all(len(a.data) <= 137 for a in there)
    assert Verb.OK in root.verbs(peer, [a for a in actions if getattr(a, "remote", None) == peer.remote])


def test_answers_that_wait_are_few_and_not_for_long():
    root = root_bench()
    peer = root.puppet(5)
    root.hello(peer)
    for number in range(600):
        root.say(
            peer,
            Verb.WHOIS,
            Whois((root.identity.address,)).encode(),
            remote=InetAddress(bytes((203, 0, number >> 8, number & 255)), 9993),
        )
    held = root.node._vl1.unproven
    assert len(held) == unproven.MAX_HELD
    assert root.drops["answer_unproven_full"] == 600 - unproven.MAX_HELD
    root.pass_time(6_000)
    assert len(held) == 0
    assert root.drops["answer_unproven"] == unproven.MAX_HELD


def test_echo_from_an_unproven_address_is_answered_as_it_must():
    """Peers find each other by that: as many bytes as came, and the 9 that name the request."""
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    there, _ = elsewhere(bench, peer, Verb.ECHO, b"x" * 100)
    assert 28 + 100 + unproven.NAMING in [len(a.data) for a in there]


# -- what a peer can make us send where it likes: hops are not authenticated, sources can be forged -----------------


def claimed(bench, puppet, verb, payload, number=200):
    """A packet of a peer that says it was relayed, from where nobody is; what went there, and all."""
    remote = InetAddress(bytes((203, 0, 113, number)), 9993)
    actions = bench.say(puppet, verb, payload, remote=remote, hops=1)
    return sum(len(a.data) for a in actions if isinstance(a, SendDatagram) and a.remote == remote), actions


def test_a_relay_that_we_do_not_know_gets_no_long_answers():
    bench = Bench()
    bench.meet(bench.root)
    peer = bench.puppet(5)
    request = Whois((bench.identity.address, bench.root.address)).encode()
    bench.hello(peer, remote=bench.root.remote)
    there, actions = claimed(bench, peer, Verb.WHOIS, request)
    assert there == 0
    (answer,) = [a for a in actions if isinstance(a, SendDatagram) and bench.verbs(peer, [a]) == [Verb.OK]]
    assert answer.remote == bench.root.remote  # by the way that we would take
    bench.now += 200
    through_root = bench.say(peer, Verb.WHOIS, request, remote=bench.root.remote, hops=1)
    assert Verb.OK in bench.verbs(peer, [a for a in through_root if getattr(a, "remote", None) == bench.root.remote])
    there, _ = claimed(bench, peer, Verb.ECHO, b"x" * 100)
    assert there == 28 + 100 + unproven.NAMING


@pytest.mark.parametrize("hops", [0, 1])
def test_our_addresses_are_pushed_over_proved_paths_only(hops):
    bench = Bench(vl2=Recorder)
    bench.meet(bench.root)
    peer = bench.puppet(5)
    bench.meet(peer)
    forged = InetAddress(bytes((203, 0, 113, 9)), 9993)
    actions = bench.say(peer, Verb.FRAME, b"trusted", remote=forged, hops=hops)
    (push,) = [a for a in actions if isinstance(a, SendDatagram) and bench.verbs(peer, [a]) == [Verb.PUSH_DIRECT_PATHS]]
    assert push.remote == peer.remote


def test_a_peer_that_claims_to_be_everywhere_is_not_looked_for_everywhere():
    bench = Bench()
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.pass_time(5_000)
    asked = 0
    for number in range(500):
        remote = InetAddress(bytes((203, 0, 113, 9)), 1_000 + number)
        asked += bench.verbs(peer, bench.say(peer, Verb.NOP, remote=remote)).count(Verb.HELLO)
    assert asked == 8 * 4
    bench.now += 1_000
    remote = InetAddress(bytes((203, 0, 113, 9)), 9_999)
    assert bench.verbs(peer, bench.say(peer, Verb.NOP, remote=remote)) == [Verb.HELLO]
