"""The SQLite store: durable, atomic, and clear about damage."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.controller.support import Bench, captured_identity, load
from ztpipe.controller import MemoryStore, Store, StoreError
from ztpipe.controller.errors import ControllerError
from ztpipe.controller.store_sqlite import FILE_NAME, LOCKED_MS, SqliteStore

NWID = 0x3BFB63739C000001
CONTROLLER = 0x3BFB63739C
A = 0xDD66781748
NETWORK = {
    "id": f"{NWID:016x}",
    "nwid": f"{NWID:016x}",
    "name": "ö\U0001f600",
    "revision": 3,
    "multicastLimit": 2**64 - 1,
}
MEMBER = {"id": f"{A:010x}", "nwid": f"{NWID:016x}", "authorized": True, "revision": 1}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path)


def test_records_are_kept_replaced_and_deleted(store: Store) -> None:
    assert list(store.networks()) == []
    store.save_network(NETWORK)
    store.save_member(MEMBER)
    store.save_network(NETWORK | {"name": "new"})
    store.save_member(MEMBER | {"id": "1122334455"})
    assert list(store.networks()) == [NETWORK | {"name": "new"}]
    assert [record["id"] for record in sorted(store.members(NWID), key=lambda r: str(r["id"]))] == [
        "1122334455",
        MEMBER["id"],
    ]
    store.delete_member(NWID, A)
    store.delete_member(NWID, A)
    assert [record["id"] for record in store.members(NWID)] == ["1122334455"]
    store.delete_network(NWID)
    store.delete_network(NWID)
    assert list(store.networks()) == []
    assert list(store.members(NWID)) == []


def test_records_come_back_after_a_restart(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        bench = Bench(captured_identity("b-join-private", CONTROLLER), store)
        bench.controller.update_network(bench.now, NWID, {"private": False, "name": "ö"})
        bench.request(NWID, captured_identity("b-join-private", A).without_private())
        before = (bench.controller.get_network(NWID), bench.controller.get_member(NWID, A))
    with SqliteStore(tmp_path) as store:
        again = Bench(bench.identity, store)
        assert (again.controller.get_network(NWID), again.controller.get_member(NWID, A)) == before
        assert again.controller.member_counts(NWID) == (1, 1)


def test_the_file_is_closed_to_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "new")
        store.save_network(NETWORK)
    finally:
        os.umask(old)
    for path in (tmp_path / "new").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


WRITER = """
import sys
from pathlib import Path
from ztpipe.controller.store_sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
store.save_network({"id": "3bfb63739c000001", "nwid": "3bfb63739c000001", "revision": 1})
number = 0
while True:
    number += 1
    store.save_member({"id": "dd66781748", "nwid": "3bfb63739c000001", "revision": number, "text": "x" * 5000})
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        last = max([last, *map(int, process.stdout.read().split())])
    with SqliteStore(tmp_path) as store:
        (record,) = store.members(NWID)
    assert record["revision"] in (last, last + 1)
    assert record["text"] == "x" * 5000


def test_deleting_a_network_is_one_transaction(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.save_network(NETWORK)
    store.save_member(MEMBER)
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("CREATE TRIGGER stop BEFORE DELETE ON network BEGIN SELECT RAISE(ABORT, 'stopped'); END")
    with pytest.raises(StoreError, match="stopped"):
        store.delete_network(NWID)
    assert len(list(store.members(NWID))) == 1
    store.save_member(MEMBER | {"revision": 2})


def test_a_locked_database_refuses_changes_and_holds_up_nobody(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store, closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        bench = Bench(captured_identity("b-join-private", CONTROLLER), store)
        bench.controller.update_network(bench.now, NWID, {"name": "old"})
        member = captured_identity("b-join-private", A)
        bench.controller.update_member(bench.now, NWID, A, {"authorized": True})
        assert bench.request(NWID, member)
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        for _ in range(50):
            with pytest.raises(ControllerError) as refused:
                bench.controller.update_network(bench.now, NWID, {"name": "new"})
            assert refused.value.status == 503
        assert time.monotonic() - started < 50 * LOCKED_MS / 1000 / 5, "only the first one waits"
        assert bench.controller.get_network(NWID)["name"] == "old"
        assert bench.request(NWID, member), "who is known is answered"
        other.execute("ROLLBACK")
        assert bench.controller.update_network(bench.now, NWID, {"name": "new"})["revision"] == 2
    with SqliteStore(tmp_path) as store:
        assert [record["name"] for record in store.networks()] == ["new"]


def damaged_header(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 40)


def damaged_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 3 * 4096] = os.urandom(2 * 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [damaged_header, damaged_page])
def test_damage_is_reported_with_the_way_out(tmp_path: Path, damage: object) -> None:
    with SqliteStore(tmp_path) as store:
        store.save_network(NETWORK)
        store.save_member(MEMBER)
    assert callable(damage)
    damage(tmp_path / FILE_NAME)
    with pytest.raises(StoreError) as raised:
        SqliteStore(tmp_path)
    assert str(tmp_path / FILE_NAME) in str(raised.value)
    assert "damaged" in str(raised.value)
    assert "backup" in str(raised.value)


def test_an_object_that_is_not_json_is_named(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        store.save_network(NETWORK)
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("UPDATE network SET object = '{\"a\":'")
    with SqliteStore(tmp_path) as store, pytest.raises(StoreError, match="3bfb63739c000001"):
        list(store.networks())


def test_files_of_others_and_of_later_versions_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("CREATE TABLE foreign_table (a)")
    with pytest.raises(StoreError, match="not made by the controller"):
        SqliteStore(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    SqliteStore(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="format 99"):
        SqliteStore(tmp_path)


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open"):
        SqliteStore(tmp_path / "file")


def test_files_of_the_reference_are_taken_over_once(tmp_path: Path) -> None:
    sample = "controller-api/member-config-sample"
    network, member = load(f"{sample}/network.json"), load(f"{sample}/member.json")
    members = tmp_path / "network" / network["nwid"] / "member"
    members.mkdir(parents=True)
    (tmp_path / "network" / f"{network['nwid']}.json").write_text(json.dumps(network))
    (tmp_path / "network" / "1122334455667788.json").write_text("{bad")
    (tmp_path / "network" / "note.txt").write_text("{}")
    (members / "1451131615.json").write_text(json.dumps(member))
    (members / "aabbccddee.json").write_text(json.dumps({"id": "AABBCCDDEE", "nwid": "x", "activeBridge": True}))
    (members / "aabbccddef.json").write_text("[]")
    with SqliteStore(tmp_path) as store:
        assert store.imported == 1
        bench = Bench(captured_identity("b-join-private", CONTROLLER), store)
        nwid = int(network["nwid"], 16)
        assert bench.controller.list_networks() == [network["nwid"]]
        assert bench.controller.get_network(nwid) == network
        assert bench.controller.get_member(nwid, 0x1451131615) == member
        assert bench.controller.list_members(nwid) == {"1451131615": 2, "aabbccddee": 0}
        bench.controller.delete_network(bench.now, nwid)
    with SqliteStore(tmp_path) as store:
        assert store.imported == 0
        assert list(store.networks()) == []
