"""What a controller of a fleet has missed: records that differ from those in memory, found a page at a time.

Ten thousand records are read and compared in a few hundred milliseconds; packets do not wait for more than a page.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import psycopg

from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.others import Others

Key = tuple[int, int | None]
"""A network, and for a member also its address."""

PAGE: Final = 200  # members: 2 to 3 ms
_NETWORKS: Final = 10  # whose rules may be long
_TURN: Final = 0.01  # seconds of work on what differs until others have their turn
_NETWORK_PAGE: Final = (
    "SELECT nwid, object FROM ztpipe.network WHERE left(nwid, 10) = %s AND nwid > %s ORDER BY nwid LIMIT %s"
)
_MEMBER_PAGE: Final = (
    "SELECT address, object FROM ztpipe.member WHERE nwid = %s AND address > %s ORDER BY address LIMIT %s"
)

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]


async def missed(connection: _Connection, controller: str, others: Others) -> AsyncIterator[Key]:
    """The keys of all records that are not in the store as they are in memory, networks before their members.

    A key is a reason to read that record again, no more: a page is older than what this controller wrote since.
    """
    nwids, gone = [], others.networks()
    async for nwid, record in _pages(connection, _NETWORK_PAGE, controller, _NETWORKS):
        nwids.append(nwid)
        gone.discard(nwid)
        if not others.has_network(nwid, record):
            yield nwid, None
    for nwid in sorted(gone):
        yield nwid, None
    for nwid in nwids:
        absent = others.members(nwid)
        async for address, record in _pages(connection, _MEMBER_PAGE, f"{nwid:016x}", PAGE):
            absent.discard(address)
            if not others.has_member(nwid, address, record):
                yield nwid, address
        for address in sorted(absent):
            yield nwid, address


class Turns:
    """Lets others have their turn whenever there was enough work in one."""

    def __init__(self) -> None:
        self._until = time.monotonic() + _TURN

    async def pause(self) -> None:
        if time.monotonic() >= self._until:
            await asyncio.sleep(_TURN / 4)
            self._until = time.monotonic() + _TURN


async def _pages(connection: _Connection, query: str, owner: str, size: int) -> AsyncIterator[tuple[int, JsonObject]]:
    """All rows, by ascending key."""
    after, rows = "", [("", "")] * size
    while len(rows) == size:
        cursor = await connection.execute(query, (owner, after, size))
        rows = await cursor.fetchall()
        for key, text in rows:
            yield int(key, 16), json.loads(text)
            after = key
