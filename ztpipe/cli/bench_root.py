"""`ztpipe bench root`: a root with thousands of live peers, which ask and keep themselves alive by real packets.

The root is a whole node in a namespace of its own. The peers are one process in another: each has an identity, an
address and a session of its own, sends an ECHO every so often and, in turn, a WHOIS about another one; what is not
answered within two seconds is lost. Their identities have no proof of work (making 10 000 takes a quarter of an hour):
the root knows them from its peer cache, as after a restart.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from ztpipe.lab import Gateway, Lab
from ztpipe.lab.namespaces import LabError
from ztpipe.lab.nodes import NodeFailed, moon, private_planet
from ztpipe.lab.traffic import CpuMeter, proportional_memory
from ztpipe.node.peercache import PeerRecord
from ztpipe.wire.address import format_address
from ztpipe.wire.armor import SessionKeys, open_packet, seal
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Suite, Verb
from ztpipe.wire.verbs import Hello, Ok, OkWhois, Whois, seal_hello

ROOT: Final = "10.91.0.1"
LOST_AFTER: Final = 2.0
HELLOS_PER_S: Final = 250
IP_PKTINFO: Final = 8
_PKTINFO: Final = struct.Struct("=I4s4s")


@dataclass(slots=True)
class SimPeer:
    """One peer; its endpoint is an address of its own."""

    identity: Identity
    keys: SessionKeys
    ip: bytes
    next_echo: float = 0.0
    met: bool = False


@dataclass(slots=True)
class Tally:
    """What was asked and what came back."""

    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("hello", "echo", "whois"), 0))
    answered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("hello", "echo", "whois"), 0))
    lost: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("hello", "echo", "whois"), 0))
    times: list[float] = field(default_factory=list)


def ip_of(number: int) -> bytes:
    """Each peer's address: 10.92.0.0/14."""
    return bytes((10, 92 + (number >> 16), number >> 8 & 255, number & 255))


def make_peers(count: int, root: Identity, own: Identity) -> list[SimPeer]:
    """Peers with real keys. All share the X25519 key of `own`: here one is as good as thousands."""
    rng = random.Random(5)
    assert own.private is not None
    peers = []
    for number in range(count):
        public = own.public[:32] + rng.randbytes(32)
        identity = Identity(rng.randrange(1 << 32, 0xFE << 32), public, own.private)
        peers.append(SimPeer(identity, SessionKeys(identity.agree(root)), ip_of(number + 1)))
    return peers


def fill_cache(home: Path, peers: list[SimPeer]) -> None:
    """peers.d of the root, without addresses, so that it greets nobody."""
    folder = home / "peers.d"
    folder.mkdir(exist_ok=True)
    for peer in peers:
        record = PeerRecord(peer.identity.without_private(), 12, (1, 14, 1), ())
        (folder / f"{format_address(peer.identity.address)}.peer").write_bytes(record.encode())


class Crowd:
    """All peers, on one socket that sends and receives for every address of theirs."""

    def __init__(self, out: socket.socket, root: Identity, peers: list[SimPeer]) -> None:
        self.socket, self.root, self.peers = out, root, peers
        self.by_address = {peer.identity.address: peer for peer in peers}
        self.tally = Tally()
        self.waiting: dict[int, tuple[float, str]] = {}  # packet ID -> when sent, what
        self.rng = random.Random(6)

    def _send(self, peer: SimPeer, what: str, packet: bytes) -> None:
        control = [(socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, peer.ip, bytes(4)))]
        self.waiting[int.from_bytes(packet[:8], "big")] = (time.monotonic(), what)
        self.tally.asked[what] += 1
        self.socket.sendmsg([packet], control, 0, (ROOT, 9993))

    def _seal(self, peer: SimPeer, verb: Verb, payload: bytes) -> bytes:
        return seal(
            peer.keys, destination=self.root.address, source=peer.identity.address, verb=verb, payload=payload,
            packet_id=self.rng.getrandbits(64), suite=Suite.GMAC_SIV,
        )  # fmt: skip

    def hello(self, peer: SimPeer) -> None:
        to = InetAddress.parse(f"{ROOT}/9993")
        letter = Hello(int(time.time() * 1000), peer.identity.without_private(), to, 0, 0)
        packet_id = self.rng.getrandbits(64)
        self._send(peer, "hello", seal_hello(peer.keys, letter, (), destination=self.root.address, packet_id=packet_id))

    def echo(self, peer: SimPeer) -> None:
        self._send(peer, "echo", self._seal(peer, Verb.ECHO, b""))

    def whois(self, peer: SimPeer) -> None:
        about = self.rng.choice(self.peers).identity.address
        self._send(peer, "whois", self._seal(peer, Verb.WHOIS, Whois((about,)).encode()))

    def receive(self, until: float) -> None:
        """Take what comes until `until`, and answer the root's own HELLOs as a peer does: that proves the path."""
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return
            for _ in range(256):
                try:
                    packet = self.socket.recv(10_100)
                except BlockingIOError:
                    break
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        peer = self.by_address.get(int.from_bytes(packet[8:13], "big")) if len(packet) >= 28 else None
        if peer is None:
            return
        opened = open_packet(peer.keys, packet)
        if opened.verb is Verb.OK:
            self._answered(peer, Ok.decode(opened.payload))
        elif opened.verb is Verb.HELLO:
            self._prove(peer, opened.packet_id, Hello.decode(opened.payload).timestamp)
        elif opened.verb is Verb.ECHO:
            self._reply(peer, Ok(Verb.ECHO, opened.packet_id, opened.payload).encode())

    def _answered(self, peer: SimPeer, ok: Ok) -> None:
        sent = self.waiting.pop(ok.in_re_id, None)
        if sent is None:
            return
        at, what = sent
        if what == "whois" and not OkWhois.decode(ok.body).identities:
            raise LabError("a WHOIS was answered without an identity")
        peer.met |= what == "hello"
        self.tally.answered[what] += 1
        self.tally.times.append(time.monotonic() - at)

    def _prove(self, peer: SimPeer, packet_id: int, timestamp: int) -> None:
        body = struct.pack(">QBBBH", timestamp, 12, 1, 14, 1) + b"\0\0\0"
        self._reply(peer, Ok(Verb.HELLO, packet_id, body).encode())

    def _reply(self, peer: SimPeer, payload: bytes) -> None:
        control = [(socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, peer.ip, bytes(4)))]
        self.socket.sendmsg([self._seal(peer, Verb.OK, payload)], control, 0, (ROOT, 9993))

    def count_lost(self) -> None:
        """What has waited too long is lost; oldest first."""
        late = time.monotonic() - LOST_AFTER
        for packet_id, (at, what) in list(self.waiting.items()):
            if at > late:
                return
            del self.waiting[packet_id]
            self.tally.lost[what] += 1

    def meet(self, limit: float) -> float:
        """HELLOs until the root has answered everybody; seconds it took."""
        start = time.monotonic()
        while unmet := [peer for peer in self.peers if not peer.met]:
            if time.monotonic() - start > limit:
                raise LabError(f"after {limit:.0f} s the root has not answered {len(unmet)} of {len(self.peers)} peers")
            begun = time.monotonic()
            self.rng.shuffle(unmet)  # not all of one prefix at once
            for number, peer in enumerate(unmet):
                self.hello(peer)
                self.receive(begun + number / HELLOS_PER_S)
            self.receive(time.monotonic() + 1)
            self.waiting.clear()
        took = time.monotonic() - start
        self.tally = Tally()
        return took

    def live(self, seconds: float, keepalive: float, whois_per_s: float) -> None:
        """Everybody's ECHO every `keepalive` seconds, evenly spread, and WHOIS from one after the other."""
        start = time.monotonic()
        for number, peer in enumerate(self.peers):
            peer.next_echo = start + keepalive * number / len(self.peers)
        turn, asked = 0, 0
        while (now := time.monotonic()) < start + seconds:
            while self.peers[turn].next_echo <= now:
                self.peers[turn].next_echo += keepalive
                self.echo(self.peers[turn])
                turn = (turn + 1) % len(self.peers)
            while asked < (now - start) * whois_per_s:
                self.whois(self.peers[asked % len(self.peers)])
                asked += 1
            self.receive(now + 0.005)
            self.count_lost()
        self.receive(time.monotonic() + LOST_AFTER)
        self.count_lost()


@dataclass(frozen=True, slots=True)
class Found:
    """What `measure` found. Bytes are per peer."""

    peers: int
    live: int
    meeting: float
    cpu: dict[str, float]
    memory: float
    tables: float
    tally: Tally
    drops: dict[str, int]


def measure(peers: int, seconds: float, keepalive: float, whois_per_s: float, say: Callable[[str], object]) -> Found:
    """One root, one crowd. Raises LabError, NodeFailed."""
    with Lab("zpr") as lab:
        hosts = lab.namespace("root"), lab.namespace("crowd")
        lab.cable(hosts[0], "eth0", [f"{ROOT}/24"], hosts[1], plug="eth0", other_addresses=["10.91.0.2/24"])
        hosts[0].run("ip", "route", "add", "10.92.0.0/14", "via", "10.91.0.2")
        hosts[1].run("ip", "route", "add", "local", "10.92.0.0/14", "dev", "lo")
        root = Gateway(hosts[0], lab.directory, flags=["--layout", "fused"], settings={"allowSecondaryPort": False})
        root.use_world(private_planet(), [moon(root.identity, [f"{ROOT}/9993"])])
        say(f"making {peers} peers")
        crowd_peers = make_peers(peers, root.identity, Identity.generate(os.urandom))
        fill_cache(root.home, crowd_peers)
        root.start(wait=60)
        out = hosts[1].open_socket(socket.AF_INET, socket.SOCK_DGRAM)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        out.setblocking(False)
        empty = proportional_memory([root.pid()])
        crowd = Crowd(out, root.identity, crowd_peers)
        say("meeting")
        meeting = crowd.meet(60 + peers / 20)
        crowd.receive(time.monotonic() + 6)
        say(f"{seconds:.0f} s of life")
        before = _drops(root)
        meter = CpuMeter([root.pid()]).start()
        crowd.live(seconds, keepalive, whois_per_s)
        cpu = {name: spent / seconds for name, spent in meter.read().items()}
        after = _drops(root)
        known = {peer["address"]: peer for peer in root.api("GET", "/peer")}
        live = sum(1 for peer in crowd_peers if known.get(format_address(peer.identity.address), {}).get("paths"))
        memory = (proportional_memory([root.pid()]) - empty) / peers
        out.close()
    drops = {name: after[name] - before.get(name, 0) for name in after if after[name] > before.get(name, 0)}
    return Found(peers, live, meeting, cpu, memory, table_bytes(), crowd.tally, drops)


def table_bytes() -> float:
    """Of the shared tables, per peer with one path: a peer, its key, a path."""
    from ztpipe.kernel._kernel import lib

    empty = lib.zt_tables_size(2, 2, 2, 2, 0)
    peer, path = lib.zt_tables_size(2, 4, 2, 2, 0) - empty, lib.zt_tables_size(2, 2, 4, 2, 0) - empty
    return float((peer + path + lib.zt_keys_size(2)) / 2)


def _drops(root: Gateway) -> dict[str, int]:
    found: dict[str, int] = {}
    for worker in root.api("GET", "/ztpipe/workers"):
        for name, value in worker["counters"].items():
            if name.startswith("drop_") and value:
                found[name] = found.get(name, 0) + value
    return found


def table(found: Found, keepalive: float, whois_per_s: float) -> Table:
    """For humans."""
    times = sorted(found.tally.times) or [0.0]
    shown = Table(title=f"a root with {found.peers} peers: keep-alive {keepalive:g} s, {whois_per_s:g} WHOIS/s")
    shown.add_column("what")
    shown.add_column("figure", justify="right")
    shown.add_row("live peers with a path", f"{found.live}")
    shown.add_row("met all of them in", f"{found.meeting:.0f} s")
    for what in ("echo", "whois"):
        counts = (found.tally.asked[what], found.tally.answered[what], found.tally.lost[what])
        shown.add_row(f"{what}: asked, answered, lost", ", ".join(map(str, counts)))
    median, late = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
    shown.add_row("answer: median, 99th percentile", f"{median:.1f}, {late:.1f} ms")
    for name, share in sorted(found.cpu.items()):
        shown.add_row(f"CPU of {name}", f"{share:.1%} of a core")
    shown.add_row("memory of all processes per peer", f"{found.memory / 1024:.1f} KB")
    shown.add_row("of which shared tables", f"{found.tables / 1024:.2f} KB")
    shown.add_row("drops", ", ".join(f"{k} {v}" for k, v in sorted(found.drops.items())) or "none")
    return shown


def main(peers: int, seconds: float, keepalive: float, whois_per_s: float) -> int:
    """Measure and print; 0 if everybody lives and no keep-alive was lost."""
    console = Console(width=100)
    try:
        found = measure(peers, seconds, keepalive, whois_per_s, console.print)
    except (LabError, NodeFailed, WireError, OSError) as error:
        console.print(f"ztpipe bench root: {error}", markup=False)
        return 1
    console.print(table(found, keepalive, whois_per_s))
    return 0 if found.live == peers and not found.tally.lost["echo"] else 1
