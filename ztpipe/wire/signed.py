"""What the signed credentials have in common (vl1-wire Appendix A, vl2 §3.1).

Signatures are verified over the re-serialised object, so one that carried additional fields cannot verify.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Self

from ztpipe.wire.address import controller_of
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import SIGNATURE_LENGTH, Identity
from ztpipe.wire.reader import Reader

GUARD: Final = b"\x7f" * 8
NO_EXTRA: Final = b"\x00\x00"
TRUNCATED: Final = "truncated_credential"
BAD: Final = "bad_credential"

_SIGNATURE_HEAD: Final = b"\x01\x00\x60"


def read_signature(reader: Reader) -> bytes:
    """Type, length, signature; empty if the type is not 1, so that it cannot verify."""
    kind, size = reader.u8(), reader.u16()
    if kind == 1 and size != SIGNATURE_LENGTH:
        raise WireError(BAD)
    data = reader.take(size)
    return data if kind == 1 else b""


def write_signature(signature: bytes) -> bytes:
    """Type, length, signature; zeros if there is none."""
    return _SIGNATURE_HEAD + signature.ljust(SIGNATURE_LENGTH, b"\0")


def skip_extra(reader: Reader) -> None:
    """Additional fields: length and content."""
    reader.take(reader.u16())


def addresses(*values: int) -> bytes:
    """Node addresses one after the other."""
    return b"".join(value.to_bytes(5, "big") for value in values)


class SignedByController:
    """A credential that consists of a body and the signature of the network's controller over it."""

    __slots__ = ()
    nwid: int
    signer: int
    signature: bytes

    def _body(self) -> bytes:
        raise NotImplementedError

    def encode(self) -> bytes:
        return self._body() + write_signature(self.signature) + NO_EXTRA

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return GUARD + self._body() + NO_EXTRA + GUARD

    def sign(self, controller: Identity) -> Self:
        """A copy signed by `controller`."""
        unsigned = replace(self, signer=controller.address)  # type: ignore[type-var]
        return replace(unsigned, signature=controller.sign(unsigned.signed_bytes()))  # type: ignore[type-var]

    def verify(self, signer: Identity) -> bool:
        """Whether the network's controller, whose identity `signer` must be, signed this."""
        if not self.signer or not signer.address == self.signer == controller_of(self.nwid):
            return False
        return signer.verify(self.signed_bytes(), self.signature)
