"""Path MTU: found from 1280 to 9001 bytes, never too much for an unmodified node, and trusted paths beside it."""

from __future__ import annotations

import pytest

from tests.node.puppet import Bench
from tests.node.sim import Sim
from tests.node.test_vl1_meeting import message, messages
from ztpipe.node import pathmtu
from ztpipe.node.actions import SendDatagram
from ztpipe.node.settings import Binding, NodeSettings, PhysicalNetwork
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Verb

DISCOVER = NodeSettings(path_mtu_discovery=True)
JUMBO = 9_001


def pair(link: int, *, between: int = 65_535, settings=DISCOVER, ports: int = 1):
    """A and B on links of MTU `link`, with a root; `between`: the longest UDP payload that passes."""
    sim = Sim()
    sim.root("R", settings=settings)
    a, b = (sim.leaf(name, settings=settings, ports=ports) for name in "AB")
    sim.largest[frozenset((a.endpoints[0].ip, b.endpoints[0].ip))] = between
    for host in (a, b):
        host.bindings = {n: binding._replace(mtu=link) for n, binding in host.bindings.items()}
        host.node.set_bindings(sim.now, list(host.bindings.values()))
        host.after_event()
    sim.run(10_000)
    keep_active(sim, a, b, 60_000)
    return sim, a, b


def keep_active(sim, a, b, duration):
    for _ in range(duration // 5_000):
        message(sim, a, b)
        message(sim, b, a)
        sim.run(5_000)
        for one, other in ((a, b), (b, a)):
            one.node.peer_activity(sim.now, other.address, 1, sim.now)
            one.after_event()


@pytest.mark.parametrize(
    ("link", "between", "found"),
    [
        (1_500, 65_535, 1_432),
        (JUMBO, 65_535, JUMBO - 28),
        (9_000, 65_535, 9_000 - 28),
        (JUMBO, 8_000, 8_000 - 28),  # the largest of those that are tried
        (JUMBO, 1_472, 1_432),
        (1_500, 1_400, 1_392),
        (1_500, 1_252, 1_252),
        (1_280, 65_535, 1_252),
        (0, 65_535, JUMBO - 28),
    ],
)
def test_size_is_found(link, between, found):
    _, a, b = pair(link, between=between)
    assert a.plane.peers[b.address].mtu == b.plane.peers[a.address].mtu == found


def test_black_hole_is_found_within_two_minutes_and_growth_is_not_forced():
    sim, a, b = pair(JUMBO)
    key = frozenset((a.endpoints[0].ip, b.endpoints[0].ip))
    sim.largest[key] = 1_300
    keep_active(sim, a, b, 120_000)
    assert a.plane.peers[b.address].mtu == 1_292
    before = len(messages(b))
    message(sim, a, b, b"x" * 5_000)
    sim.run(1_000)
    assert len(messages(b)) == before + 1


def heard(sim, host, other, ip_mtu):
    """The kernel of `host` has heard of `ip_mtu` on the way to `other`, on every path that it is asked about."""
    paths = [key for key in host.node.paths_to_look_up(sim.now) if key[1].ip == other.endpoints[0].ip]
    for binding, remote in paths:
        host.node.path_mtu_heard(sim.now, binding, remote, ip_mtu)
    host.after_event()
    return paths


def probes(sim, a, b, since):
    return [sent for sent in sim.between(a, b, since) if len(sent.data) > 1_000]


def test_what_icmp_says_is_checked_at_once():
    sim, a, b = pair(1_500)
    sim.largest[frozenset((a.endpoints[0].ip, b.endpoints[0].ip))] = 1_337
    message(sim, a, b)
    assert heard(sim, a, b, 1_337 + 28)
    sim.run(4_000)
    assert a.plane.peers[b.address].mtu == 1_337, "as small as it says, and no smaller"
    assert b.plane.peers[a.address].mtu == 1_432, "which has heard nothing"


def test_icmp_that_lies_changes_nothing_and_costs_a_probe_a_minute():
    sim, a, b = pair(JUMBO)
    found = a.plane.peers[b.address].mtu
    since = sim.now
    for _ in range(60):
        message(sim, a, b)
        heard(sim, a, b, 576)
        sim.run(500)
        assert a.plane.peers[b.address].mtu == found
    assert 1 <= len(probes(sim, a, b, since)) <= 6
    assert not heard(sim, a, b, 576) or not heard(sim, a, b, 576), "nobody asks twice in a moment"


def test_the_host_is_asked_of_paths_in_use_only():
    sim, a, b = pair(1_500)
    message(sim, a, b)
    assert heard(sim, a, b, 1_500)
    sim.run(8_000)
    assert not heard(sim, a, b, 1_500)


def test_a_path_in_use_is_verified_within_seconds():
    sim, a, b = pair(1_500)
    sim.largest[frozenset((a.endpoints[0].ip, b.endpoints[0].ip))] = 1_300
    for _ in range(50):
        message(sim, a, b)
        sim.run(500)
    assert a.plane.peers[b.address].mtu == 1_292


@pytest.mark.parametrize(("link", "meanwhile", "found"), [(1_500, 1_300, 1_432), (JUMBO, 4_000, JUMBO - 28)])
def test_what_passes_again_is_found_again(link, meanwhile, found):
    sim, a, b = pair(link)
    key = frozenset((a.endpoints[0].ip, b.endpoints[0].ip))
    sim.largest[key] = meanwhile
    keep_active(sim, a, b, 120_000)
    assert a.plane.peers[b.address].mtu < found
    del sim.largest[key]
    keep_active(sim, a, b, 2 * pathmtu.GROW_MS)
    assert a.plane.peers[b.address].mtu == found


def test_paths_that_differ_in_ports_only_share_what_is_found():
    """Traffic may go over to another socket's path at any moment, and full frames have to pass at once."""
    sim, a, b = pair(1_500, between=1_400, ports=2)
    for between, found in ((1_400, 1_392), (1_300, 1_292)):
        sim.largest[frozenset((a.endpoints[0].ip, b.endpoints[0].ip))] = between
        keep_active(sim, a, b, 120_000)
        for host, other in ((a, b), (b, a)):
            paths = [path for path in host.node._vl1.paths if path.remote.ip == other.endpoints[0].ip and path.refs]
            assert len(paths) > 1 and {path.mtu for path in paths} == {found}


def test_a_link_that_shrinks_and_grows_is_followed_at_once():
    sim, a, b = pair(1_500)
    for link, found in ((1_280, 1_252), (9_000, 8_972)):
        for host in (a, b):
            host.bindings = {n: binding._replace(mtu=link) for n, binding in host.bindings.items()}
            host.node.set_bindings(sim.now, list(host.bindings.values()))
            host.after_event()
        assert a.plane.peers[b.address].mtu <= found
        keep_active(sim, a, b, 15_000)
        assert a.plane.peers[b.address].mtu == found


def test_relayed_packets_stay_within_the_default():
    sim, a, b = pair(JUMBO)
    keep_active(sim, a, sim.hosts[0], 20_000)  # the way to the root carries jumbo datagrams
    sim.wall(a, b)
    for _ in range(50):
        message(sim, a, b)
        sim.run(100)
    installed = a.plane.peers[b.address]
    assert not installed.direct and installed.mtu <= 1_432


def test_quiet_paths_are_not_probed():
    sim, a, b = pair(1_500)
    sim.run(600_000)
    since = sim.now
    sim.run(600_000)
    assert not [sent for sent in sim.between(a, b, since) if len(sent.data) > 500]


def bench_with_active(protocol_settings=DISCOVER):
    bench = Bench(settings=protocol_settings)
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.say(peer, Verb.FRAME, bytes(10))
    return bench, peer


def test_an_unmodified_node_never_gets_more_than_the_default():
    """It returns every probe as it came, so it seems to take any size; only what it says counts."""
    bench, peer = bench_with_active()
    bench.node.set_bindings(bench.now, [Binding(1, InetAddress.parse("10.9.9.9/9993"), "eth0", JUMBO)])
    longest = 0
    for _ in range(400):
        for action in bench.pass_time(500):
            if not isinstance(action, SendDatagram) or action.remote != peer.remote:
                continue
            longest = max(longest, len(action.data))
            for opened in bench.opened(peer, [action]):
                if opened.verb is Verb.ECHO:
                    assert action.whole == opened.payload.startswith(pathmtu.MAGIC)
                    body = Verb.ECHO.to_bytes(1, "big") + opened.packet_id.to_bytes(8, "big") + opened.payload
                    bench.say(peer, Verb.OK, body)
        bench.say(peer, Verb.FRAME, bytes(10))
    assert longest == 1_432
    assert any(kind == "path_mtu" and fields["mtu"] == 1_432 for kind, fields in bench.events)


def test_answers_to_probes_are_short_and_others_are_echoed():
    probe = (pathmtu.MAGIC + bytes(2)).ljust(8_000, b"\0")
    assert len(pathmtu.answer_to(probe)) < 20
    assert pathmtu.answer_to(b"hello") == b"hello"
    assert pathmtu.answer_to(pathmtu.MAGIC) == pathmtu.MAGIC


def test_configured_size_is_final():
    network = PhysicalNetwork(InetAddress.parse("10.1.0.0/16"), mtu=1_400)
    sim, a, b = pair(JUMBO, settings=NodeSettings(path_mtu_discovery=True, physical=(network,)))
    assert a.plane.peers[b.address].mtu == 1_400
    assert not [sent for sent in sim.between(a, b) if len(sent.data) > 1_400]


# -- trusted paths (vl1-wire §5.8) -------------------------------------------------------------------------------------


def trusting(number: int = 7) -> NodeSettings:
    return NodeSettings(physical=(PhysicalNetwork(InetAddress.parse("10.0.0.0/8"), trusted_path_id=number),))


def test_trusted_paths_carry_what_is_sent_in_the_clear():
    sim = Sim()
    sim.root("R", settings=trusting())
    a, b = sim.leaf("A", settings=trusting()), sim.leaf("B", settings=trusting())
    sim.run(10_000)
    message(sim, a, b)
    sim.run(5_000)
    since = sim.now
    message(sim, a, b, b"for all to read")
    sim.run(1_000)
    assert messages(b)[-1] == b"for all to read"
    carriers = [sent.data for sent in sim.between(a, b, since) if b"for all to read" in sent.data]
    assert carriers and all(data[18] & 0x38 == 2 << 3 and data[19:27] == (7).to_bytes(8, "big") for data in carriers)


def test_other_ids_and_other_places_are_not_trusted():
    bench = Bench(settings=trusting(7))
    peer = bench.puppet(5)
    bench.meet(peer)
    answer = bench.answer(peer, bench.say(peer, Verb.ECHO, b"clear", suite=2, trusted_path_id=7), Verb.ECHO)
    assert answer.body == b"clear"
    bench.now += 1_000
    bench.say(peer, Verb.ECHO, b"x", suite=2, trusted_path_id=8)
    assert bench.drops["untrusted_path"] == 1
    bench.say(peer, Verb.ECHO, b"x", suite=2, trusted_path_id=7, remote=InetAddress.parse("192.0.2.1/9993"))
    assert bench.drops["untrusted_path"] == 2


def test_of_nested_networks_the_smallest_counts_and_any_may_be_believed():
    nested = tuple(
        PhysicalNetwork(InetAddress.parse(text), mtu=mtu, trusted_path_id=number)
        for text, mtu, number in (("10.0.0.0/8", 1_400, 7), ("10.2.0.0/16", 2_000, 8), ("10.2.9.0/24", 0, 0))
    )
    for networks in (nested, nested[::-1]):
        bench = Bench(settings=NodeSettings(physical=networks))
        peer = bench.puppet(5)
        bench.meet(peer)
        physical = bench.node._vl1.physical
        assert (physical.trusted_id(peer.remote), physical.configured_mtu(peer.remote)) == (8, 2_000)
        far = InetAddress.parse("10.3.0.1/1")
        assert (physical.trusted_id(far), physical.configured_mtu(far)) == (7, 1_400)
        for number, believed in ((8, True), (7, True), (9, False), (0, False)):
            bench.now += 1_000
            actions = bench.say(peer, Verb.ECHO, b"clear", suite=2, trusted_path_id=number)
            assert (Verb.OK in bench.verbs(peer, actions)) is believed
        assert bench.drops["untrusted_path"] == 2


def test_everything_cannot_be_blacklisted():
    """vl1-behaviour §6.7: a blacklist needs a prefix length."""
    everything = tuple(PhysicalNetwork(InetAddress.parse(net), blacklist=True) for net in ("0.0.0.0/0", "::/0"))
    bench = Bench(settings=NodeSettings(physical=everything))
    bench.meet(bench.puppet(5))
