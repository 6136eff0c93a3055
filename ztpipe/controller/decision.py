"""The answer to one request for a configuration (controller §7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ztpipe.controller import coerce, config, member
from ztpipe.controller.addresses import Random
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.metadata import Metadata
from ztpipe.controller.state import NetworkState, State
from ztpipe.controller.view import NetworkView
from ztpipe.wire import dictionary
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.protocol import ErrorCode

_MAX_VERSION: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Granted:
    """The member is authorised and gets this; `expiry` is when its sign-on ends (ms, None = does not apply)."""

    config: NetworkConfig
    expiry: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The member gets an error with this code and, after the network ID, this data."""

    code: ErrorCode
    data: bytes = b""


class Decider:
    """Decides on requests, and keeps in the records what follows from them."""

    def __init__(self, identity: Identity, state: State, random: Random) -> None:
        self._identity = identity
        self._state = state
        self._random = random

    def decide(self, now: int, nwid: int, requester: Identity, metadata: bytes, genuine: bool) -> Granted | Refused:
        """Answer a request, or (not `genuine`) repeat the answer to the last one unasked.

        Creates and updates the member's record.  A repeated answer never creates one: a member that was deleted stays
        deleted until it asks itself.  Raises what the store raises.
        """
        network = self._state.network(nwid)
        if network is None:
            return Refused(ErrorCode.OBJ_NOT_FOUND)
        stored = network.members.get(requester.address)
        if stored is None and (not genuine or requester.address in network.deleted):
            return Refused(ErrorCode.NETWORK_ACCESS_DENIED)
        record = member.filled(stored, nwid, requester.address, now)
        if not _claim(record, requester):
            return Refused(ErrorCode.NETWORK_ACCESS_DENIED)
        request = Metadata.read(metadata)
        _authorize(network.view, record, request, now)
        answer = self._answer(now, network, record, requester, request)
        self._state.save_member(network, requester.address, record)
        return answer

    def _answer(
        self, now: int, network: NetworkState, record: JsonObject, requester: Identity, request: Metadata
    ) -> Granted | Refused:
        expiry = None
        if network.view.sso and not coerce.boolean(record.get("ssoExempt"), False):
            expiry = coerce.integer(record.get("authenticationExpiryTime"), 0)
            if expiry <= now:
                return Refused(ErrorCode.NETWORK_AUTHENTICATION_REQUIRED, _sign_on())
        if not member.is_authorized(record) or member.expired(record, now):
            return Refused(ErrorCode.NETWORK_ACCESS_DENIED)
        first = not member.was_granted(record)
        _remember_version(record, request)
        timestamp = max(now, network.not_before)
        grant = config.Grant(self._identity, requester, request, timestamp, first, expiry)
        return Granted(config.build(grant, network, record, self._random), expiry)


def _claim(record: JsonObject, requester: Identity) -> bool:
    """The record belongs to the first identity that asked with its address; whether that is the requester."""
    pinned = record.get("identity")
    if not isinstance(pinned, str) or not pinned:
        record["identity"] = requester.text()
        return True
    try:
        return Identity.parse(pinned) == requester
    except WireError:
        return False


def _authorize(view: NetworkView, record: JsonObject, request: Metadata, now: int) -> None:
    """Authorise a member that needs no administrator for it; this is permanent (controller §7.2 step 6)."""
    if member.is_authorized(record) or member.expired(record, now):
        return
    if not view.private:
        member.authorize(record, now, "public", None)
    elif request.token is not None:
        expiry = view.auth_tokens.get(request.token)
        if expiry is not None and (expiry == 0 or expiry > now):
            member.authorize(record, now, "token", request.token)


def _remember_version(record: JsonObject, request: Metadata) -> None:
    for field, number in zip(member.VERSION_FIELDS, request.version, strict=True):
        record[field] = min(number, _MAX_VERSION)


def _sign_on() -> bytes:
    """What a member must know to sign on: nothing is known of any provider, so version 0 without a URL (controller
    §7.4)."""
    fields = dictionary.encode([("aV", b"0000000000000000"), ("aU", b"")])
    return len(fields).to_bytes(2, "big") + fields
