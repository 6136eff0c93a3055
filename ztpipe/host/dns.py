"""Name servers that networks push (allowDNS): applied the way this host keeps its own, and taken back.

systemd-resolved asks a network's servers only about that network's domain. resolvconf and the plain file know no such
difference: there the servers stand before all others, and the domain is added to the search list.

What is put down is recognisable as ours (by the device's name), so that what a killed process left is taken away by the
next start, and nothing else ever is. Setting the same again repairs what somebody removed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias

from ztpipe.log import get_logger
from ztpipe.wire.netconf import Dns

__all__ = ["FileResolver", "HostDns", "Resolvconf", "Resolver", "SystemdResolved", "choose_resolver"]

log = get_logger("network")

_TIMEOUT: Final = 5.0
_RESOLVED_SOCKET: Final = Path("/run/systemd/resolve/io.systemd.Resolve")
#: Runs a command with text for its standard input; raises OSError or subprocess.SubprocessError.
Run: TypeAlias = Callable[[Sequence[str], str], None]


class Resolver(Protocol):
    """One way to tell a host about name servers. Every method may raise OSError or subprocess.SubprocessError."""

    def set(self, device: str, dns: Dns) -> None:
        """Use these servers for what is behind `device`; the same again changes nothing."""

    def clear(self, device: str) -> None:
        """Take back what was set for `device`, if anything was."""

    def clear_leftovers(self) -> None:
        """Take back what was set for devices that exist no more."""


def _run(argv: Sequence[str], text: str = "") -> None:
    subprocess.run(argv, input=text, text=True, capture_output=True, timeout=_TIMEOUT, check=True)


def _servers(dns: Dns) -> list[str]:
    return [str(ipaddress.ip_address(server.ip)) for server in dns.servers]


class SystemdResolved:
    """Settings of a link, which go with the link."""

    def __init__(self, run: Run = _run) -> None:
        self._run = run

    def set(self, device: str, dns: Dns) -> None:
        self._run(["resolvectl", "dns", device, *_servers(dns)], "")
        self._run(["resolvectl", "domain", device, dns.domain], "")
        self._run(["resolvectl", "default-route", device, "no"], "")

    def clear(self, device: str) -> None:
        self._run(["resolvectl", "revert", device], "")

    def clear_leftovers(self) -> None:
        """There are none."""


class Resolvconf:
    """Debian's resolvconf, or openresolv: a record per device and program."""

    def __init__(
        self,
        run: Run = _run,
        *,
        records: Sequence[Path] = (Path("/run/resolvconf/interface"), Path("/run/resolvconf/interfaces")),
        devices: Path = Path("/sys/class/net"),
    ) -> None:
        self._run, self._records, self._devices = run, records, devices

    def set(self, device: str, dns: Dns) -> None:
        text = "".join(f"nameserver {server}\n" for server in _servers(dns)) + f"search {dns.domain}\n"
        self._run(["resolvconf", "-a", f"{device}.ztpipe"], text)

    def clear(self, device: str) -> None:
        self._run(["resolvconf", "-d", f"{device}.ztpipe"], "")

    def clear_leftovers(self) -> None:
        for directory in self._records:
            for record in directory.glob("*.ztpipe") if directory.is_dir() else ():
                device = record.name.removesuffix(".ztpipe")
                if not (self._devices / device).exists():
                    self.clear(device)


_BLOCK: Final = re.compile(
    r"^# ztpipe (?P<device>\S+) begin\n(?P<text>.*?)^# ztpipe (?P=device) end\n", re.MULTILINE | re.DOTALL
)
_SEARCH: Final = re.compile(r"^(?:search|domain)[ \t]+(.*)$", re.MULTILINE)


class _Entry(NamedTuple):
    """What one device brought."""

    servers: str
    domain: str


class FileResolver:
    """/etc/resolv.conf itself: marked blocks with servers before everything, and with the search list behind it."""

    def __init__(self, path: Path = Path("/etc/resolv.conf"), *, devices: Path = Path("/sys/class/net")) -> None:
        self._path, self._devices = path, devices

    def set(self, device: str, dns: Dns) -> None:
        entries, rest = self._read()
        entries.pop(device, None)
        servers = "".join(f"nameserver {server}\n" for server in _servers(dns))
        self._write(_compose({device: _Entry(servers, dns.domain), **entries}, rest))

    def clear(self, device: str) -> None:
        self._keep(lambda name: name != device)

    def clear_leftovers(self) -> None:
        self._keep(lambda name: (self._devices / name).exists())

    def _keep(self, wanted: Callable[[str], bool]) -> None:
        entries, rest = self._read()
        self._write(_compose({name: entry for name, entry in entries.items() if wanted(name)}, rest))

    def _read(self) -> tuple[dict[str, _Entry], str]:
        """What is ours, and everything else."""
        try:
            text = self._path.read_text(errors="surrogateescape")
        except FileNotFoundError:
            return {}, ""
        entries: dict[str, _Entry] = {}
        for match in _BLOCK.finditer(text):
            held = entries.get(match["device"], _Entry("", ""))
            search = _SEARCH.findall(match["text"])
            if search:
                entries[match["device"]] = held._replace(domain=(search[-1].split() or [""])[0])
            else:
                entries[match["device"]] = held._replace(servers=match["text"])
        return entries, _BLOCK.sub("", text)

    def _write(self, text: str) -> None:
        """Replace the file in one step; a file that is mounted there (a container's) is written where it is."""
        path = self._path.resolve()
        data = text.encode(errors="surrogateescape")
        try:
            if path.read_bytes() == data:
                return
            mode = path.stat().st_mode & 0o777
        except FileNotFoundError:
            mode = 0o644
            if not data:
                return
        temporary = path.with_name(f".{path.name}.ztpipe")
        try:
            temporary.write_bytes(data)
            temporary.chmod(mode)
            temporary.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            path.write_bytes(data)


def _compose(entries: Mapping[str, _Entry], rest: str) -> str:
    """The C library asks servers in order, and heeds only the last search list, so that has to name all domains."""
    if not entries:
        return rest
    own_search = _SEARCH.findall(rest)
    domains = [*(entry.domain for entry in entries.values()), *(own_search[-1].split() if own_search else ())]
    before = "".join(_block(device, entry.servers) for device, entry in entries.items())
    after = "".join(
        _block(device, f"search {' '.join(dict.fromkeys([entry.domain, *domains]))}\n")
        for device, entry in entries.items()
    )
    return before + rest + ("" if rest.endswith("\n") or not rest else "\n") + after


def _block(device: str, text: str) -> str:
    return f"# ztpipe {device} begin\n{text}# ztpipe {device} end\n"


def choose_resolver() -> Resolver:
    """What keeps this host's name servers."""
    if _RESOLVED_SOCKET.exists() and shutil.which("resolvectl"):
        return SystemdResolved()
    if (program := shutil.which("resolvconf")) and os.path.basename(os.path.realpath(program)) != "resolvectl":
        return Resolvconf()
    return FileResolver()


class HostDns:
    """Which devices have name servers of ours now. Failures are logged once per device and tried again."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._set: dict[str, Dns] = {}
        self._failed: dict[str, str] = {}
        self._lock = threading.RLock()  # threads apply, because programs are slow; the loop removes

    @property
    def in_a_file(self) -> bool:
        """Whether there are servers of ours, and `reassert` only reads a file unless there is something to repair."""
        return bool(self._set) and isinstance(self._resolver, FileResolver)

    def start(self) -> None:
        """Before the first device: take back what a killed process left."""
        self._try("leftovers", self._resolver.clear_leftovers)

    def apply(self, device: str, dns: Dns) -> None:
        """Let `device` have exactly these servers; without servers or domain, none. Blocks for as long as it takes."""
        with self._lock:
            if dns.servers and _is_domain(dns.domain):
                self._set[device] = dns
                self._try(device, lambda: self._resolver.set(device, dns))
            else:
                self.remove(device)

    def remove(self, device: str) -> None:
        """The device goes, or has no servers any more."""
        with self._lock:
            if self._set.pop(device, None) is not None:
                self._try(device, lambda: self._resolver.clear(device))

    def reassert(self) -> None:
        """Repair what somebody removed."""
        with self._lock:
            for device, dns in self._set.items():
                self._try(device, lambda device=device, dns=dns: self._resolver.set(device, dns))  # type: ignore[misc]

    def _try(self, device: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, subprocess.SubprocessError) as error:
            reason = str(error)
            if self._failed.get(device) != reason:
                log.warning("cannot set name servers", device=device, error=reason, **_hint(error))
            self._failed[device] = reason
        else:
            self._failed.pop(device, None)


def _hint(error: Exception) -> dict[str, str]:
    """What somebody who is not root may do about it."""
    if os.geteuid() == 0 or not isinstance(error, PermissionError | subprocess.CalledProcessError):
        return {}
    return {"hint": "the node's user may not change name servers: see docs/deployment.md, or set ztpipe.user to root"}


def _is_domain(text: str) -> bool:
    """A controller's domain goes into files and arguments: nothing but a plain name."""
    return re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?", text) is not None
