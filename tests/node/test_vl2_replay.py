"""Members of the captured scenarios re-enacted: our engine gets what the reference got and must say what it said.

A member is fed every packet that arrived at it, and from its own captured frames those that its TAP must have given it.
Compared are all FRAME and EXT_FRAME packets, byte for byte: they show rules, capabilities, tags, copies, bridging.
"""

from __future__ import annotations

import pytest

from tests.captures import Json, golden, identities, nodes, scenario_file
from tests.node.vl2_lab import START, Host
from ztpipe.node.actions import SaveState, WriteFrame
from ztpipe.node.status import NetworkStatus
from ztpipe.wire.address import mac_of
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.verbs import Error, ExtFrame, Frame, NetworkCredentials, Ok

_HANDLED = frozenset(
    {
        "FRAME",
        "EXT_FRAME",
        "MULTICAST_LIKE",
        "NETWORK_CREDENTIALS",
        "NETWORK_CONFIG",
        "MULTICAST_GATHER",
        "MULTICAST_FRAME",
        "OK",
        "ERROR",
    }
)
_OUTBOUND_COPIES = frozenset({ExtFrame.TEE_OUTBOUND, ExtFrame.WATCH_OUTBOUND})
_INBOUND = frozenset({ExtFrame.TEE_INBOUND, ExtFrame.WATCH_INBOUND, ExtFrame.REDIRECT_INBOUND})


def network_of(scenario: str) -> int:
    """The network that a scenario is about: the one that frames cross."""
    return next(int(row["fields"]["nwid"], 16) for row in golden(scenario) if row.get("verb") in ("FRAME", "EXT_FRAME"))


class Reenactment:
    """One member of a scenario, played by our engine."""

    def __init__(self, scenario: str, name: str) -> None:
        self.scenario, self.node = scenario, nodes(scenario)[name]
        self.host = Host(self.node.identity)
        self.host.vl1.learn(*identities(scenario).values())
        self.nwid = network_of(scenario)
        self.host.engine.join(START, self.nwid)
        self.said: list[tuple[Verb, int, bytes]] = []
        self.expected: list[tuple[Verb, int, bytes]] = []

        self.retried = START
        self.oks: list[Ok] = []
        self.errors: list[tuple[int, Error]] = []
        self.written: list[tuple[int, WriteFrame]] = []
        self.credentials: list[bytes] = []
        self.floods: list[tuple[int, bytes]] = []

    def run(self) -> None:
        for row in golden(self.scenario):
            if row.get("kind") != "packet" or row["verb"] not in _HANDLED:
                continue
            now = START + int(row["t"] * 1000)
            self._pass_time(now)
            if row["src"] == self.node.identity.address.to_bytes(5, "big").hex() and row["hops"] == 0:
                self._speak(now, row)
            elif row["dst_name"] == self.node.name and row["underlay"][1].split("/")[0] in self.node.underlay:
                self._hear(now, row)

    def _pass_time(self, now: int) -> None:
        """VL1 presents deferred packets again every 500 ms."""
        while self.retried + 500 <= now:
            self.retried += 500
            self.host.retry(self.retried)
            self._note(self.retried)

    def _hear(self, now: int, row: Json) -> None:
        source = identities(self.scenario)[int(row["src"], 16)]
        payload = bytes.fromhex(row["payload"])
        verb = Verb[row["verb"]]
        if verb is Verb.OK and row["fields"]["in_re_verb"] in ("HELLO", "WHOIS"):
            return
        ctx = self.host.context(now, source, verb, payload, packet_id=int(row["id"], 16), hops=row["hops"])
        self.host.receive(ctx)
        self._note(now)

    def _speak(self, now: int, row: Json) -> None:
        """The reference sent this: if a frame of its TAP caused it, give our engine that frame."""
        payload = bytes.fromhex(row["payload"])
        verb, destination = Verb[row["verb"]], int(row["dst"], 16)
        if verb not in (Verb.FRAME, Verb.EXT_FRAME):
            return
        self.expected.append((verb, destination, payload))
        if verb is Verb.FRAME:
            frame = Frame.decode(payload)
            mac = mac_of(destination, frame.nwid)
            self._tap(
                now, frame.nwid, mac, mac_of(self.node.identity.address, frame.nwid), frame.ethertype, frame.payload
            )
        else:
            ext = ExtFrame.decode(payload)
            if ext.flags not in _INBOUND | _OUTBOUND_COPIES:
                self._tap(now, ext.nwid, ext.destination, ext.source, ext.ethertype, ext.payload)

    def _tap(self, now: int, *frame: int | bytes) -> None:
        self.host.engine.frame_received(now, *frame)  # type: ignore[arg-type]
        self._note(now)

    def _note(self, now: int) -> None:
        for sent in self.host.vl1.take_sent():
            if sent.verb in (Verb.FRAME, Verb.EXT_FRAME):
                self.said.append((sent.verb, sent.destination, sent.payload))
            elif sent.verb is Verb.OK:
                self.oks.append(Ok.decode(sent.payload))
            elif sent.verb is Verb.ERROR:
                self.errors.append((now, Error.decode(sent.payload)))
            elif sent.verb is Verb.NETWORK_CREDENTIALS:
                self.credentials.append(sent.payload)
                if NetworkCredentials.decode(sent.payload).revocations:
                    self.floods.append((sent.destination, sent.payload))
        self.written += [(now, frame) for frame in self.host.vl1.take(WriteFrame)]


def played(scenario: str, name: str) -> Reenactment:
    play = Reenactment(scenario, name)
    play.run()
    return play


@pytest.mark.parametrize(
    ("scenario", "name"),
    [
        ("b-join-private", "A"),
        ("c-frames", "A"),
        ("c-frames", "B"),
        ("d-relayed", "A"),
        ("e-old-peer", "A"),
        ("f-rules", "A"),
        ("f-rules", "B"),
        ("f-rules", "O"),
        ("i-bridge", "A"),
        ("i-bridge", "B"),
        ("i-bridge", "D"),
        ("j-adhoc", "A"),
        ("j-adhoc", "B"),
    ],
)
def test_frames_and_copies_are_those_of_the_reference(scenario: str, name: str) -> None:
    play = played(scenario, name)
    assert sorted(play.said) == sorted(play.expected)
    assert play.expected, "the scenario shows nothing"


def test_the_observer_delivers_and_acknowledges_every_copy() -> None:
    play = played("f-rules", "O")
    copies = [
        row
        for row in golden("f-rules")
        if row.get("kind") == "packet" and row["verb"] == "EXT_FRAME" and row["dst_name"] == "O" and row["hops"] == 0
    ]
    delivered = {(frame.destination, frame.source, frame.payload) for _, frame in play.written}
    for row in copies:
        copy = ExtFrame.decode(bytes.fromhex(row["payload"]))
        assert (copy.destination, copy.source, copy.payload) in delivered
    wanted = {int(row["id"], 16) for row in copies if ExtFrame.decode(bytes.fromhex(row["payload"])).ok_requested}
    assert wanted and {ok.in_re_id for ok in play.oks if ok.in_re_verb is Verb.EXT_FRAME} == wanted


@pytest.mark.parametrize("name", ["A", "B"])
def test_the_configuration_held_at_the_end_is_the_one_the_reference_reports(name: str) -> None:
    play = played("b-join-private", name)
    reported = scenario_file("b-join-private", f"member-{name}-networks")[0]
    (record,) = play.host.engine.statuses()
    config = record.config
    assert config is not None and record.status is NetworkStatus(reported["status"])
    assert (config.name, config.mtu, config.revision) == (
        reported["name"],
        reported["mtu"],
        reported["netconfRevision"],
    )
    assert sorted(ip.text() for ip in config.static_ips) == sorted(reported["assignedAddresses"])
    assert config.dns.domain == reported["dns"]["domain"]
    assert len(config.routes) == len(reported["routes"])
    saved = [action.data for action in play.host.vl1.take(SaveState)]
    assert NetworkConfig.decode(saved[-1]) == config


@pytest.mark.parametrize(("scenario", "name"), [("b-join-private", "A"), ("f-rules", "B")])
def test_every_push_is_acknowledged_as_the_reference_does(scenario: str, name: str) -> None:
    play = played(scenario, name)
    pushed = {int(row["id"], 16) for row in golden(scenario) if row.get("verb") == "NETWORK_CONFIG"}
    ours = {(ok.in_re_verb, ok.in_re_id, ok.body) for ok in play.oks if ok.in_re_id in pushed}
    theirs = {
        (ok.in_re_verb, ok.in_re_id, ok.body)
        for row in golden(scenario)
        if row.get("verb") == "OK" and row["src_name"] == name
        for ok in (Ok.decode(bytes.fromhex(row["payload"])),)
        if ok.in_re_id in pushed
    }
    assert theirs and theirs <= ours


def test_a_deauthorised_member_is_silenced_and_told_why() -> None:
    """f-rules, seconds 34 to 45: the reference answers each retry; we answer less often, and deliver nothing."""
    play = played("f-rules", "A")
    revoked = [error for now, error in play.errors if START + 39_000 < now < START + 46_000]
    assert 3 <= len(revoked) <= 8
    assert {error.code for error in revoked} == {ErrorCode.NEED_MEMBERSHIP_CERTIFICATE}
    frames_at = [now for now, _ in play.written]
    assert not [now for now in frames_at if START + 35_000 < now < START + 45_400]
    assert [now for now in frames_at if now > START + 46_000], "authorised again, it is heard again"


def test_pushed_credentials_hold_what_the_reference_pushed() -> None:
    play = played("f-rules", "A")
    row = next(r for r in golden("f-rules") if r.get("verb") == "NETWORK_CREDENTIALS" and r["src_name"] == "A")
    assert row["fields"]["coms"] and bytes.fromhex(row["payload"]) in play.credentials


def test_revocations_are_flooded_on_like_the_reference_does() -> None:
    play = played("f-rules", "A")
    theirs = [
        (int(row["dst"], 16), bytes.fromhex(row["payload"]))
        for row in golden("f-rules")
        if row.get("verb") == "NETWORK_CREDENTIALS" and row["src_name"] == "A" and row["fields"]["revocations"]
    ]
    assert theirs and sorted(play.floods) == sorted(theirs)
