"""OK and ERROR: the envelopes of replies (vl1-wire §8)."""

from __future__ import annotations

from dataclasses import dataclass

from ztpipe.wire import dictionary
from ztpipe.wire.address import MulticastGroup
from ztpipe.wire.errors import WireError
from ztpipe.wire.protocol import ErrorCode, Verb, error_code_of, verb_of
from ztpipe.wire.reader import Reader


@dataclass(frozen=True, slots=True)
class Ok:
    """OK to the packet `in_re_id` (its ID on the wire); `body` belongs to the verb."""

    in_re_verb: Verb
    in_re_id: int
    body: bytes = b""

    def encode(self) -> bytes:
        return bytes((self.in_re_verb,)) + self.in_re_id.to_bytes(8, "big") + self.body

    @classmethod
    def decode(cls, payload: bytes) -> Ok:
        if len(payload) < 9:
            raise WireError("truncated_verb")
        return cls(verb_of(payload[0]), int.from_bytes(payload[1:9], "big"), payload[9:])


@dataclass(frozen=True, slots=True)
class Error:
    """ERROR to the packet `in_re_id`; `body` belongs to the code. Unknown codes are decoded as NONE."""

    in_re_verb: Verb
    in_re_id: int
    code: ErrorCode
    body: bytes = b""

    def encode(self) -> bytes:
        return bytes((self.in_re_verb,)) + self.in_re_id.to_bytes(8, "big") + bytes((self.code,)) + self.body

    @classmethod
    def decode(cls, payload: bytes) -> Error:
        if len(payload) < 10:
            raise WireError("truncated_verb")
        return cls(verb_of(payload[0]), int.from_bytes(payload[1:9], "big"), error_code_of(payload[9]), payload[10:])

    @property
    def nwid(self) -> int:
        """The network the error is about; `WireError` if the body does not name one."""
        if len(self.body) < 8:
            raise WireError("truncated_verb")
        return int.from_bytes(self.body[:8], "big")


@dataclass(frozen=True, slots=True)
class UnwantedMulticast:
    """Body of ERROR 0x08: the sender is no member (any more) of that group."""

    nwid: int
    group: MulticastGroup

    def encode(self) -> bytes:
        return self.nwid.to_bytes(8, "big") + self.group.mac.to_bytes(6, "big") + self.group.adi.to_bytes(4, "big")

    @classmethod
    def decode(cls, body: bytes) -> UnwantedMulticast:
        reader = Reader(body)
        return cls(reader.u64(), MulticastGroup(reader.mac(), reader.u32()))


@dataclass(frozen=True, slots=True)
class AuthenticationRequired:
    """Body of ERROR 0x09: single sign-on is wanted (vl1-wire §8.1). `version` 0: `url`; 1: OIDC, the other fields."""

    nwid: int
    version: int = 0
    url: str = ""
    issuer_url: str = ""
    central_url: str = ""
    nonce: str = ""
    state: str = ""
    client_id: str = ""
    provider: str = "default"
    has_dictionary: bool = True
    """False: nothing but the network ID was sent."""

    def encode(self) -> bytes:
        head = self.nwid.to_bytes(8, "big")
        if not self.has_dictionary:
            return head
        entries: list[tuple[str, dictionary.Value]] = [("aV", self.version)]
        if self.version == 0:
            entries.append(("aU", self.url))
        else:
            entries += [
                ("aU", self.url),
                ("iU", self.issuer_url),
                ("aCU", self.central_url),
                ("aN", self.nonce),
                ("aS", self.state),
                ("aCID", self.client_id),
                ("aSSOp", self.provider),
            ]
        data = dictionary.encode(entries)
        return head + len(data).to_bytes(2, "big") + data

    @classmethod
    def decode(cls, body: bytes) -> AuthenticationRequired:
        reader = Reader(body)
        nwid = reader.u64()
        if reader.remaining <= 2:
            return cls(nwid, has_dictionary=False)
        entries = dictionary.decode(reader.take(reader.u16()))
        return cls(
            nwid,
            dictionary.u64(entries, "aV"),
            dictionary.text(entries, "aU", 2047),
            dictionary.text(entries, "iU", 2047),
            dictionary.text(entries, "aCU", 2047),
            dictionary.text(entries, "aN", 63),
            dictionary.text(entries, "aS", 127),
            dictionary.text(entries, "aCID", 255),
            dictionary.text(entries, "aSSOp", 63, "default"),
        )
