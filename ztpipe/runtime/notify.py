"""What systemd is told (sd_notify): ready, stopping, still alive, what to keep. Nothing where nobody listens."""

from __future__ import annotations

import array
import os
import socket
import time
from collections.abc import Mapping, Sequence


class Notifier:
    """The socket that the variable NOTIFY_SOCKET names. Sending never blocks and never raises."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog = _watchdog(environment, pid) if name else None
        """Seconds between signs of life that systemd should get; None if it wants none."""

    def ready(self, status: str) -> None:
        """The start is complete."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def reloading(self) -> None:
        """The configuration is read again; `ready` must follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def keep(self, name: str, descriptors: Sequence[int]) -> None:
        """systemd is to hold these, in place of those it held by that `name`, until the service is stopped."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")
        self._send(f"FDSTORE=1\nFDNAME={name}", descriptors)

    def _send(self, text: str, descriptors: Sequence[int] = ()) -> None:
        if not self._address:
            return
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendmsg([text.encode()], passed, 0, self._address)
            except OSError:  # systemd is restarting, or the path is not there in our mount namespace
                return


def _watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    """Half the time that WATCHDOG_USEC allows, if it is meant for us."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid) or not microseconds.isdigit() or not int(microseconds):
        return None
    return int(microseconds) / 2_000_000


def from_environment() -> Notifier:
    """For this process; what it starts is not to speak for it, so the variables go."""
    notifier = Notifier(os.environ, os.getpid())
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)
    return notifier
