"""Which credentials a member takes, in which order, and what it forgets (vl2 §3.7, §3.8, §3.9)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.captures import kat
from tests.node.vl2_lab import Controller, some_identities
from ztpipe.node.credentials import credential_packets
from ztpipe.node.membership import IDLE_TIMEOUT_MS, MAX_CREDENTIALS, Acceptance, MemberTable
from ztpipe.wire.credentials import (
    Capability,
    CertificateOfMembership,
    CertificateOfOwnership,
    CredentialType,
    Revocation,
    Tag,
    Thing,
)
from ztpipe.wire.identity import Identity
from ztpipe.wire.rule import ACCEPT
from ztpipe.wire.verbs import NetworkCredentials

CONTROLLER, MEMBER, OTHER = some_identities()[:3]
NWID = CONTROLLER.address << 24 | 1
KNOWN = {identity.address: identity for identity in (CONTROLLER, MEMBER, OTHER)}


def lookup(address: int) -> Identity | None:
    return KNOWN.get(address)


def nobody(address: int) -> Identity | None:
    return None


def com(timestamp: int, member: Identity = MEMBER) -> CertificateOfMembership:
    return CertificateOfMembership.issue(NWID, member, timestamp, 1_000).sign(CONTROLLER)


def tag(timestamp: int, *, id_: int = 1, value: int = 5) -> Tag:
    return Tag(NWID, timestamp, id_, value, MEMBER.address).sign(CONTROLLER)


def revocation(threshold: int, kind: int = CredentialType.COM, id_: int = 0) -> Revocation:
    return Revocation(1, NWID, id_, threshold, 0, MEMBER.address, kind).sign(CONTROLLER)


def table() -> MemberTable:
    return MemberTable(NWID)


def test_certificates_of_membership_only_ever_get_newer() -> None:
    members = table()
    assert members.offer_com(0, com(10), lookup) is Acceptance.NEW
    assert members.offer_com(0, com(10), nobody) is Acceptance.REDUNDANT
    assert members.offer_com(0, com(9), lookup) is Acceptance.REJECTED
    assert members.offer_com(0, com(11), nobody) is Acceptance.DEFERRED
    assert members.offer_com(0, com(11), lookup) is Acceptance.NEW
    assert members.offer_revocation(0, revocation(20), lookup) is Acceptance.NEW
    assert members.offer_revocation(0, revocation(15), lookup) is Acceptance.REDUNDANT
    assert members.offer_com(0, com(20), lookup) is Acceptance.REJECTED
    assert members.offer_com(0, com(21), lookup) is Acceptance.NEW


def test_forged_ones_are_rejected_and_leave_no_entry() -> None:
    members = table()
    forged_com = CertificateOfMembership.issue(NWID, MEMBER, 10, 1_000).sign(OTHER)
    forged_tag = replace(tag(10), value=6)
    elsewhere = replace(tag(10), nwid=NWID + 1)
    assert members.offer_com(0, forged_com, lookup) is Acceptance.REJECTED
    assert members.offer_com(0, replace(com(10), signature=bytes(96)), lookup) is Acceptance.REJECTED
    assert members.offer(0, forged_tag, lookup) is Acceptance.REJECTED
    assert members.offer(0, elsewhere, lookup) is Acceptance.REJECTED
    assert members.offer(0, Tag(NWID, 10, 1, 5, MEMBER.address).sign(OTHER), lookup) is Acceptance.REJECTED
    assert members.offer_revocation(0, replace(revocation(9), threshold=10), lookup) is Acceptance.REJECTED
    assert len(members) == 0


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (tag, CredentialType.TAG),
        (lambda at: Capability(NWID, at, 1, (ACCEPT,)).sign(CONTROLLER, MEMBER.address), CredentialType.CAPABILITY),
        (
            lambda at: CertificateOfOwnership(NWID, at, 0, 1, (Thing.ip(b"\1\2\3\4"),), MEMBER.address).sign(
                CONTROLLER
            ),
            CredentialType.COO,
        ),
    ],
)
def test_other_credentials_and_their_revocation(make, kind: CredentialType) -> None:  # type: ignore[no-untyped-def]
    members = table()
    members.offer_com(0, com(10), lookup)
    assert members.offer(0, make(10), nobody) is Acceptance.DEFERRED
    assert members.offer(0, make(10), lookup) is Acceptance.NEW
    assert members.offer(0, make(10), nobody) is Acceptance.REDUNDANT
    assert members.offer(0, make(9), lookup) is Acceptance.REJECTED
    member = members.get(MEMBER.address)
    assert member is not None
    assert member.valid(kind, make(10), 110, 100) and not member.valid(kind, make(10), 111, 100)
    assert members.offer_revocation(0, revocation(15, kind, 1), lookup) is Acceptance.NEW
    assert not member.valid(kind, make(10), 110, 100) and member.valid(kind, make(16), 110, 100)
    assert members.offer(0, make(15), lookup) is Acceptance.REJECTED
    assert members.offer(0, make(16), lookup) is Acceptance.NEW
    assert member.com_threshold == 0, "the membership is not what was revoked"


def test_a_capability_handed_on_needs_every_link() -> None:
    members = table()
    first = Capability(NWID, 10, 1, (ACCEPT,), max_custody_chain=2).sign(CONTROLLER, OTHER.address)
    handed_on = first.sign(OTHER, MEMBER.address)
    assert members.offer(0, handed_on, lookup) is Acceptance.NEW
    assert members.get(MEMBER.address) is not None and members.get(OTHER.address) is None
    stolen = replace(
        first, custody=(*first.custody, handed_on.custody[1]._replace(to=CONTROLLER.address, signature=b""))
    )
    assert members.offer(0, stolen, lookup) is Acceptance.REJECTED
    assert members.offer(0, replace(first, custody=handed_on.custody[1:]), lookup) is Acceptance.REJECTED


@pytest.mark.parametrize("kind", ["com", "tag", "coo", "capability", "revocation"])
def test_real_credentials_are_accepted(kind: str) -> None:
    classes = {
        "com": CertificateOfMembership,
        "tag": Tag,
        "coo": CertificateOfOwnership,
        "capability": Capability,
        "revocation": Revocation,
    }
    for case in kat("credentials")["credentials"][kind]:
        credential = classes[kind].decode(bytes.fromhex(case["raw"]))  # type: ignore[attr-defined]
        signer = Identity(credential.signer, bytes.fromhex(case["signer_public_key"]))
        members = MemberTable(credential.nwid)
        offer = {"com": members.offer_com, "revocation": members.offer_revocation}.get(kind, members.offer)
        assert offer(0, credential, lambda address, signer=signer: signer) is Acceptance.NEW
        assert offer(0, credential, lambda address: None) in (Acceptance.REDUNDANT, Acceptance.DEFERRED)


def test_everything_is_bounded() -> None:
    members = MemberTable(NWID, capacity=2)
    for now, address in enumerate((1, 2, 1, 3)):
        members.obtain(now, address)
    assert [member.address for member in members] == [1, 3] and members.evicted == [2]
    members = table()
    for id_ in range(MAX_CREDENTIALS + 5):
        members.offer(0, tag(100 + id_, id_=id_), lookup)
        members.offer_revocation(0, revocation(100, CredentialType.COO, id_), lookup)
    member = members.get(MEMBER.address)
    assert member is not None and set(member.tags) == set(range(5, MAX_CREDENTIALS + 5))
    assert len(member.thresholds) <= 3 * MAX_CREDENTIALS


def test_a_revocation_is_remembered_as_long_as_it_bars_anything() -> None:
    members = table()
    members.offer_revocation(0, revocation(5_000), lookup)
    assert members.idle(IDLE_TIMEOUT_MS - 1, 10_000, 1_000) == []
    assert members.idle(IDLE_TIMEOUT_MS, 6_000, 1_000) == []
    assert members.idle(IDLE_TIMEOUT_MS, 6_001, 1_000) == [MEMBER.address]


def test_pushed_credentials_fill_as_few_packets_as_possible() -> None:
    controller = Controller(CONTROLLER, 1)
    capabilities = tuple(Capability(NWID, 1, id_, (ACCEPT,) * 64).sign(CONTROLLER, MEMBER.address) for id_ in range(40))
    tags = tuple(tag(1, id_=id_) for id_ in range(20))
    controller.authorise(MEMBER, "10.0.0.1/8", capabilities=capabilities, tags=tags)
    config = controller.config(1, MEMBER.address)
    packets = list(credential_packets(config))
    assert len(packets) == 2 and all(len(packet) <= 9_900 for packet in packets)
    decoded = [NetworkCredentials.decode(packet) for packet in packets]
    assert decoded[0].coms == (config.com,) and not decoded[1].coms
    assert decoded[0].capabilities + decoded[1].capabilities == capabilities
    assert decoded[0].tags + decoded[1].tags == tags
    assert list(credential_packets(replace(config, com=None, capabilities=(), tags=()))) == []
