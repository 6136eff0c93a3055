"""What a node tells those who monitor it: one message per observed frame or trace report, over a Unix socket.

The node listens on ``<run_dir>/monitor.sock`` (SOCK_SEQPACKET, mode 0600). A client sends one `Ask`, then reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

SOCKET_NAME: Final = "monitor.sock"
MAX_MESSAGE: Final = 16_384
"""Bytes of one message; more than the largest frame takes."""

#: flags of an EXT_FRAME (vl2 §4.8) -> (action, side whose rules made the copy)
_KINDS: Final = {
    0x02: ("tee", "outbound"),
    0x04: ("redirect", "outbound"),
    0x16: ("watch", "outbound"),
    0x08: ("tee", "inbound"),
    0x0A: ("redirect", "inbound"),
    0x1C: ("watch", "inbound"),
}


class Ask(msgspec.Struct, frozen=True):
    """Of which network frames and reports are wanted."""

    nwid: int


class Frame(msgspec.Struct, tag="frame", frozen=True):
    """One observed frame. `at`: ns since 1970; `data`: with its Ethernet header; see `node.actions.ObservedFrame`."""

    at: int
    sender: int
    flags: int
    rule: int
    capability: int | None
    data: bytes

    @property
    def action(self) -> str:
        """tee, watch or redirect."""
        return _KINDS.get(self.flags, ("copy", ""))[0]

    @property
    def direction(self) -> str:
        """outbound: the sender sent this frame to somebody; inbound: it received it; empty if not known."""
        return _KINDS.get(self.flags, ("", ""))[1]

    @property
    def rule_text(self) -> str:
        return f"rule {self.rule}" + (f" of capability {self.capability}" if self.capability is not None else "")


class Trace(msgspec.Struct, tag="trace", frozen=True):
    """A REMOTE_TRACE report that `sender` made; `fields` as in its dictionary."""

    at: int
    sender: int
    fields: dict[str, str]


class Lost(msgspec.Struct, tag="lost", frozen=True):
    """So many messages could not be delivered because the client read too slowly."""

    count: int


Message = Frame | Trace | Lost
encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
_decode_ask = msgspec.msgpack.Decoder(Ask).decode


def decode(data: bytes) -> Message:
    """Raises msgspec.DecodeError."""
    message: Message = _decode(data)
    return message


def decode_ask(data: bytes) -> Ask:
    """Raises msgspec.DecodeError."""
    ask: Ask = _decode_ask(data)
    return ask


def socket_path(run_dir: Path) -> Path:
    return run_dir / SOCKET_NAME
