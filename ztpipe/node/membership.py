"""What a member knows of the other members of one network, and which credentials it takes from them (vl2 §3.7, §3.8).

Nothing enters the table before its signature was verified.  The table and everything in it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ztpipe.rules.evaluate import CompiledRules, compile_rules
from ztpipe.wire.credentials import (
    Capability,
    CertificateOfMembership,
    CertificateOfOwnership,
    CredentialType,
    Revocation,
    Tag,
)
from ztpipe.wire.identity import Identity

NEVER: Final = -(1 << 62)
"""A time long before any `now`."""

MAX_MEMBERS: Final = 65_536
MAX_CREDENTIALS: Final = 128
"""Tags, capabilities, certificates of ownership and revocation thresholds kept per member, of each kind."""
IDLE_TIMEOUT_MS: Final = 7_200_000
"""A member not heard of for the greatest credential delta has nothing left that could still be in force."""

KINDS: Final = {
    Tag: CredentialType.TAG,
    Capability: CredentialType.CAPABILITY,
    CertificateOfOwnership: CredentialType.COO,
}

IdentityLookup = Callable[[int], Identity | None]
Credential = Tag | Capability | CertificateOfOwnership


class Acceptance(Enum):
    """What became of a credential that was offered."""

    NEW = auto()
    REDUNDANT = auto()
    REJECTED = auto()
    DEFERRED = auto()
    """The signer's identity is not known yet."""

    @property
    def accepted(self) -> bool:
        return self in (Acceptance.NEW, Acceptance.REDUNDANT)


@dataclass(slots=True)
class Member:
    """One remote member: its credentials, what was revoked of it, and when we last did things for it (ms)."""

    address: int
    com: CertificateOfMembership | None = None
    com_threshold: int = 0
    tags: dict[int, Tag] = field(default_factory=dict)
    capabilities: dict[int, Capability] = field(default_factory=dict)
    coos: dict[int, CertificateOfOwnership] = field(default_factory=dict)
    thresholds: dict[tuple[CredentialType, int], int] = field(default_factory=dict)
    last_used: int = NEVER
    last_like: int = NEVER
    last_push: int = NEVER
    installed: tuple[bool, int] | None = None
    """What the data plane was last told: (receive, send_until)."""
    revision: int = 0
    """How often its tags, capabilities or certificates of ownership have changed."""
    credentials: bytes | None = b""
    """What the data plane was last told of them."""
    credentials_of: tuple[int, int] = (-1, -1)
    """The revisions, of the network and of this entry, that `credentials` were made from."""
    _compiled: dict[int, tuple[Capability, CompiledRules]] = field(default_factory=dict)
    _agreement: tuple[CertificateOfMembership, CertificateOfMembership, Identity, bool] | None = None

    def agreement(self, own: CertificateOfMembership, identity: Identity) -> bool:
        """Whether our certificate agrees with this member's (vl2 §3.2); computed once per pair of them."""
        if self.com is None:
            return False
        known = self._agreement
        if known is None or known[0] is not own or known[1] is not self.com or known[2] != identity:
            known = (own, self.com, identity, own.agrees_with(self.com, identity))
            self._agreement = known
        return known[3]

    def compiled(self, capability: Capability) -> CompiledRules:
        """The capability's rules, compiled once."""
        held = self._compiled.get(capability.id)
        if held is None or held[0] is not capability:
            held = (capability, compile_rules(capability.rules))
            self._compiled[capability.id] = held
        return held[1]

    def valid(self, kind: CredentialType, credential: Credential, config_timestamp: int, max_delta: int) -> bool:
        """Whether a held credential is in force under a configuration of that time and credential delta."""
        if abs(credential.timestamp - config_timestamp) > max_delta:
            return False
        return credential.timestamp > self.thresholds.get((kind, credential.id), NEVER)

    def threshold(self, kind: CredentialType, number: int) -> int:
        """Up to which time a credential of this member was revoked."""
        if kind is CredentialType.COM:
            return self.com_threshold
        return self.thresholds.get((kind, number), NEVER)

    def newest_threshold(self) -> int:
        """The latest time anything of this member was revoked up to."""
        return max((self.com_threshold, *self.thresholds.values()))


class MemberTable:
    """The members of one network by address."""

    def __init__(self, nwid: int, *, capacity: int = MAX_MEMBERS) -> None:
        self.nwid = nwid
        self.capacity = capacity
        self._members: dict[int, Member] = {}
        self.evicted: list[int] = []
        """Addresses thrown out for room since the caller last emptied this list."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))

    def get(self, address: int) -> Member | None:
        return self._members.get(address)

    def obtain(self, now: int, address: int) -> Member:
        """The entry of an address, made if missing; when the table is full the least recently used one makes room."""
        member = self._members.pop(address, None)
        if member is None:
            if len(self._members) >= self.capacity:
                oldest = next(iter(self._members))
                self.remove(oldest)
                self.evicted.append(oldest)
            member = Member(address)
        self._members[address] = member  # at the end: the table is in order of use
        member.last_used = now
        return member

    def remove(self, address: int) -> None:
        self._members.pop(address, None)

    def idle(self, now: int, config_timestamp: int, max_delta: int) -> list[int]:
        """Members to be forgotten: unused, and no revocation of theirs bars anything that we would accept."""
        return [
            member.address
            for member in self._members.values()
            if now - member.last_used >= IDLE_TIMEOUT_MS and member.newest_threshold() < config_timestamp - max_delta
        ]

    # --- reception: verify first, then make an entry --------------------------------------------------------

    def offer_com(self, now: int, com: CertificateOfMembership, identity_of: IdentityLookup) -> Acceptance:
        """Consider a certificate of membership for the member it names."""
        if com.nwid != self.nwid or com.signer != self.nwid >> 24 or not com.issued_to:
            return Acceptance.REJECTED
        member = self._members.get(com.issued_to)
        if member is not None:
            if com.timestamp <= member.com_threshold:
                return Acceptance.REJECTED
            if member.com is not None:
                if com.timestamp < member.com.timestamp:
                    return Acceptance.REJECTED
                if com == member.com:
                    member.last_used = now
                    return Acceptance.REDUNDANT
        signer = identity_of(com.signer)
        if signer is None:
            return Acceptance.DEFERRED
        if not com.verify(signer):
            return Acceptance.REJECTED
        self.obtain(now, com.issued_to).com = com
        return Acceptance.NEW

    def offer(self, now: int, credential: Credential, identity_of: IdentityLookup) -> Acceptance:
        """Consider a tag, capability or certificate of ownership for the member it was issued to."""
        kind, issued_to = KINDS[type(credential)], credential.issued_to
        if credential.nwid != self.nwid or not issued_to:
            return Acceptance.REJECTED
        member = self._members.get(issued_to)
        if member is not None:
            held = _held(member, kind).get(credential.id)
            if held is not None and held.timestamp > credential.timestamp:
                return Acceptance.REJECTED
            if held == credential:
                member.last_used = now
                return Acceptance.REDUNDANT
            if member.thresholds.get((kind, credential.id), NEVER) >= credential.timestamp:
                return Acceptance.REJECTED
        verified = _verify(credential, self.nwid >> 24, identity_of)
        if verified is not Acceptance.NEW:
            return verified
        member = self.obtain(now, issued_to)
        _store(_held(member, kind), credential)
        member.revision += 1
        return Acceptance.NEW

    def offer_revocation(self, now: int, revocation: Revocation, identity_of: IdentityLookup) -> Acceptance:
        """Consider a revocation for its target (vl2 §3.8).

        Unlike the reference, a revoked tag, capability or certificate of ownership leaves the target's membership alone
        (vl2 §9, "may be improved on", 2).
        """
        if revocation.nwid != self.nwid or revocation.signer != self.nwid >> 24 or not revocation.target:
            return Acceptance.REJECTED
        signer = identity_of(revocation.signer)
        if signer is None:
            return Acceptance.DEFERRED
        if not revocation.verify(signer):
            return Acceptance.REJECTED
        return _revoke(self.obtain(now, revocation.target), revocation)


def _held(member: Member, kind: CredentialType) -> dict[int, Credential]:
    tables: dict[CredentialType, dict[int, Credential]] = {
        CredentialType.TAG: member.tags,  # type: ignore[dict-item]
        CredentialType.CAPABILITY: member.capabilities,  # type: ignore[dict-item]
        CredentialType.COO: member.coos,  # type: ignore[dict-item]
    }
    return tables[kind]


def _store(table: dict[int, Credential], credential: Credential) -> None:
    """Put a verified credential in place; a full table loses its oldest one."""
    if credential.id not in table and len(table) >= MAX_CREDENTIALS:
        oldest = min(table.values(), key=lambda held: held.timestamp)
        del table[oldest.id]
    table[credential.id] = credential


def _verify(credential: Credential, controller: int, identity_of: IdentityLookup) -> Acceptance:
    """NEW if the credential's signature, or every link of its chain of custody, is good."""
    if isinstance(credential, Capability):
        return _verify_chain(credential, identity_of)
    if credential.signer != controller:
        return Acceptance.REJECTED
    signer = identity_of(controller)
    if signer is None:
        return Acceptance.DEFERRED
    return Acceptance.NEW if credential.verify(signer) else Acceptance.REJECTED


def _verify_chain(capability: Capability, identity_of: IdentityLookup) -> Acceptance:
    """Every link from the controller to the present holder has to be signed by the one who handed it on."""
    if not capability.chain_is_sound():
        return Acceptance.REJECTED
    for index, link in enumerate(capability.custody):
        signer = identity_of(link.from_)
        if signer is None:
            return Acceptance.DEFERRED
        if not capability.verify_link(index, signer):
            return Acceptance.REJECTED
    return Acceptance.NEW


def _revoke(member: Member, revocation: Revocation) -> Acceptance:
    try:
        kind = CredentialType(revocation.credential_type)
    except ValueError:
        return Acceptance.REJECTED
    if kind is CredentialType.COM:
        if revocation.threshold <= member.com_threshold:
            return Acceptance.REDUNDANT
        member.com_threshold = revocation.threshold
        return Acceptance.NEW
    if kind not in (CredentialType.TAG, CredentialType.CAPABILITY, CredentialType.COO):
        return Acceptance.REJECTED
    key = (kind, revocation.credential_id)
    if revocation.threshold <= member.thresholds.get(key, NEVER):
        return Acceptance.REDUNDANT
    if key not in member.thresholds and len(member.thresholds) >= 3 * MAX_CREDENTIALS:
        del member.thresholds[min(member.thresholds, key=lambda held: member.thresholds[held])]
    member.thresholds[key] = revocation.threshold
    member.revision += 1
    return Acceptance.NEW
