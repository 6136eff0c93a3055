"""``ztpipe tcp-relay``: it starts, stops, and says in one line why it cannot."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

COMMAND = (sys.executable, "-m", "ztpipe", "tcp-relay", "--listen")


@pytest.mark.parametrize("listen", ["127.0.0.1", "nowhere/443", "::1/443", "127.0.0.1/0", "127.0.0.1/99999"])
def test_an_address_that_is_none(listen: str) -> None:
    done = subprocess.run([*COMMAND, listen], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "--listen expects" in done.stderr


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1/{taken.getsockname()[1]}"
        done = subprocess.run([*COMMAND, listen], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on {listen}" in done.stderr


def test_it_stops_when_told_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        listen = f"127.0.0.1/{probe.getsockname()[1]}"
    with subprocess.Popen([*COMMAND, listen], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        assert "TCP relay up" in running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
