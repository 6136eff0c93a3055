"""What the controller can do beyond the reference's: sources of rules, revisions, lists, the audit log, expiry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.controller.support import Bench, captured_identity, identity_with_address
from tests.controller.test_requests import NWID, A, B, error_of, node, revocations_in
from ztpipe.controller import ControllerError, MemoryStore, SendPacket
from ztpipe.controller.change import Change
from ztpipe.controller.listing import MemberQuery, NetworkQuery
from ztpipe.controller.store_sqlite import SqliteStore
from ztpipe.wire.protocol import ErrorCode, Verb

SOURCE = (
    "# web only\ntag role id 7 default 3;\ncap ssh id 1 default accept dport 22; ;\ndrop not ethertype ipv4;\naccept;\n"
)
ADMIN = Change("admin")


@pytest.fixture(params=["memory", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path)
    bench = Bench(captured_identity("b-join-private", 0x3BFB63739C), store)
    bench.controller.update_network(bench.now, NWID, {})
    return bench


def refusal(action: Any) -> ControllerError:
    with pytest.raises(ControllerError) as raised:
        action()
    return raised.value


def is_refused(packets: list[SendPacket]) -> bool:
    if packets[0].verb != Verb.ERROR:
        return False
    return error_of(packets).code == ErrorCode.NETWORK_ACCESS_DENIED


# --- rulesSource -----------------------------------------------------------------------------------------------------


def test_a_source_is_compiled_and_kept(bench: Bench) -> None:
    record = bench.controller.update_network(bench.now, NWID, {"rulesSource": SOURCE})
    assert record["rulesSource"] == SOURCE
    assert [rule["type"] for rule in record["rules"]] == ["MATCH_ETHERTYPE", "ACTION_DROP", "ACTION_ACCEPT"]
    assert record["tags"] == [{"default": 3, "id": 7}]
    assert [(cap["id"], cap["default"]) for cap in record["capabilities"]] == [(1, True)]
    again = bench.controller.update_network(bench.now, NWID, record)
    assert again == record, "posting back what was answered changes nothing"


def test_a_source_goes_when_its_rules_are_changed_without_it(bench: Bench) -> None:
    bench.controller.update_network(bench.now, NWID, {"rulesSource": SOURCE})
    assert bench.controller.update_network(bench.now, NWID, {"name": "x"})["rulesSource"] == SOURCE
    record = bench.controller.update_network(bench.now, NWID, {"rules": [{"type": "ACTION_DROP"}]})
    assert record["rulesSource"] == ""
    assert record["tags"] == [{"default": 3, "id": 7}]


def test_rules_win_over_a_source_that_comes_with_them(bench: Bench) -> None:
    """What ZTNET does: it compiles in the browser and sends "#"."""
    body = {"rules": [{"type": "ACTION_DROP"}], "rulesSource": "#"}
    for _ in range(2):
        record = bench.controller.update_network(bench.now, NWID, body)
        assert (record["rules"], record["rulesSource"]) == ([{"type": "ACTION_DROP"}], "")
    edited = bench.controller.update_network(bench.now, NWID, record | {"rulesSource": SOURCE})
    assert len(edited["rules"]) == 3, "the whole object with another source"


def test_an_empty_source_only_forgets_the_source(bench: Bench) -> None:
    before = bench.controller.update_network(bench.now, NWID, {"rulesSource": SOURCE})
    after = bench.controller.update_network(bench.now, NWID, {"rulesSource": ""})
    assert after["rulesSource"] == "" and after["rules"] == before["rules"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("drop and;\n  drop ethertpye ipv4;", {"line": 2, "column": 8, "hint": "did you mean ethertype?"}),
        (5, {"field": "rulesSource"}),
        ("accept and;\n" * 1025, {"error": "rulesSource: expected at most 1024 rules, not 1025"}),
        ("#" * (1 << 18) + "\n", {"field": "rulesSource"}),
        ("cap c id 1 " + "accept and; " * 65 + ";", {"field": "rulesSource"}),
    ],
)
def test_a_wrong_source_changes_nothing(bench: Bench, source: Any, expected: dict[str, Any]) -> None:
    before = bench.controller.get_network(NWID)
    error = refusal(lambda: bench.controller.update_network(bench.now, NWID, {"name": "x", "rulesSource": source}))
    assert error.status == 400 and error.body is not None
    assert expected.items() <= error.body.items()
    assert bench.controller.get_network(NWID) == before


# --- revisions and bulk ----------------------------------------------------------------------------------------------


def test_a_change_for_another_revision_is_refused(bench: Bench) -> None:
    controller = bench.controller
    controller.update_network(bench.now, NWID, {"name": "one"}, Change(revision=1))
    for revision in (1, 3):
        error = refusal(
            lambda r=revision: controller.update_network(bench.now, NWID, {"name": "x"}, Change(revision=r))
        )
        assert error.status == 412 and error.body is not None and error.body["revision"] == 2
    assert refusal(lambda: controller.update_member(bench.now, NWID, A, {}, Change(revision=-1))).status == 412
    controller.update_member(bench.now, NWID, A, {})
    assert refusal(lambda: controller.delete_member(bench.now, NWID, A, Change(revision=2))).status == 412
    controller.delete_member(bench.now, NWID, A, Change(revision=1))
    assert refusal(lambda: controller.delete_network(bench.now, NWID, Change(revision=9))).status == 412
    assert controller.get_network(NWID)["name"] == "one"


def test_bulk_is_all_or_nothing(bench: Bench) -> None:
    bodies: dict[int, Any] = {A: {"authorized": True}, B: {"ipAssignments": [7]}}
    assert refusal(lambda: bench.controller.update_members(bench.now, NWID, bodies)).status == 400
    assert bench.controller.list_members(NWID) == {}
    bodies[B] = {"authorized": True, "name": "b"}
    answers = bench.controller.update_members(bench.now, NWID, bodies)
    assert [answer["authorized"] for answer in answers] == [True, True]
    assert bench.controller.member_counts(NWID) == (2, 2)


def test_a_store_that_fails_in_the_middle_of_bulk_leaves_nothing_half_done(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    bench = Bench(captured_identity("b-join-private", 0x3BFB63739C), store)
    bench.controller.update_network(bench.now, NWID, {})
    store._db.execute(  # the second write of the transaction fails
        "CREATE TEMP TRIGGER fail BEFORE INSERT ON main.member WHEN new.address = 'bbbbbbbbbb'"
        " BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    )
    bodies = {A: {"authorized": True}, 0xBBBBBBBBBB: {"authorized": True}}
    assert refusal(lambda: bench.controller.update_members(bench.now, NWID, bodies)).status == 503
    assert bench.controller.list_members(NWID) == {}
    assert list(store.members(NWID)) == []
    assert [line["action"] for line in bench.controller.audit()] == ["network.create"]


# --- deleted members, expiry -----------------------------------------------------------------------------------------


def test_a_deleted_member_stays_deleted_until_it_is_added_again(bench: Bench) -> None:
    controller = bench.controller
    controller.update_network(bench.now, NWID, {"private": False})
    assert not is_refused(bench.request(NWID, node(A)))
    controller.delete_member(bench.now, NWID, A)
    controller.take_actions()
    for current in (bench, Bench(bench.identity, bench.store)):
        current.now = bench.now
        assert is_refused(current.request(NWID, node(A)))
        assert current.controller.list_members(NWID) == {}
        assert current.controller.query_members(current.now, NWID, MemberQuery()).total == 0
    assert refusal(lambda: controller.get_member(NWID, A)).status == 404
    controller.update_member(bench.now, NWID, A, {"authorized": True})
    assert not is_refused(bench.request(NWID, node(A)))


def test_a_forgotten_member_may_come_back(bench: Bench) -> None:
    controller = bench.controller
    controller.update_member(bench.now, NWID, A, {})
    controller.delete_member(bench.now, NWID, A)
    controller.delete_member(bench.now, NWID, A, forget=True)
    bench.request(NWID, node(A))
    assert list(controller.list_members(NWID)) == [f"{A:010x}"]


def test_an_expired_member_is_deauthorised_and_revoked(bench: Bench) -> None:
    controller = bench.controller
    controller.update_network(bench.now, NWID, {"private": False})
    bench.request(NWID, node(A))
    bench.request(NWID, node(B))
    end = bench.now + 60_000
    controller.update_member(bench.now, NWID, A, {"expiresAt": end, "notes": "until Friday"}, ADMIN)
    controller.take_actions()
    assert controller.next_deadline(bench.now) == end
    bench.pass_time(30_000)
    assert controller.get_member(NWID, A)["authorized"] is True
    restarted = Bench(bench.identity, bench.store)
    restarted.now = bench.now
    restarted.pass_time(30_001)
    assert restarted.controller.get_member(NWID, A)["authorized"] is False
    actions = bench.pass_time(30_001)
    assert controller.get_member(NWID, A)["authorized"] is False
    assert actions, "the others are told"
    assert is_refused(bench.request(NWID, node(A))), "also on a public network"
    line = controller.audit(limit=1)[0]
    assert (line["actor"], line["changes"]["authorized"]) == ("expiry", [True, False])
    assert controller.update_member(bench.now, NWID, A, {"authorized": True})["expiresAt"] == 0
    bench.pass_time(1)
    assert not is_refused(bench.request(NWID, node(A)))


def test_who_is_not_authorised_after_a_reload_is_revoked(bench: Bench) -> None:
    controller = bench.controller
    for member in (A, B):
        controller.update_member(bench.now, NWID, member, {"authorized": True})
        bench.request(NWID, node(member))
    controller.take_actions()
    record = controller.get_member(NWID, A) | {"authorized": False}
    bench.store.save_member(record)
    controller.reload(bench.now, ADMIN)
    revocations = revocations_in(controller.take_actions())
    assert {revocation.target for found in revocations.values() for revocation in found} == {A}
    assert B in revocations
    assert controller.audit(limit=1)[0]["action"] == "store.reload"


# --- lists -----------------------------------------------------------------------------------------------------------


def test_members_by_pages_and_filters(bench: Bench) -> None:
    controller = bench.controller
    bodies = {
        0x1000000000 + n: {"authorized": n % 2 == 0, "name": f"Host {n}", "tags": [[7, n]] if n < 3 else []}
        for n in range(10)
    }
    controller.update_members(bench.now, NWID, bodies)
    seen, after, pages = [], 0, 0
    while True:
        page = controller.query_members(bench.now, NWID, MemberQuery(after=after, limit=4, authorized=True))
        assert page.total == 5
        seen += [member["name"] for member in page.data]
        pages += 1
        if page.next is None:
            break
        after = int(page.next, 16)
    assert (seen, pages) == ([f"Host {n}" for n in (0, 2, 4, 6, 8)], 2)
    assert controller.query_members(bench.now, NWID, MemberQuery(text="host 7")).data[0]["id"] == "1000000007"
    assert controller.query_members(bench.now, NWID, MemberQuery(tag=7)).total == 3
    online = identity_with_address(0x1000000004)
    bench.request(NWID, online)
    (member,) = controller.query_members(bench.now, NWID, MemberQuery(online=True)).data
    assert member["meta"] == {"online": True, "lastSeen": bench.now}


def test_networks_with_counts(bench: Bench) -> None:
    bench.controller.update_network(bench.now, NWID + 1, {"private": False, "name": "Office"})
    bench.controller.update_member(bench.now, NWID, A, {"authorized": True})
    first = bench.controller.query_networks(NetworkQuery(limit=1))
    assert first.total == 2 and first.next == f"{NWID:016x}"
    assert first.data[0]["meta"] == {"authorizedMemberCount": 1, "totalMemberCount": 1}
    (second,) = bench.controller.query_networks(NetworkQuery(after=NWID)).data
    assert second["name"] == "Office"
    assert bench.controller.query_networks(NetworkQuery(text="OFF", private=True)).total == 0


# --- the audit log ---------------------------------------------------------------------------------------------------


def test_the_audit_log_says_who_when_and_what(bench: Bench) -> None:
    controller = bench.controller
    controller.update_network(bench.now, NWID, {"name": "x", "authTokens": {"hush": 0}}, ADMIN)
    controller.update_network(bench.now, NWID, {"name": "x"}, ADMIN)
    controller.update_member(bench.now + 5, NWID, A, {"authorized": True}, Change("ui"))
    controller.delete_member(bench.now + 6, NWID, A, Change("ui"))
    lines = controller.audit()
    assert [(line["actor"], line["action"]) for line in lines] == [
        ("ui", "member.delete"),
        ("ui", "member.create"),
        ("admin", "network.update"),
        ("", "network.create"),
    ]
    assert lines[1]["time"] == bench.now + 5 and lines[1]["member"] == f"{A:010x}"
    assert lines[2]["changes"]["name"] == ["", "x"]
    assert "hush" not in json.dumps(lines)
    assert controller.audit(before=lines[1]["id"], limit=1) == [lines[2]]
    assert controller.audit(nwid=NWID, address=A) == lines[:2]
    assert controller.audit(nwid=NWID + 1) == []


def test_the_audit_log_outlives_the_process(tmp_path: Path) -> None:
    identity = captured_identity("b-join-private", 0x3BFB63739C)
    with SqliteStore(tmp_path) as store:
        Bench(identity, store).controller.update_network(1, NWID, {}, ADMIN)
    with SqliteStore(tmp_path) as store:
        assert [line["actor"] for line in Bench(identity, store).controller.audit()] == ["admin"]
