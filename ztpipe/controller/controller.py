"""The controller: admission of requests, pushes, and the operations of its HTTP API (controller §6, §7, §9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

from ztpipe.controller import coerce, listing, member, network
from ztpipe.controller.actions import ControllerAction, MemberChanged
from ztpipe.controller.addresses import Random
from ztpipe.controller.change import ANYONE, Change, entry
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.decision import Decider, Granted
from ztpipe.controller.errors import ControllerError, not_found
from ztpipe.controller.leases import AloneLeases, Leases
from ztpipe.controller.listing import MemberQuery, NetworkQuery, Page
from ztpipe.controller.push import PushQueue, RevocationQueue
from ztpipe.controller.sending import UNASKED, Sender
from ztpipe.controller.state import Audit, NetworkState, State
from ztpipe.controller.status import StatusTable
from ztpipe.controller.store import Store, StoreError
from ztpipe.wire.address import controller_of, format_address, format_nwid
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import ErrorCode

API_VERSION: Final = 4
_MAX_ID_TRIALS: Final = 100_000
_MAX_EXPIRIES: Final = 65_536
_T = TypeVar("_T")


class Controller:
    """Serves the networks whose ID begins with the address of `identity`, which must hold its private key.

    API operations return new JSON objects, keys in byte order, and raise ControllerError only.  What they cause to
    be sent is had from `take_actions`; `counters` counts events by name, drops included.
    """

    def __init__(self, identity: Identity, store: Store, *, random: Random, leases: Leases | None = None) -> None:
        """Load all records; raises StoreError if that fails.  `leases`: in a fleet, who answers whom."""
        self.identity = identity
        self.counters: Counter[str] = Counter()
        self._random = random
        self._state = State(store)
        self._statuses = StatusTable()
        self._leases = leases or AloneLeases()
        self._decider = Decider(identity, self._state, random)
        self._sender = Sender(identity, random)
        self._pushes = PushQueue()
        self._revocations = RevocationQueue()
        self._expiries: list[tuple[int, int, int]] = []  # heap of (time, nwid, address): ends of sign-ons
        self._ends: list[tuple[int, int, int]] = []  # the same of members that expire
        self._actions: list[ControllerAction] = []
        self._changes: list[MemberChanged] = []
        self._schedule_ends()

    # --- requests --------------------------------------------------------------------------------------------------

    def request(
        self, now: int, nwid: int, member: Identity, metadata: bytes, packet_id: int, source: InetAddress | None
    ) -> list[ControllerAction]:
        """A NETWORK_CONFIG_REQUEST of an authenticated `member` (controller §7.1); what to do about it.

        `packet_id` is that of the request, all ones for the node's own.  `source` is where it came from, None if
        it was relayed; nothing depends on it.
        """
        self.counters["network_config_request"] += 1
        if controller_of(nwid) != self.identity.address:
            self.counters["drop_foreign_network"] += 1
        elif member.address != self.identity.address and not self._leases.answers(now, nwid, member.address, metadata):
            self.counters["drop_answered_by_another"] += 1
        elif not self._statuses.admit(now, nwid, member, metadata):
            self.counters["drop_request_rate"] += 1
        else:
            self._answer(now, nwid, member, metadata, packet_id)
        return self.take_actions()

    def locally_authorized(self, now: int, nwid: int, address: int) -> bool:
        """Whether a configuration was sent to the member lately (controller §8.9)."""
        status = self._statuses.get(nwid, address)
        return status is not None and status.granted_recently(now)

    def tick(self, now: int) -> None:
        """Do what is due: pushes, revocations, ends of sign-ons."""
        self._statuses.prune(now)
        self._end_sign_ons(now)
        self._end_members(now)
        self._send_revocations(now)
        self._send_pushes(now)

    def next_deadline(self, now: int) -> int | None:
        """When `tick` should be called next; None = nothing is pending."""
        times = [self._revocations.next_deadline(now)]
        times.append(now if self._pushes else None)
        times += [heap[0][0] for heap in (self._expiries, self._ends) if heap]
        return min((time for time in times if time is not None), default=None)

    def take_actions(self) -> list[ControllerAction]:
        """Remove and return what is to be done."""
        actions, self._actions = self._actions, []
        return actions

    def take_changes(self) -> list[MemberChanged]:
        """Remove and return what the log should tell."""
        changes, self._changes = self._changes, []
        return changes

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

    def _answer(self, now: int, nwid: int, requester: Identity, metadata: bytes, packet_id: int) -> None:
        """Decide and send (controller §7.2).  If the store fails nothing is sent; the member will ask again."""
        self.counters["db_get_network_and_member_summary"] += 1
        try:
            answer = self._decider.decide(now, nwid, requester, metadata, packet_id != UNASKED)
        except StoreError:
            self.counters["drop_store_failed"] += 1
            return
        if not isinstance(answer, Granted):
            self.counters["refused"] += 1
            if packet_id != UNASKED or self._lost_access(nwid, requester.address, answer.code):
                self._actions += self._sender.error(requester.address, nwid, packet_id, answer.code, answer.data)
            return
        self.counters["granted"] += 1
        self._actions += self._sender.config(requester.address, answer.config, packet_id)
        status = self._statuses.get(nwid, requester.address)
        if status is not None:
            status.last_grant = now
        if answer.expiry is not None and packet_id != UNASKED and len(self._expiries) < _MAX_EXPIRIES:
            heappush(self._expiries, (answer.expiry, nwid, requester.address))

    def _lost_access(self, nwid: int, address: int, code: ErrorCode) -> bool:
        """Whether a member that had a configuration has to be told, unasked, that it is no longer one.

        It would notice within a minute, by asking again.
        """
        status = self._statuses.get(nwid, address)
        lost = code in (ErrorCode.NETWORK_ACCESS_DENIED, ErrorCode.OBJ_NOT_FOUND)
        return lost and status is not None and status.last_grant is not None

    # --- unasked ---------------------------------------------------------------------------------------------------

    def _send_pushes(self, now: int) -> None:
        for nwid, address in self._pushes.take():
            status = self._statuses.get(nwid, address)
            if status is not None and status.online(now):
                self.counters["pushes"] += 1
                self._answer(now, nwid, status.identity, status.metadata, UNASKED)

    def _send_revocations(self, now: int) -> None:
        for nwid, batch in self._revocations.take(now):
            for status in self._statuses.online(now, nwid):
                if status.address != self.identity.address:
                    self._actions.append(self._sender.revocations(status.address, batch))

    def _revoke(self, now: int, network: NetworkState, address: int) -> None:
        """Make the others stop accepting a member (controller §9.3), and tell it.  What is issued later is newer."""
        self.counters["member_deauth"] += 1
        self._changes.append(MemberChanged(network.nwid, address, authorized=False))
        network.not_before = max(network.not_before, now + 1)
        if not self._revocations.add(self._sender.revocation(network.nwid, address, now)):
            self.counters["drop_revocation_queue_full"] += 1
        status = self._statuses.get(network.nwid, address)
        if status is not None and status.online(now):
            self._pushes.add(network.nwid, address)

    def _end_sign_ons(self, now: int) -> None:
        """Revoke members whose sign-on has ended and was not renewed (controller §7.4)."""
        while self._expiries and self._expiries[0][0] <= now:
            _, nwid, address = heappop(self._expiries)
            found = self._state.network(nwid)
            record = found.members.get(address) if found else None
            if found and record and coerce.integer(record.get("authenticationExpiryTime"), 0) <= now:
                self._revoke(now, found, address)

    def _schedule_ends(self) -> None:
        self._ends = []
        for found in self._state.networks():
            for address, record in found.members.items():
                self._schedule_end(found.nwid, address, record)

    def _schedule_end(self, nwid: int, address: int, record: JsonObject) -> None:
        if member.expiry(record) and member.is_authorized(record):
            heappush(self._ends, (member.expiry(record), nwid, address))

    def _end_members(self, now: int) -> None:
        """Deauthorise members whose time is over.  If the store fails they are refused all the same."""
        while self._ends and self._ends[0][0] <= now:
            _, nwid, address = heappop(self._ends)
            found = self._state.network(nwid)
            record = found.members.get(address) if found else None
            if found and record and member.is_authorized(record) and member.expired(record, now):
                after = member.updated(record, {"authorized": False}, nwid, address, now)
                try:
                    self._save_members(now, found, {address: after}, Change("expiry"))
                except ControllerError:
                    self._revoke(now, found, address)

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
            for status in self._statuses.online(now, nwid):
                self._pushes.add(nwid, status.address)
            self._send_pushes(now)
        return answer

    def delete_network(self, now: int, nwid: int, change: Change = ANYONE) -> JsonObject:
        """Delete a network with its members, whose certificates are revoked; the object it was; 404."""
        found = self._network(nwid)
        change.check(found.record)
        self._stored(lambda: self._state.delete_network(nwid, _audit(now, change, "network")))
        self.counters["network_change"] += 1
        for address in sorted(found.members):
            if member.is_authorized(found.members[address]):
                self._revoke(now, found, address)
        self._send_revocations(now)
        self._send_pushes(now)
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
        """Create or change a member; 404 if the network is unknown."""
        found = self._network(nwid)
        before = found.members.get(address)
        change.check(before)
        record = member.updated(before, body, nwid, address, now)
        self._save_members(now, found, {address: record}, change)
        return _answer_object(record)

    def update_members(self, now: int, nwid: int, bodies: dict[int, Any], change: Change = ANYONE) -> list[JsonObject]:
        """Create or change several members of one network, all or none; in the order given."""
        found = self._network(nwid)
        change.check(found.record)
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
            self._revoke(now, found, address)
            self._send_revocations(now)
            self._send_pushes(now)
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
                self._revoke(now, found, address)
            elif not was_authorized and member.is_authorized(record):
                self.counters["member_auth"] += 1
                self._changes.append(MemberChanged(found.nwid, address, authorized=True))
            self._schedule_end(found.nwid, address, record)
            self._pushes.add(found.nwid, address)
        if found.bridges != bridges:
            self._push_all(now, found.nwid)
        if changed:
            self._send_revocations(now)
            self._send_pushes(now)

    # --- API: lists ------------------------------------------------------------------------------------------------

    def query_networks(self, query: NetworkQuery) -> Page:
        """Whole network objects, each with its counts; filtered, by ascending ID, a page at a time."""
        return listing.networks(self._state.networks(), query, _answer_object)

    def query_members(self, now: int, nwid: int, query: MemberQuery) -> Page:
        """Whole member objects, each with what is known of its last request; 404."""
        return listing.members(self._network(nwid), self._statuses, now, query, _answer_object)

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
        self.resync(now)
        self._stored(lambda: self._state.note(entry(now, change, "store.reload", None, None)))

    # --- what other controllers of a fleet do ------------------------------------------------------------------------

    def resync(self, now: int) -> None:
        """Read everything again and do what follows from the differences; raises ControllerError."""
        before = [(found, _authorized(found)) for found in self._state.networks()]
        self._stored(self._state.load)
        for old, authorized in before:
            found = self._state.network(old.nwid) or old
            left = set() if found is old else _authorized(found)
            for address in sorted(authorized - left):
                self._revoke(now, found, address)
        self._send_revocations(now)
        self._schedule_ends()
        self.counters["network_change"] += 1
        for found in self._state.networks():
            self._push_all(now, found.nwid)
        self._send_pushes(now)

    def network_changed(self, now: int, nwid: int, record: JsonObject | None) -> None:
        """Another controller wrote the record of a network, or deleted it with all its members (None)."""
        found = self._state.network(nwid)
        if record is not None:
            self._state.put_network(nwid, record)
            self._push_all(now, nwid)
        elif found is not None:
            self._state.drop_network(nwid)
            for address in sorted(_authorized(found)):
                self._revoke(now, found, address)
        self.counters["network_change"] += 1
        self._send_revocations(now)
        self._send_pushes(now)

    def member_changed(self, now: int, nwid: int, address: int, record: JsonObject | None) -> None:
        """Another controller wrote the record of a member, or deleted it (None)."""
        found = self._state.network(nwid)
        if found is None:
            return
        old, bridges = found.members.get(address), list(found.bridges)
        self._state.put_member(found, address, record)
        new = found.members.get(address)
        if old is not None and member.is_authorized(old) and (new is None or not member.is_authorized(new)):
            self._revoke(now, found, address)
        if new is not None:
            self._schedule_end(nwid, address, new)
        self.counters["member_change"] += 1
        self._pushes.add(nwid, address)
        if found.bridges != bridges:
            self._push_all(now, nwid)
        self._send_revocations(now)
        self._send_pushes(now)

    def lease_lost(self, nwid: int, address: int) -> None:
        """Another controller answers this member now: nothing is pushed to it from here."""
        self._leases.lost(nwid, address)
        self._statuses.forget(nwid, address)

    def adopt(self, now: int, nwid: int, address: int, metadata: bytes) -> None:
        """The controller that answered this member has died; we hold its lease and go on in its place."""
        found = self._state.network(nwid)
        record = found.members.get(address) if found is not None else None
        identity = member.identity(record) if record is not None else None
        if identity is not None:
            self._statuses.admit(now, nwid, identity, metadata)
            self._pushes.add(nwid, address)

    def _push_all(self, now: int, nwid: int) -> None:
        """To all that are online: something that stands in every configuration has changed."""
        for status in self._statuses.online(now, nwid):
            self._pushes.add(nwid, status.address)

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


def _authorized(found: NetworkState) -> set[int]:
    return {address for address, record in found.members.items() if member.is_authorized(record)}


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
