"""Control follows the host's links for good, whatever the listener does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from ztpipe.host.netevents import Change
from ztpipe.runtime.surroundings import Surroundings


def test_a_listener_that_fails_is_replaced() -> None:
    """Two failures, of the listener and of what follows from a change: the third change is followed all the same."""
    followed, opened = [], []

    async def changes():
        opened.append(1)
        yield Change.LINKS
        if len(opened) == 1:
            raise OSError("no buffer space")
        await asyncio.sleep(60)

    async def found():
        if not followed:
            followed.append("fails")
            raise RuntimeError("an interface went away meanwhile")
        return []

    async def run() -> None:
        surroundings = Surroundings(
            SimpleNamespace(changes=changes, underlay=found),
            SimpleNamespace(by_id={}, take_addresses=lambda addresses: None),
            SimpleNamespace(sync=lambda chosen: followed.append("synced")),
            SimpleNamespace(),
            SimpleNamespace(),
            underlay_filter=dict,
            only_tcp=lambda: False,
            links_changed=lambda: followed.append("told"),
        )
        task = asyncio.ensure_future(surroundings.follow())
        async with asyncio.timeout(20):
            while "told" not in followed or len(opened) < 2:
                await asyncio.sleep(0.05)
        assert not task.done()
        assert "synced" in followed
        task.cancel()

    asyncio.run(run())
