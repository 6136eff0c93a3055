"""The store of a fleet, on a real server: records, transactions, conflicts, notices, leases, a server that dies."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from tests import postgres
from tests.controller.support import START, Bench, captured_identity
from ztpipe.cli import controller
from ztpipe.controller.errors import ControllerError
from ztpipe.controller.leases import INSIST_MS, REFUSAL_MS, SharedLeases
from ztpipe.controller.store import DELETED, StoreError
from ztpipe.controller.store_postgres import SCHEMA_VERSION, Changed, PostgresStore, read_notice
from ztpipe.controller.store_sqlite import SqliteStore

pytestmark = pytest.mark.skipif(bool(postgres.MISSING), reason=postgres.MISSING or "-")

ADDRESS = 0x3BFB63739C
NWID = ADDRESS << 24 | 1
MEMBER = 0x1122334455
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    directory = Path(tempfile.mkdtemp(prefix="zppg", dir="/tmp"))
    with postgres.server(directory) as found:
        yield found
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def uri(server: postgres.Server) -> str:
    return server.database(f"test{next(_numbers)}")


def opened(uri: str, instance: str = "a") -> PostgresStore:
    return PostgresStore(uri, ADDRESS, instance)


def network(revision: int = 1, **fields: object) -> dict[str, Any]:
    return {"nwid": f"{NWID:016x}", "id": f"{NWID:016x}", "revision": revision, **fields}


def member(revision: int = 1, **fields: object) -> dict[str, Any]:
    return {"nwid": f"{NWID:016x}", "id": f"{MEMBER:010x}", "revision": revision, **fields}


def test_records_come_back_as_they_were(uri: str) -> None:
    record = network(name="Büro \0 \ud800 'x' %s", nested={"b": [1, 2.5, None], "a": 2**53})
    store = opened(uri)
    store.save_network(record)
    store.save_member(member(tags=[[1, 2]]))
    other = opened(uri, "b")
    assert (other.networks(), other.network(NWID)) == ([record], record)
    assert other.members(NWID) == [other.member(NWID, MEMBER)] == [member(tags=[[1, 2]])]
    store.delete_member(NWID, MEMBER)
    assert other.members(NWID) == []
    store.delete_network(NWID)
    assert (other.networks(), other.network(NWID)) == ([], None)


def test_a_database_holds_several_controllers(uri: str) -> None:
    opened(uri).save_network(network())
    assert PostgresStore(uri, ADDRESS + 1, "b").networks() == []


def test_a_transaction_is_whole_or_nothing(uri: str) -> None:
    store = opened(uri)

    def half() -> None:
        with store.transaction():
            store.save_network(network())
            store.append_audit({"nwid": None, "member": None, "action": "x"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert store.networks() == []
    assert store.audit(None, 10, None, None) == []
    with store.transaction():
        store.save_network(network())
    assert len(opened(uri, "b").networks()) == 1


def test_nobody_overwrites_what_another_wrote_since(uri: str) -> None:
    first, second = opened(uri), opened(uri, "b")
    first.save_member(member(1))
    first.save_member(member(2, name="first"))
    with pytest.raises(StoreError, match="changed by another controller"):
        second.save_member(member(2, name="second"))
    assert second.member(NWID, MEMBER) == member(2, name="first")
    second.save_member(member(0, **{DELETED: 5}))
    first.save_member(member(1, name="again"))
    assert second.member(NWID, MEMBER) == member(1, name="again")


def test_audit(uri: str) -> None:
    store = opened(uri)
    for number in range(3):
        store.append_audit({"nwid": f"{NWID:016x}", "member": None, "number": number})
    lines = store.audit(None, 2, f"{NWID:016x}", None)
    assert [line["number"] for line in lines] == [2, 1]
    assert [line["number"] for line in store.audit(lines[-1]["id"], 9, None, None)] == [0]
    assert store.audit(None, 9, None, "1122334455") == []
    assert PostgresStore(uri, ADDRESS + 1, "b").audit(None, 9, None, None) == []


def test_a_newer_schema_is_left_alone(uri: str) -> None:
    opened(uri)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("UPDATE ztpipe.schema_version SET version = %s", (SCHEMA_VERSION + 1,))
    with pytest.raises(StoreError, match="knows up to"):
        opened(uri)


def test_notices(uri: str) -> None:
    store = opened(uri)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"LISTEN {store.channel}")  # type: ignore[arg-type]
        store.save_network(network())
        store.save_member(member())
        assert store.lease(NWID, MEMBER, b"m", insist=False)
        assert store.lease(NWID, MEMBER, b"m", insist=False)
        found = [read_notice(notice.payload) for notice in connection.notifies(timeout=0.3)]
    assert found == [
        Changed("network", "a", NWID, None),
        Changed("member", "a", NWID, MEMBER),
        Changed("lease", "a", NWID, MEMBER),
    ]


@pytest.mark.parametrize("payload", ["", "x", "network a zz", "network a 1 2", "member a 1", "other a 1 2"])
def test_what_is_no_notice(payload: str) -> None:
    assert read_notice(payload) is None


# --- leases -----------------------------------------------------------------------------------------------------


def _seen(uri: str, instance: str, seconds_ago: float) -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO ztpipe.instance VALUES (%s, 'x', now() - make_interval(secs => %s))"
            " ON CONFLICT (id) DO UPDATE SET seen = EXCLUDED.seen",
            (instance, seconds_ago),
        )


def test_one_holds_the_lease_until_it_is_dead_or_the_member_insists(uri: str) -> None:
    first, second = opened(uri), opened(uri, "b")
    _seen(uri, "a", 0)
    assert first.lease(NWID, MEMBER, b"m", insist=False)
    assert not second.lease(NWID, MEMBER, b"m", insist=False)
    assert second.lease(NWID, MEMBER, b"m", insist=True)
    _seen(uri, "b", 0)
    assert not first.lease(NWID, MEMBER, b"m", insist=False)
    _seen(uri, "b", 60)
    assert first.lease(NWID, MEMBER, b"m", insist=False)


def test_a_member_that_asks_again_is_answered(uri: str) -> None:
    holder, other = SharedLeases(opened(uri)), SharedLeases(opened(uri, "b"))
    _seen(uri, "a", 0)
    assert holder.answers(0, NWID, MEMBER, b"m")
    assert not other.answers(0, NWID, MEMBER, b"m")
    assert not other.answers(REFUSAL_MS - 1, NWID, MEMBER, b"m"), "the same request, twice"
    assert other.answers(5_000, NWID, MEMBER, b"m"), "it does not reach the holder"
    holder.lost(NWID, MEMBER)
    _seen(uri, "b", 0)
    assert not holder.answers(5_000, NWID, MEMBER, b"m")
    assert not holder.answers(6_000 + INSIST_MS, NWID, MEMBER, b"m"), "that was too long ago to be insisting"


# --- controllers ------------------------------------------------------------------------------------------------


def test_everybody_answers_while_the_database_is_away(server: postgres.Server) -> None:
    store = opened(server.database(f"test{next(_numbers)}"))
    bench = Bench(captured_identity("b-join-private", ADDRESS), store)
    leases = SharedLeases(store)
    server.kill()
    try:
        started = time.monotonic()
        for _ in range(20):
            assert leases.answers(0, NWID, MEMBER, b"m")
        with pytest.raises(ControllerError) as refused:
            bench.controller.update_network(bench.now, NWID, {"name": "new"})
        assert refused.value.status == 503
        assert time.monotonic() - started < 5, "attempts to connect have pauses, and nobody waits for them"
    finally:
        server.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            bench.controller.update_network(bench.now, NWID, {"name": "new"})
            break
        except ControllerError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_database_that_hangs_holds_up_nobody(server: postgres.Server) -> None:
    store = opened(server.database(f"test{next(_numbers)}"))
    store.hurry()
    bench = Bench(captured_identity("b-join-private", ADDRESS), store)
    bench.controller.update_network(bench.now, NWID, {"name": "old"})
    server.hang()
    try:
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(ControllerError) as refused:
                bench.controller.update_network(bench.now, NWID, {"name": "new"})
            assert refused.value.status == 503
        assert time.monotonic() - started < 5, "only the first waits, until somebody says that it is back"
        assert bench.controller.get_network(NWID)["name"] == "old"
    finally:
        server.hang(False)
    with pytest.raises(ControllerError):
        bench.controller.update_network(bench.now, NWID, {"name": "new"})
    store.retry()
    with pytest.raises(ControllerError):  # what others changed meanwhile is not known yet
        bench.controller.update_network(bench.now, NWID, {"name": "new"})
    assert store.behind
    store.caught_up(store.losses)
    assert bench.controller.update_network(bench.now, NWID, {"name": "new"})["revision"] == 2
    assert store.network(NWID) is not None


def test_a_deleted_member_stays_deleted_whatever_somebody_writes_who_does_not_know(uri: str) -> None:
    identity = captured_identity("b-join-private", ADDRESS)
    first, second = (Bench(identity, opened(uri, instance)) for instance in ("a", "b"))
    first.controller.update_network(START, NWID, {"name": "one"})
    first.controller.update_member(START, NWID, MEMBER, {"authorized": True})
    second.controller.others.network_changed(START, NWID, network())
    second.controller.others.member_changed(START, NWID, MEMBER, first.controller.get_member(NWID, MEMBER))
    first.controller.delete_member(START, NWID, MEMBER)
    with pytest.raises(ControllerError) as refused:
        second.controller.update_member(START, NWID, MEMBER, {"name": "late"})
    assert refused.value.status == 503
    first.controller.update_member(START, NWID, MEMBER, {"name": "again"})
    assert isinstance(first.store, PostgresStore)
    stored = first.store.member(NWID, MEMBER)
    assert stored is not None and stored["name"] == "again" and DELETED not in stored


def test_concurrent_writers(uri: str) -> None:
    """What was accepted is there with its line in the audit log, what was refused is not: none is half done or lost."""
    identity = captured_identity("b-join-private", ADDRESS)
    benches = [Bench(identity, opened(uri, instance)) for instance in ("a", "b", "c")]
    benches[0].controller.update_network(benches[0].now, NWID, {"name": "start"})
    accepted: list[str] = []
    refused: list[tuple[int, bool]] = []

    def write(bench: Bench) -> None:
        store = bench.store
        assert isinstance(store, PostgresStore)
        for number in range(25):
            name = f"{store.instance}{number}"
            bench.controller.others.network_changed(bench.now, NWID, store.network(NWID))
            try:
                bench.controller.update_network(bench.now, NWID, {"name": name})
                accepted.append(name)
            except ControllerError as error:
                refused.append((error.status, "another controller" in error.message))

    threads = [threading.Thread(target=write, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) + len(refused) == 75 and set(refused) <= {(503, True)}
    store = opened(uri, "d")
    lines = store.audit(None, 1_000, None, None)
    record = store.network(NWID)
    assert record is not None and record["revision"] == len(accepted) + 1 == len(lines)
    assert {line["changes"]["name"][1] for line in lines} == {"start", *accepted}
    assert sorted(line["revision"] for line in lines) == list(range(1, len(lines) + 1))


def test_a_controller_takes_over_what_another_wrote(uri: str) -> None:
    first = opened(uri)
    first.save_network(network(name="n"))
    bench = Bench(captured_identity("b-join-private", ADDRESS), opened(uri, "b"))
    first.save_network(network(2, name="m"))
    bench.controller.others.network_changed(bench.now, NWID, first.network(NWID))
    assert bench.controller.get_network(NWID)["name"] == "m"
    first.delete_network(NWID)
    bench.controller.others.network_changed(bench.now, NWID, first.network(NWID))
    with pytest.raises(ControllerError):
        bench.controller.get_network(NWID)


# --- moving records ---------------------------------------------------------------------------------------------


def test_records_move_between_the_two_kinds_of_store(uri: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    identity = captured_identity("b-join-private", ADDRESS)
    (home / "identity.secret").write_text(identity.text(private=True))
    store = opened(uri)
    store.save_network(network(3, name="n"))
    store.save_member(member(7, authorized=True))
    store.save_member({**member(0, **{DELETED: 5}), "id": "00000000aa"})

    def run(*words: object, database: str = uri) -> None:
        arguments = ["-D", str(home), *map(str, words), "--database", database]
        result = CliRunner().invoke(controller.command, arguments)
        assert result.exit_code == 0, result.output

    run("backup", tmp_path / "backup.db")
    run("export", tmp_path / "files")
    before = (store.networks(), store.members(NWID))
    run("restore", tmp_path / "backup.db", "--yes", database=str(tmp_path / "sqlite"))
    with SqliteStore(tmp_path / "sqlite") as sqlite:
        assert (sqlite.networks(), sqlite.members(NWID)) == before
        sqlite.save_network(network(1, name="older"))
    run("backup", tmp_path / "older.db", database=str(tmp_path / "sqlite"))
    run("restore", tmp_path / "older.db", "--yes")
    assert store.networks() == [network(1, name="older")]
    run("import", tmp_path / "files")
    assert store.networks() == [network(3, name="n")]
