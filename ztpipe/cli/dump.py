"""``zerotier-cli dump``: one text file for a support request (service §2.10)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ztpipe.cli.version import REFERENCE_VERSION

if TYPE_CHECKING:
    from ztpipe.cli.zerotier_cli import Session

_SIOCGIFADDR = 0x8915


def run(session: Session, home: str) -> int:
    """Ask for everything, then write ``zerotier_dump.txt`` into the current directory."""
    bodies: list[str] = []
    for path in ("/status", "/network", "/peer"):
        reply = session.client.request("GET", path)
        if reply.status != 200:
            session.print_unreachable(reply.body)
            return 1
        bodies.append(reply.body)
    target = Path.cwd() / "zerotier_dump.txt"
    text = "".join(_sections(bodies, home))
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o664)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError:
        print("Error creating file.", file=sys.stderr)
        return 1
    print(f"Writing dump to: {target}")
    return 0


def _sections(bodies: list[str], home: str) -> Iterator[str]:
    yield f"platform: Linux\nzerotier version: {REFERENCE_VERSION}\n"
    try:
        local_conf = (Path(home) / "local.conf").read_text("utf-8", "replace")
    except OSError:
        local_conf = "None Present"
    for title, body in zip(("status", "networks", "peers", "local.conf"), (*bodies, local_conf), strict=True):
        yield f"\n{title}\n{'-' * len(title)}\n{body}\n"
    yield "\nNetwork Interfaces\n------------------\n"
    for index, name in enumerate(_interfaces()):
        yield "\n" + _interface(index, name)


def _interfaces() -> list[str]:
    """Interfaces with an IPv4 address, without loopback."""
    return [name for _, name in socket.if_nameindex() if name != "lo" and _ipv4(name)]


def _interface(index: int, name: str) -> str:
    title = f"Interface {index}"
    addresses = "\n".join([*_ipv4(name), *_ipv6(name)])
    return (
        f"{title}\n{'-' * len(title)}\nName: {name}\nMTU: {_sysfs(name, 'mtu')}\nMAC: {_sysfs(name, 'address')}\n"
        f"Addresses: \n{addresses}\n"
    )


def _sysfs(name: str, attribute: str) -> str:
    with contextlib.suppress(OSError):
        return (Path("/sys/class/net") / name / attribute).read_text().strip()
    return ""


def _ipv4(name: str) -> list[str]:
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)
        return [socket.inet_ntop(socket.AF_INET, answer[20:24])]
    return []


def _ipv6(name: str) -> list[str]:
    """From /proc/net/if_inet6: address, index, prefix length, scope, flags, name."""
    with contextlib.suppress(OSError):
        rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
        return [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0])) for row in rows if row[-1] == name]
    return []
