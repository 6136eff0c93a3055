"""What the other controllers of a fleet do: records that they wrote, members that they answer or no longer can."""

from __future__ import annotations

from ztpipe.controller import member
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.serving import Serving
from ztpipe.controller.state import State
from ztpipe.controller.store import DELETED


class Others:
    """Takes over into memory what is in the shared store already, and has members told of it."""

    def __init__(self, state: State, serving: Serving) -> None:
        self._state = state
        self._serving = serving

    def network_changed(self, now: int, nwid: int, record: JsonObject | None) -> None:
        """Another controller wrote the record of a network, or deleted it with all its members (None)."""
        found = self._state.network(nwid)
        if record is not None:
            self._state.put_network(nwid, record)
            self._serving.push_all(now, nwid)
        elif found is not None:
            self._state.drop_network(nwid)
            for address in found.authorized_members():
                self._serving.revoke(now, found, address)
        self._serving.counters["network_change"] += 1
        self._serving.flush(now)

    def member_changed(self, now: int, nwid: int, address: int, record: JsonObject | None) -> None:
        """Another controller wrote the record of a member, or deleted it (None)."""
        found = self._state.network(nwid)
        if found is None:
            return
        old, bridges = found.members.get(address), list(found.bridges)
        self._state.put_member(found, address, record)
        new = found.members.get(address)
        if old is not None and member.is_authorized(old) and (new is None or not member.is_authorized(new)):
            self._serving.revoke(now, found, address)
        if new is not None:
            self._serving.schedule_end(nwid, address, new)
        self._serving.counters["member_change"] += 1
        self._serving.push(nwid, address)
        if found.bridges != bridges:
            self._serving.push_all(now, nwid)
        self._serving.flush(now)

    def lease_lost(self, nwid: int, address: int) -> None:
        """Another controller answers this member now: nothing is pushed to it from here."""
        self._serving.leases.lost(nwid, address)
        self._serving.statuses.forget(nwid, address)

    def adopt(self, now: int, nwid: int, address: int, metadata: bytes) -> None:
        """The controller that answered this member has died; we hold its lease and go on in its place."""
        found = self._state.network(nwid)
        record = found.members.get(address) if found is not None else None
        identity = member.identity(record) if record is not None else None
        if identity is not None:
            self._serving.statuses.admit(now, nwid, identity, metadata)
            self._serving.push(nwid, address)

    # --- what may have been missed -----------------------------------------------------------------------------------

    def networks(self) -> set[int]:
        """The networks in memory."""
        return {found.nwid for found in self._state.networks()}

    def members(self, nwid: int) -> set[int]:
        """The members in memory, those included that are to stay deleted."""
        found = self._state.network(nwid)
        return set() if found is None else found.members.keys() | found.deleted

    def has_network(self, nwid: int, record: JsonObject) -> bool:
        """Whether the record is the one in memory."""
        found = self._state.network(nwid)
        return found is not None and found.record == record

    def has_member(self, nwid: int, address: int, record: JsonObject) -> bool:
        """Whether the record, which may say that the member is deleted, is the one in memory."""
        found = self._state.network(nwid)
        if found is None or record.get(DELETED) is not None:
            return found is not None and address in found.deleted
        return found.members.get(address) == record
