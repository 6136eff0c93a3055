"""Network namespaces, veth cables and bridges, with unique names and certain removal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class LabError(RuntimeError):
    """The laboratory could not be built (not root, no iproute2, ...)."""


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=20)
    if check and done.returncode != 0:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done


class Namespace:
    """One host of the laboratory."""

    def __init__(self, name: str, label: str) -> None:
        self.name = name  # as the kernel knows it
        self.label = label  # as people do
        self.processes: list[subprocess.Popen[Any]] = []

    def command(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, timeout: float = 30, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end inside; LabError with its stderr if it fails and `check`."""
        done = subprocess.run(self.command(argv), capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise LabError(
                f"{self.label}: {' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}"
            )
        return done

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start inside; ended with the laboratory."""
        process = subprocess.Popen(self.command(argv), start_new_session=True, **options)
        self.processes.append(process)
        return process

    def open_socket(self, family: int, kind: int) -> socket.socket:
        """A socket that lives inside: made by a short-lived thread which enters the namespace."""
        made: list[socket.socket | OSError] = []

        def enter() -> None:
            try:
                with open(f"/run/netns/{self.name}", "rb") as handle:
                    if _libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(socket.socket(family, kind))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def connect(self, host: str, port: int, timeout: float = 5) -> socket.socket:
        """A TCP connection made inside."""
        sock = self.open_socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def stop_processes(self) -> None:
        """SIGTERM to what we started, SIGKILL to what is left after 3 s."""
        live = [p for p in self.processes if p.poll() is None]
        for process in live:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + 3
        for process in live:
            try:
                process.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2)
        self.processes.clear()


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


class Lab:
    """Use as a context manager: everything made inside is gone afterwards, whatever happened."""

    def __init__(self, prefix: str = "zp") -> None:
        if os.geteuid() != 0:
            raise LabError("network namespaces need root: run it with sudo")
        if shutil.which("ip") is None:
            raise LabError("the command `ip` is missing: install iproute2")
        self.prefix = f"{prefix}{secrets.token_hex(3)}"
        self.namespaces: dict[str, Namespace] = {}
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        self._cables = 0

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for namespace in self.namespaces.values():
            namespace.stop_processes()
        for namespace in self.namespaces.values():
            _ip("netns", "del", namespace.name, check=False)
        self.namespaces.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def namespace(self, label: str) -> Namespace:
        """A new host with its loopback up and nothing else."""
        name = f"{self.prefix}-{label}"
        _ip("netns", "add", name)
        made = self.namespaces[label] = Namespace(name, label)
        made.run("ip", "link", "set", "lo", "up")
        # no router discovery, no duplicate address detection: addresses are usable at once
        made.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0", check=False)
        return made

    def switch(self, label: str) -> Namespace:
        """A host that is an Ethernet switch: a bridge `br0` to plug cables into."""
        made = self.namespace(label)
        made.run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        made.run("ip", "link", "set", "br0", "up")
        return made

    def cable(
        self,
        host: Namespace,
        device: str,
        addresses: Sequence[str],
        other: Namespace,
        *,
        plug: str | None = None,
        other_addresses: Sequence[str] = (),
        mtu: int = 1500,
    ) -> None:
        """A veth pair: `device` with `addresses` in `host`; the other end in `other`, on its br0 or named `plug`."""
        self._cables += 1
        near, far = f"{self.prefix}a{self._cables}", f"{self.prefix}b{self._cables}"
        _ip("link", "add", near, "mtu", str(mtu), "type", "veth", "peer", "name", far, "mtu", str(mtu))
        _ip("link", "set", near, "netns", host.name, "name", device)
        end = plug or f"p{self._cables}"
        _ip("link", "set", far, "netns", other.name, "name", end)
        if plug is None:
            other.run("ip", "link", "set", end, "master", "br0")
        for namespace, name, given in ((host, device, addresses), (other, end, other_addresses)):
            for address in given:
                namespace.run("ip", "addr", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
            namespace.run("ip", "link", "set", name, "up")
