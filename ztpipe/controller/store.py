"""Where controller records are kept: the interface, and the store that forgets.

A record is a JSON object as in controller §4 or §5.  The controller keeps all records in memory; a store is read
once, at the start, and written at every change.  A write that returns is durable, or the store raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Final, NamedTuple, Protocol, runtime_checkable

from ztpipe.controller.coerce import JsonObject

#: Lines that the audit log holds; the oldest give way.
AUDIT_CAPACITY: Final = 100_000
#: Field of a record that only says when its member was deleted, so that it stays deleted.
DELETED: Final = "_deleted"


class StoreError(Exception):
    """The store cannot be opened, read or written; the message says which file and what to do."""


class Store(Protocol):
    """Keys are the record's own `nwid`, and for members also `id`, both lowercase hex."""

    def networks(self) -> Iterable[JsonObject]:
        """Every network record."""

    def members(self, nwid: int) -> Iterable[JsonObject]:
        """Every member record of one network."""

    def save_network(self, record: JsonObject) -> None:
        """Write a network record, replacing the one before."""

    def save_member(self, record: JsonObject) -> None:
        """Write a member record, replacing the one before."""

    def delete_network(self, nwid: int) -> None:
        """Remove a network and all of its members; unknown ones are no error."""

    def delete_member(self, nwid: int, address: int) -> None:
        """Remove one member; an unknown one is no error."""

    def transaction(self) -> AbstractContextManager[None]:
        """What is written within is written whole, when the block ends, or, if it raises, not at all."""

    def append_audit(self, entry: JsonObject) -> None:
        """Add a line to the audit log (`change.entry`)."""

    def audit(self, before: int | None, limit: int, nwid: str | None, member: str | None) -> list[JsonObject]:
        """Lines with an ID below `before`, newest first, each with its `id`; of one network or member if given."""


class Heard(NamedTuple):
    """That a member asked for its configuration: what is needed to send it something unasked, also after a restart."""

    nwid: int
    address: int
    metadata: bytes
    asked: int  # ms
    granted: int | None  # when a configuration was sent last, ms


@runtime_checkable
class RememberingStore(Protocol):
    """A store that knows after a restart who was online."""

    def remember(self, heard: Iterable[Heard], since: int) -> None:
        """Write what is new, and forget what was heard before `since`."""

    def remembered(self) -> list[Heard]:
        """All of it, in the order in which they asked."""


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that several controllers with one identity share."""

    def network(self, nwid: int) -> JsonObject | None:
        """One network record as it is now, None if there is none."""

    def member(self, nwid: int, address: int) -> JsonObject | None:
        """One member record as it is now, None if there is none."""

    def lease(self, nwid: int, address: int, metadata: bytes, *, insist: bool) -> bool:
        """Take or keep the right to answer a member, if no other living controller has it; `insist`: even then."""


class MemoryStore:
    """Keeps copies of the records for as long as the process lives: for tests and throw-away controllers."""

    def __init__(self) -> None:
        self._networks: dict[int, JsonObject] = {}
        self._members: dict[int, dict[int, JsonObject]] = {}
        self._audit: deque[JsonObject] = deque(maxlen=AUDIT_CAPACITY)
        self._audited = 0

    def networks(self) -> Iterable[JsonObject]:
        return [deepcopy(record) for record in self._networks.values()]

    def members(self, nwid: int) -> Iterable[JsonObject]:
        return [deepcopy(record) for record in self._members.get(nwid, {}).values()]

    def save_network(self, record: JsonObject) -> None:
        self._networks[int(record["nwid"], 16)] = deepcopy(record)

    def save_member(self, record: JsonObject) -> None:
        members = self._members.setdefault(int(record["nwid"], 16), {})
        members[int(record["id"], 16)] = deepcopy(record)

    def delete_network(self, nwid: int) -> None:
        self._networks.pop(nwid, None)
        self._members.pop(nwid, None)

    def delete_member(self, nwid: int, address: int) -> None:
        self._members.get(nwid, {}).pop(address, None)

    def transaction(self) -> AbstractContextManager[None]:
        return nullcontext()

    def append_audit(self, entry: JsonObject) -> None:
        self._audited += 1
        self._audit.append({"id": self._audited, **deepcopy(entry)})

    def audit(self, before: int | None, limit: int, nwid: str | None, member: str | None) -> list[JsonObject]:
        found = (
            deepcopy(entry)
            for entry in reversed(self._audit)
            if (before is None or entry["id"] < before) and nwid in (None, entry["nwid"])
            if member in (None, entry["member"])
        )
        return [entry for entry, _ in zip(found, range(limit), strict=False)]
