"""The captured scenarios of `tests/vectors/captures`: nodes with their secrets, datagrams, packets, and what they mean.

for captured in packets("a-meet"):
    opened = open_packet(captured.keys, captured.packet)
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ztpipe.wire.armor import SessionKeys
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.packet import Reassembler

VECTORS = Path(__file__).parent / "vectors"
CAPTURES = VECTORS / "captures"
SCENARIOS = tuple(sorted(path.parent.name for path in CAPTURES.glob("*/capture.pcap")))

Json = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A node of a scenario; `identity` includes the secret."""

    name: str
    role: str
    identity: Identity
    underlay: tuple[str, ...]
    port: int
    version: str


@dataclass(frozen=True)
class Datagram:
    """A captured UDP datagram; `frame` counts from 1, `time` is in seconds since the epoch."""

    frame: int
    time: float
    source: InetAddress
    destination: InetAddress
    ttl: int
    data: bytes


@dataclass(frozen=True)
class Captured:
    """A sealed packet, whole, with the keys of its two ends and its golden decoding."""

    scenario: str
    golden: Json
    datagrams: tuple[Datagram, ...]
    packet: bytes
    keys: SessionKeys

    @property
    def n(self) -> int:
        return int(self.golden["n"])

    @property
    def payload(self) -> bytes:
        """From offset 28, decrypted and decompressed."""
        return bytes.fromhex(self.golden["payload"])

    def __repr__(self) -> str:
        return f"<{self.scenario} n={self.n} {self.golden['verb']}>"


@cache
def kat(name: str) -> Any:
    """A file of known answers, e.g. `kat("worlds")`."""
    return json.loads((VECTORS / "kat" / f"{name}.json").read_text())


@cache
def scenario_file(scenario: str, name: str) -> Any:
    """A JSON file of a scenario, e.g. `scenario_file("a-meet", "nodes")`."""
    return json.loads((CAPTURES / scenario / f"{name}.json").read_text())


@cache
def nodes(scenario: str) -> dict[str, Node]:
    """The nodes by name."""
    return {
        entry["name"]: Node(
            entry["name"],
            entry.get("role", ""),
            Identity.parse(entry["identity_secret"]),
            tuple(entry.get("underlay", ())),
            entry.get("port", 9993),
            entry.get("version", ""),
        )
        for entry in scenario_file(scenario, "nodes")["nodes"]
    }


@cache
def identities(scenario: str) -> dict[int, Identity]:
    """The nodes' identities by address."""
    return {node.identity.address: node.identity for node in nodes(scenario).values()}


@cache
def session_keys(scenario: str, a: int, b: int) -> SessionKeys:
    """The keys between two addresses."""
    known = identities(scenario)
    return SessionKeys(known[a].agree(known[b]))


@cache
def golden(scenario: str) -> tuple[Json, ...]:
    """The golden decoding, one object for each packet."""
    lines = (CAPTURES / scenario / "decoded.jsonl").read_text().splitlines()
    return tuple(json.loads(line) for line in lines)


def pcap_frames(path: Path) -> Iterator[tuple[float, bytes]]:
    """(time, frame) of a classic pcap file."""
    data = path.read_bytes()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    fraction = 1e9 if data[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1e6
    at = 24
    while at + 16 <= len(data):
        seconds, parts, size, _ = struct.unpack_from(order + "IIII", data, at)
        yield seconds + parts / fraction, data[at + 16 : at + 16 + size]
        at += 16 + size


def _udp(frame: bytes) -> tuple[bytes, bytes, int, bytes] | None:
    """(source IP, destination IP, TTL, UDP header and payload) of an Ethernet frame; None if it carries none."""
    ethertype, ip = int.from_bytes(frame[12:14], "big"), frame[14:]
    if ethertype == 0x0800 and ip[9] == 17:
        header = 4 * (ip[0] & 15)
        return ip[12:16], ip[16:20], ip[8], ip[header : int.from_bytes(ip[2:4], "big")]
    if ethertype == 0x86DD and ip[6] == 17:
        return ip[8:24], ip[24:40], ip[7], ip[40 : 40 + int.from_bytes(ip[4:6], "big")]
    return None


@cache
def datagrams(scenario: str) -> tuple[Datagram, ...]:
    """Every UDP datagram in order."""
    result = []
    for number, (time, frame) in enumerate(pcap_frames(CAPTURES / scenario / "capture.pcap"), 1):
        found = _udp(frame)
        if found is None:
            continue
        source, destination, ttl, udp = found
        ports = struct.unpack_from(">HH", udp)
        ends = InetAddress(source, ports[0]), InetAddress(destination, ports[1])
        result.append(Datagram(number, time, *ends, ttl, udp[8:]))
    return tuple(result)


@cache
def packets(scenario: str) -> tuple[Captured, ...]:
    """Every packet, put together from its datagrams."""
    by_frame = {datagram.frame: datagram for datagram in datagrams(scenario)}
    result = []
    for entry in golden(scenario):
        if entry["kind"] != "packet":
            continue
        parts = tuple(by_frame[frame] for frame in entry["pcap_frames"])
        keys = session_keys(scenario, int(entry["src"], 16), int(entry["dst"], 16))
        result.append(Captured(scenario, entry, parts, _assemble(parts), keys))
    return tuple(result)


def _assemble(parts: tuple[Datagram, ...]) -> bytes:
    reassembler = Reassembler(1, 1000)
    for part in parts:
        whole = reassembler.add(0, part.data)
        if whole is not None:
            return whole
    raise AssertionError("a golden packet is not complete")


def all_packets() -> Iterator[Captured]:
    """Every packet of every scenario."""
    for scenario in SCENARIOS:
        yield from packets(scenario)
