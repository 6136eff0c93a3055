"""The container's entry point and health check, run with stand-ins for the programs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
NWID, OTHER = "8056c2e21c000001", "142b028c0f90dc4a"


class Container:
    """A directory with a home and a PATH, in which ``zerotier-one`` only says how it was started."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.programs = directory / "programs"
        self.programs.mkdir()
        self.program("zerotier-one", 'echo "started $*"; env | grep ^ZEROTIER_ || true')
        self.variables: dict[str, str] = {}

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.programs}:/usr/bin:/bin"
        return {"PATH": path, "ZEROTIER_HOME": str(self.home), "ZTPIPE_REQUIRE_TAP": "false", **self.variables}

    def start(self, *arguments: str, script: str = "entrypoint.sh") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", DEPLOY / script, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def joined(self) -> list[str]:
        return sorted(path.name for path in (self.home / "networks.d").iterdir())


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def test_networks_from_arguments_and_environment(container: Container) -> None:
    container.variables["ZEROTIER_JOIN_NETWORKS"] = f" {OTHER.upper()}  {NWID} "
    done = container.start(NWID)
    assert done.returncode == 0, done.stderr
    assert container.joined() == [f"{OTHER}.conf", f"{NWID}.conf"]
    switch = "" if os.geteuid() == 0 else "-U "
    assert f"started {switch}{container.home}\n" in done.stdout


def test_second_start_changes_nothing(container: Container) -> None:
    container.variables["ZEROTIER_API_SECRET"] = "token"
    container.start(NWID)
    configured = container.home / "networks.d" / f"{NWID}.conf"
    configured.write_text("cached")
    (container.home / "zerotier-one.pid").write_text("1")
    assert container.start(NWID).returncode == 0
    assert configured.read_text() == "cached"
    assert not (container.home / "zerotier-one.pid").exists(), "a process of the former container"


def test_secrets_are_files_without_a_newline(container: Container, tmp_path: Path) -> None:
    (tmp_path / "mounted").write_text("0123456789:0:secret\n")
    container.variables |= {
        "ZEROTIER_API_SECRET": "api token\n".replace(" ", ""),
        "ZEROTIER_IDENTITY_PUBLIC": " 0123456789:0:public ",
        "ZEROTIER_IDENTITY_SECRET_FILE": str(tmp_path / "mounted"),
    }
    done = container.start()
    assert done.returncode == 0, done.stderr
    written = {name: container.home / name for name in ("authtoken.secret", "identity.public", "identity.secret")}
    assert written["authtoken.secret"].read_bytes() == b"apitoken"
    assert written["identity.public"].read_bytes() == b"0123456789:0:public"
    assert written["identity.secret"].read_bytes() == b"0123456789:0:secret"
    modes = {name: path.stat().st_mode & 0o777 for name, path in written.items()}
    assert modes == {"authtoken.secret": 0o600, "identity.public": 0o644, "identity.secret": 0o600}
    assert "apitoken" not in done.stdout, "the node's environment and the log hold no secret"


def test_empty_variable_counts_as_unset(container: Container) -> None:
    container.variables |= {"ZEROTIER_API_SECRET": "", "ZEROTIER_IDENTITY_SECRET_FILE": ""}
    assert container.start().returncode == 0
    assert not (container.home / "authtoken.secret").exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ZEROTIER_API_SECRET_FILE": "/nonexistent"}, "ZEROTIER_API_SECRET_FILE: /nonexistent cannot be read"),
        ({"ZEROTIER_API_SECRET": "a", "ZEROTIER_API_SECRET_FILE": "b"}, "are both set"),
        ({"ZEROTIER_HOME": "/proc/nonexistent"}, "/proc/nonexistent cannot be written"),
    ],
)
def test_what_is_wrong_is_one_line(container: Container, variables: dict[str, str], said: str) -> None:
    container.variables |= variables
    done = container.start()
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "started" not in done.stdout


def test_missing_device_is_named(container: Container, tmp_path: Path) -> None:
    del container.variables
    container.variables = {"ZTPIPE_REQUIRE_TAP": "true"}
    script = (DEPLOY / "entrypoint.sh").read_text().replace("/dev/net/tun", str(tmp_path / "tun"))
    done = subprocess.run(
        ["sh", "-c", script], env=container.environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert "--device" in done.stderr
    assert "--cap-add NET_ADMIN" in done.stderr


@pytest.mark.parametrize("word", ["8056c2e21c00000", "8056c2e21c0000011", "8056c2e21c00000g", "../../../../etc/a", "*"])
def test_word_that_is_no_network_is_not_joined(container: Container, word: str) -> None:
    done = container.start(word, NWID)
    assert f'"{word}" is not a network ID' in done.stderr
    assert container.joined() == [f"{NWID}.conf"]


def test_node_is_the_process_that_gets_the_signals(container: Container) -> None:
    container.program("zerotier-one", 'trap "echo saved; exit 0" TERM; echo up; while :; do sleep 0.05; done')
    with subprocess.Popen(
        ["sh", DEPLOY / "entrypoint.sh"], env=container.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "up\n":
            pass
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10)[0] == "saved\n"
        assert process.returncode == 0


def test_health_is_that_of_every_network(container: Container) -> None:
    assert container.start(script="healthcheck.sh").returncode == 1, "not started yet"
    container.start(NWID, OTHER)
    container.program(
        "zerotier-cli",
        f'case "$*" in *info) echo 200 info;; *"get {NWID} status") echo OK;; *) cat {container.home}/answer;; esac',
    )
    for answer, status in (("OK\n", 0), ("ACCESS_DENIED\n", 1), ("OK\n", 0)):
        (container.home / "answer").write_text(answer)
        assert container.start(script="healthcheck.sh").returncode == status
    container.program("zerotier-cli", "exit 1")
    assert container.start(script="healthcheck.sh").returncode == 1
