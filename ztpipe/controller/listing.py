"""Lists of whole objects, filtered and by pages, for interfaces with many members to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ztpipe.controller import coerce, member
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.state import NetworkState
from ztpipe.controller.status import StatusTable

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class NetworkQuery:
    """Which networks: those with IDs above `after` (0 = from the first), at most `limit`."""

    after: int = 0
    limit: int = LIMIT_DEFAULT
    text: str = ""  # in ID, name; letter case does not count
    private: bool | None = None


@dataclass(frozen=True, slots=True)
class MemberQuery:
    """Which members of a network, in the same way."""

    after: int = 0
    limit: int = LIMIT_DEFAULT
    text: str = ""  # in ID, name, notes, addresses
    authorized: bool | None = None
    online: bool | None = None
    bridge: bool | None = None
    tag: int | None = None  # has a value of this tag


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.  `total` counts all that the filters let through; `next` continues, None = that was all."""

    data: list[JsonObject]
    total: int
    next: str | None


Shown = Callable[[JsonObject], JsonObject]


def networks(found: Iterable[NetworkState], query: NetworkQuery, shown: Shown) -> Page:
    """A page of networks; `found` is by ascending ID."""
    matching = [network for network in found if _network_matches(network, query)]
    rest = [network for network in matching if network.nwid > query.after]
    data = [
        shown(network.record)
        | {"meta": {"authorizedMemberCount": network.authorized, "totalMemberCount": len(network.members)}}
        for network in rest[: query.limit]
    ]
    return _page(data, len(matching), len(rest) > query.limit)


def members(network: NetworkState, statuses: StatusTable, now: int, query: MemberQuery, shown: Shown) -> Page:
    """A page of members by ascending ID, each with `meta`: whether it asked lately, and when (ms, null = unknown)."""
    seen = {status.address: status.last_request for status in statuses.of(network.nwid)}
    online = {status.address for status in statuses.online(now, network.nwid)}
    matching = sorted(
        address
        for address, record in network.members.items()
        if query.online in (None, address in online) and _member_matches(record, query)
    )
    rest = [address for address in matching if address > query.after]
    data = [
        shown(network.members[address]) | {"meta": {"online": address in online, "lastSeen": seen.get(address)}}
        for address in rest[: query.limit]
    ]
    return _page(data, len(matching), len(rest) > query.limit)


def _page(data: list[JsonObject], total: int, more: bool) -> Page:
    return Page(data, total, str(data[-1]["id"]) if more and data else None)


def _network_matches(network: NetworkState, query: NetworkQuery) -> bool:
    record = network.record
    if query.private not in (None, network.view.private):
        return False
    return _contains(query.text, (record.get("id"), record.get("name")))


def _member_matches(record: JsonObject, query: MemberQuery) -> bool:
    if query.authorized not in (None, member.is_authorized(record)):
        return False
    if query.bridge not in (None, coerce.boolean(record.get("activeBridge"), False)):
        return False
    tags = record.get("tags")
    if query.tag is not None and query.tag not in (
        pair[0] for pair in (tags if isinstance(tags, list) else []) if pair
    ):
        return False
    addresses = record.get("ipAssignments")
    texts = (record.get("id"), record.get("name"), record.get("notes"))
    return _contains(query.text, (*texts, *(addresses if isinstance(addresses, list) else [])))


def _contains(wanted: str, texts: Iterable[object]) -> bool:
    wanted = wanted.lower()
    return not wanted or any(wanted in text.lower() for text in texts if isinstance(text, str))
