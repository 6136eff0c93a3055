"""Writes pcapng files (draft-ietf-opsawg-pcapng): one Ethernet interface, comments and direction with each packet."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

INBOUND: Final = 1
OUTBOUND: Final = 2

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_ETHERNET: Final = 1
_COMMENT, _FLAGS = 1, 2
_IF_NAME, _IF_TSRESOL, _SHB_APPLICATION = 2, 9, 4
_NANOSECONDS: Final = 9


def header(interface: str) -> bytes:
    """The blocks that a file begins with; times are in ns."""
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((_SHB_APPLICATION, b"ztpipe"))
    names = _options((_IF_NAME, interface.encode()), (_IF_TSRESOL, bytes((_NANOSECONDS,))))
    return _block(_SECTION, section) + _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0) + names)


def packet(at: int, data: bytes, *, length: int, comment: str, direction: int = 0) -> bytes:
    """One packet. `at`: ns since 1970; `length`: as it was on the wire; `direction`: INBOUND, OUTBOUND or 0."""
    head = struct.pack("<IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(data), max(length, len(data)))
    options = _options((_COMMENT, comment.encode()), (_FLAGS, struct.pack("<I", direction)))
    return _block(_PACKET, head + _padded(data) + options)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options) + bytes(4)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class RotatingWriter:
    """``NAME-00001.pcapng``, ``NAME-00002.pcapng``, ... of at most `size` bytes; only the newest `keep` stay."""

    def __init__(self, path: Path, interface: str, *, size: int, keep: int) -> None:
        """Raises OSError when the first file cannot be made."""
        self._stem = path.with_suffix("") if path.suffix == ".pcapng" else path
        self._header = header(interface)
        self._size, self._keep = size, keep
        self._number = self._written = 0
        self._made: list[Path] = []
        self._file: BinaryIO | None = None
        self._next()

    def write(self, block: bytes) -> None:
        """Raises OSError (full disk); what was written before stays whole."""
        if self._written > len(self._header) and self._written + len(block) > self._size:
            self._next()
        assert self._file is not None
        self._file.write(block)
        self._written += len(block)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def name(self, number: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}-{number:05}.pcapng")

    def _next(self) -> None:
        self.close()
        self._number += 1
        while not self._made and self.name(self._number).exists():
            self._number += 1  # those of earlier runs stay
        # what people sent each other is nobody else's business
        fd = os.open(self.name(self._number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(fd, "wb", buffering=0)
        self._file.write(self._header)
        self._written = len(self._header)
        self._made.append(self.name(self._number))
        if len(self._made) > self._keep:
            self._made.pop(0).unlink(missing_ok=True)
