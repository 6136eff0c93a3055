"""Which MACs behind bridges the data plane is told of, and for how long (vl2 §5.4, §5.7, §5.9)."""

from __future__ import annotations

from typing import Any

from tests.node.test_vl2_members import IPV4, joined, mac, tap
from tests.node.test_vl2_multicast import ALL_HOSTS, OUTSIDE, meet, specialists
from tests.node.vl2_lab import Host, Lab
from ztpipe.node.actions import InstallBridged, InstallGroup, RemoveBridged
from ztpipe.node.bridge import GROUP_TIMEOUT_MS, MAX_ROUTES, ROUTE_TIMEOUT_MS
from ztpipe.node.bridged import RENEW_MS
from ztpipe.node.fanout import BUSY_FRAMES
from ztpipe.wire.address import MulticastGroup
from ztpipe.wire.netconf import ROLE_BRIDGE, ROLE_REPLICATOR
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import ExtFrame, MulticastFrame


def ready() -> tuple[Lab, Host, Host]:
    """A member, and a bridge."""
    lab = joined(3)
    specialists(lab, m2=ROLE_BRIDGE)
    one, two = lab.member(1), lab.member(2)
    one.vl1.actions.clear()
    return lab, one, two


def hear(lab: Lab, host: Host, bridge: Host, source: int = OUTSIDE) -> list[Any]:
    """What the data plane is told when a frame from `source` comes through the bridge."""
    frame = ExtFrame(lab.nwid, mac(host, lab), source, IPV4, b"x").encode()
    host.receive(host.context(lab.now, bridge.identity, Verb.EXT_FRAME, frame))
    return told(host)


def told(host: Host) -> list[Any]:
    actions = [a for a in host.vl1.actions if isinstance(a, InstallBridged | RemoveBridged)]
    host.vl1.actions.clear()
    return actions


def test_the_first_frame_brings_an_entry_and_the_next_ones_nothing() -> None:
    lab, one, two = ready()
    (entry,) = hear(lab, one, two)
    assert entry == InstallBridged(
        lab.nwid, OUTSIDE, two.address, renew_at=lab.now + RENEW_MS, until=lab.now + ROUTE_TIMEOUT_MS
    )
    lab.now += RENEW_MS - 1
    assert hear(lab, one, two) == []
    lab.now += 1
    assert len(hear(lab, one, two)) == 1


def test_so_does_a_frame_for_a_group() -> None:
    lab, one, two = ready()
    frame = MulticastFrame(lab.nwid, MulticastGroup(ALL_HOSTS, 0), IPV4, b"x", source=OUTSIDE).encode()
    one.receive(one.context(lab.now, two.identity, Verb.MULTICAST_FRAME, frame))
    assert [(a.mac, a.address) for a in told(one)] == [(OUTSIDE, two.address)]


def test_in_use_it_stays_and_unused_it_ages() -> None:
    lab, one, two = ready()
    hear(lab, one, two)
    for _ in range(40):
        lab.now += RENEW_MS
        one.engine.bridged_in_use(lab.now, lab.nwid, OUTSIDE, two.address)
        one.engine.housekeeping(lab.now)
        (entry,) = told(one)
        assert entry.until == lab.now + ROUTE_TIMEOUT_MS
    lab.now += ROUTE_TIMEOUT_MS
    one.engine.housekeeping(lab.now)
    assert told(one) == [RemoveBridged(lab.nwid, OUTSIDE)]


def test_it_moves_with_its_mac() -> None:
    lab, one, two = ready()
    specialists(lab, m2=ROLE_BRIDGE, m3=ROLE_BRIDGE)
    one.vl1.actions.clear()
    assert [a.address for a in (*hear(lab, one, two), *hear(lab, one, lab.member(3)))] == [
        two.address,
        lab.member(3).address,
    ]


def test_who_is_no_bridge_any_more_has_none() -> None:
    lab, one, two = ready()
    hear(lab, one, two)
    lab.controller.common["specialists"] = (lab.member(3).address | ROLE_BRIDGE,)
    lab.push(one.address)
    lab.run(100)
    assert told(one) == [RemoveBridged(lab.nwid, OUTSIDE)]
    one.engine.bridged_in_use(lab.now, lab.nwid, OUTSIDE, two.address)  # was on its way
    assert told(one) == []
    specialists(lab, m2=ROLE_BRIDGE)
    assert len(hear(lab, one, two)) == 1


def test_a_members_mac_is_never_behind_a_bridge() -> None:
    lab, one, two = ready()
    meet(lab)
    one.vl1.actions.clear()
    assert hear(lab, one, two, mac(lab.member(3), lab)) == []


def test_the_oldest_goes_when_there_are_too_many() -> None:
    lab, one, two = ready()
    network = one.engine._core.networks[lab.nwid]
    network.bridge._max_routes = 3
    macs = [OUTSIDE + n for n in range(5)]
    actions = [action for source in macs for action in hear(lab, one, two, source)]
    assert [a.mac for a in actions if isinstance(a, RemoveBridged)] == macs[:2]
    assert len(network.bridge) == 3 and MAX_ROUTES == 65_536


def test_groups_behind_us_live_on_while_the_data_plane_sends_to_them() -> None:
    lab, _, two = ready()
    tap(lab, two, ALL_HOSTS, IPV4, b"x", mac_source=OUTSIDE)
    network = two.engine._core.networks[lab.nwid]
    assert len(network.bridge.groups) == 1
    lab.now += GROUP_TIMEOUT_MS - 1
    two.engine.group_in_use(lab.now, lab.nwid, ALL_HOSTS, OUTSIDE, IPV4, b"x")
    lab.now += GROUP_TIMEOUT_MS - 1
    two.engine.housekeeping(lab.now)
    assert len(network.bridge.groups) == 1
    lab.now += 1
    two.engine.housekeeping(lab.now)
    assert not network.bridge.groups


def test_a_group_that_we_replicate_for_gets_an_entry_and_its_origin_no_echo() -> None:
    lab = joined(4)
    specialists(lab, m2=ROLE_REPLICATOR)
    one, two = lab.member(1), lab.member(2)
    group = MulticastGroup(ALL_HOSTS, 0)
    for other in (one, lab.member(3)):
        two.engine._multicaster.member_learned(lab.now, lab.nwid, group, other.address)
    two.vl1.beyond_reach.add(one.address)
    frame = MulticastFrame(lab.nwid, group, IPV4, b"x", source=mac(one, lab), replicate=True).encode()
    for _ in range(BUSY_FRAMES):
        two.receive(two.context(lab.now, one.identity, Verb.MULTICAST_FRAME, frame))
    (entry,) = two.vl1.take(InstallGroup)
    assert entry.recipients == (lab.member(3).address,)
    two.vl1.take_sent()
    two.engine.group_in_use(lab.now, lab.nwid, ALL_HOSTS, mac(one, lab), IPV4, b"x", one.address)
    assert two.vl1.take_sent(Verb.MULTICAST_FRAME) == []
    two.engine.group_in_use(lab.now, lab.nwid, ALL_HOSTS, mac(one, lab), IPV4, b"x", lab.member(4).address)
    assert [s.destination for s in two.vl1.take_sent(Verb.MULTICAST_FRAME)] == [one.address]


def requests(lab: Lab, host: Host) -> list[int]:
    """Seconds after now at which the host asks for its configuration, of the next 30."""
    asked, begin = [], lab.now
    for _ in range(60):
        host.vl1.take_sent()
        host.engine.soon(lab.now)
        asked += [(lab.now - begin) // 1000 for _ in host.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST)]
        lab.now += 500
    return asked


def test_who_became_a_bridge_asks_soon_who_else_did() -> None:
    lab = joined(3)
    lab.now += 5_000
    one, two = lab.member(1), lab.member(2)
    lab.controller.common["specialists"] = (one.address | ROLE_BRIDGE,)
    lab.push(one.address)
    lab.push(two.address)
    lab.run(100)
    assert requests(lab, one) == [2, 6, 20]
    lab.now -= 30_000
    assert requests(lab, two) == []


def test_who_hears_what_only_bridges_may_send_asks_once_in_a_while() -> None:
    lab = joined(3)
    meet(lab)
    lab.now += 20_000
    one, two = lab.member(1), lab.member(2)
    frame = ExtFrame(lab.nwid, mac(one, lab), OUTSIDE, IPV4, b"x").encode()
    asked = []
    for _ in range(4):
        for _ in range(5):
            one.receive(one.context(lab.now, two.identity, Verb.EXT_FRAME, frame))
        asked.append(len(requests(lab, one)))
        lab.now -= 22_000
    assert asked == [1, 0, 1, 0] and one.vl1.drops().count("peer_not_a_bridge") == 20
