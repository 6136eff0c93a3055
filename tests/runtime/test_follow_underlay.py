"""Control follows the host's links for good, whatever the listener does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from ztpipe.control import Control
from ztpipe.host.netevents import Change


def test_a_listener_that_fails_is_replaced() -> None:
    """Two failures, of the listener and of what follows from a change: the third change is followed all the same."""
    followed, opened = [], []

    async def changes():
        opened.append(1)
        yield Change.LINKS
        if len(opened) == 1:
            raise OSError("no buffer space")
        await asyncio.sleep(60)

    async def sync():
        if not followed:
            followed.append("fails")
            raise RuntimeError("an interface went away meanwhile")
        followed.append("synced")

    node = SimpleNamespace(links_changed=lambda now: followed.append("told"))
    control = SimpleNamespace(
        netlink=SimpleNamespace(changes=changes),
        _sync_underlay=sync,
        _host_changed=asyncio.Event(),
        feed=lambda event: event(node, 0),
    )

    async def run() -> None:
        task = asyncio.ensure_future(Control._follow_underlay(control))
        async with asyncio.timeout(20):
            while "told" not in followed or len(opened) < 2:
                await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()

    asyncio.run(run())
