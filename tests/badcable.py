"""A cable that loses, doubles and swaps frames: two veth ends in a host of their own, and this program between them.

Kernels without netem have nothing like it. The hosts at both ends must send what a wire would carry: no offloads.

    python -m tests.badcable PORT OTHER LOSS DUPLICATION REORDERING

shares of 1; a swapped frame comes 1-20 frames late.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.pairs import Pair
from ztpipe.lab import Lab, Namespace

_ROOT = Path(__file__).parent.parent
_ALL = 0x0003  # ETH_P_ALL
_OUTGOING = 4  # PACKET_OUTGOING
_LATEST = 0.002  # seconds that a frame is held back at most
_OFFLOADS = ("tx", "tso", "gso", "gro", "tx-udp-segmentation")


class Cable:
    """Two hosts and the one in between."""

    def __init__(self) -> None:
        self.middle: Namespace | None = None

    def __call__(self, lab: Lab, name: str, underlay: str, mtu: int = 1500) -> Pair:
        """As `tests.pairs.bare`; carries nothing before `running`."""
        a, b, self.middle = (lab.namespace(f"{name}-{label}") for label in ("a", "b", "m"))
        for host, port, number in ((a, "p0", 1), (b, "p1", 2)):
            lab.cable(host, "eth0", [f"{underlay}.{number}/24"], self.middle, plug=port, mtu=mtu)
            for feature in _OFFLOADS:
                host.run("ethtool", "-K", "eth0", feature, "off", check=False)
        self.start()
        return Pair(name, a, b, f"{underlay}.2")

    def start(self, loss: float = 0, duplication: float = 0, reordering: float = 0) -> None:
        """Carry frames from now on, with these troubles."""
        assert self.middle is not None
        for process in list(self.middle.processes):
            process.kill()
            process.wait()
            self.middle.processes.remove(process)
        shares = [str(share) for share in (loss, duplication, reordering)]
        process = self.middle.popen(
            sys.executable, "-m", "tests.badcable", "p0", "p1", *shares, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"

    @contextlib.contextmanager
    def trouble(self, **shares: float) -> Iterator[None]:
        """`start` with these, and afterwards without."""
        self.start(**shares)
        try:
            yield
        finally:
            self.start()


class _Direction:
    """Frames from one end to the other."""

    def __init__(self, out: socket.socket, loss: float, duplication: float, reordering: float) -> None:
        self.out = out
        self.shares = (loss, duplication, reordering)
        self.held: list[tuple[int, float, bytes]] = []  # (goes after so many more frames, or at this time)

    def frame(self, data: bytes, now: float) -> None:
        loss, duplication, reordering = self.shares
        if random.random() < loss:
            return
        if random.random() < reordering:
            self.held.append((random.randint(1, 20), now + _LATEST, data))
            return
        self._send(data)
        if random.random() < duplication:
            self.held.append((random.randint(0, 20), now + _LATEST, data))

    def release(self, now: float, passed: int) -> None:
        """Send what has been held back long enough; `passed` frames went by since the last call."""
        kept = []
        for left, until, data in self.held:
            if left <= passed or until <= now:
                self._send(data)
            else:
                kept.append((left - passed, until, data))
        self.held = kept

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.out.send(data)


def main() -> None:
    ports, shares = sys.argv[1:3], [float(share) for share in sys.argv[3:6]]
    ends = []
    for port in ports:
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        end.bind((port, _ALL))
        end.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        ends.append(end)
    ways = {end: _Direction(other, *shares) for end, other in zip(ends, reversed(ends), strict=True)}
    print("ready", flush=True)
    while True:
        waiting = any(way.held for way in ways.values())
        select.select(ends, [], [], _LATEST if waiting else None)
        for end, way in ways.items():
            passed = 0
            now = time.monotonic()
            for _ in range(32):
                try:
                    data, address = end.recvfrom(70_000, socket.MSG_DONTWAIT)
                except OSError:
                    break
                if address[2] != _OUTGOING:
                    way.frame(data, now)
                    passed += 1
            if way.held:
                way.release(now, passed)


if __name__ == "__main__":
    main()
