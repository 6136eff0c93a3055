"""Listening sockets that systemd holds for us over a restart, and hands over at the start (sd_listen_fds)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Final

_FIRST: Final = 3


def listeners() -> list[socket.socket]:
    """Those that were passed to this process, non-blocking; what it starts does not get them."""
    passed = _count(os.environ.get("LISTEN_PID", ""), os.environ.get("LISTEN_FDS", ""))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return list(_usable(range(_FIRST, _FIRST + passed)))


def _count(pid: str, number: str) -> int:
    return int(number) if pid == str(os.getpid()) and number.isdecimal() else 0


def _usable(descriptors: Sequence[int]) -> Iterator[socket.socket]:
    """TCP listeners of one address family each; anything else is closed."""
    for descriptor in descriptors:
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError:  # no socket
            os.close(descriptor)
            continue
        if _is_listener(sock):
            sock.set_inheritable(False)
            sock.setblocking(False)
            yield sock
        else:
            sock.close()


def _is_listener(sock: socket.socket) -> bool:
    """A socket for both families would show addresses in a form that access rules do not expect."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return False
    if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
