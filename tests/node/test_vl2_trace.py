"""REMOTE_TRACE as the reference sends it (vl1-behaviour §4.8), against the captured reports of scenario h2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.node.puppet import Bench
from tests.node.test_vl2_members import IDENTITIES, IPV4, joined, mac, tap
from tests.node.vl2_lab import Host, InstallNetwork, Lab
from ztpipe.node.seam import NullVl2, PacketContext, PathNews
from ztpipe.node.trace import MAX_PER_SECOND
from ztpipe.wire.credentials import CertificateOfMembership, Revocation
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Verb
from ztpipe.wire.rule import ACCEPT, decode_rules
from ztpipe.wire.verbs import NetworkCredentials, Ok, RemoteTrace

OBSERVER = 0xB89A6EF9D8
ONLY_IPV6 = decode_rules(bytes.fromhex("a50286dd 0000 0100".replace(" ", "")))
CAPTURE = Path(__file__).parent.parent / "vectors" / "captures" / "h2-remote-trace" / "decoded.jsonl"


def observed(level: int, rules: Any = ONLY_IPV6, target: int = OBSERVER) -> Lab:
    return joined(2, trace_target=target, trace_level=level, rules=rules)


def reports(host: Host) -> list[dict[str, bytes]]:
    sent = host.vl1.take_sent(Verb.REMOTE_TRACE)
    assert all(packet.destination == OBSERVER for packet in sent)
    return [entries for packet in sent for entries in RemoteTrace.decode(packet.payload).entries()]


def captured(event: str) -> dict[str, Any]:
    """The first report of that event that the reference sent."""
    for line in CAPTURE.read_text().splitlines():
        packet = json.loads(line)
        for trace in packet.get("fields", {}).get("traces", []) if packet.get("verb") == "REMOTE_TRACE" else []:
            if trace["event"] == event:
                return dict(trace)
    raise AssertionError(event)


def same_form(report: dict[str, bytes], event: str, *, without: tuple[str, ...] = ()) -> None:
    """The same keys in the same order, and values of the same length."""
    wanted = {key: value for key, value in captured(event).items() if key not in without}
    assert list(report) == list(wanted)
    for key, value in wanted.items():
        if key not in ("reason", "frameData"):
            assert len(report[key]) == len(value), key


def test_a_frame_that_rules_keep_back_is_reported() -> None:
    lab = observed(10)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    (report,) = reports(one)
    same_form(report, "2000")
    assert report["reason"] == b"filter blocked" and int(report["frameLength"], 16) == 5
    assert int(report["destMac"], 16) == mac(two, lab)


def test_a_foreign_source_is_reported() -> None:
    lab = observed(10)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello", mac_source=0x02DEADBEEF02)
    assert reports(one)[0]["reason"] == b"not a bridge"


def test_filter_decisions_are_reported_on_both_sides() -> None:
    lab = observed(15, (ACCEPT,))
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(1_000)
    (out,) = reports(one)
    (into,) = reports(two)
    same_form(out, "2006", without=("filterBaseRuleLog",))
    assert (out["filterInbound"], into["filterInbound"]) == (b"0", b"1")
    assert int(into["sourceZtAddr"], 16) == one.address and into["frameData"] == b"hello"
    assert int(into["filterResult"], 16) == 1


def test_a_revoked_certificate_is_reported_at_any_level() -> None:
    lab = observed(0)
    one, two = lab.member(1), lab.member(2)
    lab.controller.identities[two.address] = IDENTITIES[2]
    old = CertificateOfMembership.issue(lab.nwid, IDENTITIES[2], lab.now - 5, 1_800_000).sign(IDENTITIES[0])
    revocation = Revocation(7, lab.nwid, 0, lab.now, 0, two.address, 1).sign(IDENTITIES[0])
    for at, packet in ((0, NetworkCredentials(revocations=(revocation,))), (2_000, NetworkCredentials(coms=(old,)))):
        source = IDENTITIES[0] if at == 0 else IDENTITIES[2]
        one.receive(one.context(lab.now + at, source, Verb.NETWORK_CREDENTIALS, packet.encode()))
    (report,) = reports(one)
    same_form(report, "2003")
    assert report["reason"] == b"revoked" and int(report["credTs"], 16) == old.timestamp


def test_a_stranger_is_reported() -> None:
    lab = observed(10)
    one = lab.member(1)
    frame = lab.nwid.to_bytes(8, "big") + b"\x08\x00hello"
    one.receive(one.context(lab.now, IDENTITIES[4], Verb.FRAME, frame, packet_id=77))
    (report,) = reports(one)
    assert report["event"] == b"2001" and int(report["packetVerb"], 16) == Verb.FRAME
    assert int(report["remoteZtAddr"], 16) == IDENTITIES[4].address


@pytest.mark.parametrize(("level", "target"), [(0, OBSERVER), (30, 0)])
def test_nobody_is_told_what_he_did_not_ask_for(level: int, target: int) -> None:
    lab = observed(level, target=target)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    assert one.vl1.take_sent(Verb.REMOTE_TRACE) == []


def test_a_flood_of_frames_is_no_flood_of_reports() -> None:
    lab = observed(10)
    one, two = lab.member(1), lab.member(2)
    for _ in range(5 * MAX_PER_SECOND):
        tap(lab, one, mac(two, lab), IPV4, b"hello")
    assert len(reports(one)) == MAX_PER_SECOND
    assert one.vl1.drops().count("trace_rate") == 4 * MAX_PER_SECOND
    lab.run(1_000)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    assert len(reports(one)) == 1


@pytest.mark.parametrize(
    ("level", "rules", "accept_all", "policy"),
    [
        (0, ONLY_IPV6, False, True),
        (10, ONLY_IPV6, False, False),
        (10, (ACCEPT,), True, False),
        (15, (ACCEPT,), False, False),
    ],
)
def test_what_is_to_be_reported_is_not_left_to_the_data_plane(
    level: int, rules: Any, accept_all: bool, policy: bool
) -> None:
    lab = observed(level, rules)
    one = lab.member(1)
    lab.now += 1
    lab.push(one.address)
    lab.run(1_000)
    install = one.vl1.take(InstallNetwork)[-1]
    assert (install.accept_all, install.policy is not None) == (accept_all, policy)


# --- what VL1 learns about paths -------------------------------------------------------------------------------


def test_packets_of_the_network_that_say_something_about_paths_are_reported() -> None:
    lab = observed(0)
    one, two = lab.member(1), lab.member(2)
    head = lab.nwid.to_bytes(8, "big")
    answer = Ok(Verb.MULTICAST_GATHER, 5, head + bytes(20)).encode()
    for verb, payload, news, event in (
        (Verb.FRAME, head + b"\x08\0hello", PathNews.QUESTIONED, b"1001"),
        (Verb.OK, answer, PathNews.LEARNED, b"1002"),
    ):
        one.engine.path_news(one.context(lab.now, two.identity, verb, payload, packet_id=0x1234), news)
        (report,) = reports(one)
        assert report.pop("packetVerb", b"") == (b"%016x" % Verb.FRAME if event == b"1001" else b"")
        assert report == {
            "event": event,
            "packetId": b"%016x" % 0x1234,
            "networkId": b"%016x" % lab.nwid,
            "remoteZtAddr": b"%016x" % two.address,
            "remotePhyAddr": b"10.0.0.1/9993",
            "localSocket": b"%016x" % 0,
        }


def test_packets_of_no_network_and_unobserved_ones_say_nothing() -> None:
    lab = observed(0)
    one, two = lab.member(1), lab.member(2)
    echo = one.context(lab.now, two.identity, Verb.ECHO, lab.nwid.to_bytes(8, "big"))
    hello = one.context(lab.now, two.identity, Verb.OK, Ok(Verb.HELLO, 5, lab.nwid.to_bytes(8, "big")).encode())
    other = one.context(lab.now, two.identity, Verb.FRAME, bytes(8))
    for ctx in (echo, hello, other):
        one.engine.path_news(ctx, PathNews.QUESTIONED)
    unobserved = joined(2)
    member = unobserved.member(1)
    frame = member.context(lab.now, two.identity, Verb.FRAME, unobserved.nwid.to_bytes(8, "big"))
    member.engine.path_news(frame, PathNews.QUESTIONED)
    assert reports(one) == [] == member.vl1.take_sent(Verb.REMOTE_TRACE)


def test_all_observers_are_told_of_a_new_external_address() -> None:
    lab = observed(0)
    one = lab.member(1)
    one.engine.paths_reset(
        lab.now, lab.hub.address, InetAddress.parse("192.0.2.1/9993"), InetAddress.parse("198.51.100.7/5")
    )
    assert reports(one) == [
        {
            "event": b"1000",
            "remoteZtAddr": b"%016x" % lab.hub.address,
            "remotePhyAddr": b"192.0.2.1/9993",
            "localPhyAddr": b"198.51.100.7/5",
            "phyAddrIpScope": b"%016x" % 7,
        }
    ]


def test_vl1_tells_what_it_learns_about_paths() -> None:
    told: list[tuple[Any, ...]] = []

    class Listener(NullVl2):
        def path_news(self, ctx: PacketContext, news: PathNews) -> None:
            told.append((ctx.verb, ctx.remote, news))

        def paths_reset(self, now: int, reporter: int, remote: InetAddress, seen: InetAddress) -> None:
            told.append((reporter, remote, seen))

    bench = Bench(vl2=lambda vl1, networks: Listener())
    peer = bench.puppet(5)
    bench.meet(peer)
    bench.meet(bench.root)
    assert told == [
        (Verb.HELLO, peer.remote, PathNews.QUESTIONED),
        (Verb.OK, peer.remote, PathNews.LEARNED),
        (Verb.HELLO, bench.root.remote, PathNews.QUESTIONED),
        (Verb.OK, bench.root.remote, PathNews.LEARNED),
    ]
    bench.say(peer, Verb.NOP)
    changed = InetAddress.parse("10.8.8.9/1")
    bench.hello(bench.root, sent_to=changed)
    assert told[4:] == [(bench.root.address, bench.root.remote, changed)]
