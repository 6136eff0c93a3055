"""A host floods its own gateway's TAP while a TCP stream crosses it: what is left of the stream?

    python -m tests.bench.tap_flood [--rounds 3] [--seconds 3] [--rate 10000] [--layout pipeline]

Needs root and iperf3. Floods, each of `--rate` frames a second of 128 bytes: to unknown members, to MACs that are
nobody's, of ARP requests for addresses that nobody has, to groups that nobody is in, and to a group that the other end
is in. Throughput of B -> A in alternation, medians: undisturbed; with the same flood into a cable that leads nowhere,
because making it costs the machine something, too; and into the TAP. What the gateway is answerable for is the last
against the one before.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.groupcast import device_of, hold
from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import CpuMeter, iperf

_ROOT = Path(__file__).resolve().parents[2]
FLOODS = ("members", "nobody", "arp", "groups", "group")
GROUP = "239.77.0.2"
_GROUP_MAC = bytes.fromhex("01005e4d0002")
_BATCH = 0.005


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


def send(device: str, kind: str, rate: int, seconds: float) -> None:
    """Send `rate` frames a second into a device; prints how many went."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((device, 0))
    mac = sock.getsockname()[4]
    print("flooding", flush=True)
    begin, sent, number = time.monotonic(), 0, random.Random(1).randrange(1 << 24)
    while (now := time.monotonic() - begin) < seconds:
        while sent < now * rate:
            try:
                sock.send(frame(kind, mac, number + sent))
            except OSError:
                pass  # the device's queue is full
            sent += 1
        time.sleep(_BATCH)
    print(sent, flush=True)


def start_flood(pair: Pair, device: str, kind: str, rate: int, seconds: float) -> subprocess.Popen[str]:
    """At host A; returns once it flows."""
    argv = [sys.executable, "-m", "tests.bench.tap_flood", "--send", device, kind, str(rate), str(seconds)]
    running = pair.a.popen(*argv, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()
    return running


def prepare(pair: Pair) -> str:
    """The device at A to be flooded. B is in the group, and there is a cable for the flood that counts for nothing."""
    pair.a.run("ip", "link", "add", "sink", "type", "veth", "peer", "name", "drain")
    for end in ("sink", "drain"):
        pair.a.run("ip", "link", "set", end, "up")
    hold(pair.b, 600, 5778, [f"{GROUP}@{device_of(pair.b, pair.target)}"])
    time.sleep(6)  # B looks at its TAP, and tells
    return device_of(pair.a, f"{pair.overlay}.1")


def stream(pair: Pair, seconds: float) -> tuple[float, float]:
    """(Gbit/s from B to A, CPU seconds of node A)."""
    meter = CpuMeter([pair.nodes[0].pid()]).start()
    return iperf(pair.b, pair.a, f"{pair.overlay}.1", seconds=seconds).gbit, meter.total()


def flooded(pair: Pair, device: str, kind: str, rate: int, seconds: float) -> tuple[float, float]:
    running = start_flood(pair, device, kind, rate, seconds + 1.5)
    found = stream(pair, seconds)
    running.wait(30)
    return found


def main() -> int:
    if sys.argv[1:2] == ["--send"]:
        device, kind, rate, seconds = sys.argv[2:]
        send(device, kind, int(rate), float(seconds))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--layout", default="pipeline")
    parser.add_argument("--only", nargs="+", choices=FLOODS, default=FLOODS)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {}
    with Lab("zpu") as lab:
        make = ztpipe("--layout", options.layout)
        pair = joined(lab, "u", "10.66.60", "10.67.60", make, make)
        device = prepare(pair)
        stream(pair, 1)
        for _ in range(options.rounds):
            found.setdefault("undisturbed", []).append(stream(pair, options.seconds))
            for kind in options.only:
                for where in ("sink", device):
                    key = f"{kind}, elsewhere" if where == "sink" else kind
                    found.setdefault(key, []).append(flooded(pair, where, kind, options.rate, options.seconds))
                    time.sleep(0.5)
    shown = Table(title=f"{options.rate} frames a second into the TAP, {options.layout}", title_justify="left")
    for heading in (
        "flood",
        "Gbit/s",
        "least to most",
        "of undisturbed",
        "of the same elsewhere",
        "CPU s of the node per GB",
    ):
        shown.add_column(heading, justify="right")
    median = {key: statistics.median(gbit for gbit, _ in rows) for key, rows in found.items()}
    held = True
    for key, rows in found.items():
        cost = statistics.median(cpu / (gbit * options.seconds / 8 or 1) for gbit, cpu in rows)
        base = median.get(f"{key}, elsewhere")
        ratio = "" if base is None else f"{median[key] / base:.0%}"
        held &= base is None or median[key] >= 0.9 * base
        spread = f"{min(gbit for gbit, _ in rows):.2f} to {max(gbit for gbit, _ in rows):.2f}"
        share = f"{median[key] / median['undisturbed']:.0%}"
        shown.add_row(key, f"{median[key]:.2f}", spread, share, ratio, f"{cost:.2f}")
    console = Console(width=120)
    console.print(shown)
    console.print("at least 90 % kept" if held else "LESS than 90 % kept")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
