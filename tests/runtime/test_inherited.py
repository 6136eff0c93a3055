"""Listeners that a service manager held over a restart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from ztpipe.api import http
from ztpipe.host.sockets import port_is_free
from ztpipe.runtime import inherited

#: Starts the command behind its first argument, which is the number of descriptors, as systemd does: at 3 and up.
_START = """
import os, sys
number = int(sys.argv[1])
passed = [int(word) for word in sys.argv[2].split(",")]
spare = [os.dup2(fd, max(100, *passed) + 1 + at) for at, fd in enumerate(passed)]
for at, fd in enumerate(spare):
    os.dup2(fd, 3 + at, inheritable=True)
os.environ.update(LISTEN_FDS=str(number), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="api:api")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[3]])
"""
_SAY = """
import os
from ztpipe.runtime import inherited
found = inherited.listeners()
print([sock.getsockname()[1] for sock in found], [sock.get_inheritable() for sock in found], "LISTEN_FDS" in os.environ)
"""


def listener(family: socket.AddressFamily = socket.AF_INET, *, both: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", 0))
    sock.listen()
    return sock


def started_with(*sockets: socket.socket) -> str:
    descriptors = [sock.fileno() for sock in sockets]
    words = [sys.executable, "-c", _START, str(len(sockets)), ",".join(map(str, descriptors)), _SAY]
    return subprocess.run(words, pass_fds=descriptors, capture_output=True, text=True, check=True).stdout.strip()


def test_what_systemd_passes_is_taken_and_the_variables_are_gone() -> None:
    with listener() as first, listener(socket.AF_INET6) as second:
        ports = [sock.getsockname()[1] for sock in (first, second)]
        assert started_with(first, second) == f"{ports} [False, False] False"


def test_what_is_no_listener_of_one_family_is_not_taken() -> None:
    with (
        socket.socket() as idle,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        listener(socket.AF_INET6, both=True) as both,
        listener() as good,
    ):
        assert started_with(idle, datagrams, both, good) == f"[{good.getsockname()[1]}] [False] False"


def test_what_is_meant_for_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for pid, number in ((str(os.getpid() + 1), "1"), (str(os.getpid()), "x"), ("", "")):
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", number)
        assert inherited.listeners() == []
        assert "LISTEN_FDS" not in os.environ


def test_the_api_listens_on_what_it_inherits_and_closes_the_rest() -> None:
    with listener() as held, listener() as other:
        port = held.getsockname()[1]
        sockets = http.bind(port, [held, other])
        try:
            assert sockets[0] is held
            assert {sock.getsockname()[1] for sock in sockets} == {port}
            assert other.fileno() == -1
            again = http.bind(port, sockets)
            assert {id(sock) for sock in again} == {id(sock) for sock in sockets}, "all of them, at the next start"
        finally:
            for sock in sockets[1:]:
                sock.close()


def test_programs_of_the_host_have_a_listener_of_their_own() -> None:
    sockets = http.bind(0)
    try:
        port = sockets[0].getsockname()[1]
        assert ("127.0.0.1", port) in {sock.getsockname()[:2] for sock in sockets}
        with socket.create_connection(("127.0.0.1", port)):
            taken = next(sock for sock in sockets if sock.getsockname()[0] == "127.0.0.1").accept()[0]
            taken.close()
        assert port_is_free(port) != 0, "and nobody else gets in between"
        with socket.socket() as intruder:
            intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                intruder.bind(("127.0.0.1", port))
    finally:
        for sock in sockets:
            sock.close()


def test_port_that_we_listen_on_is_free() -> None:
    with listener() as held:
        port = held.getsockname()[1]
        assert port_is_free(port) != 0
        assert port_is_free(port, listening=True) == 0
