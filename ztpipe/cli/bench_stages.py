"""`ztpipe bench stages`: nanoseconds of every stage for one frame, on its way from one TAP to another.

Two ends in this process: the TAPs are socket pairs, the wire is the loopback interface. So the stages and their system
calls are real, and what the kernel does behind a TAP or a network card is not measured. A small frame from a socket
pair costs more than one from a TAP.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.counters import Counters
from ztpipe.shm.rings import RingRegion, RingSet
from ztpipe.shm.tables import Sizes, Tables
from ztpipe.wire.address import mac_of

STAGES: Final = ("pull from TAP", "seal", "push to wire", "pull from wire", "open", "push to TAP")
_NWID: Final = 0x1122334455667788
_ADDRESSES: Final = (0x1111111111, 0x2222222222)
_MTU, _UNDERLAY = 2800, 1432
_BUDGET: Final = 1 << 20
_OFFLOADS: Final = int(
    lib.ZT_OFFLOAD_TAP_VNET
    | lib.ZT_OFFLOAD_TAP_TSO
    | lib.ZT_OFFLOAD_TAP_USO
    | lib.ZT_OFFLOAD_UDP_GSO
    | lib.ZT_OFFLOAD_UDP_GRO
)
_MSS: Final = _MTU - 40
_RING_TURNS: Final = 100_000


class BenchError(RuntimeError):
    """A frame did not arrive: figures would be wrong."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of frame to measure. `batch`: as many at a time."""

    title: str
    suite: int
    payload: int
    batch: int
    tcp: bool


KINDS: Final = (
    Kind("58 KB TCP super-frame", 3, 21 * _MSS, 2, True),
    Kind("the same, suite 1", 1, 21 * _MSS, 2, True),
    Kind("1400 B UDP", 3, 1400, 32, False),
    Kind("64 B UDP", 3, 64, 64, False),
)


class End:
    """One node's stages over private rings, with a TAP (whose other side is `device`) and a socket."""

    def __init__(self, number: int, stack: ExitStack, replay_sets: int) -> None:
        self.address = _ADDRESSES[number]
        self.tables = Tables.create(self.address, Sizes(2, 8, 8, 8, replay_sets), 0)
        stack.callback(self.tables.close)
        self.counters = Counters.create(["bench"])
        stack.callback(self.counters.close)
        self.context = lib.zt_context_new(
            self.tables.pointer, self.tables.keys_pointer, self.counters.block(0), ffi.NULL, _OFFLOADS
        )
        stack.callback(lib.zt_context_free, self.context)
        to_seal, to_udp, to_open, to_tap = (self._ring() for _ in range(4))
        self.tap = self._stage(stack, lib.zt_tap_new, lib.zt_tap_free, to_seal[0], to_tap[1])
        self.crypto = self._stage(
            stack, lib.zt_crypto_new, lib.zt_crypto_free, to_seal[1], to_udp[0], to_open[1], to_tap[0]
        )
        self.udp = self._stage(stack, lib.zt_udp_new, lib.zt_udp_free, to_udp[1], to_open[0])
        self.device, queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        for made in (self.device, queue, self.socket):
            stack.enter_context(made)
            made.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                made.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        mac = mac_of(self.address, _NWID)
        network = self.tables.install_network(_NWID, mac, _MTU, accept_all=True, bridge=False)
        if lib.zt_tap_add(self.tap, queue.fileno(), network) or lib.zt_udp_add(self.udp, self.socket.fileno(), 0, 4):
            raise BenchError("the stages do not take their descriptors")

    def _ring(self) -> tuple[RingSet, RingSet]:
        ring = RingRegion.create("bench", 4, 0, 0, private=True)
        ends = RingSet(), RingSet()
        for end in ends:
            end.add(ring)
        return ends

    def _stage(self, stack: ExitStack, new: Callable[..., Any], free: Callable[[Any], None], *sets: RingSet) -> Any:
        made = new(self.context, *[s.pointer for s in sets])
        if not made:
            raise MemoryError
        stack.callback(self._free, free, made, sets)
        return made

    @staticmethod
    def _free(free: Callable[[Any], None], stage: Any, rings: object) -> None:
        """`rings` is held only so that they outlive the stage."""
        free(stage)

    def meet(self, other: End, suite: int) -> None:
        """Know the other end as a member, directly reachable, with a session of this suite."""
        _, port = other.socket.getsockname()
        remote = (bytes((127, 0, 0, 1)), port)
        salsa, k0, k1 = (bytes((n,)) * 32 for n in (1, 2, 3))
        self.tables.install_peer(other.address, salsa, k0, k1, suite, 0, remote, _UNDERLAY, True)
        self.tables.install_path(other.address, 0, remote)
        self.tables.install_member(_NWID, other.address, True, 1 << 60)

    def drain(self) -> int:
        """Take what was written to the TAP; bytes."""
        taken = 0
        while True:
            try:
                taken += len(self.device.recv(200_000))
            except BlockingIOError:
                return taken


def frame(kind: Kind) -> bytes:
    """As a TAP gives it: with a vnet header, its checksum left to us."""
    macs = b"".join(mac_of(address, _NWID).to_bytes(6, "big") for address in reversed(_ADDRESSES))
    proto, l4_length = (6, 20) if kind.tcp else (17, 8)
    total = 20 + l4_length + kind.payload
    addresses = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    ip = struct.pack("!BBHHHBBH", 0x45, 0, total, 1, 0x4000, 64, proto, 0) + addresses
    ip = ip[:10] + (~_sum(ip) & 0xFFFF).to_bytes(2, "big") + ip[12:]
    pseudo = _sum(addresses + struct.pack("!HH", proto, l4_length + kind.payload))
    if kind.tcp:
        l4 = struct.pack("!HHIIBBHHH", 1000, 2000, 1, 1, 0x50, 0x10, 65_535, pseudo, 0)
    else:
        l4 = struct.pack("!HHHH", 1000, 2000, 8 + kind.payload, pseudo)
    vnet = struct.pack(
        "=BBHHHHH", 1, int(kind.tcp), 34 + l4_length, _MSS if kind.tcp else 0, 34, 16 if kind.tcp else 6, 0
    )
    return vnet + macs + b"\x08\0" + ip + l4 + bytes(kind.payload)


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def turn(a: End, b: End, kind: Kind, data: bytes) -> list[int]:
    """Nanoseconds of each stage for one batch of frames from A's TAP to B's."""
    for _ in range(kind.batch):
        a.device.send(data)
    calls: tuple[Callable[[], object], ...] = (
        lambda: lib.zt_tap_pull(a.tap, _BUDGET),
        lambda: lib.zt_seal(a.crypto, _BUDGET),
        lambda: lib.zt_udp_push(a.udp, _BUDGET),
        lambda: lib.zt_udp_pull(b.udp, _BUDGET),
        lambda: lib.zt_open(b.crypto, _BUDGET),
        lambda: lib.zt_tap_push(b.tap, _BUDGET),
    )
    spent = []
    for call in calls:
        started = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - started)
    if b.drain() < kind.batch * kind.payload:
        raise BenchError(f"{kind.title}: frames were lost between two sockets of this machine")
    return spent


def measure_kind(kind: Kind, rounds: int, *, replay_guard: bool = True) -> dict[str, float]:
    """Stage -> ns per frame: of each stage, the best round's."""
    sets = Sizes().replay_sets if replay_guard else 0
    with ExitStack() as stack:
        a, b = End(0, stack, sets), End(1, stack, sets)
        a.meet(b, kind.suite)
        b.meet(a, kind.suite)
        data = frame(kind)
        turn(a, b, kind, data)  # pages, keys, caches
        best = [float("inf")] * len(STAGES)
        for _ in range(rounds):
            sums = [sum(parts) for parts in zip(*(turn(a, b, kind, data) for _ in range(20)), strict=True)]
            best = [min(pair) for pair in zip(best, sums, strict=True)]
    return {stage: spent / 20 / kind.batch for stage, spent in zip(STAGES, best, strict=True)}


def ring() -> float:
    """Ns to hand a slot on and take it back."""
    region = RingRegion.create("bench", 4, 0, 0, private=True)
    ends = RingSet(), RingSet()
    for end in ends:
        end.add(region)
    return float(min(lib.zt_bench_ring(*(end.end(0) for end in ends), _RING_TURNS) for _ in range(5))) / _RING_TURNS


def table(found: dict[str, dict[str, float]]) -> Table:
    """Stages down, kinds of frame across."""
    shown = Table(title="ns per frame, one core, everything in one process", title_justify="left")
    shown.add_column("stage")
    for title in found:
        shown.add_column(title, justify="right")
    for stage in STAGES:
        shown.add_row(stage, *[f"{row[stage]:,.0f}" for row in found.values()])
    shown.add_section()
    shown.add_row("all", *[f"{sum(row.values()):,.0f}" for row in found.values()])
    rates = [kind.payload * 8 / sum(found[kind.title].values()) for kind in KINDS]
    shown.add_row("Gbit/s of one core", *[f"{rate:.2f}" for rate in rates])
    return shown


def main(rounds: int, *, as_json: bool, replay_guard: bool) -> None:
    """Measure and print."""
    found = {kind.title: measure_kind(kind, rounds, replay_guard=replay_guard) for kind in KINDS}
    hop = ring()
    if as_json:
        print(json.dumps({**found, "ring": {"slot": hop}}, indent=2))
        return
    console = Console()
    console.print(table(found))
    console.print(f"ring: {hop:.0f} ns to hand a slot on and take it back, within one process")
