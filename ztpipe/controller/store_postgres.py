"""The store of a fleet: PostgreSQL, shared by several controllers with one identity.

Every change is announced to the others in the transaction that makes it (NOTIFY), and none overwrites what another
controller wrote since: a record is only replaced by one of a higher revision. Who answers a member is agreed in the
table of leases; an instance that has not been seen for some seconds holds none.

A database that is away, or hangs, fails every operation with a StoreError: the first after half a second, the others at
once until it is reached again, so that it does not hold up the node.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, NamedTuple, TypeVar

import psycopg

from ztpipe.controller.coerce import JsonObject, integer
from ztpipe.controller.store import AUDIT_CAPACITY, DELETED, StoreError

SCHEMA_VERSION: Final = 1
INSTANCE_SECONDS: Final = 3.0
"""An instance that was not seen for so long is taken for dead."""
CONNECT_SECONDS: Final = 2
RETRY_SECONDS: Final = 1.0
"""The pause between attempts to reach a database that is away."""
_ANSWER_SECONDS: Final = 0.5
"""A database that does not answer within this time is away: the node waits with us."""
_STATEMENT_MS: Final = 400  # shorter, so that what takes long is undone there before we give up
_PATIENT_SECONDS: Final = 60.0  # the same for commands, which hold up nobody, and at the start
BEAT: Final = (
    "INSERT INTO ztpipe.instance (id, controller, seen) VALUES (%s, %s, now())"
    " ON CONFLICT (id) DO UPDATE SET seen = now()"
)
"""Say that an instance of a controller lives."""
_MIGRATION_LOCK: Final = 0x7A746370
_AUDIT_TRIM: Final = 1_000  # lines between two clean-ups of the audit log

#: Statements that make the next version of the schema, by the version they start from. Never changed once released.
_MIGRATIONS: Final[Sequence[str]] = (
    """
    CREATE TABLE ztpipe.network (
        nwid text COLLATE "C" PRIMARY KEY, revision bigint NOT NULL, object text NOT NULL
    );
    CREATE TABLE ztpipe.member (
        nwid text COLLATE "C" NOT NULL, address text COLLATE "C" NOT NULL, revision bigint NOT NULL,
        object text NOT NULL, PRIMARY KEY (nwid, address)
    );
    CREATE TABLE ztpipe.audit (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, controller text NOT NULL, nwid text, member text,
        object text NOT NULL
    );
    CREATE INDEX audit_by_network ON ztpipe.audit (nwid, id);
    CREATE TABLE ztpipe.instance (id text PRIMARY KEY, controller text NOT NULL, seen timestamptz NOT NULL);
    CREATE TABLE ztpipe.lease (
        nwid text COLLATE "C" NOT NULL, address text COLLATE "C" NOT NULL, holder text NOT NULL,
        metadata bytea NOT NULL, asked timestamptz NOT NULL, PRIMARY KEY (nwid, address)
    );
    """,
)
_SAVE: Final = {
    "network": "INSERT INTO ztpipe.network AS t (nwid, revision, object) VALUES (%s, %s, %s)"
    " ON CONFLICT (nwid) DO UPDATE SET revision = EXCLUDED.revision, object = EXCLUDED.object",
    "member": "INSERT INTO ztpipe.member AS t (nwid, address, revision, object) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT (nwid, address) DO UPDATE SET revision = EXCLUDED.revision, object = EXCLUDED.object",
}
#: And not if it is to stay deleted (revision 0), but for one who knows that: what is added again begins at 1.
_IF_NEWER: Final = " WHERE t.revision < EXCLUDED.revision AND (t.revision > 0 OR EXCLUDED.revision = 1)"
_AUDIT: Final = (
    "SELECT id, object FROM ztpipe.audit WHERE controller = %(controller)s AND id < %(top)s"
    " AND (%(nwid)s::text IS NULL OR nwid = %(nwid)s) AND (%(member)s::text IS NULL OR member = %(member)s)"
    " ORDER BY id DESC LIMIT %(limit)s"
)
#: Take or renew the lease if nobody else has it, its holder is dead, or the member insists. Gives its holder now, and
#: whether that is another than before.
_LEASE: Final = """
WITH before AS (
    SELECT holder FROM ztpipe.lease WHERE nwid = %(nwid)s AND address = %(address)s
), taken AS (
    INSERT INTO ztpipe.lease AS l (nwid, address, holder, metadata, asked)
    VALUES (%(nwid)s, %(address)s, %(instance)s, %(metadata)s, now())
    ON CONFLICT (nwid, address) DO UPDATE
    SET holder = EXCLUDED.holder, metadata = EXCLUDED.metadata, asked = EXCLUDED.asked
    WHERE l.holder = EXCLUDED.holder OR %(insist)s OR NOT EXISTS (
        SELECT FROM ztpipe.instance i WHERE i.id = l.holder AND i.seen > now() - make_interval(secs => %(seconds)s))
    RETURNING holder
)
SELECT EXISTS (SELECT FROM taken), (SELECT holder FROM before) IS DISTINCT FROM %(instance)s
"""
#: Take what dead instances held, of members that asked within the time that they count as online.
ADOPT: Final = """
UPDATE ztpipe.lease l SET holder = %(instance)s
WHERE left(nwid, 10) = %(controller)s AND holder <> %(instance)s AND asked > now() - make_interval(secs => %(online)s)
AND NOT EXISTS (
    SELECT FROM ztpipe.instance i WHERE i.id = l.holder AND i.seen > now() - make_interval(secs => %(seconds)s))
RETURNING nwid, address, metadata
"""


class Changed(NamedTuple):
    """A notice of another instance: a record was written or deleted, or the lease of a member was taken.

    `kind` is "network", "member" or "lease"; `address` is None for networks; `instance` is who did it.
    """

    kind: str
    instance: str
    nwid: int
    address: int | None


_T = TypeVar("_T")
_Row = tuple[Any, ...]


class _Connection(psycopg.Connection[_Row]):
    """One that is closed when the server does not answer in time, as a network that swallows everything never would."""

    seconds = _PATIENT_SECONDS

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}  # not known to older releases
        return super().wait(self._in_time(gen), min(interval, self.seconds / 4), **extra)

    def _in_time(self, gen: Generator[Any, Any, _T]) -> Generator[Any, Any, _T]:
        deadline = time.monotonic() + self.seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= deadline:
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {self.seconds:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class PostgresStore:
    """A `SharedStore` in the schema ``ztpipe`` of a PostgreSQL database; every failure is a StoreError.

    Holds the records whose network IDs begin with the address `controller`; a database may hold those of several.
    `instance` tells this process from the others.
    """

    def __init__(self, conninfo: str, controller: int, instance: str, *, overwrite: bool = False) -> None:
        """Connect and bring the schema up to date. `overwrite`: records replace newer ones too (import, restore)."""
        self.conninfo = conninfo
        self.instance = instance
        self.controller = f"{controller:010x}"
        self._database: _Connection | None = None
        self._retry_at = 0.0
        self._depth = 0
        self._overwrite = overwrite
        self._seconds = _PATIENT_SECONDS
        self._tended = False
        self.losses = 0
        self._caught_up = 0
        with self._failures("open"):
            _migrate(self._connection())
            self._connection().execute(BEAT, (self.instance, self.controller))

    def hurry(self) -> None:
        """From now on nothing may take long, and somebody else looks whether a lost database is back (`retry`)."""
        self._tended = True
        self._seconds = _ANSWER_SECONDS
        if self._database is not None:
            self._database.seconds = _ANSWER_SECONDS
            with self._failures("set up") as database:
                _limit(database)

    def retry(self) -> None:
        """The database answers again: the next operation may connect."""
        self._retry_at = 0.0

    @property
    def behind(self) -> bool:
        """Whether changes of others may have been missed: until it is known which, nothing is written (StoreError)."""
        return self._caught_up != self.losses

    def lost_touch(self) -> None:
        """Notices of others may have been missed."""
        self.losses += 1

    def caught_up(self, losses: int) -> None:
        """What was missed is known, but for what was since there were so many `losses`."""
        self._caught_up = losses

    @property
    def channel(self) -> str:
        """What to LISTEN on for notices of other instances (`read_notice`)."""
        return f"ztpipe_{self.controller}"

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    # --- reading ---------------------------------------------------------------------------------------------------

    def networks(self) -> list[JsonObject]:
        query = "SELECT nwid, object FROM ztpipe.network WHERE left(nwid, 10) = %s ORDER BY nwid"
        with self._patiently():
            return self._objects(query, (self.controller,))

    def members(self, nwid: int) -> list[JsonObject]:
        query = "SELECT nwid || '/' || address, object FROM ztpipe.member WHERE nwid = %s ORDER BY address"
        with self._patiently():
            return self._objects(query, (f"{nwid:016x}",))

    def network(self, nwid: int) -> JsonObject | None:
        found = self._objects("SELECT nwid, object FROM ztpipe.network WHERE nwid = %s", (f"{nwid:016x}",))
        return found[0] if found else None

    def member(self, nwid: int, address: int) -> JsonObject | None:
        query = "SELECT nwid || '/' || address, object FROM ztpipe.member WHERE nwid = %s AND address = %s"
        found = self._objects(query, (f"{nwid:016x}", f"{address:010x}"))
        return found[0] if found else None

    def audit(self, before: int | None, limit: int, nwid: str | None, member: str | None) -> list[JsonObject]:
        top = 0x7FFFFFFFFFFFFFFF if before is None else min(before, 0x7FFFFFFFFFFFFFFF)
        values = {"controller": self.controller, "top": top, "nwid": nwid, "member": member, "limit": limit}
        with self._failures("read") as database:
            rows = database.execute(_AUDIT, values).fetchall()
        return [{"id": number, **_decode(f"audit line {number}", text)} for number, text in rows]

    # --- writing ---------------------------------------------------------------------------------------------------

    def save_network(self, record: JsonObject) -> None:
        self._save("network", record, (record["nwid"],))

    def save_member(self, record: JsonObject) -> None:
        self._save("member", record, (record["nwid"], record["id"]))

    def _save(self, kind: str, record: JsonObject, key: tuple[str, ...]) -> None:
        """Replace a record unless it was changed by another instance since we read it; a deletion always wins."""
        revision = integer(record.get("revision"), 0) & 0x7FFFFFFFFFFFFFFF
        statement = _SAVE[kind] if self._overwrite or DELETED in record else _SAVE[kind] + _IF_NEWER
        with self._up_to_date() as database, self.transaction():
            if database.execute(statement, (*key, revision, _encode(record))).rowcount == 0:
                raise StoreError(f"{kind} {'/'.join(key)} was changed by another controller in this moment: try again")
            self._notify(kind, *key)

    @contextmanager
    def _up_to_date(self) -> Iterator[_Connection]:
        """The connection, to write records that follow from what is in memory."""
        with self._failures("write") as database:
            if self.behind:
                raise StoreError(f"{self._where}: changes of other controllers are still being read: try again")
            yield database

    def delete_network(self, nwid: int) -> None:
        key = f"{nwid:016x}"
        with self._up_to_date() as database, self.transaction():
            for table in ("member", "lease", "network"):
                database.execute(f"DELETE FROM ztpipe.{table} WHERE nwid = %s", (key,))
            self._notify("network", key)

    def delete_member(self, nwid: int, address: int) -> None:
        key = (f"{nwid:016x}", f"{address:010x}")
        with self._up_to_date() as database, self.transaction():
            database.execute("DELETE FROM ztpipe.member WHERE nwid = %s AND address = %s", key)
            self._notify("member", *key)

    def append_audit(self, entry: JsonObject) -> None:
        """Add a line to the audit log, and now and then drop the oldest beyond its capacity."""
        row = (self.controller, entry["nwid"], entry["member"], _encode(entry))
        statement = "INSERT INTO ztpipe.audit (controller, nwid, member, object) VALUES (%s, %s, %s, %s) RETURNING id"
        with self._failures("write") as database, self.transaction():
            added = database.execute(statement, row).fetchone()
            if added is not None and added[0] % _AUDIT_TRIM == 0:
                database.execute("DELETE FROM ztpipe.audit WHERE id <= %s", (added[0] - AUDIT_CAPACITY,))

    def transaction(self) -> AbstractContextManager[None]:
        """What is written within is written whole or not at all; within another one it is part of that."""
        return self._transaction()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._depth:
            yield
            return
        with self._failures("write") as database:
            self._depth = 1
            try:
                with database.transaction():
                    yield
            finally:
                self._depth = 0

    def _notify(self, kind: str, *key: str) -> None:
        with self._failures("write") as database:
            database.execute("SELECT pg_notify(%s, %s)", (self.channel, " ".join((kind, self.instance, *key))))

    # --- the fleet -------------------------------------------------------------------------------------------------

    def lease(self, nwid: int, address: int, metadata: bytes, *, insist: bool) -> bool:
        """Whether this instance is the one to answer a member; the lease is taken if that is possible.

        `insist`: take it from an instance that is alive too, since the member does not reach that. `metadata` is what
        the member says of itself, for whoever has to go on in our place.
        """
        key = (f"{nwid:016x}", f"{address:010x}")
        names = ("nwid", "address", "instance", "metadata", "insist", "seconds")
        values = dict(zip(names, (*key, self.instance, metadata, insist, INSTANCE_SECONDS), strict=True))
        with self._failures("write") as database, self.transaction():
            ours, moved = database.execute(_LEASE, values).fetchone() or (False, False)
            if ours and moved:
                self._notify("lease", *key)
        return bool(ours)

    # --- the connection --------------------------------------------------------------------------------------------

    def _connection(self) -> _Connection:
        if self._database is not None and not self._database.broken and not self._database.closed:
            return self._database
        if time.monotonic() < self._retry_at:
            raise StoreError(f"{self._where}: not reachable")
        try:
            self._database = connect(self.conninfo)
            if self._tended:
                self._database.seconds = self._seconds
                _limit(self._database)
        except psycopg.Error:
            self._lost()
            raise
        return self._database

    def _lost(self) -> None:
        """Attempts to connect block: they are rare, and made only where success is to be expected if somebody looks."""
        self._retry_at = float("inf") if self._tended else time.monotonic() + RETRY_SECONDS
        if self._tended:
            self.lost_touch()

    @contextmanager
    def _failures(self, what: str) -> Iterator[_Connection]:
        """The connection, and what PostgreSQL says as a StoreError that names the database."""
        try:
            yield self._connection()
        except psycopg.Error as error:
            if self._database is None or self._database.broken or self._database.closed:
                self._lost()
            raise StoreError(f"{self._where}: cannot {what}: {_line(error)}") from error

    @property
    def _where(self) -> str:
        """The database, without a password."""
        parts = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        return f"PostgreSQL database {parts.get('dbname') or 'of the user'} at {parts.get('host') or 'localhost'}"

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        """What reads many records may take longer; it is only done where the database has just answered."""
        with self._failures("read") as database, database.transaction():
            database.execute("SET LOCAL statement_timeout = 0")
            database.seconds = _PATIENT_SECONDS
            try:
                yield
            finally:
                database.seconds = self._seconds

    def _objects(self, query: str, values: tuple[str, ...]) -> list[JsonObject]:
        with self._failures("read") as database:
            rows = database.execute(query, values).fetchall()
        return [_decode(key, text) for key, text in rows]


def connect(conninfo: str) -> _Connection:
    """A connection that notices when the server is gone."""
    return _Connection.connect(
        conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="ztpipe",
        tcp_user_timeout=2_000, keepalives_idle=2, keepalives_interval=1, keepalives_count=2,
    )  # fmt: skip


def _limit(database: _Connection) -> None:
    """Nothing takes long on the server either, so that what we give up is not done later."""
    for name in ("statement_timeout", "lock_timeout"):
        database.execute("SELECT set_config(%s, %s, false)", (name, str(_STATEMENT_MS)))


def read_notice(payload: str) -> Changed | None:
    """A notice as `PostgresStore` sends it; None for anything else."""
    words = payload.split(" ")
    try:
        kind, instance, nwid = words[0], words[1], int(words[2], 16)
        address = int(words[3], 16) if len(words) > 3 else None
    except (IndexError, ValueError):
        return None
    if kind not in ("network", "member", "lease") or (kind == "network") != (address is None):
        return None
    return Changed(kind, instance, nwid, address)


def _migrate(database: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Create the schema, or bring it from an older version up to ours; one instance does it, the others wait."""
    with database.transaction():
        database.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        database.execute("CREATE SCHEMA IF NOT EXISTS ztpipe")
        database.execute("CREATE TABLE IF NOT EXISTS ztpipe.schema_version (version integer NOT NULL)")
        row = database.execute("SELECT version FROM ztpipe.schema_version").fetchone()
        version = 0 if row is None else row[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"the schema ztpipe has version {version}, this program knows up to {SCHEMA_VERSION}")
        for statements in _MIGRATIONS[version:]:
            database.execute(statements)
        database.execute("DELETE FROM ztpipe.schema_version")
        database.execute("INSERT INTO ztpipe.schema_version VALUES (%s)", (SCHEMA_VERSION,))


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _encode(record: JsonObject) -> str:
    return json.dumps(record, separators=(",", ":"), sort_keys=True, ensure_ascii=True, allow_nan=False)


def _decode(key: str, text: str) -> JsonObject:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StoreError(f"the object of {key} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise StoreError(f"the object of {key} is not a JSON object")
    return value
