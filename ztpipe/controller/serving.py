"""What members hear from a controller: answers to their requests, and what is sent unasked (controller §7, §9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

from ztpipe.controller import coerce, member
from ztpipe.controller.actions import ControllerAction, MemberChanged
from ztpipe.controller.addresses import Random
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.decision import Decider, Granted
from ztpipe.controller.leases import Leases
from ztpipe.controller.push import PushQueue, RevocationQueue
from ztpipe.controller.sending import UNASKED, Sender
from ztpipe.controller.state import NetworkState, State
from ztpipe.controller.status import ONLINE_WINDOW, MemberStatus, StatusTable
from ztpipe.controller.store import Heard, StoreError
from ztpipe.wire.address import controller_of
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import ErrorCode

_MAX_EXPIRIES: Final = 65_536
REMEMBER_MS: Final = 5_000
"""How often it is written down who asked; a process that is killed forgets no more than that."""


class Serving:
    """Answers requests, and tells those that are online what follows from changes of the records.

    `counters` counts events by name, drops included; `statuses` says who asked lately.  What is to be sent is had from
    `take_actions`.
    """

    def __init__(self, identity: Identity, state: State, *, random: Random, leases: Leases) -> None:
        self.identity = identity
        self.counters: Counter[str] = Counter()
        self.statuses = StatusTable()
        self.leases = leases
        self._state = state
        self._decider = Decider(identity, state, random)
        self._sender = Sender(identity, random)
        self._pushes = PushQueue()
        self._revocations = RevocationQueue()
        self._expiries: list[tuple[int, int, int]] = []  # heap of (time, nwid, address): ends of sign-ons
        self._ends: list[tuple[int, int, int]] = []  # the same of members that expire
        self._actions: list[ControllerAction] = []
        self._changes: list[MemberChanged] = []
        self._remembered = 0  # when the store was told last who is online, ms

    # --- requests --------------------------------------------------------------------------------------------------

    def request(
        self, now: int, nwid: int, requester: Identity, metadata: bytes, packet_id: int, source: InetAddress | None
    ) -> list[ControllerAction]:
        """A NETWORK_CONFIG_REQUEST of an authenticated `requester` (controller §7.1); what to do about it.

        `packet_id` is that of the request, all ones for the node's own.  `source` is where it came from, None if
        it was relayed; nothing depends on it.
        """
        self.counters["network_config_request"] += 1
        ours = requester.address == self.identity.address
        if controller_of(nwid) != self.identity.address:
            self.counters["drop_foreign_network"] += 1
        elif not ours and not self.leases.answers(now, nwid, requester.address, metadata):
            self.counters["drop_answered_by_another"] += 1
        elif not self.statuses.admit(now, nwid, requester, metadata):
            self.counters["drop_request_rate"] += 1
        else:
            self._answer(now, nwid, requester, metadata, packet_id)
        return self.take_actions()

    def locally_authorized(self, now: int, nwid: int, address: int) -> bool:
        """Whether a configuration was sent to the member lately (controller §8.9)."""
        status = self.statuses.get(nwid, address)
        return status is not None and status.granted_recently(now)

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
        status = self.statuses.get(nwid, requester.address)
        if status is not None:
            status.last_grant = now
        if answer.expiry is not None and packet_id != UNASKED and len(self._expiries) < _MAX_EXPIRIES:
            heappush(self._expiries, (answer.expiry, nwid, requester.address))

    def _lost_access(self, nwid: int, address: int, code: ErrorCode) -> bool:
        """Whether a member that had a configuration has to be told, unasked, that it is no longer one.

        It would notice within a minute, by asking again.
        """
        status = self.statuses.get(nwid, address)
        lost = code in (ErrorCode.NETWORK_ACCESS_DENIED, ErrorCode.OBJ_NOT_FOUND)
        return lost and status is not None and status.last_grant is not None

    # --- unasked ---------------------------------------------------------------------------------------------------

    def push(self, nwid: int, address: int) -> None:
        """Send a member its configuration again, if it is online, with the next `flush`."""
        self._pushes.add(nwid, address)

    def push_all(self, now: int, nwid: int) -> None:
        """To all that are online: something that stands in every configuration has changed."""
        for status in self.statuses.online(now, nwid):
            self._pushes.add(nwid, status.address)

    def revoke(self, now: int, network: NetworkState, address: int) -> None:
        """Make the others stop accepting a member (controller §9.3), and tell it.  What is issued later is newer."""
        self.counters["member_deauth"] += 1
        self._changes.append(MemberChanged(network.nwid, address, authorized=False))
        network.not_before = max(network.not_before, now + 1)
        if not self._revocations.add(self._sender.revocation(network.nwid, address, now)):
            self.counters["drop_revocation_queue_full"] += 1
        status = self.statuses.get(network.nwid, address)
        if status is not None and status.online(now):
            self._pushes.add(network.nwid, address)

    def granted(self, nwid: int, address: int) -> None:
        """Note that a member was authorised."""
        self.counters["member_auth"] += 1
        self._changes.append(MemberChanged(nwid, address, authorized=True))

    def flush(self, now: int) -> None:
        """Send what may be sent now of revocations and pushes; `next_deadline` says when the rest is due."""
        self._send_revocations(now)
        self._send_pushes(now)

    def tick(self, now: int) -> None:
        """Do what is due: pushes, revocations, ends of sign-ons."""
        self.statuses.prune(now)
        if not 0 <= now - self._remembered < REMEMBER_MS:
            self.remember(now)
        self._end_sign_ons(now)
        self.flush(now)

    def remember(self, now: int) -> None:
        """Write down who asked since the last time, so that they are told of changes after a restart too."""
        heard = [
            Heard(each.nwid, each.address, each.metadata, each.last_request, each.last_grant)
            for each in self.statuses.since(self._remembered)
        ]
        try:
            if heard:
                self._state.remember(heard, now - ONLINE_WINDOW)
        except StoreError:
            self.counters["drop_store_failed"] += 1
        else:
            self._remembered = now

    def recall(self) -> None:
        """Know who was online before this process began."""
        for heard in self._state.remembered():
            found = self._state.network(heard.nwid)
            record = found.members.get(heard.address) if found is not None else None
            identity = member.identity(record) if record is not None else None
            if identity is not None:
                self.statuses.recall(MemberStatus(heard.nwid, identity, heard.metadata, heard.asked, heard.granted))

    def next_deadline(self, now: int) -> int | None:
        """When something is due next; None = nothing is pending."""
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

    def _send_pushes(self, now: int) -> None:
        for nwid, address in self._pushes.take():
            status = self.statuses.get(nwid, address)
            if status is not None and status.online(now):
                self.counters["pushes"] += 1
                self._answer(now, nwid, status.identity, status.metadata, UNASKED)

    def _send_revocations(self, now: int) -> None:
        for nwid, batch in self._revocations.take(now):
            for status in self.statuses.online(now, nwid):
                if status.address != self.identity.address:
                    self._actions.append(self._sender.revocations(status.address, batch))

    def _end_sign_ons(self, now: int) -> None:
        """Revoke members whose sign-on has ended and was not renewed (controller §7.4)."""
        while self._expiries and self._expiries[0][0] <= now:
            _, nwid, address = heappop(self._expiries)
            found = self._state.network(nwid)
            record = found.members.get(address) if found else None
            if found and record and coerce.integer(record.get("authenticationExpiryTime"), 0) <= now:
                self.revoke(now, found, address)

    # --- members that expire ---------------------------------------------------------------------------------------

    def schedule_ends(self) -> None:
        """Know when the time of each authorised member is over: all were read anew."""
        self._ends = []
        for found in self._state.networks():
            for address, record in found.members.items():
                self.schedule_end(found.nwid, address, record)

    def schedule_end(self, nwid: int, address: int, record: JsonObject) -> None:
        """The same of one member, whose record was written."""
        if member.expiry(record) and member.is_authorized(record):
            heappush(self._ends, (member.expiry(record), nwid, address))

    def ended(self, now: int) -> Iterator[tuple[NetworkState, int, JsonObject]]:
        """Remove and yield the members, with their records, that are authorised though their time is over."""
        while self._ends and self._ends[0][0] <= now:
            _, nwid, address = heappop(self._ends)
            found = self._state.network(nwid)
            record = found.members.get(address) if found else None
            if found and record and member.is_authorized(record) and member.expired(record, now):
                yield found, address, record
