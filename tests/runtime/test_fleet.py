"""Two controllers on one database in one process: what one changes the other has, also after the database was away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.controller.support import START, captured_identity, numbered_random
from ztpipe.controller.controller import Controller
from ztpipe.controller.errors import ControllerError
from ztpipe.controller.store_postgres import PostgresStore
from ztpipe.runtime.fleet import Fleet

pytestmark = pytest.mark.skipif(bool(postgres.MISSING), reason=postgres.MISSING or "-")

ADDRESS = 0x3BFB63739C
NWID = ADDRESS << 24 | 1


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    directory = Path(tempfile.mkdtemp(prefix="zppg", dir="/tmp"))
    with postgres.server(directory) as found:
        yield found
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def member_of_a_fleet(uri: str, instance: str) -> AsyncIterator[Controller]:
    store = PostgresStore(uri, ADDRESS, instance)
    controller = Controller(captured_identity("b-join-private", ADDRESS), store, random=numbered_random())
    fleet = Fleet(store, controller, now=lambda: START, changed=lambda: None)
    tasks = [asyncio.ensure_future(work) for work in (fleet.listen(), fleet.beat())]
    try:
        yield controller
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        store.close()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.05)


def written(controller: Controller, name: str) -> bool:
    try:
        controller.update_network(START, NWID, {"name": name})
    except ControllerError as error:
        if error.status != 503:
            raise
        return False
    return True


def name(controller: Controller) -> str:
    try:
        return str(controller.get_network(NWID)["name"])
    except ControllerError:
        return ""


@pytest.mark.parametrize("fault", ["dies", "hangs"])
async def test_changes_spread_before_and_after_a_fault(server: postgres.Server, fault: str) -> None:
    uri = server.database("fleet")
    async with member_of_a_fleet(uri, "a") as first, member_of_a_fleet(uri, "b") as second:
        await until(lambda: written(first, "one"))
        await until(lambda: name(second) == "one")
        await until(lambda: written(second, "two"))
        await until(lambda: name(first) == "two")
        server.kill() if fault == "dies" else server.hang()
        for _ in range(10):
            assert not written(first, "lost")
            assert name(first) == name(second) == "two"
            await asyncio.sleep(0.1)
        server.start() if fault == "dies" else server.hang(False)
        await until(lambda: written(first, "three"))
        await until(lambda: name(second) == "three")
        await until(lambda: written(second, "four"))
        await until(lambda: name(first) == "four")
