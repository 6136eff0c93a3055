"""The database of a fleet away for some seconds: how long nothing else is done while what was missed is looked for.

    python -m tests.bench.outage [--members 10000] [--changed 100]

A real PostgreSQL server is killed and started again; then another controller changes what this one does not hear of. A
clock in the same event loop notes the longest time in which it had no turn: with what `ztpipe.runtime.fleet` does, and,
for comparison, with everything read anew at once, as POST /v1/reload does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests import postgres
from tests.bench.crowd import FIRST_ADDRESS, member_identity
from ztpipe.controller.controller import Controller
from ztpipe.controller.store_postgres import PostgresStore
from ztpipe.node.config_request import request_metadata
from ztpipe.node.settings import NodeSettings
from ztpipe.runtime.fleet import Fleet

_NETWORK = {"private": True, "v4AssignMode": {"zt": True}, "routes": [{"target": "10.0.0.0/8"}],
            "ipAssignmentPools": [{"ipRangeStart": "10.0.0.1", "ipRangeEnd": "10.9.255.254"}]}  # fmt: skip
_IDENTITY = member_identity(1_000_000)


class Gap:
    """The longest time without a turn, in ms."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self._watch())
        await asyncio.sleep(0.1)
        self.longest = 0.0
        try:
            yield
            await asyncio.sleep(0.01)
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while True:
            now = time.perf_counter()
            self.longest, self._last = max(self.longest, 1000 * (now - self._last)), now
            await asyncio.sleep(0.001)


def opened(uri: str, instance: str) -> tuple[Controller, PostgresStore]:
    store = PostgresStore(uri, _IDENTITY.address, instance)
    return Controller(_IDENTITY, store, random=os.urandom), store


def now() -> int:
    return time.time_ns() // 1_000_000


def filled(uri: str, members: int) -> int:
    """A network whose members have all asked once; its ID."""
    controller, store = opened(uri, "filler")
    nwid = int(controller.create_network(now(), _NETWORK)["id"], 16)
    metadata = request_metadata(NodeSettings())
    with store.transaction():
        for number in range(members):
            controller.update_member(now(), nwid, FIRST_ADDRESS + number, {"authorized": True})
            controller.request(now(), nwid, member_identity(number).without_private(), metadata, 1, None)
    store.close()
    return nwid


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.01)


async def measure(server: postgres.Server, members: int, changed: int) -> dict[str, float]:
    uri = server.database("outage")
    nwid = filled(uri, members)
    controller, store = opened(uri, "watched")
    fleet = Fleet(store, controller, now=now, changed=lambda: controller.tick(now()))
    tasks = [asyncio.ensure_future(work) for work in (fleet.listen(), fleet.beat())]
    await asyncio.sleep(1)
    server.kill()
    await until(lambda: store.behind)
    await asyncio.to_thread(server.start)
    found: dict[str, float] = {}
    gap = Gap()
    async with gap.watched():
        started = time.perf_counter()
        await until(lambda: not store.behind)
        found["caught up after, s"] = time.perf_counter() - started
    found["longest without a turn, ms"] = gap.longest
    store.lost_touch()
    other, others_store = opened(uri, "other")
    for number in range(changed):
        other.update_member(now(), nwid, FIRST_ADDRESS + number, {"name": "changed"})
    others_store.close()
    async with gap.watched():
        await until(lambda: not store.behind)
    found[f"the same with {changed} changes missed, ms"] = gap.longest
    async with gap.watched():
        await asyncio.sleep(0.01)
        controller.reload(now())
    found["everything read at once, ms"] = gap.longest
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=100)
    arguments = parser.parse_args()
    if postgres.MISSING:
        raise SystemExit(postgres.MISSING)
    directory = Path(tempfile.mkdtemp(prefix="zppb", dir="/tmp"))
    with postgres.server(directory) as server:
        found = asyncio.run(measure(server, arguments.members, arguments.changed))
    shutil.rmtree(directory, ignore_errors=True)
    table = Table("", f"{arguments.members} members")
    for row, value in found.items():
        table.add_row(row, f"{value:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
