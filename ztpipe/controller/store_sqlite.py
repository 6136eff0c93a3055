"""The durable store: one SQLite file, one row per object.

Write-ahead logging with full synchronisation: a write that has returned survives a crash of the machine, and a write
that was cut short leaves the row as it was.  A new file takes over the JSON files that the reference keeps in the same
directory (controller §10); they are left as they are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ztpipe.controller.coerce import JsonObject, integer
from ztpipe.controller.store import AUDIT_CAPACITY, Heard, StoreError
from ztpipe.controller.store_import import member_files, network_files

FILE_NAME: Final = "controller.db"
SCHEMA_VERSION: Final = 3
LOCKED_MS: Final = 250
"""How long a write waits for another process that has the file locked; the node waits with it."""
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
APPLICATION_ID: Final = 0x7A746370  # "ztcp": tells our file from any other SQLite file

_SCHEMA: Final = """
CREATE TABLE network (
    nwid TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    object TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE member (
    nwid TEXT NOT NULL,
    address TEXT NOT NULL,
    revision INTEGER NOT NULL,
    object TEXT NOT NULL,
    PRIMARY KEY (nwid, address)
) WITHOUT ROWID;
"""
_AUDIT_SCHEMA: Final = """
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    nwid TEXT,
    member TEXT,
    object TEXT NOT NULL
);
CREATE INDEX audit_by_network ON audit (nwid, id);
"""
_HEARD_SCHEMA: Final = """
CREATE TABLE heard (
    nwid TEXT NOT NULL,
    address TEXT NOT NULL,
    metadata BLOB NOT NULL,
    asked INTEGER NOT NULL,
    granted INTEGER,
    PRIMARY KEY (nwid, address)
) WITHOUT ROWID;
"""
#: Statements that make the next format of the one before, by the format they start from.
_MIGRATIONS: Final = {1: _AUDIT_SCHEMA, 2: _HEARD_SCHEMA}
_AUDIT: Final = (
    "SELECT id, object FROM audit WHERE id < ?1 AND (?2 IS NULL OR nwid = ?2) AND (?3 IS NULL OR member = ?3)"
    " ORDER BY id DESC LIMIT ?4"
)
_SAVE_NETWORK: Final = "INSERT OR REPLACE INTO network (nwid, revision, object) VALUES (?, ?, ?)"
_SAVE_HEARD: Final = "INSERT OR REPLACE INTO heard (nwid, address, metadata, asked, granted) VALUES (?, ?, ?, ?, ?)"
_SAVE_MEMBER: Final = "INSERT OR REPLACE INTO member (nwid, address, revision, object) VALUES (?, ?, ?, ?)"


class SqliteStore:
    """A `Store` in `<directory>/controller.db`, mode 0600; made if missing.  Every failure is a StoreError.

    `imported` is the number of networks taken over from the reference's files when the file was made. Where there is
    no room for what SQLite keeps beside the file, a file that was closed in order is read, and `read_only`: a full disk
    at a restart must not stop the node. Writing fails until the next start.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self.imported = 0
        self.read_only = False
        self._locked = False  # by another process when we last looked: then nothing waits for it
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made first, so that the file never exists with a wider mode.
            self.path.touch(mode=0o600)
            self._db = sqlite3.connect(self.path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.path}: cannot open the controller's database: {error}") from error
        try:
            with self._failures("cannot open the controller's database"):
                self._prepare()
        except StoreError as error:
            self._db.close()
            if not (_no_room(error) and self._open_to_read()):
                raise

    def _open_to_read(self) -> bool:
        """Whether the file is of this format and complete without its journal."""
        journal = self.path.with_name(f"{FILE_NAME}-wal")
        if journal.exists() and journal.stat().st_size:
            return False
        self._db = sqlite3.connect(f"{self.path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
        made = [self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        self.read_only = made == [APPLICATION_ID, SCHEMA_VERSION]
        if not self.read_only:
            self._db.close()
        return self.read_only

    def close(self) -> None:
        """Flush and close the file; the store is unusable afterwards."""
        self._locked = False
        with self._failures("cannot close the controller's database"):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def networks(self) -> Iterable[JsonObject]:
        """Every network record, by ascending ID."""
        return self._objects("SELECT nwid, object FROM network ORDER BY nwid", ())

    def members(self, nwid: int) -> Iterable[JsonObject]:
        """Every member record of one network, by ascending address."""
        query = "SELECT nwid || '/' || address, object FROM member WHERE nwid = ? ORDER BY address"
        return self._objects(query, (f"{nwid:016x}",))

    def save_network(self, record: JsonObject) -> None:
        """Write a network record, replacing the one before."""
        self._write(_SAVE_NETWORK, _network_row(record))

    def save_member(self, record: JsonObject) -> None:
        """Write a member record, replacing the one before."""
        self._write(_SAVE_MEMBER, _member_row(record))

    def delete_network(self, nwid: int) -> None:
        """Remove a network and its members in one transaction."""
        key = (f"{nwid:016x}",)
        with self._failures("cannot delete a network"), self.transaction():
            self._db.execute("DELETE FROM member WHERE nwid = ?", key)
            self._db.execute("DELETE FROM network WHERE nwid = ?", key)

    def delete_member(self, nwid: int, address: int) -> None:
        """Remove one member."""
        self._write("DELETE FROM member WHERE nwid = ? AND address = ?", (f"{nwid:016x}", f"{address:010x}"))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written within is written whole or not at all; within another one it is part of that."""
        if self._db.in_transaction:
            yield
            return
        with self._failures("cannot write"), self._transaction():
            yield

    def append_audit(self, entry: JsonObject) -> None:
        """Add a line to the audit log, and drop the oldest beyond its capacity."""
        with self._failures("cannot write"), self.transaction():
            added = self._db.execute(
                "INSERT INTO audit (nwid, member, object) VALUES (?, ?, ?)",
                (entry["nwid"], entry["member"], _encode(entry)),
            )
            self._db.execute("DELETE FROM audit WHERE id <= ?", ((added.lastrowid or 0) - AUDIT_CAPACITY,))

    def audit(self, before: int | None, limit: int, nwid: str | None, member: str | None) -> list[JsonObject]:
        """Lines of the audit log, newest first."""
        top = 0x7FFFFFFFFFFFFFFF if before is None else min(before, 0x7FFFFFFFFFFFFFFF)
        with self._failures("cannot read"):
            rows = self._db.execute(_AUDIT, (top, nwid, member, limit)).fetchall()
        return [{"id": number, **self._decode(f"audit line {number}", text)} for number, text in rows]

    def remember(self, heard: Iterable[Heard], since: int) -> None:
        """Write who asked since the last time, and forget those that asked before `since`."""
        rows = [(f"{each.nwid:016x}", f"{each.address:010x}", *each[2:]) for each in heard]
        with self._failures("cannot write"), self.transaction():
            self._db.executemany(_SAVE_HEARD, rows)
            self._db.execute("DELETE FROM heard WHERE asked < ?", (since,))

    def remembered(self) -> list[Heard]:
        """Who asked lately, before this process began too."""
        with self._failures("cannot read"):
            query = "SELECT nwid, address, metadata, asked, granted FROM heard ORDER BY asked"
            rows = self._db.execute(query).fetchall()
        return [Heard(int(nwid, 16), int(address, 16), *rest) for nwid, address, *rest in rows]

    def _prepare(self) -> None:
        """Check that the file is sound and ours, and create the tables in a new one."""
        damage = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if damage is None or damage[0] != "ok":
            raise sqlite3.DatabaseError("quick_check: " + (damage[0] if damage else "no answer"))
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA busy_timeout = 2000")
        with self._transaction():
            self._migrate()
        self._db.execute(f"PRAGMA busy_timeout = {LOCKED_MS}")
        self.path.chmod(0o600)

    def _migrate(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables == 0:
            self._run(_SCHEMA + _AUDIT_SCHEMA + _HEARD_SCHEMA)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._import()
        elif application != APPLICATION_ID:
            raise StoreError(f"{self.path}: this SQLite file was not made by the controller; move it away")
        elif not 1 <= version <= SCHEMA_VERSION:
            raise StoreError(f"{self.path}: has format {version}, this program knows formats up to {SCHEMA_VERSION}")
        else:
            for old in range(version, SCHEMA_VERSION):
                self._run(_MIGRATIONS[old])
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _run(self, statements: str) -> None:
        for statement in filter(str.strip, statements.split(";")):
            self._db.execute(statement)

    def _import(self) -> None:
        """Take over the reference's files, all of them or, if that fails, none."""
        directory = self.path.parent
        for record in network_files(directory):
            self._db.execute(_SAVE_NETWORK, _network_row(record))
            members = member_files(directory, record["nwid"])
            self._db.executemany(_SAVE_MEMBER, map(_member_row, members))
            self.imported += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Turn what SQLite says into a StoreError that names the file and the way out."""
        try:
            yield
            self._wait_for_locks(True)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                self._wait_for_locks(False)
            raise StoreError(f"{self.path}: {what}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.path}: {what}: the file is damaged ({error}); restore it from a backup or move it away "
                "together with its -wal and -shm files to start with an empty controller"
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.path}: {what}: {error}") from error

    def _wait_for_locks(self, wait: bool) -> None:
        """The first write that finds the file locked waits a little, those after it do not until one succeeds."""
        if wait == self._locked:
            self._locked = not wait
            self._db.execute(f"PRAGMA busy_timeout = {LOCKED_MS if wait else 0}")

    def _write(self, statement: str, row: tuple[object, ...]) -> None:
        with self._failures("cannot write"):
            self._db.execute(statement, row)

    def _objects(self, query: str, parameters: tuple[object, ...]) -> list[JsonObject]:
        with self._failures("cannot read"):
            rows = self._db.execute(query, parameters).fetchall()
        return [self._decode(key, text) for key, text in rows]

    def _decode(self, key: str, text: str) -> JsonObject:
        try:
            value = json.loads(text)
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self.path}: the object of {key} is not JSON ({error})") from error
        if not isinstance(value, dict):
            raise StoreError(f"{self.path}: the object of {key} is not a JSON object")
        return value


def _no_room(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode & 0xFF in _NO_ROOM


def _network_row(record: JsonObject) -> tuple[object, ...]:
    return record["nwid"], _revision(record), _encode(record)


def _member_row(record: JsonObject) -> tuple[object, ...]:
    return record["nwid"], record["id"], _revision(record), _encode(record)


def _revision(record: JsonObject) -> int:
    """The revision as a number that SQLite can hold."""
    return integer(record.get("revision"), 0) & 0x7FFFFFFFFFFFFFFF


def _encode(record: JsonObject) -> str:
    return json.dumps(record, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
