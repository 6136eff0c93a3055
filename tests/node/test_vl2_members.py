"""Members of a private network among each other: ARP, frames, credentials, loss, deauthorisation (vl2 §3, §5, §6)."""

from __future__ import annotations

from random import Random

import pytest

from tests.node.vl2_lab import Host, InstallMember, Lab, Sent, frames, some_identities
from ztpipe.node.actions import Event, InstallNetwork, WriteFrame
from ztpipe.node.status import NetworkStatus
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.rule import DROP, Rule, RuleType
from ztpipe.wire.verbs import Error, MulticastGather, NetworkCredentials

IDENTITIES = some_identities()
ARP, IPV4 = 0x0806, 0x0800


def ip_of(host: Host) -> bytes:
    return host.engine.statuses()[0].config.static_ips[0].ip  # type: ignore[union-attr]


def mac(host: Host, lab: Lab) -> int:
    return mac_of(host.address, lab.nwid)


def arp(lab: Lab, operation: int, source: Host, target_mac: int, target_ip: bytes) -> bytes:
    head = b"\x00\x01\x08\x00\x06\x04" + operation.to_bytes(2, "big")
    return head + mac(source, lab).to_bytes(6, "big") + ip_of(source) + target_mac.to_bytes(6, "big") + target_ip


def tap(lab: Lab, source: Host, destination: int, ethertype: int, payload: bytes, *, mac_source: int = 0) -> None:
    source.engine.frame_received(lab.now, lab.nwid, destination, mac_source or mac(source, lab), ethertype, payload)


def joined(members: int = 2, **common: object) -> Lab:
    """A private network whose members (from index 1) hold configurations and were announced."""
    lab = Lab(IDENTITIES[: members + 1])
    lab.controller.common |= common
    for index, identity in enumerate(IDENTITIES[1 : members + 1], 1):
        lab.controller.authorise(identity, f"10.9.0.{index}/24")
        lab.hosts[identity.address].engine.join(lab.now, lab.nwid)
    lab.run(1_000)
    for host in lab.hosts.values():
        host.vl1.sent.clear()
        host.vl1.actions.clear()
    return lab


class Pinger:
    """Resolves and pings like an operating system would: an ARP request each second until answered."""

    def __init__(self, lab: Lab, source: Host, target: Host) -> None:
        self.lab, self.source, self.target = lab, source, target
        self.resolved = False

    def attempt(self) -> bool:
        """One round of a second; True once an echo request has come back."""
        lab = self.lab
        if not self.resolved:
            tap(lab, self.source, BROADCAST_MAC, ARP, arp(lab, 1, self.source, 0, ip_of(self.target)))
        else:
            tap(lab, self.source, mac(self.target, lab), IPV4, b"ping".ljust(60, b"\0"))
        answered = False
        for _ in range(20):
            lab.run(50)
            for frame in frames(self.target):
                self._at_target(frame)
            for frame in frames(self.source):
                if frame.ethertype == ARP and frame.payload[7] == 2:
                    assert frame.source == mac(self.target, lab) and frame.destination == mac(self.source, lab)
                    self.resolved = True
                answered |= frame.payload[:4] == b"pong"
        return answered

    def _at_target(self, frame: WriteFrame) -> None:
        lab = self.lab
        if frame.ethertype == ARP and frame.payload[7] == 1 and frame.payload[24:28] == ip_of(self.target):
            assert frame.destination == BROADCAST_MAC and frame.source == mac(self.source, lab)
            tap(lab, self.target, frame.source, ARP, arp(lab, 2, self.target, frame.source, ip_of(self.source)))
        elif frame.payload[:4] == b"ping":
            tap(lab, self.target, frame.source, IPV4, b"pong".ljust(60, b"\0"))


def test_arp_and_ping_on_a_private_network_without_a_lost_frame() -> None:
    lab = joined()
    pinger = Pinger(lab, lab.member(1), lab.member(2))
    assert not pinger.attempt() and pinger.resolved, "one ARP request is enough"
    assert pinger.attempt()
    assert not [drop for host in lab.hosts.values() for drop in host.vl1.drops() if "deferred" in drop]


@pytest.mark.parametrize("seed", range(6))
def test_it_works_in_the_end_however_much_is_lost(seed: int) -> None:
    lab = joined()
    random = Random(seed)
    lab.lose = lambda source, sent: random.random() < 0.3
    pinger = Pinger(lab, lab.member(1), lab.member(2))
    assert any(pinger.attempt() for _ in range(60))


def test_members_who_lost_their_credentials_get_them_on_request() -> None:
    """The first push is lost: the frame is kept, asked for, and delivered late rather than never."""
    lab = joined()
    one, two = lab.member(1), lab.member(2)
    lost: list[Sent] = []

    def lose(source: Host, sent: Sent) -> bool:
        if sent.verb is Verb.NETWORK_CREDENTIALS and not lost:
            lost.append(sent)
            return True
        return False

    lab.lose = lose
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(40)
    assert lost and not frames(two)
    lab.run(1_500)
    assert [frame.payload for frame in frames(two)] == [b"hello"]


def test_complaints_are_rate_limited() -> None:
    lab = joined()
    one, two = lab.member(1), lab.member(2)
    lab.lose = lambda source, sent: sent.verb is Verb.NETWORK_CREDENTIALS
    for _ in range(10):
        tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(4_900)
    complaints = [Error.decode(sent.payload) for sent in two.vl1.take_sent(Verb.ERROR)]
    assert {error.code for error in complaints} == {ErrorCode.NEED_MEMBERSHIP_CERTIFICATE}
    assert 4 <= len(complaints) <= 5
    assert len(one.vl1.take_sent(Verb.NETWORK_CREDENTIALS)) <= 6


def test_what_the_data_plane_is_told_about_members() -> None:
    lab = joined()
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    assert one.vl1.take(InstallMember) == [InstallMember(lab.nwid, two.address, False, lab.now + 500_000)]
    lab.run(100)
    assert InstallMember(lab.nwid, one.address, True, 0) in two.vl1.take(InstallMember)
    lab.run(66_000)  # a new configuration: credentials are due again
    assert one.vl1.take(InstallNetwork)
    assert one.vl1.take(InstallMember)[-1].send_until == 0
    one.vl1.take_sent()
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    assert [sent.verb for sent in one.vl1.take_sent()] == [Verb.NETWORK_CREDENTIALS, Verb.FRAME]
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    assert [sent.verb for sent in one.vl1.take_sent()] == [Verb.FRAME]


def test_a_deauthorised_member_is_silenced_by_its_revocation() -> None:
    lab = joined(3)
    one, two, three = (lab.member(index) for index in (1, 2, 3))
    for peer in (one, three):
        tap(lab, two, mac(peer, lab), IPV4, b"hello")
        tap(lab, peer, mac(two, lab), IPV4, b"hello")
    tap(lab, one, mac(three, lab), IPV4, b"hello")
    lab.run(1_000)
    assert frames(one) and frames(three)
    one.vl1.actions.clear()
    del lab.controller.members[two.address]
    revocation = lab.controller.revocation(lab.now, two.address)
    lab.say(one.address, Verb.NETWORK_CREDENTIALS, revocation)  # three hears of it from one
    lab.run(100)
    assert InstallMember(lab.nwid, two.address, False, one.vl1.take(InstallMember)[-1].send_until)
    tap(lab, two, mac(one, lab), IPV4, b"hello")
    tap(lab, two, mac(three, lab), IPV4, b"hello")
    lab.run(6_000)
    assert not frames(one) and not frames(three)
    assert "credential_rejected" in one.vl1.drops()
    lab.run(60_000)
    assert two.engine.statuses()[0].status is NetworkStatus.ACCESS_DENIED
    lab.controller.authorise(two.identity, "10.9.0.2/24")
    lab.push(two.address)
    lab.run(1_000)
    tap(lab, two, mac(one, lab), IPV4, b"again")
    lab.run(1_000)
    assert [frame.payload for frame in frames(one)] == [b"again"]


def test_a_member_whose_certificate_is_too_old_is_not_heard() -> None:
    lab = joined()
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(100)
    assert frames(two)
    for _ in range(40):  # two stays fresh, one hears nothing from the controller any more
        lab.lose = lambda source, sent: one.address in (source.address, sent.destination)
        lab.run(60_000)
    lab.lose = lambda source, sent: False
    lab.controller.members.pop(one.address)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(2_000)
    assert not frames(two)


def test_strangers_are_not_heard() -> None:
    lab = joined(2)
    two, stranger = lab.member(2), Host(IDENTITIES[5])
    payload = lab.nwid.to_bytes(8, "big") + b"\x08\x00hello"
    two.receive(two.context(lab.now, stranger.identity, Verb.FRAME, payload))
    two.receive(two.context(lab.now, stranger.identity, Verb.MULTICAST_LIKE, payload[:8] + bytes(10)))
    assert not frames(two)
    assert two.vl1.drops() == ["like_not_admitted"]


def test_no_forged_credential_leaves_a_trace() -> None:
    lab = joined(2)
    two = lab.member(2)
    good = lab.controller.config(lab.now, lab.member(1).address).com
    assert good is not None
    forged = NetworkCredentials(coms=(good.sign(IDENTITIES[5]),)).encode()
    two.receive(two.context(lab.now, IDENTITIES[5], Verb.NETWORK_CREDENTIALS, forged))
    assert two.vl1.drops() == ["credential_rejected"]
    two.vl1.sent.clear()
    two.receive(two.context(lab.now + 10, IDENTITIES[5], Verb.NETWORK_CREDENTIALS, forged))
    assert two.vl1.drops() == ["credentials_rate"]


def test_rules_bind_both_sides() -> None:
    lab = joined(2, rules=(Rule(RuleType.ETHERTYPE, value=b"\x08\x06"), Rule(RuleType.ACTION_ACCEPT), DROP))
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    assert one.vl1.drops() == ["outbound_filter"] and not one.vl1.sent
    tap(lab, one, mac(two, lab), ARP, b"hello")
    lab.run(100)
    assert [frame.ethertype for frame in frames(two)] == [ARP]


def test_frames_to_ourselves_come_back() -> None:
    lab = joined()
    one = lab.member(1)
    tap(lab, one, mac(one, lab), IPV4, b"me")
    assert [frame.payload for frame in frames(one)] == [b"me"] and not one.vl1.sent


def test_over_long_frames_are_not_delivered() -> None:
    lab = joined(2, mtu=1280)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, bytes(1281))
    tap(lab, one, mac(two, lab), IPV4, bytes(1280))
    lab.run(100)
    assert [len(frame.payload) for frame in frames(two)] == [1280]
    assert "over_mtu" in two.vl1.drops()
    tap(lab, one, mac(two, lab), IPV4, bytes(9_900))
    assert one.vl1.drops()[-1] == "frame_too_large"


def test_broadcast_needs_permission_but_arp_does_not() -> None:
    lab = joined(2, flags=0)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, BROADCAST_MAC, IPV4, bytes(40))
    assert one.vl1.drops() == ["broadcast_disabled"]
    pinger = Pinger(lab, one, two)
    pinger.attempt()
    assert pinger.resolved and "broadcast_disabled" not in one.vl1.drops()


def test_a_member_that_was_never_announced_is_found_by_gathering() -> None:
    """Neither a LIKE nor anything else reaches one: it asks root and controller, who know."""
    lab = joined(2)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, BROADCAST_MAC, ARP, arp(lab, 1, one, 0, ip_of(two)))
    gathers = one.vl1.take_sent(Verb.MULTICAST_GATHER)
    assert [sent.destination for sent in gathers] == [lab.hub.address]  # root and controller in one
    gather = MulticastGather.decode(gathers[0].payload)
    assert gather.group == MulticastGroup(BROADCAST_MAC, int.from_bytes(ip_of(two), "big"))
    assert gather.limit == 33 and gather.com is not None
    lab.run(100)
    assert len(frames(two)) == 1


def test_peer_activity_seen_by_the_data_plane_brings_our_groups_to_the_peer() -> None:
    lab = joined(2)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(100)
    assert two.vl1.take_sent(Verb.MULTICAST_LIKE)
    lab.run(59_000)
    two.vl1.take_sent()
    lab.hosts.pop(two.address)  # no more ticks
    two.engine.peer_activity(lab.now + 70_000, one.address, lab.nwid, lab.now + 70_000)
    assert [sent.destination for sent in two.vl1.take_sent(Verb.MULTICAST_LIKE)] == [one.address]
    two.engine.peer_activity(lab.now + 71_000, one.address, lab.nwid, lab.now + 71_000)
    assert not two.vl1.take_sent(Verb.MULTICAST_LIKE)


def test_rules_of_unknown_types_are_kept_never_match_and_are_told_once() -> None:
    """A newer controller's match 62 before a drop, and its action 9: all else works as without them."""
    lab = joined(2)
    one, two = lab.member(1), lab.member(2)
    rules = (Rule(62, value=b"new"), Rule(RuleType.ACTION_DROP), Rule(9), Rule(RuleType.ACTION_ACCEPT))
    for name in ("first", "again"):
        lab.controller.common |= {"rules": rules, "name": name}
        for host in (one, two):
            lab.push(host.address)
        lab.run(1_000)
    config = one.engine.statuses()[0].config
    assert config is not None and config.name == "again" and config.rules == rules
    told = [event.fields for event in one.vl1.take(Event) if event.kind == "unknown_rules"]
    assert told == [{"network": lab.nwid, "types": "9, 62"}]
    tap(lab, one, mac(two, lab), IPV4, b"passes")
    lab.run(1_000)
    assert any(frame.payload == b"passes" for frame in frames(two))
