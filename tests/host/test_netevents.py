"""The kernel's notices: which are read as what; whole datagrams, cut ones and rubbish."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.host.netevents import Change, NetEvents, changes_in
from ztpipe.lab import Lab

RTM_NEWLINK, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE = 16, 21, 24, 25


def message(kind: int, body: bytes = b"") -> bytes:
    data = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    return data + bytes(-len(data) % 4)


@pytest.mark.parametrize(
    ("kinds", "change"),
    [
        ([RTM_NEWLINK], Change.LINKS),
        ([RTM_DELADDR], Change.LINKS),
        ([RTM_DELROUTE], Change.ROUTES),
        ([RTM_NEWROUTE], Change(0)),
        ([RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWLINK], Change.LINKS | Change.ROUTES),
        ([], Change(0)),
    ],
)
def test_types(kinds: list[int], change: Change) -> None:
    assert changes_in(b"".join(message(kind, b"abc") for kind in kinds)) == change


@given(st.binary(max_size=200))
def test_rubbish(data: bytes) -> None:
    changes_in(data)


def test_a_message_that_says_it_is_shorter_than_its_head_ends_the_reading() -> None:
    assert changes_in(struct.pack("=IHHII", 0, RTM_NEWLINK, 0, 0, 0) * 1000) == Change(0)


@pytest.mark.root
def test_real_changes() -> None:
    async def follow() -> Change:
        with NetEvents() as events, Lab("zpv") as lab:
            host = lab.namespace("h")  # changes nothing here, but a cable does
            lab.cable(host, "eth0", [], lab.namespace("g"), plug="eth0")
            async with asyncio.timeout(5):
                async for change in events:
                    return change
        raise AssertionError

    assert Change.LINKS in asyncio.run(follow())
