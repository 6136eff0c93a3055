"""What a service manager hears."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ztpipe.runtime.notify import Notifier, from_environment


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def test_states(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()}, 1)
    notifier.ready("node 0123456789")
    notifier.alive()
    notifier.stopping()
    heard = [manager.recv(200) for _ in range(3)]
    assert heard == [b"READY=1\nSTATUS=node 0123456789", b"WATCHDOG=1", b"STOPPING=1\nSTATUS=stopping"]


def test_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # the kernel chooses an abstract one
        sock.settimeout(5)
        name = sock.getsockname()
        Notifier({"NOTIFY_SOCKET": "@" + name[1:].decode()}, 1).alive()
        assert sock.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nonexistent/socket"}])
def test_nobody_listens(environment: dict[str, str]) -> None:
    Notifier(environment, 1).ready("x")


def test_manager_that_does_not_read_is_not_waited_for(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()}, 1)
    for _ in range(1_000):
        notifier.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({}, None),
    ],
)
def test_watchdog(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/x", **environment}, 77).watchdog == seconds


def test_children_do_not_speak_for_us(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    assert from_environment().watchdog == 0.5
    assert "NOTIFY_SOCKET" not in os.environ
    assert "WATCHDOG_USEC" not in os.environ


def test_reload_and_what_is_to_be_kept(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()}, 1)
    notifier.reloading()
    assert manager.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        notifier.keep("api", [listener.fileno()])
        address = listener.getsockname()
    assert manager.recv(200) == b"FDSTOREREMOVE=1\nFDNAME=api"
    text, descriptors, _, _ = socket.recv_fds(manager, 200, 4)
    assert text == b"FDSTORE=1\nFDNAME=api"
    with socket.socket(fileno=descriptors[0]) as kept:
        assert kept.getsockname() == address
