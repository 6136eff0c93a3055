"""Containers for tests, by podman and runc: what works without an engine, with cgroups of either kind."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HOME = "/var/lib/zerotier-one"
_PROGRAMS = ("buildah", "podman", "runc", "debootstrap")
_MISSING = [program for program in _PROGRAMS if shutil.which(program) is None]

NEEDED = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(_MISSING), reason=f"NOT TESTED: containers; apt-get install {' '.join(_MISSING)}"),
]
"""Marks of every module that runs containers."""

TUN = ("--cap-add", "NET_ADMIN", "--device", "/dev/net/tun")
BUILD_OPTIONS = ("--isolation=chroot", "--network=host", "--ulimit=nofile=1024:1024", "--pull=never", "--layers")
"""Of buildah bud."""


def podman(*words: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0 or not check, f"podman {' '.join(words)}: {done.stderr}"
    return done


class Container:
    """One container, detached; gone at the end of the test."""

    def __init__(self, image: str, options: Sequence[str], arguments: Sequence[str]) -> None:
        self.name = f"ztpipe-test-{secrets.token_hex(4)}"
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]
        network = [] if "--network" in options else ["--network", "none"]
        podman("run", "-d", "--name", self.name, *limits, *network, *options, image, *arguments)

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        return podman("exec", self.name, *words, check=False)

    def cli(self, *words: str) -> str:
        return self.exec("zerotier-cli", *words).stdout

    def up(self) -> str:
        """Wait until the node answers; its address."""
        answer = eventually(lambda: (text := self.cli("info")).startswith("200 info") and text, self.logs)
        return str(answer).split()[2]

    def read(self, name: str) -> str:
        return self.exec("cat", f"{HOME}/{name}").stdout

    def logs(self) -> str:
        done = podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def ended(self) -> int:
        """Wait for the end; the exit status."""
        return int(podman("wait", self.name).stdout)

    def stop(self) -> int:
        """As `docker stop` does; the exit status of process 1."""
        podman("stop", "-t", "10", self.name)
        return int(podman("inspect", self.name, "-f", "{{.State.ExitCode}}").stdout)

    def remove(self) -> None:
        podman("rm", "--force", "-t", "0", self.name, check=False)


def eventually(probe: Callable[[], Any], explain: Callable[[], str] = str, seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found, explain()
    return found
