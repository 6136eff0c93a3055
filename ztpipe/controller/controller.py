"""The controller: its records, the operations of its HTTP API, and what follows from them (controller §6, §9)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final, TypeVar

from ztpipe.controller import coerce, listing, member, network
from ztpipe.controller.actions import ControllerAction, MemberChanged
from ztpipe.controller.addresses import Random
from ztpipe.controller.change import ANYONE, Change, entry
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.errors import ControllerError, bad_value, not_found
from ztpipe.controller.leases import AloneLeases, Leases
from ztpipe.controller.listing import MemberQuery, NetworkQuery, Page
from ztpipe.controller.others import Others
from ztpipe.controller.serving import Serving
from ztpipe.controller.state import Audit, NetworkState, State
from ztpipe.controller.store import Store, StoreError
from ztpipe.wire.address import format_address, format_nwid, is_reserved_address
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress

API_VERSION: Final = 4
_MAX_ID_TRIALS: Final = 100_000
_T = TypeVar("_T")


class Controller:
    """Serves the networks whose ID begins with the address of `identity`, which must hold its private key.

    API operations return new JSON objects, keys in byte order, and raise ControllerError only.  What they cause to
    be sent is had from `take_actions`; `counters` counts events by name, drops included.
    """

    def __init__(self, identity: Identity, store: Store, *, random: Random, leases: Leases | None = None) -> None:
        """Load all records; raises StoreError if that fails.  `leases`: in a fleet, who answers whom."""
        self.identity = identity
        self._random = random
        self._state = State(store)
        self.serving = Serving(identity, self._state, random=random, leases=leases or AloneLeases())
        self.serving.schedule_ends()
        self.serving.recall()
        self.others = Others(self._state, self.serving)
        self.counters = self.serving.counters

    def request(
        self, now: int, nwid: int, requester: Identity, metadata: bytes, packet_id: int, source: InetAddress | None
    ) -> list[ControllerAction]:
        """A NETWORK_CONFIG_REQUEST; what to do about it (`Serving.request`)."""
        return self.serving.request(now, nwid, requester, metadata, packet_id, source)

    def metrics(self) -> dict[str, int]:
        """The metrics of controller §6 by name; those ending in `_count` of networks and members are gauges."""
        networks = list(self._state.networks())
        counted = ("network_change", "member_change", "member_auth", "member_deauth")
        return {
            "controller_network_count": len(networks),
            "controller_member_count": sum(len(found.members) for found in networks),
            **{f"controller_{name}_count": self.counters[name] for name in counted},
            "controller_network_config_request": self.counters["network_config_request"],
        }

    def tick(self, now: int) -> None:
        """Do what is due: pushes, revocations, ends of sign-ons and of members."""
        for found, address, record in self.serving.ended(now):
            after = member.updated(record, {"authorized": False}, found.nwid, address, now)
            try:
                self._save_members(now, found, {address: after}, Change("expiry"))
            except ControllerError:  # refused all the same
                self.serving.revoke(now, found, address)
        self.serving.tick(now)

    def next_deadline(self, now: int) -> int | None:
        """When `tick` should be called next; None = nothing is pending."""
        return self.serving.next_deadline(now)

    def take_actions(self) -> list[ControllerAction]:
        """Remove and return what is to be done."""
        return self.serving.take_actions()

    def take_changes(self) -> list[MemberChanged]:
        """Remove and return what the log should tell."""
        return self.serving.take_changes()

    # --- API: networks ---------------------------------------------------------------------------------------------

    def status(self, now: int) -> JsonObject:
        """GET /controller."""
        return {"controller": True, "apiVersion": API_VERSION, "clock": now, "databaseReady": True}

    def list_networks(self) -> list[str]:
        """The IDs of all networks, ascending."""
        self.counters["db_get_network_list"] += 1
        return [format_nwid(found.nwid) for found in self._state.networks()]

    def get_network(self, nwid: int) -> JsonObject:
        """One network object; 404."""
        self.counters["db_get_network"] += 1
        return _answer_object(self._network(nwid).record)

    def create_network(self, now: int, body: Any, change: Change = ANYONE) -> JsonObject:
        """Create a network with an ID of its own; 503 if none is free."""
        return self.update_network(now, self._free_nwid(), body, change)

    def update_network(self, now: int, nwid: int, body: Any, change: Change = ANYONE) -> JsonObject:
        """Create or change a network; anything but an object as `body` has no fields (controller §3)."""
        before = self._state.network(nwid)
        change.check(before.record if before else None)
        record = network.updated(before.record if before else None, body, nwid, now)
        audit = _audit(now, change, "network")
        changed = self._stored(lambda: self._state.save_network(nwid, record, audit))
        answer = _answer_object(record)
        if changed:
            self.counters["network_change"] += 1
            self.serving.push_all(now, nwid)
            self.serving.flush(now)
        return answer

    def delete_network(self, now: int, nwid: int, change: Change = ANYONE) -> JsonObject:
        """Delete a network with its members, whose certificates are revoked; the object it was; 404."""
        found = self._network(nwid)
        change.check(found.record)
        self._stored(lambda: self._state.delete_network(nwid, _audit(now, change, "network")))
        self.counters["network_change"] += 1
        for address in found.authorized_members():
            self.serving.revoke(now, found, address)
        self.serving.flush(now)
        return _answer_object(found.record)

    # --- API: members ----------------------------------------------------------------------------------------------

    def list_members(self, nwid: int) -> JsonObject:
        """Member ID to revision, ascending; 404."""
        self.counters["db_get_member_list"] += 1
        members = self._network(nwid).members
        return {
            format_address(address): coerce.integer(members[address].get("revision"), 0) for address in sorted(members)
        }

    def member_counts(self, nwid: int) -> tuple[int, int]:
        """The numbers of authorised and of all members; 404."""
        found = self._network(nwid)
        return found.authorized, len(found.members)

    def get_member(self, nwid: int, address: int) -> JsonObject:
        """One member object; 404."""
        self.counters["db_get_network_and_member"] += 1
        return _answer_object(self._member(nwid, address)[1])

    def update_member(self, now: int, nwid: int, address: int, body: Any, change: Change = ANYONE) -> JsonObject:
        """Create or change a member; 404 if the network is unknown, 400 if no node can have the address."""
        found = self._network(nwid)
        _check_address(found, address, "id")
        before = found.members.get(address)
        change.check(before)
        record = member.updated(before, body, nwid, address, now)
        self._save_members(now, found, {address: record}, change)
        return _answer_object(record)

    def update_members(self, now: int, nwid: int, bodies: dict[int, Any], change: Change = ANYONE) -> list[JsonObject]:
        """Create or change several members of one network, all or none; in the order given."""
        found = self._network(nwid)
        change.check(found.record)
        for address in bodies:
            _check_address(found, address, f"members.{format_address(address)}")
        records = {
            address: member.updated(found.members.get(address), body, nwid, address, now)
            for address, body in bodies.items()
        }
        self._save_members(now, found, records, change)
        return [_answer_object(record) for record in records.values()]

    def delete_member(
        self, now: int, nwid: int, address: int, change: Change = ANYONE, *, forget: bool = False
    ) -> JsonObject:
        """Delete a member, whose certificate is revoked if it was authorised; the object it was; 404.

        It stays deleted however often it asks, until it is updated, that is added again; unless it is to be forgotten.
        """
        found = self._network(nwid)
        if forget and address in found.deleted:
            self._stored(lambda: self._state.delete_member(found, address))
            return {"address": format_address(address), "id": format_address(address), "nwid": format_nwid(nwid)}
        found, record = self._member(nwid, address)
        change.check(record)
        audit = _audit(now, change, "member")
        self._stored(lambda: self._state.delete_member(found, address, None if forget else now, audit))
        self.counters["member_change"] += 1
        if member.is_authorized(record):
            self.serving.revoke(now, found, address)
            self.serving.flush(now)
        return _answer_object(record)

    def _save_members(self, now: int, found: NetworkState, records: dict[int, JsonObject], change: Change) -> None:
        """Store new states of members, and do what follows from those that are changes."""
        before = {address: found.members.get(address) for address in records}
        bridges = list(found.bridges)
        audit = _audit(now, change, "member")
        changed = self._stored(lambda: self._state.save_members(found, records, audit))
        for address, record in changed.items():
            self.counters["member_change"] += 1
            old = before[address]
            was_authorized = old is not None and member.is_authorized(old)
            if was_authorized and not member.is_authorized(record):
                self.serving.revoke(now, found, address)
            elif not was_authorized and member.is_authorized(record):
                self.serving.granted(found.nwid, address)
            self.serving.schedule_end(found.nwid, address, record)
            self.serving.push(found.nwid, address)
        if found.bridges != bridges:
            self.serving.push_all(now, found.nwid)
        if changed:
            self.serving.flush(now)

    # --- API: lists ------------------------------------------------------------------------------------------------

    def query_networks(self, query: NetworkQuery) -> Page:
        """Whole network objects, each with its counts; filtered, by ascending ID, a page at a time."""
        return listing.networks(self._state.networks(), query, _answer_object)

    def query_members(self, now: int, nwid: int, query: MemberQuery) -> Page:
        """Whole member objects, each with what is known of its last request; 404."""
        return listing.members(self._network(nwid), self.serving.statuses, now, query, _answer_object)

    def audit(
        self, before: int | None = None, limit: int = 100, nwid: int | None = None, address: int | None = None
    ) -> list[JsonObject]:
        """Lines of the audit log with IDs below `before`, newest first."""
        network_id = None if nwid is None else format_nwid(nwid)
        member_id = None if address is None else format_address(address)
        return self._stored(lambda: self._state.audit(before, limit, network_id, member_id))

    def reload(self, now: int, change: Change = ANYONE) -> None:
        """Read the store again, after it was restored or imported into, and push to all that are online.

        Who is no longer authorised is revoked.
        """
        before = [(found, found.authorized_members()) for found in self._state.networks()]
        self._stored(self._state.load)
        for old, authorized in before:
            found = self._state.network(old.nwid) or old
            left = set() if found is old else set(found.authorized_members())
            for address in (address for address in authorized if address not in left):
                self.serving.revoke(now, found, address)
        self.serving.schedule_ends()
        self.counters["network_change"] += 1
        for found in self._state.networks():
            self.serving.push_all(now, found.nwid)
        self.serving.flush(now)
        self._stored(lambda: self._state.note(entry(now, change, "store.reload", None, None)))

    def _network(self, nwid: int) -> NetworkState:
        found = self._state.network(nwid) or self._stored(lambda: self._state.fetch(nwid))
        if found is None:
            raise not_found(f"network {format_nwid(nwid)}")
        return found

    def _member(self, nwid: int, address: int) -> tuple[NetworkState, JsonObject]:
        found = self._network(nwid)
        record = found.members.get(address)
        if record is None:
            raise not_found(f"member {format_address(address)} of network {format_nwid(nwid)}")
        return found, record

    def _free_nwid(self) -> int:
        """A random ID under this controller that no network has."""
        for _ in range(_MAX_ID_TRIALS):
            number = int.from_bytes(self._random(3), "big") or 1
            nwid = self.identity.address << 24 | number
            if self._state.network(nwid) is None:
                return nwid
        raise ControllerError(503, "no free network ID was found")

    def _stored(self, change: Callable[[], _T]) -> _T:
        """Do something with the store; if that fails it is a 503 and nothing has changed."""
        try:
            return change()
        except StoreError as error:
            self.counters["drop_store_failed"] += 1
            raise ControllerError(503, str(error), {"error": str(error)}) from error


def _check_address(found: NetworkState, address: int, field: str) -> None:
    """Refuse to add what can never ask; what was taken over from elsewhere may be changed."""
    if is_reserved_address(address) and address not in found.members:
        raise bad_value(field, "an address that a node can have: not 0, not ff...")


def _audit(now: int, change: Change, kind: str) -> Audit:
    def audit(before: JsonObject | None, after: JsonObject | None) -> JsonObject:
        action = "create" if before is None else "delete" if after is None else "update"
        return entry(now, change, f"{kind}.{action}", before, after)

    return audit


def _answer_object(record: JsonObject) -> JsonObject:
    """A copy of a record to hand out, without internal fields, keys in byte order on every level."""
    return {key: _sorted(deepcopy(record[key])) for key in sorted(record) if not key.startswith("_")}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(element) for element in value]
    return value
