"""What this host offers to a node and what stands in its way: one function per question, one `Finding` per answer.

Nothing is changed. A question that cannot be answered here (not root, no such file) is a finding as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from ztpipe.host.capabilities import has_net_admin
from ztpipe.host.dns import FileResolver, Resolvconf, SystemdResolved, choose_resolver
from ztpipe.host.probe import probe

_TUN: Final = Path("/dev/net/tun")
_PROC: Final = Path("/proc")
_NET: Final = Path("/sys/class/net")
_SMALL_MTU: Final = 1280
_BUFFER: Final = 4 << 20  # bytes; what a socket should be able to hold while a worker is off the processor
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_SANE_YEAR: Final = 2024


class Verdict(Enum):
    """GOOD; NOTE: works, but maybe not as wanted; BAD: something will not work."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "bad"


class Finding(NamedTuple):
    """`what` was looked at, what was `found`, and what to do about it (empty if nothing)."""

    what: str
    verdict: Verdict
    found: str
    advice: str = ""


def tun() -> Finding:
    """Whether TAP devices can be made: the device, and that it can be opened."""
    if not _TUN.exists():
        advice = "load the tun module (modprobe tun), or pass the device into the container: --device /dev/net/tun"
        return Finding("TAP device", Verdict.BAD, f"{_TUN} is missing", advice)
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding("TAP device", Verdict.BAD, f"{_TUN}: {error.strerror}", "run as root, or open it to this user")
    return Finding("TAP device", Verdict.GOOD, str(_TUN))


def capabilities() -> Finding:
    if has_net_admin():
        return Finding("capabilities", Verdict.GOOD, "CAP_NET_ADMIN")
    advice = "run as root, or grant it (container: --cap-add NET_ADMIN; systemd: AmbientCapabilities=CAP_NET_ADMIN)"
    return Finding("capabilities", Verdict.BAD, "no CAP_NET_ADMIN: no TAP device, address or route can be made", advice)


def offloads() -> Finding:
    """Which of the kernel's offloads there are; those of TAPs only with the right to make one."""
    found = probe()
    names = {"tso": "TSO on TAPs", "uso": "USO on TAPs", "gso": "UDP_SEGMENT", "gro": "UDP_GRO"}
    missing = [text for name, text in names.items() if not getattr(found, name)]
    if not missing:
        return Finding("offloads", Verdict.GOOD, ", ".join(names.values()))
    advice = f"slower, but it works; Linux 6.2 has all of them, this is {platform.release()}"
    return Finding("offloads", Verdict.NOTE, "missing: " + ", ".join(missing), advice)


def clock() -> Finding:
    """Certificates are dated: members whose clocks differ too much refuse each other (vl2 §3.1)."""
    year = time.gmtime().tm_year
    if year < _SANE_YEAR:
        return Finding("clock", Verdict.BAD, f"it is {year} here", "set the clock; certificates are dated")
    buffer = (ctypes.c_byte * 512)()  # struct timex, modes 0: only read
    state = ctypes.CDLL(None).adjtimex(buffer)
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if state == _TIME_ERROR:
        return Finding("clock", Verdict.NOTE, f"{text}, not synchronised", "run chrony or systemd-timesyncd")
    return Finding("clock", Verdict.GOOD, f"{text}, synchronised")


def underlay() -> Iterator[Finding]:
    """Interfaces that may carry the underlay, and their MTU."""
    usable = []
    for device in sorted(_NET.glob("*")):
        if device.name == "lo" or device.name.startswith(("zt", "tap", "tun")) or _word(device / "operstate") == "down":
            continue
        mtu = int(_word(device / "mtu") or 0)
        usable.append(f"{device.name} ({mtu})")
        if mtu < _SMALL_MTU:
            advice = "full packets are fragmented by IP there; raise it to 1280 or more"
            yield Finding("underlay MTU", Verdict.NOTE, f"{device.name} has {mtu}", advice)
    if usable:
        yield Finding("underlay", Verdict.GOOD, "interface (MTU): " + ", ".join(usable))
    else:
        yield Finding("underlay", Verdict.BAD, "no interface is up", "bring one up, or run with the host's network")


def forwarding() -> Iterator[Finding]:
    """What a gateway needs of the host; a mere member needs none of it."""
    settings = {"IPv4": "net/ipv4/ip_forward", "IPv6": "net/ipv6/conf/all/forwarding"}
    off = {family: name for family, name in settings.items() if _word(_PROC / "sys" / name) == "0"}
    if off:
        names = " ".join(name.replace("/", ".") + "=1" for name in off.values())
        found = f"off for {' and '.join(off)}"
        yield Finding("forwarding", Verdict.NOTE, found, f"fine for a member; a gateway needs: sysctl -w {names}")
    else:
        yield Finding("forwarding", Verdict.GOOD, "on for IPv4 and IPv6")
    if _word(_PROC / "sys/net/ipv4/conf/all/rp_filter") == "1":
        advice = "drops what comes another way than it would leave; sysctl -w net.ipv4.conf.all.rp_filter=2"
        yield Finding("reverse path filter", Verdict.NOTE, "strict", advice)


def buffers() -> Finding:
    """Whether sockets may have room for a burst: with CAP_NET_ADMIN they take it, else the limits count."""
    limits = [int(_word(_PROC / "sys/net/core" / name) or 0) for name in ("rmem_max", "wmem_max")]
    if has_net_admin() or min(limits) >= _BUFFER:
        return Finding("socket buffers", Verdict.GOOD, f"{_BUFFER >> 20} MB and more")
    advice = f"sysctl -w net.core.rmem_max={2 * _BUFFER} net.core.wmem_max={2 * _BUFFER}"
    return Finding("socket buffers", Verdict.NOTE, f"at most {min(limits) >> 10} KB: bursts are lost", advice)


def name_servers() -> Finding:
    """What would be told of a network's name servers, where allowDNS is set."""
    resolver = choose_resolver()
    names = {
        SystemdResolved: "systemd-resolved, per network domain",
        Resolvconf: "resolvconf, for all names",
        FileResolver: "/etc/resolv.conf itself, for all names",
    }
    found = names[type(resolver)]
    if isinstance(resolver, FileResolver) and not os.access("/etc/resolv.conf", os.W_OK):
        return Finding("DNS", Verdict.NOTE, f"{found}, not writable", "allowDNS will have no effect")
    return Finding("DNS", Verdict.GOOD, found)


def daemons(own: int | None = None) -> Finding:
    """Other ZeroTier nodes in this network namespace; `own` is the process that is expected."""
    here = _link(_PROC / "self/ns/net")
    found = []
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")[:4]
            names = {os.path.basename(word) for word in words}
            is_node = b"zerotier-one" in names or (b"ztpipe" in names and b"run" in names)
            if is_node and int(process.name) not in (own, os.getpid()) and _link(process / "ns/net") == here:
                found.append(process.name)
    if not found:
        return Finding("other nodes", Verdict.GOOD, "none in this network namespace")
    advice = "two nodes need different ports and home directories; stop the one that is not wanted"
    return Finding("other nodes", Verdict.NOTE, f"running as process {', '.join(sorted(found, key=int))}", advice)


#: What is asked of any host, in this order.
QUESTIONS: Final[tuple[Callable[[], Finding | Iterator[Finding]], ...]] = (
    tun,
    capabilities,
    offloads,
    clock,
    underlay,
    buffers,
    forwarding,
    name_servers,
)


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
