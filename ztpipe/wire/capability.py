"""Capabilities: rules that a member may show to be let through (vl2 §3.4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from ztpipe.wire.address import controller_of
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.reader import Reader
from ztpipe.wire.rule import MAX_CAPABILITY_RULES, Rule, encode_rules, read_rules
from ztpipe.wire.signed import BAD, GUARD, NO_EXTRA, TRUNCATED, addresses, read_signature, skip_extra, write_signature

MAX_CUSTODY_CHAIN: Final = 7

_CAPABILITY: Final = struct.Struct(">QQIH")


class Custody(NamedTuple):
    """One link of a capability's chain of custody."""

    to: int
    from_: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Capability:
    """Rules that a member may show to be let through (vl2 §3.4)."""

    nwid: int
    timestamp: int
    id: int
    rules: tuple[Rule, ...]
    max_custody_chain: int = 1
    custody: tuple[Custody, ...] = ()

    @property
    def issued_to(self) -> int:
        """The last holder in the chain of custody; 0 if the chain is empty."""
        return self.custody[-1].to if self.custody else 0

    @property
    def signer(self) -> int:
        """Who issued it: the first link's `from`; 0 if the chain is empty."""
        return self.custody[0].from_ if self.custody else 0

    @classmethod
    def read(cls, reader: Reader) -> Capability:
        nwid, timestamp, capability_id, count = _CAPABILITY.unpack(reader.take(_CAPABILITY.size))
        if count > MAX_CAPABILITY_RULES:
            raise WireError(BAD)
        rules, reader.offset = read_rules(reader.buffer, reader.offset, count)
        longest = reader.u8()
        if not 1 <= longest <= MAX_CUSTODY_CHAIN:
            raise WireError(BAD)
        custody = cls._read_custody(reader, longest)
        skip_extra(reader)
        return cls(nwid, timestamp, capability_id, rules, longest, custody)

    @staticmethod
    def _read_custody(reader: Reader, longest: int) -> tuple[Custody, ...]:
        links: list[Custody] = []
        while to := reader.address():
            if len(links) >= longest:
                raise WireError(BAD)
            links.append(Custody(to, reader.address(), read_signature(reader)))
        return tuple(links)

    @classmethod
    def decode(cls, data: bytes) -> Capability:
        return cls.read(Reader(data, reason=TRUNCATED))

    def _body(self) -> bytes:
        head = _CAPABILITY.pack(self.nwid, self.timestamp, self.id, len(self.rules))
        return head + encode_rules(self.rules) + bytes((self.max_custody_chain,))

    def encode(self) -> bytes:
        links = (addresses(link.to, link.from_) + write_signature(link.signature) for link in self.custody)
        return self._body() + b"".join(links) + b"\0" * 5 + NO_EXTRA

    def signed_bytes(self) -> bytes:
        """The same for every link; the links themselves are not covered."""
        return GUARD + self._body() + NO_EXTRA + GUARD

    def sign(self, from_: Identity, to: int) -> Capability:
        """A copy with one more link, handing it from `from_` to `to`."""
        return replace(self, custody=(*self.custody, Custody(to, from_.address, from_.sign(self.signed_bytes()))))

    def chain_is_sound(self) -> bool:
        """Whether it begins with the controller and every link continues the one before, whoever signed."""
        if not self.custody or self.custody[0].from_ != controller_of(self.nwid):
            return False
        return all(a.to == b.from_ for a, b in pairwise(self.custody))

    def verify_link(self, index: int, signer: Identity) -> bool:
        """Whether link `index` was signed by its `from`, whose identity `signer` must be."""
        link = self.custody[index]
        return signer.address == link.from_ and signer.verify(self.signed_bytes(), link.signature)

    def verify(self, signer: Identity) -> bool:
        """Whether the controller, whose identity `signer` must be, issued it by its only link (else: `verify_link`)."""
        return len(self.custody) == 1 and self.chain_is_sound() and self.verify_link(0, signer)
