"""A host floods its own gateway's TAP while a TCP stream crosses it: what is left of the stream?

    python -m tests.bench.tap_flood [--pairs 10] [--seconds 1.2] [--rate 10000] [--layout pipeline] [--only KIND...]

Needs root and iperf3. Floods, each of `--rate` frames a second of 128 bytes: to unknown members, to MACs that are
nobody's, of ARP requests for addresses that nobody has, to groups that nobody is in, and to a group that the other end
is in. One stream B -> A all the while, and one flood, which goes into the TAP and into a cable that leads nowhere in
turn, because making it costs the machine something, too. What the gateway is answerable for is what crosses in one turn
against what crosses in the next: the figure is the median of these ratios, with the quartiles.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.groupcast import device_of, hold
from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import CpuMeter, tcp_stream

_ROOT = Path(__file__).resolve().parents[2]
FLOODS = ("members", "nobody", "arp", "groups", "group")
GROUP = "239.77.0.2"
_GROUP_MAC = bytes.fromhex("01005e4d0002")
_BATCH = 0.005
_SETTLE = 1.0  # seconds: what was saved up for a flood is spent


def frame(kind: str, mac: bytes, number: int) -> bytes:
    """A frame of 128 bytes from the device with this MAC."""
    salt = number.to_bytes(4, "big")
    if kind == "arp":
        ask = b"\x00\x01\x08\x00\x06\x04\x00\x01" + mac + b"\x0a\0\0\1" + bytes(6) + b"\x0b" + salt[1:]
        return (b"\xff" * 6 + mac + b"\x08\x06" + ask).ljust(128, b"\0")
    to = {
        "members": mac[:1] + b"\x55" + salt,
        "nobody": b"\x06\x55" + salt,
        "groups": b"\x01\x00\x5e" + salt[1:],
        "group": _GROUP_MAC,
    }[kind]
    return (to + mac + b"\x88\xb5" + salt).ljust(128, b"\x5a")


def send(devices: list[str], kind: str, rate: int, seconds: float, turn: float) -> None:
    """Send `rate` frames a second, into each device in turn; prints its name whenever it has its turn."""
    socks = []
    for device in devices:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind((device, 0))
        socks.append((device, sock, sock.getsockname()[4]))
    begin, sent, number, last = time.monotonic(), 0, random.Random(1).randrange(1 << 24), -1
    while (now := time.monotonic() - begin) < seconds:
        if int(now / turn) != last:
            last = int(now / turn)
            device, sock, mac = socks[last % len(socks)]
            print(device, flush=True)
        while sent < now * rate:
            try:
                sock.send(frame(kind, mac, number + sent))
            except OSError:
                pass  # the device's queue is full
            sent += 1
        time.sleep(_BATCH)


def prepare(pair: Pair) -> str:
    """The device at A to be flooded. B is in the group, and there is a cable for the flood that counts for nothing."""
    pair.a.run("ip", "link", "add", "sink", "type", "veth", "peer", "name", "drain")
    for end in ("sink", "drain"):
        pair.a.run("ip", "link", "set", end, "up")
    hold(pair.b, 600, 5778, [f"{GROUP}@{device_of(pair.b, pair.target)}"])
    time.sleep(6)  # B looks at its TAP, and tells
    return device_of(pair.a, f"{pair.overlay}.1")


@dataclass(frozen=True, slots=True)
class Turn:
    """What crossed while the flood went into `device`, and CPU seconds of the flooded node per GB."""

    device: str
    gbit: float
    cost: float


def turns(pair: Pair, tap: str, kind: str, options: argparse.Namespace) -> Iterator[Turn]:
    """With one flood, into the TAP and elsewhere in turn."""
    count, length = 2 * options.pairs, _SETTLE + options.seconds
    argv = [tap + ",sink", kind, str(options.rate), str((count + 1) * length), str(length)]
    command = [sys.executable, "-m", "tests.bench.tap_flood", "--send", *argv]
    flood = pair.a.popen(*command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert flood.stdout is not None
    for _ in range(count):
        device = flood.stdout.readline().strip()
        time.sleep(_SETTLE)
        meter, before, start = CpuMeter([pair.nodes[0].pid()]).start(), received(pair, tap), time.monotonic()
        time.sleep(max(0.1, options.seconds - 0.2))
        crossed, took = received(pair, tap) - before, time.monotonic() - start
        yield Turn(device, crossed * 8e-9 / took, meter.total() / max(crossed, 1) * 1e9)
    flood.terminate()
    flood.wait(10)


def received(pair: Pair, tap: str) -> int:
    """Bytes that came out of A's TAP so far."""
    return int(pair.a.run("cat", f"/sys/class/net/{tap}/statistics/rx_bytes").stdout)


def ratios(found: list[Turn]) -> list[float]:
    """Of each turn and the next: into the TAP against elsewhere. (Two in a row that stand still count as nothing.)"""
    pairs = [(one, other) if other.device == "sink" else (other, one) for one, other in pairwise(found)]
    return [into.gbit / elsewhere.gbit for into, elsewhere in pairs if elsewhere.gbit]


def main() -> int:
    if sys.argv[1:2] == ["--send"]:
        devices, kind, rate, seconds, turn = sys.argv[2:]
        send(devices.split(","), kind, int(rate), float(seconds), float(turn))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.2)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--layout", default="pipeline")
    parser.add_argument("--only", nargs="+", choices=FLOODS, default=FLOODS)
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs: at least 2, for the ratios to have quartiles")
    shown = Table(title=f"{options.rate} frames a second into the TAP, {options.layout}", title_justify="left")
    for heading in ("flood", "Gbit/s", "elsewhere", "kept", "half of them", "CPU s of the node per GB", "elsewhere"):
        shown.add_column(heading, justify="right")
    held = True
    with Lab("zpu") as lab:
        make = ztpipe("--layout", options.layout)
        pair = joined(lab, "u", "10.66.60", "10.67.60", make, make)
        tap = prepare(pair)
        for kind in options.only:
            with tcp_stream(pair.b, pair.a, f"{pair.overlay}.1"):
                found = list(turns(pair, tap, kind, options))
            into = [turn for turn in found if turn.device == tap]
            other = [turn for turn in found if turn.device != tap]
            low, middle, high = statistics.quantiles(ratios(found), n=4)
            speeds = [f"{statistics.median(turn.gbit for turn in some):.2f}" for some in (into, other)]
            costs = [f"{statistics.median(turn.cost for turn in some):.2f}" for some in (into, other)]
            shown.add_row(kind, *speeds, f"{middle:.0%}", f"{low:.0%} to {high:.0%}", *costs)
            held &= middle >= 0.9
    console = Console(width=120)
    console.print(shown)
    console.print("at least 90 % kept" if held else "LESS than 90 % kept")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
