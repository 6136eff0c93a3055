"""UDP to groups between hosts of the laboratory: who got what, how often, and how fast.

Programs in namespaces: a listener joins groups on one device and counts what it hears by sender and number; a talker
sends numbered datagrams. A group is ``address@device``; an IPv4 broadcast address is a group, too.

    python -m tests.groupcast listen SECONDS QUIET PORT GROUP...      prints {"group": {"sender": [heard, distinct]}}
    python -m tests.groupcast hold SECONDS PORT GROUP...
    python -m tests.groupcast talk PORT COUNT SECONDS INTERVAL SIZE GROUP SENDER      ends with whichever is over first
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from ztpipe.lab.namespaces import LabError, Namespace

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

    def __init__(self, host: Namespace, seconds: float, port: int, groups: list[str], *, quiet: float = 0) -> None:
        """`seconds` at most; `quiet`: once it heard something, so long without is the end (0: not)."""
        times = [str(seconds), str(quiet)]
        argv = [sys.executable, "-m", "tests.groupcast", "listen", *times, str(port), *groups]
        self._process = host.popen(*argv, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it listens

    def heard(self) -> dict[str, dict[str, list[int]]]:
        """By group and sender: datagrams, and different ones among them. Ends when its time is over."""
        assert self._process.stdout is not None
        report: dict[str, dict[str, list[int]]] = json.loads(self._process.stdout.readline())
        self._process.wait(10)
        return report


def hold(host: Namespace, seconds: float, port: int, groups: list[str]) -> None:
    """Be in the groups for so long and read nothing, which costs nothing."""
    host.popen(sys.executable, "-m", "tests.groupcast", "hold", str(seconds), str(port), *groups, cwd=_ROOT)


def unread(host: Namespace, port: int) -> int:
    """How many datagrams have come to a held socket that had no room for them."""
    for line in host.run("cat", "/proc/net/udp").stdout.splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}"):
            return int(fields[-1])
    raise LookupError(f"{host.label}: nobody holds port {port}")


def talk(host: Namespace, port: int, count: int, interval: float, group: str, sender: int, *, size: int = 100) -> None:
    """Send `count` datagrams to a group; returns when all were sent."""
    _finish(_start(host, port, count, 600, interval, size, group, sender), count * max(interval, 0.001))


def talk_for(host: Namespace, port: int, seconds: float, group: str, *, size: int = 100, interval: float = 0) -> None:
    """Send to a group for so long, as fast as they go or every `interval` seconds."""
    _finish(_start(host, port, 1 << 40, seconds, interval, size, group, 0), seconds)


def start_talking(
    host: Namespace, port: int, seconds: float, group: str, *, size: int = 100, interval: float = 0
) -> subprocess.Popen[str]:
    """The same in the background."""
    return _start(host, port, 1 << 40, seconds, interval, size, group, 0)


def _finish(talking: subprocess.Popen[str], seconds: float) -> None:
    if talking.wait(seconds + 30) != 0:
        raise LabError(f"the talker failed: {talking.args}")


def _start(
    host: Namespace, port: int, count: int, seconds: float, interval: float, size: int, group: str, sender: int
) -> subprocess.Popen[str]:
    numbers = (port, count, seconds, interval, size)
    return host.popen(
        sys.executable, "-m", "tests.groupcast", "talk", *map(str, numbers), group, str(sender), cwd=_ROOT
    )


def _join(group: str, port: int, buffer: int = 8 << 20) -> socket.socket:
    address, device = group.split("@")
    v6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.bind((address, port, 0, socket.if_nametoindex(device)) if v6 else (address, port))
    if v6:
        member = socket.inet_pton(socket.AF_INET6, address) + struct.pack("@I", socket.if_nametoindex(device))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    elif 224 <= int(address.split(".")[0]) < 240:
        member = socket.inet_aton(address) + bytes(4) + struct.pack("@i", socket.if_nametoindex(device))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return sock


def _listen(seconds: float, quiet: float, port: int, groups: list[str]) -> None:
    sockets = {_join(group, port): group.split("@")[0] for group in groups}
    heard: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    print("listening", flush=True)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ready = select.select(list(sockets), [], [], min(left, quiet) if heard and quiet else left)[0]
        if not ready and heard and quiet:
            break
        for sock in ready:
            sender, number = _HEAD.unpack_from(sock.recv(65535))
            heard[sockets[sock]][sender].append(number)
    report = {
        group: {str(sender): [len(numbers), len(set(numbers))] for sender, numbers in by_sender.items()}
        for group, by_sender in heard.items()
    }
    print(json.dumps(report), flush=True)


def _talk(port: int, count: int, seconds: float, interval: float, size: int, group: str, sender: int) -> None:
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
    tail, end = rest[: size - _HEAD.size], time.monotonic() + seconds
    for number in range(count):
        with contextlib.suppress(BlockingIOError):
            sock.sendto(_HEAD.pack(sender, number & 0xFFFF_FFFF) + tail, to)
        if interval:
            time.sleep(interval)
        if (interval or number % 64 == 0) and time.monotonic() >= end:
            return


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "listen":
        _listen(float(arguments[0]), float(arguments[1]), int(arguments[2]), arguments[3:])
    elif what == "hold":
        sockets = [_join(group, int(arguments[1]), buffer=1) for group in arguments[2:]]
        time.sleep(float(arguments[0]))
        del sockets
    else:
        port, count, seconds, interval, size, group, sender = arguments
        _talk(int(port), int(count), float(seconds), float(interval), int(size), group, int(sender))


if __name__ == "__main__":
    main()
