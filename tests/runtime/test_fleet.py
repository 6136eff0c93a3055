"""Two controllers on one database in one process: what one changes the other has, also after the database was away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.controller.support import START, captured_identity, numbered_random
from ztpipe.controller.controller import Controller
from ztpipe.controller.errors import ControllerError
from ztpipe.controller.store_postgres import PostgresStore
from ztpipe.runtime.catchup import PAGE
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


def opened(uri: str, instance: str) -> tuple[Controller, PostgresStore]:
    store = PostgresStore(uri, ADDRESS, instance)
    return Controller(captured_identity("b-join-private", ADDRESS), store, random=numbered_random()), store


@contextlib.asynccontextmanager
async def member_of_a_fleet(uri: str, instance: str) -> AsyncIterator[Controller]:
    controller, store = opened(uri, instance)
    async with followed(controller, store):
        yield controller


@contextlib.asynccontextmanager
async def followed(controller: Controller, store: PostgresStore) -> AsyncIterator[None]:
    fleet = Fleet(store, controller, now=lambda: START, changed=lambda: None)
    tasks = [asyncio.ensure_future(work) for work in (fleet.listen(), fleet.beat())]
    try:
        yield
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


async def test_what_was_missed_is_taken_over(server: postgres.Server) -> None:
    """One that heard of nothing for a while knows in the end what one knows that reads everything; no more is read."""
    uri = server.database("missed")
    active, writer = opened(uri, "a")
    second, third = NWID + 1, NWID + 2
    for nwid in (NWID, second):
        active.update_network(START, nwid, {"name": "old"})
        active.update_members(START, nwid, {number: {"authorized": True} for number in range(1, 5)})
    late, store = opened(uri, "b")
    active.update_network(START, NWID, {"name": "new"})
    active.delete_network(START, second)
    active.update_network(START, third, {"name": "third"})
    active.update_members(START, third, {number: {"name": "x"} for number in range(1, 3)})
    active.update_member(START, NWID, 1, {"authorized": False})
    active.delete_member(START, NWID, 2)
    active.delete_member(START, NWID, 3, forget=True)
    store.lost_touch()
    assert not written(late, "lost"), "what is not known to be true is not changed"
    async with followed(late, store):
        await until(lambda: written(late, "mine"))
    writer.close()
    fresh, reader = opened(uri, "c")
    reader.close()
    for nwid in (NWID, second, third):
        assert late.others.members(nwid) == fresh.others.members(nwid)
        assert late.others.networks() == fresh.others.networks() == {NWID, third}
    for nwid in (NWID, third):
        assert late.get_network(nwid) == fresh.get_network(nwid)
        for address in fresh.list_members(nwid):
            assert late.get_member(nwid, int(address, 16)) == fresh.get_member(nwid, int(address, 16))
    assert late.counters["member_deauth"] == 3 + 4, "1, 2 and 3, and all of the network that is gone"
    assert late.counters["network_change"] == 4 and late.counters["member_change"] == 3 + 2


async def test_nobody_waits_while_everything_is_compared(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, members = server.database("large"), 12 * PAGE
    controller, store = opened(uri, "a")
    controller.update_network(START, NWID, {"name": "large"})
    with store.transaction():
        controller.update_members(START, NWID, {number: {"authorized": True} for number in range(1, members)})
    before = controller.counters["member_change"]
    turns, compared_in = 0, []
    same = controller.others.has_member

    def has_member(nwid: int, address: int, record: dict[str, object]) -> bool:
        compared_in.append(turns)
        return same(nwid, address, record)

    monkeypatch.setattr(controller.others, "has_member", has_member)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    store.lost_touch()
    counting = asyncio.ensure_future(count())
    async with followed(controller, store):
        await until(lambda: not store.behind)
    counting.cancel()
    assert len(compared_in) == members - 1
    assert max(Counter(compared_in).values()) <= PAGE, "others have a turn after each page"
    assert controller.counters["member_change"] == before, "nothing differs"
