"""All records in memory, each change written through to the store (controller §4.2, §10)."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ztpipe.controller import coerce, member
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.store import DELETED, Heard, RememberingStore, SharedStore, Store
from ztpipe.controller.view import NetworkView
from ztpipe.wire.address import format_address, format_nwid

#: Makes the line of the audit log from a record before (None = new) and after.
Audit = Callable[[JsonObject | None, JsonObject | None], JsonObject]


@dataclass(slots=True)
class NetworkState:
    """A network, its members, and what a configuration needs to know of all members together."""

    nwid: int
    record: JsonObject
    view: NetworkView
    members: dict[int, JsonObject] = field(default_factory=dict)
    taken: Counter[bytes] = field(default_factory=Counter)  # assigned addresses; counted, so a shared one stays taken
    bridges: list[int] = field(default_factory=list)  # active bridges, ascending
    authorized: int = 0  # number of authorised members
    deleted: set[int] = field(default_factory=set)  # members that are to stay deleted though they may ask again
    not_before: int = 0  # what is issued must be newer than the last revocation: its earliest timestamp, ms

    def put(self, address: int, record: JsonObject) -> None:
        """Insert or replace a member."""
        self.drop(address)
        self.members[address] = record
        self.taken.update(member.assignments(record))
        self.authorized += member.is_authorized(record)
        if coerce.boolean(record.get("activeBridge"), False):
            insort(self.bridges, address)

    def drop(self, address: int) -> None:
        """Remove a member if it is there."""
        record = self.members.pop(address, None)
        if record is None:
            return
        for ip in member.assignments(record):
            self.taken[ip] -= 1
            if self.taken[ip] <= 0:
                del self.taken[ip]
        self.authorized -= member.is_authorized(record)
        if address in self.bridges:
            self.bridges.remove(address)

    def authorized_members(self) -> list[int]:
        """The addresses of the members that are authorised, ascending."""
        return [address for address in sorted(self.members) if member.is_authorized(self.members[address])]


class State:
    """Every network and member of this controller.

    Records handed out are the ones kept: do not change them; save a changed copy instead.
    """

    def __init__(self, store: Store) -> None:
        """Load everything.  Raises what the store raises; records without a usable key are skipped."""
        self._store = store
        self._shared = store if isinstance(store, SharedStore) else None
        self._networks: dict[int, NetworkState] = {}
        self.load()

    def load(self) -> None:
        """Read everything (again); if that raises nothing has changed."""
        networks: dict[int, NetworkState] = {}
        for record in self._store.networks():
            nwid = _key(record.get("nwid"), 16)
            if nwid is not None:
                networks[nwid] = NetworkState(nwid, record, NetworkView.of(nwid, record))
        for network in networks.values():
            before = self._networks.get(network.nwid)
            network.not_before = before.not_before if before else 0
            for record in self._store.members(network.nwid):
                address = _key(record.get("id"), 10)
                if address is not None and record.get(DELETED) is not None:
                    network.deleted.add(address)
                elif address is not None:
                    network.put(address, record)
        self._networks = networks

    def put_network(self, nwid: int, record: JsonObject) -> None:
        """A record that is in the store already, written by another controller."""
        network, view = self._networks.get(nwid), NetworkView.of(nwid, record)
        if network is None:
            self._networks[nwid] = NetworkState(nwid, record, view)
        else:
            network.record, network.view = record, view

    def fetch(self, nwid: int) -> NetworkState | None:
        """A network that another controller may have made just now: looked for in a store that is shared."""
        if self._shared is None or (record := self._shared.network(nwid)) is None:
            return None
        self.put_network(nwid, record)
        network = self._networks[nwid]
        for stored in self._shared.members(nwid):
            address = _key(stored.get("id"), 10)
            if address is not None:
                self.put_member(network, address, stored)
        return network

    def drop_network(self, nwid: int) -> None:
        """Another controller deleted it."""
        self._networks.pop(nwid, None)

    def put_member(self, network: NetworkState, address: int, record: JsonObject | None) -> None:
        """A record that is in the store already, or one that is deleted there (None, or a record that says so)."""
        network.deleted.discard(address)
        if record is None or record.get(DELETED) is not None:
            network.drop(address)
            if record is not None:
                network.deleted.add(address)
        else:
            network.put(address, record)

    def remember(self, heard: Iterable[Heard], since: int) -> None:
        """Keep who was online, if the store can, and forget those that asked before `since`."""
        if isinstance(self._store, RememberingStore):
            self._store.remember(heard, since)

    def remembered(self) -> list[Heard]:
        """Who was online before this process began, as far as the store knows."""
        return self._store.remembered() if isinstance(self._store, RememberingStore) else []

    def note(self, line: JsonObject) -> None:
        """Add a line to the audit log."""
        self._store.append_audit(line)

    def network(self, nwid: int) -> NetworkState | None:
        """One network, None if unknown."""
        return self._networks.get(nwid)

    def networks(self) -> Iterator[NetworkState]:
        """All networks by ascending ID."""
        return (self._networks[nwid] for nwid in sorted(self._networks))

    def __len__(self) -> int:
        return len(self._networks)

    def save_network(self, nwid: int, record: JsonObject, audit: Audit | None = None) -> bool:
        """Store a record if it differs from the stored one, its revision raised; whether it did."""
        network = self._networks.get(nwid)
        before = network.record if network else None
        if not _raise_revision(record, before):
            return False
        with self._store.transaction():
            self._store.save_network(record)
            if audit is not None:
                self._store.append_audit(audit(before, record))
        self.put_network(nwid, record)
        return True

    def save_member(self, network: NetworkState, address: int, record: JsonObject) -> bool:
        """Store a record if it differs from the stored one, its revision raised; whether it did."""
        return bool(self.save_members(network, {address: record}))

    def save_members(
        self, network: NetworkState, records: dict[int, JsonObject], audit: Audit | None = None
    ) -> dict[int, JsonObject]:
        """Store those records that differ from the stored ones, all or (if it raises) none; gives those."""
        changed = {
            address: record
            for address, record in records.items()
            if _raise_revision(record, network.members.get(address))
        }
        if not changed:
            return changed
        with self._store.transaction():
            for address, record in changed.items():
                self._store.save_member(record)
                if audit is not None:
                    self._store.append_audit(audit(network.members.get(address), record))
        for address, record in changed.items():
            network.deleted.discard(address)
            network.put(address, record)
        return changed

    def delete_network(self, nwid: int, audit: Audit | None = None) -> None:
        """Remove a network with all its members."""
        network = self._networks.get(nwid)
        with self._store.transaction():
            self._store.delete_network(nwid)
            if audit is not None and network is not None:
                self._store.append_audit(audit(network.record, None))
        self._networks.pop(nwid, None)

    def delete_member(
        self, network: NetworkState, address: int, now: int | None = None, audit: Audit | None = None
    ) -> None:
        """Remove one member; with a time it stays deleted: it is refused until an administrator adds it again."""
        with self._store.transaction():
            if now is None:
                self._store.delete_member(network.nwid, address)
            else:
                self._store.save_member(_tombstone(network.nwid, address, now))
            if audit is not None:
                self._store.append_audit(audit(network.members.get(address), None))
        network.drop(address)
        network.deleted.discard(address)
        if now is not None:
            network.deleted.add(address)

    def audit(self, before: int | None, limit: int, nwid: str | None, member: str | None) -> list[JsonObject]:
        """Lines of the audit log, newest first."""
        return self._store.audit(before, limit, nwid, member)


def _tombstone(nwid: int, address: int, now: int) -> JsonObject:
    ident = format_address(address)
    fields: JsonObject = {"id": ident, "address": ident, "nwid": format_nwid(nwid), "objtype": "member", "revision": 0}
    return {**fields, "authorized": False, DELETED: now}


def _raise_revision(record: JsonObject, stored: JsonObject | None) -> bool:
    """Compare, `revision` aside (controller §4.2); on a difference set the next revision and return True."""
    revision = 0 if stored is None else coerce.integer(stored.get("revision"), 0)
    if stored is not None and _without_revision(record) == _without_revision(stored):
        record["revision"] = revision
        return False
    record["revision"] = revision + 1
    return True


def _without_revision(record: JsonObject) -> JsonObject:
    return {key: value for key, value in record.items() if key != "revision"}


def _key(value: object, digits: int) -> int | None:
    """The number of a fixed-width hex text."""
    if not isinstance(value, str) or len(value) != digits:
        return None
    try:
        return int(value, 16)
    except ValueError:
        return None
