"""Nothing that arrives makes a node raise, grow without bound, or say anything to somebody who is not who he says."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import captures
from tests.node.puppet import BINDING, LOCAL, Bench
from tests.node.sim import START
from ztpipe.kernel import crypto
from ztpipe.node.actions import SendDatagram
from ztpipe.node.node import Node
from ztpipe.node.seam import NullVl2
from ztpipe.node.settings import Binding, NodeSettings
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Verb

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

endpoints = st.builds(
    InetAddress, st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), st.integers(0, 0xFFFF)
)


def acquainted():
    """A bench whose root and puppet 5 are met."""
    bench = Bench()
    bench.meet(bench.root)
    peer = bench.puppet(5)
    bench.meet(peer)
    return bench, peer


BENCH, PEER = acquainted()


@QUICK
@given(st.binary(max_size=1_500), endpoints)
def test_garbage_is_dropped_without_an_answer(data, remote):
    assert [a for a in BENCH.datagram(data, remote) if isinstance(a, SendDatagram)] == []


@QUICK
@given(st.binary(max_size=200), endpoints, st.integers(0, 255))
def test_garbage_for_us_is_dropped(data, remote, flags):
    """With our address as destination, so that it passes the first test."""
    head = data[:8].ljust(8, b"\0") + BENCH.identity.address.to_bytes(5, "big")
    BENCH.datagram(head + PEER.address.to_bytes(5, "big") + bytes((flags,)) + data, remote)
    BENCH.datagram(head + b"\xff" + bytes((flags, 0)) + data, remote)


@QUICK
@given(st.sampled_from(list(Verb)), st.binary(max_size=300), st.sampled_from([0, 1, 3]), st.integers(0, 7))
def test_authentic_nonsense_is_dropped(verb, payload, suite, hops):
    """The sender is genuine; what it says is not."""
    BENCH.say(PEER, verb, payload, suite=suite, hops=hops)
    BENCH.say(BENCH.root, verb, payload, suite=suite, hops=hops)
    BENCH.pass_time(100)


@QUICK
@given(st.sampled_from(list(Verb)), st.binary(max_size=300), st.integers(0, 255))
def test_authentic_replies_with_nonsense_bodies_are_dropped(verb, body, code):
    """OKs that answer a packet we really sent, and ERRORs."""
    BENCH.now += 1_000
    BENCH.node._vl1.replies.expect(BENCH.now, 0x55, BENCH.root.address)
    BENCH.say(BENCH.root, Verb.OK, bytes((verb,)) + (0x55).to_bytes(8, "big") + body)
    BENCH.say(BENCH.root, Verb.ERROR, bytes((verb,)) + bytes(8) + bytes((code,)) + body)


@QUICK
@given(st.binary(min_size=1, max_size=600))
def test_compressed_nonsense_is_dropped(block):
    packet = bytearray(BENCH.packet(PEER, Verb.ECHO, block, suite=0))
    packet[27] |= 0x80
    crypto.salsa_seal(PEER.keys.salsa32, packet)
    BENCH.datagram(bytes(packet), PEER.remote)


def captured_node(scenario, name):
    node = captures.nodes(scenario)[name]
    bench = Bench()
    bench.node = Node(
        node.identity,
        random=bench.random.randbytes,
        planet=None,
        settings=NodeSettings(identity_gate_ms=0),
        vl2=lambda vl1, networks: NullVl2(),
    )
    bench.identity = node.identity
    bench.node.set_bindings(bench.now, [Binding(BINDING, LOCAL)])
    bench.node.start(bench.now)
    return bench


SCENARIO = "a-meet"
TRAFFIC = captures.datagrams(SCENARIO)


@QUICK
@given(st.data())
def test_mutated_traffic_never_raises(data):
    """Real datagrams, with bytes changed, cut off, repeated, in another order."""
    bench = MUTANTS
    for datagram in data.draw(st.lists(st.sampled_from(TRAFFIC), min_size=1, max_size=4)):
        mutated = bytearray(datagram.data)
        for _ in range(data.draw(st.integers(0, 3))):
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
        bench.datagram(bytes(mutated[: data.draw(st.integers(0, len(mutated)))]), datagram.source)
        bench.datagram(bytes(mutated), datagram.source)


MUTANTS = captured_node(SCENARIO, "A")


def test_traffic_of_all_scenarios_is_digested():
    """Each captured node hears all that was sent to it, at the times it was sent: most of it is understood."""
    for scenario in captures.SCENARIOS:
        for name, node in captures.nodes(scenario).items():
            bench = captured_node(scenario, name)
            first = None
            heard = 0
            for datagram in captures.datagrams(scenario):
                if datagram.destination.host not in node.underlay:
                    continue
                first = first or datagram.time
                elapsed = int((datagram.time - first) * 1_000)
                bench.pass_time(max(0, START + elapsed - bench.now))
                bench.datagram(datagram.data, datagram.source)
                heard += 1
            assert bench.drops["bad_mac"] == 0, (scenario, name, bench.drops)
            core = bench.node._vl1
            assert len(core.inbound.deferral) <= 512 and len(core.paths) < 64
            assert heard == 0 or bench.out
