"""Records in bulk: the reference's directory both ways, backups, formats of the database."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.controller.support import Bench, captured_identity, load
from tests.controller.test_requests import NWID, A, B
from ztpipe.controller.store import StoreError
from ztpipe.controller.store_files import Moved, backup, export_files, import_files, restore
from ztpipe.controller.store_sqlite import FILE_NAME, SqliteStore

SAMPLE = "controller-api/member-config-sample"


def reference_directory(place: Path) -> dict[str, Any]:
    """Files as the reference writes them, with fields that nobody knows; path to content."""
    network, member = load(f"{SAMPLE}/network.json"), load(f"{SAMPLE}/member.json")
    nwid = network["nwid"]
    written = {
        f"network/{nwid}.json": network
        | {"certificateTimeoutWindowSize": 600_000, "custom": {"ä": [1.5, None, "\u2028"]}},
        f"network/{nwid}/member/1451131615.json": member | {"custom": [1]},
        f"network/{nwid}/member/aabbccddee.json": {"id": "aabbccddee", "address": "aabbccddee", "nwid": nwid},
    }
    for name, content in written.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False))
    return written


def contents(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): path.read_text() for path in sorted(place.rglob("*.json"))}


def test_there_and_back_again_without_loss(tmp_path: Path) -> None:
    reference_directory(tmp_path / "old")
    (tmp_path / "old/network/0000000000000000.json").write_text("{broken")
    with SqliteStore(tmp_path / "db") as store:
        assert import_files(store, tmp_path / "old") == Moved(1, 2, 1)
        assert export_files(store, tmp_path / "new") == Moved(1, 2)
    (tmp_path / "old/network/0000000000000000.json").unlink()
    assert contents(tmp_path / "new") == contents(tmp_path / "old")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    with SqliteStore(tmp_path / "new") as taken_over, SqliteStore(tmp_path / "db") as store:
        assert list(taken_over.networks()) == list(store.networks())


def test_deleted_members_stay_deleted_through_files(tmp_path: Path) -> None:
    identity = captured_identity("b-join-private", 0x3BFB63739C)
    with SqliteStore(tmp_path / "a") as store:
        controller = Bench(identity, store).controller
        controller.update_network(1, NWID, {})
        controller.update_members(1, NWID, {A: {"authorized": True}, B: {}})
        controller.delete_member(2, NWID, B)
        export_files(store, tmp_path / "files")
    with SqliteStore(tmp_path / "b") as store:
        import_files(store, tmp_path / "files")
        assert list(Bench(identity, store).controller.list_members(NWID)) == [f"{A:010x}"]


def test_export_does_not_mix_with_other_records(tmp_path: Path) -> None:
    reference_directory(tmp_path)
    with SqliteStore(tmp_path / "db") as store:
        with pytest.raises(StoreError, match="already"):
            export_files(store, tmp_path)
        with pytest.raises(StoreError, match=r"controller\.d"):
            import_files(store, tmp_path / "nothing")


def test_backup_and_restore_beside_a_running_controller(tmp_path: Path) -> None:
    identity = captured_identity("b-join-private", 0x3BFB63739C)
    with SqliteStore(tmp_path / "db") as store:
        bench = Bench(identity, store)
        bench.controller.update_network(bench.now, NWID, {"name": "before"})
        backup(tmp_path / "db", tmp_path / "copy")
        assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
        with pytest.raises(StoreError, match="cannot back up"):
            backup(tmp_path / "db", tmp_path / "copy")
        bench.controller.update_network(bench.now, NWID, {"name": "after"})
        bench.controller.update_network(bench.now, NWID + 1, {})
        restore(tmp_path / "copy", tmp_path / "db")
        bench.controller.reload(bench.now)
        assert bench.controller.list_networks() == [f"{NWID:016x}"]
        assert bench.controller.get_network(NWID)["name"] == "before"
        bench.controller.update_network(bench.now, NWID, {"name": "again"})
        assert [line["action"] for line in bench.controller.audit()] == [
            "network.update",
            "store.reload",
            "network.create",
        ]
    restore(tmp_path / "copy", tmp_path / "elsewhere")
    with SqliteStore(tmp_path / "elsewhere") as store:
        assert [record["name"] for record in store.networks()] == ["before"]


def test_restore_refuses_what_is_no_backup(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "db") as store:
        store.save_network({"nwid": f"{NWID:016x}", "revision": 1})
    with sqlite3.connect(tmp_path / "foreign") as other:
        other.execute("CREATE TABLE t (a)")
    (tmp_path / "text").write_text("not a database, certainly not one of a controller" * 30)
    for name in ("foreign", "text", "missing"):
        with pytest.raises(StoreError, match=name):
            restore(tmp_path / name, tmp_path / "db")
    with SqliteStore(tmp_path / "db") as store:
        assert len(list(store.networks())) == 1


def test_a_database_of_the_first_format_is_converted(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        store.save_network({"nwid": f"{NWID:016x}", "revision": 1})
    with sqlite3.connect(tmp_path / FILE_NAME) as old:
        old.execute("DROP TABLE audit")
        old.execute("DROP TABLE heard")
        old.execute("PRAGMA user_version = 1")
    with SqliteStore(tmp_path) as store:
        assert store.audit(None, 10, None, None) == []
        assert len(list(store.networks())) == 1
