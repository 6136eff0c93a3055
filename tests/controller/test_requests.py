"""Requests and what goes out unasked (controller §7, §9)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.controller.support import METADATA, START, Bench, captured_identity, identity_with_address, load
from ztpipe.controller import ControllerAction, ControllerError, LocalConfig, LocalError, MemoryStore, SendPacket
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.push import PUSHES_PER_ROUND, REVOCATION_INTERVAL, REVOCATIONS_PER_PACKET
from ztpipe.controller.serving import REMEMBER_MS
from ztpipe.controller.status import ONLINE_WINDOW, StatusTable
from ztpipe.controller.store import StoreError
from ztpipe.controller.store_sqlite import SqliteStore
from ztpipe.wire import dictionary
from ztpipe.wire.credentials import CredentialType, Revocation
from ztpipe.wire.identity import Identity
from ztpipe.wire.netconf import ConfigChunk, NetworkConfig
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.verbs import Error, NetworkCredentials, Ok

CONTROLLER = 0x3BFB63739C
NWID = 0x3BFB63739C000001
A, B = 0xDD66781748, 0xD49385B659


@pytest.fixture
def bench() -> Bench:
    return Bench(captured_identity("b-join-private", CONTROLLER))


def node(address: int) -> Identity:
    return captured_identity("b-join-private", address).without_private()


def private_network(bench: Bench, **body: object) -> None:
    bench.controller.update_network(bench.now, NWID, {"private": True} | body)


def public_network(bench: Bench, **body: object) -> None:
    bench.controller.update_network(bench.now, NWID, {"private": False} | body)


def authorize(bench: Bench, address: int, authorized: bool = True) -> list[ControllerAction]:
    bench.controller.update_member(bench.now, NWID, address, {"authorized": authorized})
    return bench.controller.take_actions()


def kinds(actions: Iterable[ControllerAction]) -> list[tuple[int, Verb]]:
    """Destination and verb of each packet."""
    return [(action.destination, action.verb) for action in actions if isinstance(action, SendPacket)]


def error_of(packets: list[SendPacket]) -> Error:
    (packet,) = packets
    assert packet.verb == Verb.ERROR
    return Error.decode(packet.payload)


def config_of(packet: ControllerAction) -> NetworkConfig:
    assert isinstance(packet, SendPacket)
    body = Ok.decode(packet.payload).body if packet.verb == Verb.OK else packet.payload
    return NetworkConfig.decode(ConfigChunk.decode(body).data)


def revocations_in(actions: Iterable[ControllerAction]) -> dict[int, list[Revocation]]:
    """Revocations by destination."""
    found: dict[int, list[Revocation]] = {}
    for action in actions:
        if isinstance(action, SendPacket) and action.verb == Verb.NETWORK_CREDENTIALS:
            found.setdefault(action.destination, []).extend(NetworkCredentials.decode(action.payload).revocations)
    return found


# --- answers -------------------------------------------------------------------------------------------------------


def test_unknown_network(bench: Bench) -> None:
    error = error_of(bench.request(NWID, node(A), packet_id=9))
    assert (error.in_re_verb, error.in_re_id, error.code) == (Verb.NETWORK_CONFIG_REQUEST, 9, ErrorCode.OBJ_NOT_FOUND)
    assert error.body == NWID.to_bytes(8, "big")


def test_network_of_another_controller_is_dropped(bench: Bench) -> None:
    foreign = 0x1122334455000001
    bench.controller.update_network(bench.now, foreign, {"private": False})
    assert bench.request(foreign, node(A)) == []
    assert bench.controller.counters["drop_foreign_network"] == 1


def test_denied_request_is_answered_as_captured_and_leaves_a_record(bench: Bench) -> None:
    private_network(bench)
    packets = bench.request(NWID, node(A), packet_id=0x3046B25D1C0EA0CD)
    # captures/b-join-private, packet 36, for another network number
    assert packets[0].payload.hex() == "0b3046b25d1c0ea0cd073bfb63739c000001"
    record = bench.controller.get_member(NWID, A)
    assert (record["authorized"], record["revision"], record["vMajor"]) == (False, 1, -1)
    assert record["identity"] == node(A).text()


def test_requests_within_a_second_are_dropped(bench: Bench) -> None:
    private_network(bench)
    bench.request(NWID, node(A))
    assert bench.controller.request(bench.now + 1_000, NWID, node(A), METADATA, 1, None) == []
    assert bench.controller.counters["drop_request_rate"] == 1
    assert kinds(bench.controller.request(bench.now + 1_000, NWID, node(B), METADATA, 1, None)) == [(B, Verb.ERROR)]
    assert kinds(bench.controller.request(bench.now + 1_001, NWID, node(A), METADATA, 1, None)) == [(A, Verb.ERROR)]


def test_a_clock_that_went_back_does_not_lock_members_out(bench: Bench) -> None:
    private_network(bench)
    bench.request(NWID, node(A))
    assert kinds(bench.controller.request(bench.now - 3_600_000, NWID, node(A), METADATA, 1, None)) == [(A, Verb.ERROR)]


def test_first_identity_is_pinned(bench: Bench) -> None:
    public_network(bench)
    assert kinds(bench.request(NWID, node(A))) == [(A, Verb.OK)]
    impostor = Identity(A, node(B).public, None)
    before = bench.controller.get_member(NWID, A)
    assert error_of(bench.request(NWID, impostor)).code == ErrorCode.NETWORK_ACCESS_DENIED
    assert bench.controller.get_member(NWID, A) == before


def test_unreadable_pinned_identity_denies(bench: Bench) -> None:
    store = MemoryStore()
    store.save_network({"nwid": f"{NWID:016x}", "private": False})
    store.save_member({"nwid": f"{NWID:016x}", "id": f"{A:010x}", "identity": "garbage", "authorized": True})
    assert error_of(Bench(bench.identity, store).request(NWID, node(A))).code == ErrorCode.NETWORK_ACCESS_DENIED


def test_public_network_authorises_for_good(bench: Bench) -> None:
    public_network(bench)
    bench.request(NWID, node(A))
    record = bench.controller.get_member(NWID, A)
    assert (record["authorized"], record["lastAuthorizedCredentialType"]) == (True, "public")
    assert (record["vMajor"], record["vMinor"], record["vRev"], record["vProto"]) == (1, 14, 1, 12)
    private_network(bench)
    bench.controller.take_actions()
    assert kinds(bench.request(NWID, node(A))) == [(A, Verb.OK)]


@pytest.mark.parametrize(
    ("sent", "authorized"),
    [
        (b"token:forever", True),
        (b"token:later", True),
        (b"token:past", False),
        (b"token:other", False),
        (b"token:", False),
        (b"forever", False),
    ],
)
def test_tokens(bench: Bench, sent: bytes, authorized: bool) -> None:
    private_network(bench, authTokens={"forever": 0, "later": START + 10**9, "past": START - 1, "": 0})
    bench.request(NWID, node(A), dictionary.encode([("revr", 1), ("a", sent)]))
    record = bench.controller.get_member(NWID, A)
    assert record["authorized"] is authorized
    assert record["lastAuthorizedCredential"] == (sent[6:].decode() if authorized else None)


def test_a_token_without_any_defined_is_denied_not_dropped(bench: Bench) -> None:
    private_network(bench)
    packets = bench.request(NWID, node(A), dictionary.encode([("a", b"token:x")]))
    assert error_of(packets).code == ErrorCode.NETWORK_ACCESS_DENIED


def test_sign_on_is_asked_for_as_captured() -> None:
    record = load("captures/b2-sso/network-record.json")
    nwid = int(record["nwid"], 16)
    store = MemoryStore()
    store.save_network(record)
    bench = Bench(captured_identity("b2-sso", nwid >> 24), store)
    member = captured_identity("b2-sso", 0xEC0ED37F82).without_private()
    bench.controller.update_member(bench.now, nwid, member.address, {"authorized": True})
    packets = bench.request(nwid, member, packet_id=0x82E406A7C81D3929)
    assert packets[0].payload.hex() == (  # captures/b2-sso, packet 11
        "0b82e406a7c81d392909b5a5c0c99c0055aa001761563d303030303030303030303030303030300a61553d"
    )
    bench.controller.update_member(bench.now, nwid, member.address, {"authenticationExpiryTime": bench.now + 5_000})
    config = config_of(bench.request(nwid, member)[0])
    assert (config.sso_enabled, config.authentication_expiry) == (True, bench.now - 1_001 + 5_000)
    assert revocations_in(bench.pass_time(3_000)) == {}
    assert list(revocations_in(bench.pass_time(2_000))) == [member.address]
    assert error_of(bench.request(nwid, member)).code == ErrorCode.NETWORK_AUTHENTICATION_REQUIRED


def test_the_node_itself_is_answered_directly(bench: Bench) -> None:
    own = bench.identity
    request = bench.controller.request
    assert request(bench.now, NWID, own, METADATA, 2**64 - 1, None) == [LocalError(NWID, ErrorCode.OBJ_NOT_FOUND)]
    private_network(bench)
    actions = request(bench.now + 2_000, NWID, own, METADATA, 2**64 - 1, None)
    assert actions == [LocalError(NWID, ErrorCode.NETWORK_ACCESS_DENIED)]
    bench.now += 3_000
    (pushed,) = authorize(bench, own.address)
    assert isinstance(pushed, LocalConfig)


# --- pushes --------------------------------------------------------------------------------------------------------


def test_a_denied_member_that_is_online_gets_its_configuration_when_authorised(bench: Bench) -> None:
    private_network(bench)
    bench.request(NWID, node(A))
    (pushed,) = authorize(bench, A)
    assert kinds([pushed]) == [(A, Verb.NETWORK_CONFIG)]
    assert config_of(pushed).issued_to == A
    assert bench.controller.get_member(NWID, A)["vMajor"] == 1


def test_nothing_is_pushed_to_members_that_are_offline_or_unknown(bench: Bench) -> None:
    private_network(bench)
    bench.request(NWID, node(A))
    bench.pass_time(ONLINE_WINDOW)
    assert authorize(bench, A) == []
    assert authorize(bench, B) == []


def test_members_that_were_online_are_told_after_a_restart(tmp_path: Path) -> None:
    """Of a deauthorised one, too: the others would go on to talk to it."""

    def started(now: int) -> Bench:
        found = Bench(captured_identity("b-join-private", CONTROLLER), SqliteStore(tmp_path))
        found.now = now
        return found

    third = identity_with_address(0x1122334455)
    bench = started(START)
    public_network(bench)
    bench.request(NWID, third)
    bench.pass_time(ONLINE_WINDOW)
    for address in (A, B):
        bench.request(NWID, node(address))
    bench.pass_time(REMEMBER_MS)
    again = started(bench.now)
    assert again.pass_time(1_000) == []
    again.controller.update_network(again.now, NWID, {"private": True})
    told = again.controller.take_actions()
    assert sorted(kinds(told)) == sorted((address, Verb.NETWORK_CONFIG) for address in (A, B))
    told = authorize(again, A, authorized=False)
    assert (A, Verb.ERROR) in kinds(told)
    assert [revocation.target for revocation in revocations_in(told)[B]] == [A]
    remembered = SqliteStore(tmp_path).remembered()
    assert sorted(heard.address for heard in remembered) == sorted((A, B)), "the one that is offline is forgotten"


def test_network_changes_are_pushed_to_members_online(bench: Bench) -> None:
    public_network(bench)
    bench.request(NWID, node(A))
    bench.request(NWID, node(B))
    bench.controller.update_network(bench.now, NWID, {"name": "new"})
    actions = bench.controller.take_actions()
    assert sorted(kinds(actions)) == sorted([(A, Verb.NETWORK_CONFIG), (B, Verb.NETWORK_CONFIG)])
    assert {config_of(action).name for action in actions} == {"new"}
    bench.controller.update_network(bench.now, NWID, {"name": "new"})
    assert bench.controller.take_actions() == []


@pytest.mark.parametrize("changed", ["update_member", "member_changed"])
def test_a_new_bridge_is_told_to_all_members_online(bench: Bench, changed: str) -> None:
    """Their configurations name it; without that they refuse what it bridges until they ask by themselves."""
    public_network(bench)
    bench.request(NWID, node(A))
    bench.request(NWID, node(B))
    for wanted in (True, False):
        if changed == "update_member":
            bench.controller.update_member(bench.now, NWID, A, {"activeBridge": wanted})
        else:
            record = bench.controller.get_member(NWID, A) | {"activeBridge": wanted}
            bench.controller.others.member_changed(bench.now, NWID, A, record)
        actions = bench.controller.take_actions()
        assert sorted(kinds(actions)) == sorted([(A, Verb.NETWORK_CONFIG), (B, Verb.NETWORK_CONFIG)])
        assert {config_of(action).active_bridges for action in actions} == {(A,) if wanted else ()}
    bench.controller.update_member(bench.now, NWID, A, {"name": "new"})
    assert kinds(bench.controller.take_actions()) == [(A, Verb.NETWORK_CONFIG)]


def test_many_pushes_are_spread_over_ticks(bench: Bench) -> None:
    public_network(bench)
    count = PUSHES_PER_ROUND + 5
    for number in range(count):
        bench.controller.request(bench.now, NWID, identity_with_address(0x1000000000 + number), METADATA, 1, None)
    bench.controller.update_network(bench.now, NWID, {"name": "new"})
    assert len(bench.controller.take_actions()) == PUSHES_PER_ROUND
    assert bench.controller.next_deadline(bench.now) == bench.now
    assert len(bench.pass_time(1)) == 5
    assert bench.controller.next_deadline(bench.now) is None


def test_pushes_do_not_bring_deleted_members_back(bench: Bench) -> None:
    public_network(bench)
    bench.request(NWID, node(A))
    bench.controller.delete_member(bench.now, NWID, A)
    bench.controller.update_network(bench.now, NWID, {"name": "new"})
    bench.controller.delete_network(bench.now, NWID)
    public_network(bench)
    assert bench.controller.list_members(NWID) == {}
    sent = kinds(bench.controller.take_actions())
    assert {verb for _, verb in sent} == {Verb.NETWORK_CREDENTIALS, Verb.ERROR}, "no configuration"
    assert kinds(bench.request(NWID, node(A))) == [(A, Verb.OK)]


# --- revocations ---------------------------------------------------------------------------------------------------


def test_deauthorising_revokes_at_every_member_online(bench: Bench) -> None:
    private_network(bench)
    authorize(bench, A)
    for member in (A, B):
        bench.request(NWID, node(member))
    found = revocations_in(authorize(bench, A, False))
    assert sorted(found) == sorted([A, B])
    (revocation,) = found[B]
    assert revocation.verify(bench.identity)
    assert (revocation.target, revocation.threshold, revocation.credential_type) == (A, bench.now, CredentialType.COM)
    assert (revocation.credential_id, revocation.fast_propagate) == (0, True)
    assert error_of(bench.request(NWID, node(A))).code == ErrorCode.NETWORK_ACCESS_DENIED


def test_who_is_deauthorised_is_told_and_who_never_had_access_is_not(bench: Bench) -> None:
    private_network(bench)
    authorize(bench, A)
    for member in (A, B):
        bench.request(NWID, node(member))
    told = [
        action for action in authorize(bench, A, False) if isinstance(action, SendPacket) and action.verb is Verb.ERROR
    ]
    assert [packet.destination for packet in told] == [A]
    error = error_of(told)
    assert (error.code, error.in_re_id) == (ErrorCode.NETWORK_ACCESS_DENIED, 0)
    bench.controller.update_network(bench.now, NWID, {"name": "new"})
    assert B not in {destination for destination, _ in kinds(bench.controller.take_actions())}


def test_what_is_issued_after_a_revocation_is_newer_than_it(bench: Bench) -> None:
    """Even within the same millisecond; otherwise the new certificate would be refused."""
    private_network(bench)
    authorize(bench, A)
    bench.request(NWID, node(A))
    threshold = revocations_in(authorize(bench, A, False))[A][0].threshold
    (pushed,) = authorize(bench, A)
    com = config_of(pushed).com
    assert com is not None
    assert com.timestamp > threshold


def test_deauthorising_on_a_public_network_does_not_hold(bench: Bench) -> None:
    public_network(bench)
    bench.request(NWID, node(A))
    actions = authorize(bench, A, False)
    assert kinds(actions) == [(A, Verb.NETWORK_CREDENTIALS), (A, Verb.NETWORK_CONFIG)]
    assert bench.controller.get_member(NWID, A)["authorized"] is True


def test_deleting_a_member_revokes_only_if_it_was_authorised(bench: Bench) -> None:
    private_network(bench)
    authorize(bench, A)
    for member in (A, B):
        bench.request(NWID, node(member))
    bench.controller.delete_member(bench.now, NWID, B)
    assert bench.controller.take_actions() == []
    bench.controller.delete_member(bench.now, NWID, A)
    assert sorted(revocations_in(bench.controller.take_actions())) == sorted([A, B])


def errors_in(actions: list[ControllerAction]) -> dict[int, ErrorCode]:
    """Who is told what unasked."""
    packets = [action for action in actions if isinstance(action, SendPacket) and action.verb is Verb.ERROR]
    return {packet.destination: error_of([packet]).code for packet in packets}


def test_who_is_deleted_is_told_and_so_is_who_loses_its_network(bench: Bench) -> None:
    private_network(bench)
    authorize(bench, A)
    authorize(bench, B)
    for member in (A, B):
        bench.request(NWID, node(member))
    bench.controller.delete_member(bench.now, NWID, A)
    assert errors_in(bench.controller.take_actions()) == {A: ErrorCode.NETWORK_ACCESS_DENIED}
    bench.controller.delete_network(bench.now, NWID)
    assert errors_in(bench.controller.take_actions()) == {B: ErrorCode.OBJ_NOT_FOUND}
    assert bench.controller.list_networks() == []


def test_many_revocations_are_packed_and_paced(bench: Bench) -> None:
    """A member reads one packet of credentials a second."""
    private_network(bench)
    bench.request(NWID, node(A))
    members = range(0x1000000000, 0x1000000000 + 2 * REVOCATIONS_PER_PACKET)
    for member in members:
        authorize(bench, member)
    bench.controller.delete_network(bench.now, NWID)
    targets: list[int] = []
    for due in (0, REVOCATION_INTERVAL):
        assert due == 0 or bench.pass_time(due - 1) == []
        actions = bench.controller.take_actions() if due == 0 else bench.pass_time(1)
        assert kinds(actions) == [(A, Verb.NETWORK_CREDENTIALS)]
        targets += [revocation.target for revocation in revocations_in(actions)[A]]
    assert targets == list(members)
    assert bench.controller.next_deadline(bench.now) is None


# --- the store -----------------------------------------------------------------------------------------------------


class FullDisk(MemoryStore):
    """A store that cannot be written once `full` is set."""

    full = False

    def save_network(self, record: JsonObject) -> None:
        self._check()
        super().save_network(record)

    def save_member(self, record: JsonObject) -> None:
        self._check()
        super().save_member(record)

    def delete_member(self, nwid: int, address: int) -> None:
        self._check()

    def _check(self) -> None:
        if self.full:
            raise StoreError("no space left")


def test_a_failing_store_changes_nothing(bench: Bench) -> None:
    store = FullDisk()
    bench = Bench(bench.identity, store)
    private_network(bench)
    bench.request(NWID, node(A))
    before = (bench.controller.get_network(NWID), bench.controller.get_member(NWID, A))
    store.full = True
    for change in (
        lambda: bench.controller.update_network(bench.now, NWID, {"name": "x"}),
        lambda: bench.controller.update_member(bench.now, NWID, A, {"authorized": True}),
        lambda: bench.controller.delete_member(bench.now, NWID, A),
    ):
        with pytest.raises(ControllerError) as raised:
            change()
        assert raised.value.status == 503
    assert bench.request(NWID, node(B)) == []
    assert bench.controller.counters["drop_store_failed"] == 4
    assert (bench.controller.get_network(NWID), bench.controller.get_member(NWID, A)) == before
    assert bench.controller.take_actions() == []


def test_addresses_are_given_to_one_member_only(bench: Bench) -> None:
    public_network(
        bench,
        routes=[{"target": "10.9.0.0/24"}],
        ipAssignmentPools=[{"ipRangeStart": "10.9.0.1", "ipRangeEnd": "10.9.0.4"}],
        v4AssignMode={"zt": True},
    )
    given = [
        config_of(bench.request(NWID, identity_with_address(0x2000000000 + 3 * number))[0]).static_ips
        for number in range(4)
    ]
    assert sorted(len(ips) for ips in given) == [0, 1, 1, 1]
    assert len({ips[0] for ips in given if ips}) == 3


def test_a_shared_address_stays_taken_until_its_last_holder_is_gone(bench: Bench) -> None:
    public_network(
        bench,
        routes=[{"target": "10.9.0.0/24"}],
        ipAssignmentPools=[{"ipRangeStart": "10.9.0.1", "ipRangeEnd": "10.9.0.1"}],
        v4AssignMode={"zt": True},
    )
    for member in (A, B):
        bench.controller.update_member(bench.now, NWID, member, {"ipAssignments": ["10.9.0.1"]})
    other = identity_with_address(0x2000000000)
    bench.controller.delete_member(bench.now, NWID, A)
    assert config_of(bench.request(NWID, other)[0]).static_ips == ()
    bench.controller.delete_member(bench.now, NWID, B)
    assert len(config_of(bench.request(NWID, other)[0]).static_ips) == 1


def test_locally_authorised_members_are_remembered_for_three_minutes(bench: Bench) -> None:
    public_network(bench)
    assert not bench.controller.serving.locally_authorized(bench.now, NWID, A)
    bench.request(NWID, node(A))
    bench.pass_time(179_999)
    assert bench.controller.serving.locally_authorized(bench.now, NWID, A)
    bench.pass_time(1)
    assert not bench.controller.serving.locally_authorized(bench.now, NWID, A)


def test_metrics(bench: Bench) -> None:
    private_network(bench)
    bench.request(NWID, node(A))
    authorize(bench, A)
    authorize(bench, A, False)
    assert bench.controller.metrics() == {
        "controller_network_count": 1,
        "controller_member_count": 1,
        "controller_network_change_count": 1,
        "controller_member_change_count": 2,
        "controller_member_auth_count": 1,
        "controller_member_deauth_count": 1,
        "controller_network_config_request": 1,
    }


def test_status_table_is_bounded() -> None:
    table = StatusTable(capacity=3)
    for number in range(5):
        assert table.admit(number, NWID, identity_with_address(0x1000000000 + number), b"")
    assert len(table) == 3
    assert [status.address & 0xF for status in table.online(5, NWID)] == [2, 3, 4]
    table.prune(10**9)
    assert len(table) == 0


@pytest.mark.parametrize("metadata", [b"", b"\0", b"revr=", b"revr=zz\nmajv=-1", b"x" * 5_000, b"a=token:\xff"])
def test_any_metadata_is_survived(bench: Bench, metadata: bytes) -> None:
    public_network(bench, authTokens={"x": 0})
    assert kinds(bench.request(NWID, node(A), metadata)) == [(A, Verb.OK)]
