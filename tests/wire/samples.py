"""Identities from the known answers, and one credential of each form, signed."""

from __future__ import annotations

from typing import Any

from tests.captures import kat
from ztpipe.wire.credentials import Capability, CertificateOfMembership, CertificateOfOwnership, Revocation, Tag, Thing
from ztpipe.wire.identity import Identity
from ztpipe.wire.rule import ACCEPT, Rule

ISSUER = Identity.parse(kat("identities")["valid"][0]["secret_text"])
MEMBER = Identity.parse(kat("identities")["valid"][1]["secret_text"])
THIRD = Identity.parse(kat("identities")["valid"][2]["secret_text"])
NWID = ISSUER.address << 24 | 0xABCDEF

SAMPLES: list[Any] = [
    CertificateOfMembership.issue(NWID, MEMBER, 1000, 500).sign(ISSUER),
    CertificateOfMembership(()),
    Tag(NWID, 1000, 7, 99, MEMBER.address).sign(ISSUER),
    CertificateOfOwnership(
        NWID, 1000, 0, 1, (Thing.ip(bytes(4)), Thing.ip(bytes(16)), Thing.mac(5)), MEMBER.address
    ).sign(ISSUER),
    Revocation(5, NWID, 3, 2000, 1, MEMBER.address, 1).sign(ISSUER),
    Capability(NWID, 1000, 3, (ACCEPT, Rule(37, value=b"\x08\x00")), 2).sign(ISSUER, MEMBER.address),
    Capability(NWID, 1000, 3, (), 2).sign(ISSUER, MEMBER.address).sign(MEMBER, THIRD.address),
]
