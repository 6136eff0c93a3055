"""Crowds on a fake clock: fifty members that come and go, five hundred that need credentials, and how long a member
without authorisation is still heard (vl2 §3.2, §3.8, §3.11, §6)."""

from __future__ import annotations

from random import Random

import pytest

from tests.node.test_vl2_members import IDENTITIES, IPV4, joined, mac, tap
from tests.node.vl2_lab import Host, Lab, frames
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup
from ztpipe.wire.identity import Identity
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import NetworkCredentials

EVERYBODY = MulticastGroup(BROADCAST_MAC, 0)


def crowd(count: int) -> Lab:
    """A controller and `count` members that have not joined: one key pair under many addresses."""
    key = IDENTITIES[1]
    members = [Identity(0x2000000000 + i, key.public, key.private) for i in range(count)]
    lab = Lab([IDENTITIES[0], *members], latency=5)
    lab.controller.common |= {"multicast_limit": 2 * count, "flags": 2 | 1}
    for number, identity in enumerate(members):
        lab.controller.authorise(identity, f"10.9.{number // 250}.{number % 250 + 1}/16")
    return lab


def join(lab: Lab, host: Host) -> None:
    host.engine.join(lab.now, lab.nwid)


def heard(host: Host) -> set[bytes]:
    return {frame.payload for frame in frames(host)}


def test_fifty_members_come_and_go_and_those_in_force_reach_each_other() -> None:
    lab, chance = crowd(50), Random(5)
    everyone = list(lab.hosts.values())[1:]
    present: set[int] = set()
    for turn in range(6):
        for host in everyone:  # some come, some go
            if host.address in present and chance.random() < 0.25:
                host.engine.leave(lab.now, lab.nwid)
                present.discard(host.address)
            elif host.address not in present and chance.random() < 0.75:
                join(lab, host)
                present.add(host.address)
        lab.run(2_000)
        for host in everyone:
            if host.address in present:
                host.engine.set_multicast_groups(lab.now, lab.nwid, {EVERYBODY})
        lab.run(61_000)  # whoever sends asks again for members after a minute (vl2 §6.5)
        here = [host for host in everyone if host.address in present]
        for host in everyone:
            frames(host)
        pairs = [chance.sample(here, 2) for _ in range(40)]
        for number, (one, two) in enumerate(pairs):
            tap(lab, one, mac(two, lab), IPV4, b"%d from %d" % (number, one.address))
        sender = here[turn]
        tap(lab, sender, BROADCAST_MAC, IPV4, b"to all")
        lab.run(5_500)
        got = {host.address: heard(host) for host in everyone}
        for number, (one, two) in enumerate(pairs):
            assert b"%d from %d" % (number, one.address) in got[two.address], (turn, number)
        assert {a for a, payloads in got.items() if b"to all" in payloads} == present - {sender.address}, turn
        assert all(not got[host.address] for host in everyone if host.address not in present)


def test_five_hundred_members_get_credentials_with_their_first_frame_and_no_more() -> None:
    lab = crowd(500)
    gateway, *others = list(lab.hosts.values())[1:]
    for host in (gateway, *others):
        join(lab, host)
    lab.run(3_000)
    for host in (gateway, *others):
        host.vl1.sent.clear()
        frames(host)
    for _ in range(3):
        for host in others:
            tap(lab, gateway, mac(host, lab), IPV4, b"hello")
    lab.run(2 * lab.latency)
    assert all(heard(host) == {b"hello"} for host in others)
    pushed = gateway.vl1.take_sent(Verb.NETWORK_CREDENTIALS)
    assert len(pushed) == len({sent.destination for sent in pushed}) == len(others)
    assert all(NetworkCredentials.decode(sent.payload).coms for sent in pushed)


def silenced_after(lab: Lab, member: Host, others: list[Host], limit: int) -> int:
    """ms until none of `others` hears the member any more, which speaks once a second."""
    start, last = lab.now, 0
    while lab.now - start < limit:
        said = b"%d" % lab.now
        for other in others:
            tap(lab, member, mac(other, lab), IPV4, said)
        at = lab.now - start
        lab.run(1_000)
        if any(said in heard(other) for other in others):
            last = at
    return last


def test_who_is_revoked_is_silent_everywhere_after_one_trip_of_the_revocation() -> None:
    lab = joined(5)
    bad, first, *rest = list(lab.hosts.values())[1:]
    assert silenced_after(lab, bad, [first, *rest], 3_000) == 2_000, "heard as long as it is a member"
    for one in (first, *rest):  # they know each other, so that what one is told reaches all
        for two in (first, *rest):
            if one is not two:
                tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(2_000)
    del lab.controller.members[bad.address]
    lab.say(first.address, Verb.NETWORK_CREDENTIALS, lab.controller.revocation(lab.now, bad.address))
    lab.run(2 * lab.latency)
    assert silenced_after(lab, bad, [first, *rest], 60_000) == 0
    assert not any(heard(other) for other in (first, *rest))


@pytest.mark.parametrize("delta", [120_000, 300_000])
def test_without_any_revocation_silence_comes_with_the_age_of_the_certificate(delta: int) -> None:
    """The others' certificates are renewed, the member's is not: beyond the delta they disagree."""
    lab = joined(3)
    lab.controller.delta = delta
    for host in list(lab.hosts.values())[1:]:
        lab.push(host.address)
    lab.run(1_000)
    bad, *others = list(lab.hosts.values())[1:]
    del lab.controller.members[bad.address]
    lab.hub.vl1.actions.clear()
    lab.lose = lambda source, sent: source is bad and sent.verb is Verb.NETWORK_CONFIG_REQUEST  # it does not ask
    after = silenced_after(lab, bad, others, delta + 240_000)
    assert delta - 5_000 <= after <= delta + 70_000
    said = b"still members"
    tap(lab, others[0], mac(others[1], lab), IPV4, said)
    lab.run(1_000)
    assert said in heard(others[1])
