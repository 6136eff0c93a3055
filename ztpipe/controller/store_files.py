"""Moving records in bulk: to and from the reference's directory of JSON files, and whole copies of the database.

The directory is the reference's `controller.d` (controller §10.1): what is exported there it reads, what it wrote is
imported; nothing is lost in either direction, fields that neither knows included.  All of this works beside a running
node; after an import or a restore it must be told to read its store again (`Controller.reload`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.store import Store, StoreError
from ztpipe.controller.store_import import member_files, network_files
from ztpipe.controller.store_sqlite import APPLICATION_ID, FILE_NAME, SCHEMA_VERSION, SqliteStore

_PAGES: Final = 1024  # copied at a time, so that a writer waits for milliseconds only


@dataclass(frozen=True, slots=True)
class Moved:
    """What was imported or exported; `skipped` files are not records, as the reference judges them."""

    networks: int = 0
    members: int = 0
    skipped: int = 0


def export_files(store: Store, directory: Path) -> Moved:
    """Write all records below `directory`, which must hold none yet; raises StoreError."""
    networks = members = 0
    with _failures(directory, "cannot export"):
        if any((directory / "network").glob("*")):
            raise StoreError(f"{directory}: holds networks already; name an empty or new directory")
        (directory / "network").mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        for record in store.networks():
            networks += 1
            _write(directory / "network" / f"{record['nwid']}.json", record)
            for member in store.members(int(record["nwid"], 16)):
                members += 1
                _write(directory / "network" / record["nwid"] / "member" / f"{member['id']}.json", member)
        (directory / "trace").mkdir(mode=0o700, exist_ok=True, parents=True)
    return Moved(networks, members)


def import_files(store: Store, directory: Path) -> Moved:
    """Take over all records below `directory`, all or (if it raises StoreError) none; others stay as they are."""
    networks = members = 0
    with _failures(directory, "cannot import"):
        if not (directory / "network").is_dir():
            raise StoreError(f"{directory}: expected a controller.d with a directory `network` in it")
        with store.transaction():
            for record in network_files(directory):
                networks += 1
                store.save_network(record)
                for member in member_files(directory, record["nwid"]):
                    members += 1
                    store.save_member(member)
        found = sum(1 for pattern in ("*.json", "*/member/*.json") for _ in (directory / "network").glob(pattern))
    return Moved(networks, members, found - networks - members)


def backup(directory: Path, target: Path) -> None:
    """Copy the database in `directory` to the new file `target`, mode 0600, as it is at one moment."""
    with _failures(target, "cannot back up"):
        source = directory / FILE_NAME
        if not source.is_file():
            raise StoreError(f"{source}: there is no controller database")
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with closing(sqlite3.connect(source)) as origin, closing(sqlite3.connect(target)) as copy:
                origin.execute("PRAGMA busy_timeout = 5000")
                origin.backup(copy, pages=_PAGES)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, complete by itself
            _check(target)
        except BaseException:
            target.unlink()
            raise


def restore(source: Path, directory: Path) -> None:
    """Make the database in `directory` what the backup `source` is; it stays as it was if that fails."""
    with _failures(source, "cannot restore"):
        if not source.is_file():
            raise StoreError(f"{source}: there is no such backup")
        _check(source)
        SqliteStore(directory).close()  # made if missing, with its mode
        with closing(sqlite3.connect(source)) as origin, closing(sqlite3.connect(directory / FILE_NAME)) as target:
            target.execute("PRAGMA busy_timeout = 5000")
            origin.backup(target)
            target.execute("PRAGMA journal_mode = WAL")
        SqliteStore(directory).close()  # an older format is converted


def backup_shared(store: Store, target: Path) -> None:
    """Copy a store of another kind to the new file `target`, a backup like any other."""
    with _failures(target, "cannot back up"), tempfile.TemporaryDirectory(dir=target.parent) as directory:
        with SqliteStore(Path(directory)) as copy:
            _copy_records(store, copy)
        backup(Path(directory), target)


def restore_shared(source: Path, store: Store) -> None:
    """Replace the records in a store of another kind by those of the backup `source`, all or none."""
    with _failures(source, "cannot restore"), tempfile.TemporaryDirectory() as directory:
        restore(source, Path(directory))
        with SqliteStore(Path(directory)) as copy, store.transaction():
            for record in store.networks():
                store.delete_network(int(record["nwid"], 16))
            _copy_records(copy, store)


def _copy_records(source: Store, target: Store) -> None:
    with target.transaction():
        for record in source.networks():
            target.save_network(record)
            for member in source.members(int(record["nwid"], 16)):
                target.save_member(member)


def _check(path: Path) -> None:
    """Refuse what is no sound database of a controller."""
    with closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True)) as database:
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise StoreError(f"{path}: is no backup of a controller")
        if not 1 <= version <= SCHEMA_VERSION:
            raise StoreError(f"{path}: has format {version}, this program knows formats up to {SCHEMA_VERSION}")
        damage = database.execute("PRAGMA quick_check(1)").fetchone()
        if damage is None or damage[0] != "ok":
            raise StoreError(f"{path}: is damaged: {damage[0] if damage else 'no answer'}")


def _write(path: Path, record: JsonObject) -> None:
    """One file in the reference's form: compact, keys in order, no newline."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps(record, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def _failures(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {what}: {error}") from error
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {what}: {error.strerror}") from error
