"""Frames between a node and a TCP relay (vl1-behaviour §6.6): they look like TLS records and carry UDP datagrams."""

from __future__ import annotations

from typing import Final

from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress

PREFIX: Final = b"\x17\x03\x03"
GREETING_BYTES: Final = 4
MIN_DATAGRAM: Final = 16
MAX_DATAGRAM: Final = 2_047
_NOWHERE, _IPV4, _IPV6 = 0, 4, 6
_HEAD: Final = len(PREFIX) + 2

Relayed = tuple[InetAddress | None, bytes]


def greeting(version: tuple[int, int, int]) -> bytes:
    """The first frame of a client: (major, minor, revision)."""
    major, minor, revision = version
    return _frame(bytes((major, minor)) + revision.to_bytes(2, "big"))


def encode(endpoint: InetAddress, datagram: bytes) -> bytes:
    """One datagram: `endpoint` is where it goes to (from a client) or comes from (from a relay)."""
    kind = _IPV4 if len(endpoint.ip) == 4 else _IPV6
    return _frame(bytes((kind,)) + endpoint.ip + endpoint.port.to_bytes(2, "big") + datagram)


def _frame(payload: bytes) -> bytes:
    return PREFIX + len(payload).to_bytes(2, "big") + payload


class FrameReader:
    """Takes a byte stream apart. Holds at most one incomplete frame (64 KB)."""

    __slots__ = ("_buffer", "greeted")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.greeted = False

    def feed(self, data: bytes) -> list[Relayed]:
        """The datagrams that are complete now; their endpoint is None if they carry none. Greetings set `greeted`.

        WireError("relay_bad_frame") for what is no such stream: the connection is of no more use.
        """
        buffer = self._buffer
        buffer += data
        found: list[Relayed] = []
        at = 0
        while len(buffer) - at >= _HEAD:
            if buffer[at : at + len(PREFIX)] != PREFIX:
                raise WireError("relay_bad_frame")
            end = at + _HEAD + int.from_bytes(buffer[at + len(PREFIX) : at + _HEAD], "big")
            if end > len(buffer):
                break
            payload = bytes(buffer[at + _HEAD : end])
            at = end
            if len(payload) == GREETING_BYTES:
                self.greeted = True
            elif payload:
                found.append(_decode(payload))
        if at == 0 and buffer[: len(PREFIX)] != PREFIX[: len(buffer)]:
            raise WireError("relay_bad_frame")
        del buffer[:at]
        return found


def _decode(payload: bytes) -> Relayed:
    kind = payload[0]
    if kind == _NOWHERE:
        return None, payload[1:]
    length = {_IPV4: 4, _IPV6: 16}.get(kind)
    if length is None or len(payload) < 1 + length + 2:
        raise WireError("relay_bad_frame")
    port = int.from_bytes(payload[1 + length : 3 + length], "big")
    return InetAddress(payload[1 : 1 + length], port), payload[3 + length :]
