"""What the controller asks of the node it lives in."""

from __future__ import annotations

from dataclasses import dataclass

from ztpipe.wire.protocol import ErrorCode, Verb


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send `payload` (everything after the verb byte) as a packet with `verb` to node `destination`."""

    destination: int
    verb: Verb
    payload: bytes
    compress: bool


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """The member is this node itself: apply `dictionary` (vl2 §2.4) to network `nwid` directly (controller §1)."""

    nwid: int
    dictionary: bytes


@dataclass(frozen=True, slots=True)
class LocalError:
    """The member is this node itself and its request for `nwid` failed with `code` (vl2 §2.10)."""

    nwid: int
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """For the log: the member `address` of network `nwid` was authorised, or no longer is."""

    nwid: int
    address: int
    authorized: bool


ControllerAction = SendPacket | LocalConfig | LocalError
