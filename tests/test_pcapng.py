"""pcapng files: read back by hand, and rotated."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ztpipe import pcapng


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert size % 4 == 0 and struct.unpack_from("<I", data, size - 4) == (size,)
        yield kind, data[8 : size - 4]
        data = data[size:]


def options(data: bytes) -> dict[int, bytes]:
    found = {}
    while data[:4] != bytes(4):
        code, length = struct.unpack_from("<HH", data)
        found[code] = data[4 : 4 + length]
        data = data[4 + (length + 3) // 4 * 4 :]
    return found


def test_a_packet_with_its_comment() -> None:
    at = 1_700_000_000_123_456_789
    written = pcapng.packet(at, b"abcdefg", length=99, comment="why", direction=pcapng.OUTBOUND)
    section, interface, (kind, body) = blocks(pcapng.header("net") + written)
    assert section[0] == 0x0A0D0D0A and section[1][:4] == struct.pack("<I", 0x1A2B3C4D)
    assert interface[0] == 1 and options(interface[1][8:])[9] == b"\x09"
    number, high, low, captured, length = struct.unpack_from("<IIIII", body)
    assert (kind, number, high << 32 | low, captured, length) == (6, 0, at, 7, 99)
    assert body[20:28] == b"abcdefg\0"
    assert options(body[28:]) == {1: b"why", 2: struct.pack("<I", 2)}


def test_rotation_keeps_the_newest_and_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x-00001.pcapng").write_bytes(b"of an earlier run")
    block = pcapng.packet(0, bytes(100), length=100, comment="")
    writer = pcapng.RotatingWriter(tmp_path / "x.pcapng", "net", size=400, keep=2)
    for _ in range(9):
        writer.write(block)
    writer.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "x-00001.pcapng" and len(names) == 3
    for name in names[1:]:
        data = (tmp_path / name).read_bytes()
        assert len(data) <= 400 and [kind for kind, _ in blocks(data)][:2] == [0x0A0D0D0A, 1]
