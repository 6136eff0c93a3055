"""One controller of several on one PostgreSQL database: hears what the others change, and says that it lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg

from ztpipe.controller.controller import Controller
from ztpipe.controller.errors import ControllerError
from ztpipe.controller.status import ONLINE_WINDOW
from ztpipe.controller.store import StoreError
from ztpipe.controller.store_postgres import (
    ADOPT,
    BEAT,
    CONNECT_SECONDS,
    INSTANCE_SECONDS,
    Changed,
    PostgresStore,
    read_notice,
)
from ztpipe.log import get_logger
from ztpipe.runtime.catchup import Turns, missed

log = get_logger("fleet")

_RETRY_SECONDS: Final = 1.0
_BEAT_SECONDS: Final = INSTANCE_SECONDS / 3
_QUIET_SECONDS: Final = 1.0  # how long to wait for a notice before the connection is tried
_BURY: Final = "DELETE FROM ztpipe.instance WHERE controller = %s AND seen < now() - interval '1 day'"
_LEAVE: Final = "DELETE FROM ztpipe.instance WHERE id = %s"

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Fleet:
    """Two connections of its own, so that nobody waits for the one that changes are written over."""

    def __init__(
        self, store: PostgresStore, controller: Controller, *, now: Callable[[], int], changed: Callable[[], None]
    ) -> None:
        """`changed` is called when the controller may have something to send."""
        self._store = store
        self._controller = controller
        self._now = now
        self._changed = changed
        self._away = False
        store.hurry()

    async def listen(self) -> None:
        """Follow the notices of the others, for ever; whatever was missed while the database was away is read anew."""
        await self._for_ever(self._listen, lost=self._store.lost_touch)

    async def beat(self) -> None:
        """Say that this instance lives, for ever; when it stops, others take over within seconds."""
        await self._for_ever(self._beat)

    async def leave(self) -> None:
        """An orderly end: the others need not wait until we are taken for dead."""
        with contextlib.suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(1.0), await self._connect() as connection:
                await connection.execute(_LEAVE, (self._store.instance,))

    async def _for_ever(
        self, work: Callable[[_Connection], Awaitable[None]], *, lost: Callable[[], None] = lambda: None
    ) -> None:
        while True:
            try:
                async with await self._connect() as connection:
                    await work(connection)
            except (psycopg.Error, OSError, StoreError, ControllerError, ValueError) as error:
                lost()
                if not self._away:
                    self._away = True
                    log.error("controllers' database away: members go on, changes are refused", error=_line(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _connect(self) -> _Connection:
        return await psycopg.AsyncConnection.connect(
            self._store.conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="ztpipe",
            tcp_user_timeout=2_000, keepalives_idle=2, keepalives_interval=1, keepalives_count=2,
        )  # fmt: skip

    async def _listen(self, connection: _Connection) -> None:
        await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self._store.channel)))
        await self._catch_up()
        if self._away:
            self._away = False
            log.info("controllers' database back")
        while True:
            async for notice in connection.notifies(timeout=_QUIET_SECONDS):
                changed = read_notice(notice.payload)
                if changed is not None and changed.instance != self._store.instance:
                    self._take(changed)
            await connection.execute("SELECT 1")
            if self._store.behind:
                await self._catch_up()

    async def _catch_up(self) -> None:
        """Read again what others changed while nothing was heard of them; until then this controller changes nothing.

        Over a connection of its own, since notices come over the other one meanwhile.
        """
        losses = self._store.losses
        self._store.retry()
        turns, found = Turns(), 0
        async with await self._connect() as connection:
            async for nwid, address in missed(connection, self._store.controller, self._controller.others):
                self._take(Changed("network" if address is None else "member", "", nwid, address))
                found += 1
                await turns.pause()
        self._store.caught_up(losses)
        if found:
            log.info("changes of other controllers taken over", records=found)

    def _take(self, changed: Changed) -> None:
        nwid, address, now = changed.nwid, changed.address, self._now()
        others = self._controller.others
        if address is None:
            others.network_changed(now, nwid, self._store.network(nwid))
        elif changed.kind == "member":
            others.member_changed(now, nwid, address, self._store.member(nwid, address))
        else:
            others.lease_lost(nwid, address)
        self._changed()

    async def _beat(self, connection: _Connection) -> None:
        await connection.execute(_BURY, (self._store.controller,))
        values = {
            "instance": self._store.instance,
            "controller": self._store.controller,
            "online": ONLINE_WINDOW / 1000,
            "seconds": INSTANCE_SECONDS,
        }
        while True:
            await connection.execute(BEAT, (self._store.instance, self._store.controller))
            self._store.retry()
            adopted = await (await connection.execute(ADOPT, values)).fetchall()
            for nwid, address, metadata in adopted:
                self._controller.others.adopt(self._now(), int(nwid, 16), int(address, 16), metadata)
            if adopted:
                log.info("members of a controller that is gone are answered here", members=len(adopted))
                self._changed()
            await asyncio.sleep(_BEAT_SECONDS)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
