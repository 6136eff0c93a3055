"""UDP to groups between hosts of the laboratory: who got what, how often, and how fast.

Programs in namespaces: a listener joins groups on one device and counts what it hears by sender and number; a talker
sends numbered datagrams. A group is ``address@device``; an IPv4 broadcast address is a group, too.

    python -m tests.groupcast listen SECONDS PORT GROUP...      prints {"group": {"sender": [heard, distinct]}}
    python -m tests.groupcast talk PORT COUNT INTERVAL SIZE GROUP SENDER
"""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from ztpipe.lab import Namespace

_ROOT = Path(__file__).resolve().parents[1]
_HEAD = struct.Struct(">II")
MDNS4, MDNS6 = "224.0.0.251", "ff02::fb"


def device_of(host: Namespace, address: str) -> str:
    """The device that holds an address."""
    for line in host.run("ip", "-o", "addr").stdout.splitlines():
        if f" {address}/" in line:
            return line.split()[1]
    raise LookupError(f"{host.label} has no {address}")


class Listener:
    """A listener at a host; use as a context manager, then ask for `heard`."""

    def __init__(self, host: Namespace, seconds: float, port: int, groups: list[str]) -> None:
        argv = [sys.executable, "-m", "tests.groupcast", "listen", str(seconds), str(port), *groups]
        self._process = host.popen(*argv, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it listens

    def heard(self) -> dict[str, dict[str, list[int]]]:
        """By group and sender: datagrams, and different ones among them. Ends when its time is over."""
        assert self._process.stdout is not None
        report: dict[str, dict[str, list[int]]] = json.loads(self._process.stdout.readline())
        self._process.wait(10)
        return report


def talk(host: Namespace, port: int, count: int, interval: float, group: str, sender: int, *, size: int = 100) -> None:
    """Send to a group; returns when all were sent. `interval` 0: as fast as they go."""
    argv = [sys.executable, "-m", "tests.groupcast", "talk", str(port), str(count), str(interval), str(size), group]
    process = host.popen(*argv, str(sender), cwd=_ROOT)
    assert process.wait(count * max(interval, 0.001) + 30) == 0


def _join(group: str, port: int) -> socket.socket:
    address, device = group.split("@")
    v6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((address, port, 0, socket.if_nametoindex(device)) if v6 else (address, port))
    if v6:
        member = socket.inet_pton(socket.AF_INET6, address) + struct.pack("@I", socket.if_nametoindex(device))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    elif 224 <= int(address.split(".")[0]) < 240:
        member = socket.inet_aton(address) + bytes(4) + struct.pack("@i", socket.if_nametoindex(device))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return sock


def _listen(seconds: float, port: int, groups: list[str]) -> None:
    sockets = {_join(group, port): group.split("@")[0] for group in groups}
    heard: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    print("listening", flush=True)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for sock in select.select(list(sockets), [], [], left)[0]:
            sender, number = _HEAD.unpack_from(sock.recv(65535))
            heard[sockets[sock]][sender].append(number)
    report = {
        group: {str(sender): [len(numbers), len(set(numbers))] for sender, numbers in by_sender.items()}
        for group, by_sender in heard.items()
    }
    print(json.dumps(report), flush=True)


def _talk(port: int, count: int, interval: float, size: int, group: str, sender: int) -> None:
    address, device = group.split("@")
    v6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    index = socket.if_nametoindex(device)
    if v6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        to: tuple[object, ...] = (address, port, 0, index)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + struct.pack("@i", index))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        to = (address, port)
    rest = bytes(range(256)) * (size // 256 + 1)
    for number in range(count):
        sock.sendto(_HEAD.pack(sender, number) + rest[: size - _HEAD.size], to)
        if interval:
            time.sleep(interval)


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "listen":
        _listen(float(arguments[0]), int(arguments[1]), arguments[2:])
    else:
        _talk(
            int(arguments[0]),
            int(arguments[1]),
            float(arguments[2]),
            int(arguments[3]),
            arguments[4],
            int(arguments[5]),
        )


if __name__ == "__main__":
    main()
