"""Traffic between two hosts of the laboratory, measured: ping, iperf3, a checksummed transfer, CPU time."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ztpipe.lab.namespaces import LabError, Namespace

_SCHEDULED: Final = 2  # CPUCLOCK_SCHED of <linux/posix-timers.h>


@dataclass(frozen=True, slots=True)
class Ping:
    """Round trips in milliseconds, in order of sequence number."""

    sent: int
    times: tuple[float, ...]

    @property
    def lost(self) -> int:
        return self.sent - len(self.times)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")

    @property
    def median(self) -> float:
        return self.percentile(0.5)


def ping(source: Namespace, target: str, *, count: int = 5, interval: float = 0.2, timeout: float = 1.0) -> Ping:
    """`count` echo requests; losses are reported, not raised."""
    argv = ["ping", "-n", "-c", str(count), "-i", str(interval), "-W", str(timeout), target]
    done = source.run(*argv, timeout=count * max(interval, 0.001) + timeout + 10, check=False)
    return Ping(count, tuple(float(t) for t in re.findall(r"time=([\d.]+) ms", done.stdout)))


@dataclass(frozen=True, slots=True)
class Throughput:
    """What arrived: bits per second, bytes, and for UDP packets per second and the share lost."""

    bits_per_second: float
    bytes: int
    packets_per_second: float = 0.0
    lost: float = 0.0
    retransmits: int = 0

    @property
    def gbit(self) -> float:
        return self.bits_per_second / 1e9


def iperf(
    source: Namespace,
    sink: Namespace,
    target: str,
    *,
    seconds: float = 3,
    streams: int = 1,
    udp_payload: int = 0,
    rate: str = "0",
    port: int = 5201,
    omit: int = 0,
    congestion: str = "",
) -> Throughput:
    """One iperf3 run from `source` to `sink`. `udp_payload` 0: TCP; `congestion` "": the host's default."""
    with iperf_server(sink, port):
        argv = ["iperf3", "-J", "-c", target, "-p", str(port), "-t", str(seconds), "-P", str(streams)]
        argv += ["-O", str(omit)] if omit else []
        argv += ["-C", congestion] if congestion and not udp_payload else []
        argv += ["-u", "-l", str(udp_payload), "-b", rate, "-w", "400K"] if udp_payload else []
        done = source.run(*argv, timeout=seconds + omit + 20, check=False)
    try:
        report = json.loads(done.stdout)
        end = report["end"]
    except (ValueError, KeyError):
        raise LabError(f"iperf3 failed: {(done.stderr or done.stdout)[:300]}") from None
    if "sum_received" not in end and "sum" not in end:
        raise LabError(f"iperf3: {report.get('error', 'no result')}")
    return _udp(end) if udp_payload else _tcp(end)


@contextlib.contextmanager
def tcp_stream(source: Namespace, sink: Namespace, target: str, *, port: int = 5201) -> Iterator[None]:
    """One TCP stream of iperf3 from `source` to `sink` for as long as the context lasts, up to an hour."""
    with iperf_server(sink, port):
        argv = ["iperf3", "-c", target, "-p", str(port), "-t", "3600"]
        client = source.popen(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        try:
            yield
        finally:
            client.terminate()
            client.wait(10)


def _tcp(end: dict[str, Any]) -> Throughput:
    received = end["sum_received"]
    return Throughput(received["bits_per_second"], received["bytes"], retransmits=end["sum_sent"].get("retransmits", 0))


def _udp(end: dict[str, Any]) -> Throughput:
    total = end.get("sum_received") or end["sum"]
    arrived = total["packets"] - total["lost_packets"]
    share = total["lost_packets"] / total["packets"] if total["packets"] else 0.0
    seconds = total["seconds"] or 1.0
    size = total["bytes"] if "sum_received" in end else int(total["bytes"] * (1 - share))
    return Throughput(size * 8 / seconds, size, arrived / seconds, share)


@contextlib.contextmanager
def iperf_server(sink: Namespace, port: int) -> Iterator[None]:
    server = sink.popen("iperf3", "-s", "-1", "-p", str(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and f":{port} " not in sink.run("ss", "-Hltn", check=False).stdout:
            time.sleep(0.02)
        yield
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(3)
        sink.processes.remove(server)


_RECEIVER = """
import hashlib, socket, sys
both = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
server = socket.create_server(("", int(sys.argv[1])), **both)
print("ready", flush=True)
conn, _ = server.accept()
digest, total = hashlib.sha256(), 0
while data := conn.recv(1 << 18):
    digest.update(data); total += len(data)
print(total, digest.hexdigest(), flush=True)
"""
_SENDER = """
import hashlib, os, socket, sys
conn = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
digest, left = hashlib.sha256(), int(sys.argv[3])
block = os.urandom(1 << 20)
while left:
    data = (left.to_bytes(8, "big") + block)[:min(left, 1 << 20)]
    conn.sendall(data); digest.update(data); left -= len(data)
conn.shutdown(socket.SHUT_WR)
print(sys.argv[3], digest.hexdigest())
"""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A file's worth of random bytes: what was sent and what arrived."""

    sent: str
    received: str
    seconds: float

    @property
    def intact(self) -> bool:
        return self.sent == self.received


def transfer(
    source: Namespace, sink: Namespace, target: str, size: int, *, port: int = 5300, timeout: float = 60
) -> Transfer:
    """Send `size` random bytes over TCP; count and SHA-256 of both ends."""
    receiver = sink.popen(sys.executable, "-c", _RECEIVER, str(port), stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    try:
        receiver.stdout.readline()
        started = time.monotonic()
        sent = source.run(sys.executable, "-c", _SENDER, target, str(port), str(size), timeout=timeout).stdout.strip()
        received = receiver.stdout.readline().strip()
        return Transfer(sent, received, time.monotonic() - started)
    finally:
        receiver.kill()
        receiver.wait()
        sink.processes.remove(receiver)


@dataclass(slots=True)
class CpuMeter:
    """CPU seconds of process trees between `start` and `read`, by name of process."""

    roots: list[int]
    _before: dict[int, float] = field(default_factory=dict)

    def start(self) -> CpuMeter:
        self._before = {pid: seconds for pid, _, seconds in _trees(self.roots)}
        return self

    def read(self) -> dict[str, float]:
        spent: dict[str, float] = {}
        for pid, name, seconds in _trees(self.roots):
            spent[name] = spent.get(name, 0.0) + seconds - self._before.get(pid, 0.0)
        return spent

    def total(self) -> float:
        return sum(self.read().values())


def _trees(roots: list[int]) -> Iterator[tuple[int, str, float]]:
    """(pid, name, CPU seconds so far) of each root and its descendants.

    By the process's CPU clock, in nanoseconds: the ticks of `stat` are 10 ms, twice what an idle gateway takes in a
    second.
    """
    todo = list(roots)
    while todo:
        pid = todo.pop()
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                head = stat.read().rpartition(")")[0]
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
                todo += [int(child) for child in children.read().split()]
            seconds = _on_cpu(pid)
        except OSError:
            continue
        yield pid, head.partition("(")[2], seconds


def _on_cpu(pid: int) -> float:
    """CPU seconds of all threads of a process, those that have ended included. OSError: there is no such process."""
    return time.clock_gettime_ns((~pid << 3) | _SCHEDULED) / 1e9  # as clock_getcpuclockid(3) makes it


def proportional_memory(roots: list[int]) -> int:
    """Proportional set size of process trees in bytes: shared pages are counted once."""
    total = 0
    for pid, _, _ in _trees(roots):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            total += sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
    return total
