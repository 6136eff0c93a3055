"""A bounds-checked cursor over bytes (vl1-wire §0: a read past the end ends the parsing of the packet)."""

from __future__ import annotations

from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress, read_inet


class Reader:
    """Reads big-endian fields one after the other; past the end it raises `WireError` with the given reason."""

    __slots__ = ("_reason", "buffer", "offset")

    def __init__(self, buffer: bytes, offset: int = 0, *, reason: str = "truncated_verb") -> None:
        self.buffer = buffer
        self.offset = offset
        self._reason = reason

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self.buffer) - self.offset

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.offset
        end = start + size
        if end > len(self.buffer):
            raise WireError(self._reason)
        self.offset = end
        return self.buffer[start:end]

    def rest(self) -> bytes:
        """Everything that is left."""
        start = self.offset
        self.offset = len(self.buffer)
        return self.buffer[start:]

    def uint(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def u8(self) -> int:
        start = self.offset
        if start >= len(self.buffer):
            raise WireError(self._reason)
        self.offset = start + 1
        return self.buffer[start]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def i64(self) -> int:
        return int.from_bytes(self.take(8), "big", signed=True)

    def address(self) -> int:
        """A node address, 5 bytes."""
        return int.from_bytes(self.take(5), "big")

    def mac(self) -> int:
        """An Ethernet MAC, 6 bytes."""
        return int.from_bytes(self.take(6), "big")

    def inet(self) -> InetAddress | None:
        """A serialised endpoint (vl1-wire §3)."""
        value, self.offset = read_inet(self.buffer, self.offset)
        return value

    def identity(self) -> Identity:
        """A serialised identity (vl1-wire §2.4)."""
        value, self.offset = Identity.read(self.buffer, self.offset)
        return value
