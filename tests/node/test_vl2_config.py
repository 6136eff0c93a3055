"""Configurations of a member: requests, chunks, refusals, the cache on disk, what the data plane is told (vl2 §2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.node.vl2_lab import START, Controller, Host, Lab, some_identities
from ztpipe.node.actions import (
    ConfigureNetwork,
    ControllerRequest,
    DestroyNetwork,
    Event,
    InstallNetwork,
    RemoveNetwork,
    SaveState,
)
from ztpipe.node.settings import NodeSettings
from ztpipe.node.status import NetworkStatus
from ztpipe.wire import dictionary
from ztpipe.wire.configchunk import ConfigChunk
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.rule import ACCEPT, DROP
from ztpipe.wire.verbs import AuthenticationRequired, Error, MulticastLike, NetworkConfigRequest, Ok, OkConfig

IDENTITIES = some_identities()
CONTROLLER, OWN, OTHER, STRANGER = IDENTITIES[:4]


class Member:
    """One member and a controller that says what the test wants."""

    def __init__(self, networks: dict[int, bytes] | None = None) -> None:
        self.now = START
        self.controller = Controller(CONTROLLER)
        self.controller.authorise(OWN, "10.9.0.2/24")
        self.nwid = self.controller.nwid
        self.host = Host(OWN, networks=networks)
        self.host.vl1.learn(CONTROLLER, OTHER)
        self.host.vl1.roots = [STRANGER.address]
        self.host.engine.join(self.now, self.nwid)

    def push(self, body: bytes, *, source=CONTROLLER, packet_id: int = 9):  # type: ignore[no-untyped-def]
        return self.host.receive(self.host.context(self.now, source, Verb.NETWORK_CONFIG, body, packet_id=packet_id))

    def ok(self, body: bytes) -> None:
        payload = Ok(Verb.NETWORK_CONFIG_REQUEST, 5, body).encode()
        self.host.receive(self.host.context(self.now, CONTROLLER, Verb.OK, payload))

    def error(self, code: ErrorCode, body: bytes | None = None, *, source=CONTROLLER, verb=Verb.NETWORK_CONFIG_REQUEST):  # type: ignore[no-untyped-def]
        tail = self.nwid.to_bytes(8, "big") if body is None else body
        self.host.receive(self.host.context(self.now, source, Verb.ERROR, Error(verb, 5, code, tail).encode()))

    def chunks(self, **values: int) -> list[bytes]:
        return self.controller.chunks(self.now, OWN.address, **values)

    @property
    def status(self) -> NetworkStatus:
        return self.host.engine.statuses()[0].status

    @property
    def config(self) -> NetworkConfig | None:
        return self.host.engine.statuses()[0].config


# --- asking -------------------------------------------------------------------------------------------------


def test_a_request_is_what_the_reference_sends() -> None:
    member = Member()
    (sent,) = member.host.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST)
    request = NetworkConfigRequest.decode(sent.payload)
    assert (sent.destination, sent.compress) == (CONTROLLER.address, True)
    assert (request.nwid, request.revision, request.timestamp) == (member.nwid, 0, 0)
    values = {
        "v": 7,
        "vend": 1,
        "pv": 12,
        "majv": 1,
        "minv": 14,
        "revv": 1,
        "mr": 1024,
        "mc": 128,
        "mcr": 64,
        "mt": 128,
    }
    expected = dictionary.encode([*values.items(), ("f", 0), ("revr", 1), ("o", "linux/x86_64")])
    assert request.metadata == expected and len(expected) < 1024


def test_it_asks_every_pass_until_answered_then_every_minute() -> None:
    member = Member()
    member.host.vl1.take_sent()
    asked = []
    for second in range(0, 200, 5):
        now = member.now + second * 1_000
        member.host.engine.tick(now)
        if member.host.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST):
            asked.append(second)
        if second == 20:
            member.host.engine.config_from_controller(
                now, member.nwid, member.controller.config(now, OWN.address).encode()
            )
    assert asked == [5, 10, 15, 20, *range(80, 200, 5)]


def test_a_refresh_says_what_is_held() -> None:
    member = Member()
    member.ok(member.chunks()[0])
    member.host.vl1.take_sent()
    member.host.engine.tick(member.now + 60_000)
    (sent,) = member.host.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST)
    request = NetworkConfigRequest.decode(sent.payload)
    assert (request.revision, request.timestamp) == (1, member.now)


def test_our_own_controller_is_asked_without_a_packet() -> None:
    host = Host(CONTROLLER)
    nwid = CONTROLLER.address << 24 | 1
    host.engine.join(START, nwid)
    (request,) = host.vl1.take(ControllerRequest)
    assert (request.nwid, request.packet_id, request.source) == (nwid, 2**64 - 1, None)
    assert request.member == CONTROLLER and request.member.private is None
    assert not host.vl1.sent
    host.engine.controller_error(START, nwid, ErrorCode.OBJ_NOT_FOUND)
    assert host.engine.statuses()[0].status is NetworkStatus.NOT_FOUND
    controller = Controller(CONTROLLER, 1)
    controller.authorise(CONTROLLER, "10.9.0.1/24")
    host.engine.config_from_controller(START, nwid, controller.config(START, CONTROLLER.address).encode())
    assert host.engine.statuses()[0].status is NetworkStatus.OK
    host.engine.config_from_controller(START, nwid, b"nonsense")
    assert host.vl1.drops() == ["obsolete_config"]


@pytest.mark.parametrize(("hops", "has_source"), [(0, True), (1, False)])
def test_requests_for_our_controller_are_handed_on(hops: int, has_source: bool) -> None:
    host = Host(CONTROLLER)
    request = NetworkConfigRequest(CONTROLLER.address << 24 | 1, b"v=7")
    host.receive(host.context(START, OWN, Verb.NETWORK_CONFIG_REQUEST, request.encode(), packet_id=77, hops=hops))
    (handed,) = host.vl1.take(ControllerRequest)
    assert (handed.nwid, handed.member, handed.metadata, handed.packet_id) == (request.nwid, OWN, b"v=7", 77)
    assert (handed.source is not None) is has_source


def test_requests_for_others_controllers_vanish_and_without_a_controller_are_refused() -> None:
    request = NetworkConfigRequest(OTHER.address << 24 | 1, b"")
    host = Host(CONTROLLER)
    ctx = host.context(START, OWN, Verb.NETWORK_CONFIG_REQUEST, request.encode())
    host.receive(ctx)
    assert not host.vl1.take_sent() and host.vl1.drops() == ["config_request_not_ours"]
    host.vl1.settings = NodeSettings(controller=False)
    host.receive(ctx)
    error = Error.decode(host.vl1.take_sent(Verb.ERROR)[0].payload)
    assert (error.code, error.in_re_verb, error.nwid) == (
        ErrorCode.UNSUPPORTED_OPERATION,
        Verb.NETWORK_CONFIG_REQUEST,
        request.nwid,
    )


# --- chunks -------------------------------------------------------------------------------------------------


def test_chunks_come_in_any_order_and_twice_and_are_acknowledged_once() -> None:
    member = Member()
    chunks = member.chunks(max_chunk=100)
    assert len(chunks) > 3
    member.host.vl1.take_sent()
    for chunk in reversed(chunks[1:]):
        member.push(chunk)
        member.push(chunk)
    assert member.config is None and not member.host.vl1.take_sent(Verb.OK)
    member.push(chunks[0], source=OTHER, packet_id=1234)
    assert member.config == member.controller.config(member.now, OWN.address)
    (sent,) = [sent for sent in member.host.vl1.take_sent() if sent.verb is Verb.OK]
    ok = Ok.decode(sent.payload)
    assert (sent.destination, ok.in_re_verb, ok.in_re_id) == (OTHER.address, Verb.ECHO, 1234)
    assert OkConfig.decode(ok.body) == OkConfig(member.nwid, ConfigChunk.decode(chunks[0]).update_id)


def test_an_answer_to_a_request_is_not_acknowledged() -> None:
    member = Member()
    member.ok(member.chunks()[0])
    assert member.status is NetworkStatus.OK
    assert not [sent for sent in member.host.vl1.sent if sent.verb is Verb.OK]


def test_only_the_controllers_signature_counts() -> None:
    member = Member()
    good = ConfigChunk.decode(member.chunks()[0])
    for bad in (
        replace(good, signature=OTHER.sign(good.signed_bytes())),
        replace(good, update_id=good.update_id + 1),
        replace(good, data=good.data.replace(b"lab", b"bal")),
    ):
        member.push(bad.encode())
        assert member.config is None
    assert member.host.vl1.drops() == ["bad_config_signature"] * 3
    member.push(good.encode(), source=STRANGER)
    assert member.status is NetworkStatus.OK


def test_the_legacy_form_is_taken_from_the_controller_alone() -> None:
    member = Member()
    legacy = ConfigChunk(member.nwid, member.controller.config(member.now, OWN.address).encode()).encode()
    member.push(legacy, source=OTHER)
    assert member.config is None and member.host.vl1.drops() == ["unsigned_config"]
    member.push(legacy, packet_id=4711)
    assert member.status is NetworkStatus.OK
    ok = Ok.decode(next(sent for sent in member.host.vl1.sent if sent.verb is Verb.OK).payload)
    assert OkConfig.decode(ok.body).update_id == 4711


def test_a_chunk_flagged_so_is_handed_on_once_to_everybody_else() -> None:
    lab = Lab(IDENTITIES[:4])
    for index, identity in enumerate(IDENTITIES[:4]):
        lab.controller.authorise(identity, f"10.9.0.{index + 1}/24")
    host = lab.member(1)
    for other in list(lab.hosts.values())[1:]:
        other.engine.join(lab.now, lab.nwid)
    lab.run(1_000)
    for identity in IDENTITIES[2:4]:  # host gets to know the others
        lab.push(identity.address)
        host.receive(host.context(lab.now, identity, Verb.NETWORK_CREDENTIALS, credentials_of(lab, identity.address)))
    plain = ConfigChunk.decode(lab.controller.chunks(lab.now + 1, host.address)[0])
    chunk = replace(plain, flags=1).sign(CONTROLLER.sign).encode()
    host.vl1.take_sent()
    for _ in range(2):
        host.receive(host.context(lab.now, IDENTITIES[2], Verb.NETWORK_CONFIG, chunk))
    handed_on = host.vl1.take_sent(Verb.NETWORK_CONFIG)
    assert [(sent.destination, sent.payload) for sent in handed_on] == [(IDENTITIES[3].address, chunk)]


def credentials_of(lab: Lab, address: int) -> bytes:
    from ztpipe.wire.verbs import NetworkCredentials

    com = lab.controller.config(lab.now, address).com
    assert com is not None
    return NetworkCredentials(coms=(com,)).encode()


# --- putting in force ---------------------------------------------------------------------------------------


def test_a_configuration_for_somebody_else_is_acknowledged_but_not_taken() -> None:
    member = Member()
    member.controller.authorise(OTHER, "10.9.0.3/24")
    member.host.vl1.take_sent()
    member.push(member.controller.chunks(member.now, OTHER.address)[0])
    assert member.config is None and member.host.vl1.drops() == ["config_not_for_us"]
    assert member.host.vl1.take_sent(Verb.OK)


def test_an_older_configuration_cannot_be_brought_back() -> None:
    member = Member()
    old = member.chunks()
    member.now += 1_000
    member.push(member.chunks()[0])
    held = member.config
    member.push(old[0])
    assert member.config == held and member.host.vl1.drops() == ["config_older"]


def test_an_equal_configuration_changes_nothing() -> None:
    member = Member()
    chunks = member.chunks(), member.chunks()
    member.push(chunks[0][0])
    member.error(ErrorCode.NETWORK_ACCESS_DENIED)
    member.host.vl1.actions.clear()
    member.push(chunks[1][0])
    assert not member.host.vl1.actions and member.status is NetworkStatus.ACCESS_DENIED


def test_what_follows_from_a_configuration() -> None:
    member = Member()
    member.controller.common["rules"] = (DROP,)
    member.controller.common["flags"] = 0x16
    member.controller.members[OWN.address]["mtu"] = 1_500
    member.controller.members[OWN.address]["specialists"] = (OWN.address | 0x20000000000, OTHER.address | 0x40000000000)
    member.host.vl1.actions.clear()
    member.push(member.chunks()[0])
    config = member.config
    assert config is not None
    (saved,) = member.host.vl1.take(SaveState)
    assert (saved.kind, saved.id, NetworkConfig.decode(saved.data)) == ("network", member.nwid, config)
    (installed,) = member.host.vl1.take(InstallNetwork)
    assert (installed.mtu, installed.accept_all, installed.rules, installed.flags, installed.bridge) == (
        1_500,
        False,
        (DROP,),
        0x16,
        True,
    )
    assert member.host.vl1.take(ConfigureNetwork) == [ConfigureNetwork(member.nwid, config, NetworkStatus.OK)]
    assert member.host.engine.always_contact() == {OTHER.address}
    assert member.host.engine.managed_prefixes() == [InetAddress.parse("10.9.0.0/24")]


def test_accept_all_is_said_only_of_rules_that_accept_everything() -> None:
    member = Member()
    member.push(member.chunks()[0])
    assert [network.accept_all for network in member.host.vl1.take(InstallNetwork)] == [True]
    member.now += 1
    member.controller.common["rules"] = (DROP, ACCEPT)
    member.push(member.chunks()[0])
    assert [network.accept_all for network in member.host.vl1.take(InstallNetwork)] == [False]


def test_own_addresses_are_announced_at_once() -> None:
    member = Member()
    member.host.vl1.take_sent()
    member.push(member.chunks()[0])
    likes = member.host.vl1.take_sent(Verb.MULTICAST_LIKE)
    assert {sent.destination for sent in likes} == {STRANGER.address, CONTROLLER.address}
    groups = {like.group for like in MulticastLike.decode(likes[0].payload).likes}
    assert groups == {(0xFFFFFFFFFFFF, 0x0A090002), (0xFFFFFFFFFFFF, 0)}


def test_each_change_of_the_status_is_told_once() -> None:
    member = Member()
    member.error(ErrorCode.NETWORK_ACCESS_DENIED)
    member.error(ErrorCode.NETWORK_ACCESS_DENIED)
    member.push(member.chunks()[0])
    told = [(event.kind, event.fields) for event in member.host.vl1.take(Event)]
    assert told == [
        ("joined", {"network": member.nwid}),
        ("network_status", {"network": member.nwid, "status": "ACCESS_DENIED"}),
        ("network_status", {"network": member.nwid, "status": "OK"}),
    ]


def _asked(member: Member, *, until: int) -> list[int]:
    """When the member asks, by its two timers, ms after the join."""
    member.host.vl1.take_sent()
    times = []
    for passed in range(500, until + 1, 500):
        member.host.engine.soon(START + passed)
        if passed % 5_000 == 0:
            member.host.engine.tick(START + passed)
        times += [passed for _ in member.host.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST)]
    return times


def test_who_just_joined_asks_soon_again_then_every_five_seconds() -> None:
    assert _asked(Member(), until=15_000) == [1_500, 3_000, 4_500, 10_000, 15_000]


def test_who_was_refused_asks_every_five_seconds_only() -> None:
    member = Member()
    member.error(ErrorCode.NETWORK_ACCESS_DENIED)
    assert _asked(member, until=10_000) == [5_000, 10_000]


# --- disk ---------------------------------------------------------------------------------------------------


def test_a_cached_configuration_is_in_force_at_once_and_refreshed() -> None:
    old = Member()
    cached = old.controller.config(START - 3_600_000, OWN.address)
    member = Member({old.nwid: cached.encode()})
    assert (member.config, member.status) == (cached, NetworkStatus.OK)
    assert not member.host.vl1.take(SaveState)
    assert member.host.vl1.take(InstallNetwork)
    (sent,) = member.host.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST)
    assert NetworkConfigRequest.decode(sent.payload).timestamp == cached.timestamp
    member.host.engine.tick(START + 5_000)
    assert member.host.vl1.take_sent(Verb.NETWORK_CONFIG_REQUEST), "not until a live one has come"


@pytest.mark.parametrize("cached", [b"", b"\n", b"garbage", b"v=7\nnwid=1"])
def test_an_unusable_cache_is_as_good_as_none(cached: bytes) -> None:
    member = Member({Controller(CONTROLLER).nwid: cached})
    assert member.status is NetworkStatus.REQUESTING_CONFIGURATION
    assert [saved.data for saved in member.host.vl1.take(SaveState)] == [b"\n"]


def test_leaving_removes_everything() -> None:
    member = Member()
    member.push(member.chunks()[0])
    member.host.vl1.actions.clear()
    member.host.engine.leave(member.now, member.nwid)
    assert member.host.vl1.actions == [
        Event("left", {"network": member.nwid}),
        RemoveNetwork(member.nwid),
        DestroyNetwork(member.nwid),
        SaveState("network", member.nwid, None),
    ]
    assert member.host.engine.statuses() == []
    member.push(member.chunks()[0])
    assert member.host.vl1.drops() == ["network_not_joined"]


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.OBJ_NOT_FOUND, NetworkStatus.NOT_FOUND),
        (ErrorCode.UNSUPPORTED_OPERATION, NetworkStatus.NOT_FOUND),
        (ErrorCode.NETWORK_ACCESS_DENIED, NetworkStatus.ACCESS_DENIED),
        (ErrorCode.NETWORK_AUTHENTICATION_REQUIRED, NetworkStatus.AUTHENTICATION_REQUIRED),
    ],
)
def test_refusals_of_the_controller(code: ErrorCode, status: NetworkStatus) -> None:
    member = Member()
    member.error(code, source=OTHER)
    assert member.status is NetworkStatus.REQUESTING_CONFIGURATION
    member.host.vl1.actions.clear()
    member.error(code)
    member.error(code)
    assert member.status is status
    assert [a.status for a in member.host.vl1.take(ConfigureNetwork)] == [status]
    member.push(member.chunks()[0])
    assert member.status is NetworkStatus.OK


def test_not_found_is_about_a_request() -> None:
    member = Member()
    member.error(ErrorCode.OBJ_NOT_FOUND, verb=Verb.FRAME)
    assert member.status is NetworkStatus.REQUESTING_CONFIGURATION
    member.error(ErrorCode.NETWORK_ACCESS_DENIED, verb=Verb.FRAME)
    assert member.status is NetworkStatus.ACCESS_DENIED


def test_a_refusal_keeps_the_configuration_in_force() -> None:
    member = Member()
    member.push(member.chunks()[0])
    member.error(ErrorCode.NETWORK_ACCESS_DENIED)
    assert member.config is not None and member.status is NetworkStatus.ACCESS_DENIED


@pytest.mark.parametrize(
    ("url", "status"), [("", "REQUESTING_CONFIGURATION"), ("https://sso", "AUTHENTICATION_REQUIRED")]
)
def test_single_sign_on_with_a_url_and_the_file_controllers_empty_one(url: str, status: str) -> None:
    member = Member()
    member.error(ErrorCode.NETWORK_AUTHENTICATION_REQUIRED, AuthenticationRequired(member.nwid, url=url).encode())
    (record,) = member.host.engine.statuses()
    assert (record.status.value, record.authentication_url) == (status, url)


def test_port_error_overrides_all() -> None:
    member = Member()
    member.push(member.chunks()[0])
    member.host.engine.set_tap_error(member.now, member.nwid, True)
    assert member.status is NetworkStatus.PORT_ERROR
    member.host.engine.set_tap_error(member.now, member.nwid, False)
    assert member.status is NetworkStatus.OK
