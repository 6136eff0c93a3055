"""All records in memory, each change written through to the store (controller §4.2, §10)."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ztpipe.controller import coerce, member
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.store import Store
from ztpipe.controller.view import NetworkView


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


class State:
    """Every network and member of this controller.

    Records handed out are the ones kept: do not change them; save a changed copy instead.
    """

    def __init__(self, store: Store) -> None:
        """Load everything.  Raises what the store raises; records without a usable key are skipped."""
        self._store = store
        self._networks: dict[int, NetworkState] = {}
        for record in store.networks():
            nwid = _key(record.get("nwid"), 16)
            if nwid is not None:
                self._networks[nwid] = NetworkState(nwid, record, NetworkView.of(nwid, record))
        for network in self._networks.values():
            for record in store.members(network.nwid):
                address = _key(record.get("id"), 10)
                if address is not None:
                    network.put(address, record)

    def network(self, nwid: int) -> NetworkState | None:
        """One network, None if unknown."""
        return self._networks.get(nwid)

    def networks(self) -> Iterator[NetworkState]:
        """All networks by ascending ID."""
        return (self._networks[nwid] for nwid in sorted(self._networks))

    def __len__(self) -> int:
        return len(self._networks)

    def save_network(self, nwid: int, record: JsonObject) -> bool:
        """Store a record if it differs from the stored one, its revision raised; whether it did."""
        network = self._networks.get(nwid)
        if not _raise_revision(record, network.record if network else None):
            return False
        self._store.save_network(record)
        view = NetworkView.of(nwid, record)
        if network is None:
            self._networks[nwid] = NetworkState(nwid, record, view)
        else:
            network.record, network.view = record, view
        return True

    def save_member(self, network: NetworkState, address: int, record: JsonObject) -> bool:
        """Store a record if it differs from the stored one, its revision raised; whether it did."""
        if not _raise_revision(record, network.members.get(address)):
            return False
        self._store.save_member(record)
        network.put(address, record)
        return True

    def delete_network(self, nwid: int) -> None:
        """Remove a network with all its members."""
        self._store.delete_network(nwid)
        self._networks.pop(nwid, None)

    def delete_member(self, network: NetworkState, address: int) -> None:
        """Remove one member."""
        self._store.delete_member(network.nwid, address)
        network.drop(address)


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
