"""The membership gate (vl2 §3.10) and what the data plane is told about members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import InstallCredentials, InstallMember, RemoveMember
from ztpipe.node.likes import Likes
from ztpipe.node.membership import Member
from ztpipe.node.policy import member_policy
from ztpipe.node.seam import Outcome
from ztpipe.wire.protocol import ErrorCode

if TYPE_CHECKING:
    from ztpipe.node.core import Core
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext
    from ztpipe.wire.identity import Identity

PUSH_IDLE_MS: Final = 500_000
"""Credentials are pushed again to a peer we send frames to after this time."""
ERROR_INTERVAL_MS: Final = 1_000
"""One "need membership certificate" per peer in this time, unlike the reference (vl2 §5.5)."""
_MAX_ERRORS: Final = 4_096


class Gate:
    """Decides whose packets count on a network, and keeps the data plane's members in step with that."""

    def __init__(self, core: Core, likes: Likes) -> None:
        self._core = core
        self._likes = likes
        self._errors: dict[tuple[int, int], int] = {}  # (network, peer): when we last complained

    # --- the test -------------------------------------------------------------------------------------------

    def agrees(self, network: Network, member: Member | None, identity: Identity | None) -> bool:
        """The gate's bare condition, without side effects."""
        config = network.config
        if config is None:
            return False
        if config.is_public:
            return True
        if member is None or member.com is None or config.com is None or identity is None:
            return False
        return member.com.timestamp > member.com_threshold and member.agreement(config.com, identity)

    def passes(self, now: int, network: Network, identity: Identity) -> bool:
        """Whether the peer with this identity passes; if so it has an entry and is told our groups when due."""
        address = identity.address
        if not self.agrees(network, network.members.get(address), identity):
            return False
        member = self.obtain(now, network, address)
        self._likes.announce_to(now, network, member)
        self.sync(now, network, member)
        return True

    def agreeing_members(self, network: Network) -> list[Member]:
        """All members with a known identity that pass."""
        return [
            member
            for member in network.members
            if (identity := self._core.identity_of(member.address)) is not None
            and self.agrees(network, member, identity)
        ]

    def refuse(self, ctx: PacketContext, network: Network) -> Outcome:
        """Ask the sender for its credentials and keep its packet until they have come (vl2 §5.5)."""
        self._core.trace.access_denied(ctx, network)
        key = (network.nwid, ctx.peer.address)
        last = self._errors.get(key)
        if last is None or ctx.now - last >= ERROR_INTERVAL_MS:
            self._errors.pop(key, None)
            self._errors[key] = ctx.now
            if len(self._errors) > _MAX_ERRORS:
                del self._errors[next(iter(self._errors))]
            body = network.nwid.to_bytes(8, "big")
            self._core.vl1.reply_error(ctx, ErrorCode.NEED_MEMBERSHIP_CERTIFICATE, body)
        return Outcome.DEFER

    # --- entries --------------------------------------------------------------------------------------------

    def obtain(self, now: int, network: Network, address: int) -> Member:
        """The member's entry, made if missing; whoever had to make room is taken out of the data plane."""
        member = network.members.obtain(now, address)
        self.forget_evicted(network)
        return member

    def forget_evicted(self, network: Network) -> None:
        """Take members that the full table threw out from the data plane too."""
        while network.members.evicted:
            self._core.vl1.emit(RemoveMember(network.nwid, network.members.evicted.pop()))

    def remove(self, network: Network, address: int) -> None:
        """Forget a member."""
        member = network.members.get(address)
        network.members.remove(address)
        if member is not None and (member.installed is not None or member.credentials != b""):
            self._core.vl1.emit(RemoveMember(network.nwid, address))

    # --- the data plane -------------------------------------------------------------------------------------

    def push_due(self, now: int, network: Network, member: Member) -> bool:
        """Whether frames to the member must be preceded by our credentials (vl2 §3.9)."""
        return member.last_push < network.last_config_update or now - member.last_push > PUSH_IDLE_MS

    def sync(self, now: int, network: Network, member: Member) -> None:
        """Tell the data plane what changed about one member; its credentials first, for rules may refuse it else."""
        self._sync_credentials(network, member)
        receive = self.agrees(network, member, self._core.identity_of(member.address))
        send_until = 0 if self.push_due(now, network, member) else member.last_push + PUSH_IDLE_MS
        state = (receive, send_until)
        if state != (member.installed or (False, 0)):
            member.installed = state
            self._core.vl1.emit(InstallMember(network.nwid, member.address, receive, send_until))

    def _sync_credentials(self, network: Network, member: Member) -> None:
        revisions = (network.revision, member.revision)
        if member.credentials_of == revisions:
            return
        member.credentials_of = revisions
        credentials = member_policy(network, member)
        if credentials != member.credentials:
            member.credentials = credentials
            self._core.vl1.emit(InstallCredentials(network.nwid, member.address, credentials))

    def sync_all(self, now: int, network: Network) -> None:
        """Tell the data plane what changed about all members, after our own configuration changed."""
        for member in network.members:
            self.sync(now, network, member)
