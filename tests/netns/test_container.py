"""The entry point of the container with the real programs, and the node as the systemd unit starts it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ztpipe.lab import Lab, Namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

DEPLOY = Path(__file__).parents[2] / "deploy"
NWID = "8056c2e21c000001"
_REVEAL = str(Path(__file__).with_name("reveal.py"))
_PROGRAMS = {"zerotier-one": "one", "zerotier-cli": "zerotier_cli"}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Lab("zpc") as lab:
        yield lab.namespace("c")


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """A PATH with what pip installs."""
    for name, module in _PROGRAMS.items():
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\nimport sys\nfrom ztpipe.cli.{module} import main\nsys.exit(main())\n")
        path.chmod(0o755)
    return f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"


def eventually(probe: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found, "not in time"
    return found


def cli(namespace: Namespace, home: Path, *words: str) -> str:
    process = namespace.popen(
        sys.executable, "-m", "ztpipe.cli.zerotier_cli", f"-D{home}", *words, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return str(process.communicate(timeout=20)[0])


def test_container_twice_on_the_same_volume(namespace: Namespace, programs: str, tmp_path: Path) -> None:
    home = tmp_path / "volume"
    environment = {"PATH": programs, "ZEROTIER_HOME": str(home), "ZEROTIER_API_SECRET": "sesame\n"}
    addresses: set[str] = set()
    for _ in range(2):
        with open(tmp_path / "log", "ab") as log:
            process = namespace.popen("sh", DEPLOY / "entrypoint.sh", NWID, env=environment, stdout=log, stderr=log)
        info = eventually(lambda: cli(namespace, home, "info").startswith("200 info") and cli(namespace, home, "info"))
        addresses.add(info.split()[2])
        assert cli(namespace, home, "get", NWID, "status") == "REQUESTING_CONFIGURATION\n"
        assert (home / "authtoken.secret").read_text() == "sesame"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not (home / "zerotier-one.pid").exists(), "it stopped in order"
    assert len(addresses) == 1


_UNPRIVILEGED = """
import ctypes, os, sys
CAPS = (12, 13, 10)  # NET_ADMIN, NET_RAW, NET_BIND_SERVICE
libc = ctypes.CDLL(None, use_errno=True)
def prctl(*arguments):
    if libc.prctl(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl{arguments}")
prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
for cap in range(41):
    if cap not in CAPS:
        prctl(24, cap, 0, 0, 0)  # PR_CAPBSET_DROP
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
mask = sum(1 << cap for cap in CAPS)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
if libc.capset(header, data) != 0:
    raise OSError(ctypes.get_errno(), "capset")
for cap in CAPS:
    prctl(47, 2, cap, 0, 0)  # PR_CAP_AMBIENT_RAISE
prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_as_the_unit_starts_it(namespace: Namespace) -> None:
    """User and capabilities of the systemd unit: the node works, tells systemd, and owns no more than that."""
    import socket

    user = pwd.getpwnam("nobody").pw_uid
    directory = Path(tempfile.mkdtemp(prefix="zpc"))
    os.chmod(directory, 0o755)
    home = directory / "home"
    home.mkdir(mode=0o755)
    os.chown(home, user, user)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(20)
    manager.bind(str(directory / "notify"))
    os.chmod(directory / "notify", 0o777)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": str(directory / "notify"),
        "WATCHDOG_USEC": "1000000", "PYTHONPATH": str(DEPLOY.parent),
    }  # fmt: skip
    try:
        with open(directory / "log", "ab") as log:
            process = namespace.popen(
                sys.executable, _REVEAL, sys.executable, "-c", _UNPRIVILEGED, str(user),
                sys.executable, "-m", "ztpipe.cli.one", "-U", str(home), env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        heard = [manager.recv(200)]
        while not heard[-1].startswith(b"READY=1"):
            heard.append(manager.recv(200))
        assert manager.recv(200) == b"WATCHDOG=1"
        assert "200 join OK" in cli(namespace, home, "join", NWID)
        device = eventually(lambda: cli(namespace, home, "get", NWID, "portDeviceName").strip())
        assert device in namespace.run("ip", "-br", "link").stdout
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{user}\t{user}\t{user}\t{user}\n" in status
        assert "CapEff:\t0000000000003400\n" in status
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert device not in namespace.run("ip", "-br", "link").stdout
    except Exception:
        print((directory / "log").read_text())
        raise
    finally:
        manager.close()
        shutil.rmtree(directory)
