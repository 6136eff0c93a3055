"""Starts that must fail and commands that must be refused: one clear line, the right exit status, nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ztpipe.lab import Gateway, Lab
from ztpipe.lab.nodes import private_planet
from ztpipe.wire.identity import Identity

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

RUN = [sys.executable, "-m", "ztpipe", "run"]
CLI = [sys.executable, "-m", "ztpipe.cli.zerotier_cli"]


def _start(home: Path, *before: str, network: str | None = None) -> tuple[int, list[str]]:
    """Exit status and lines of stderr of a start that must not succeed."""
    command = [*before, *RUN, "-p", "9993", str(home)]
    if network:
        command = ["ip", "netns", "exec", network, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if line]


def _one_line(result: tuple[int, list[str]], *words: str, status: int = 1) -> None:
    code, lines = result
    assert code == status, lines
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    identity = Identity.generate(os.urandom)
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    (path / "identity.secret").write_text(identity.text(private=True))
    (path / "identity.secret").chmod(0o600)
    return path


def test_no_tun_device(home: Path) -> None:
    hide = ["unshare", "-mn", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"]
    _one_line(_start(home, *hide), "/dev/net/tun", "is missing")


def test_no_net_admin(home: Path) -> None:
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    _one_line(_start(home, *drop), "CAP_NET_ADMIN", "root")


def test_port_in_use(home: Path) -> None:
    with Lab("zpb") as lab:
        host = lab.namespace("h")
        occupant = host.open_socket(2, 2)
        occupant.bind(("0.0.0.0", 9993))
        with occupant:
            _one_line(_start(home, network=host.name), "9993", "another")


def test_home_not_writable(home: Path) -> None:
    for item in (home, home / "identity.secret"):
        os.chown(item, 0, 0)
    for parent in (home, *home.parents):
        if str(parent).startswith("/tmp/pytest"):
            parent.chmod(parent.stat().st_mode | 0o755)
    before = (home / "identity.secret").read_text()
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    _one_line(_start(home, "unshare", "-n", *other), str(home), "not writable")
    assert (home / "identity.secret").read_text() == before


@pytest.mark.parametrize("damage", ["cut", "garbage", "mismatched keys"])
def test_damaged_identity(home: Path, damage: str) -> None:
    text = (home / "identity.secret").read_text()
    other = Identity.generate(os.urandom)
    assert other.private is not None
    damaged = {
        "cut": text[:100],
        "garbage": "not an identity",
        "mismatched keys": text.rpartition(":")[0] + ":" + other.private.hex(),
    }[damage]
    (home / "identity.secret").write_text(damaged)
    _one_line(_start(home, "unshare", "-n"), "identity.secret", str(home))
    assert (home / "identity.secret").read_text() == damaged


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", ("local.conf",)),
        ("[1, 2]", ("local.conf",)),
        ('{"ztpipe": {"tapWorkers": "many"}}', ("local.conf", "tapWorkers", "whole number")),
        ('{"ztpipe": {"layout": 7}}', ("local.conf", "layout", "pipeline")),
        ('{"ztpipe": {"nonsense": 1}}', ("local.conf", "nonsense")),
    ],
)
def test_bad_local_conf(home: Path, content: str, words: tuple[str, ...]) -> None:
    (home / "local.conf").write_text(content)
    _one_line(_start(home, "unshare", "-n"), *words)
    assert (home / "local.conf").read_text() == content


@pytest.fixture(scope="module")
def node() -> Iterator[Gateway]:
    with Lab("zpb") as lab:
        gateway = Gateway(lab.namespace("n"), lab.directory)
        gateway.use_world(private_planet(), [])
        gateway.start()
        yield gateway


def _cli(node: Gateway, *words: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    secret = token or (node.home / "authtoken.secret").read_text()
    return node.namespace.run(*CLI, "-p9993", f"-T{secret}", *words, check=False)


def test_wrong_token(node: Gateway) -> None:
    done = _cli(node, "info", token="wrong")
    assert done.returncode != 0
    assert done.stdout == "401 info {}\n"
    assert "refused the token" in done.stderr


@pytest.mark.parametrize("network", ["xyz", "1234", "0123456789abcdeg", "0123456789abcdef0"])
def test_network_id_that_is_none(node: Gateway, network: str) -> None:
    done = _cli(node, "join", network)
    assert done.returncode != 0
    assert f"{network!r} is not a network id: 16 hexadecimal digits" in done.stderr
    assert node.api("GET", "/network") == []


def test_unknown_network(node: Gateway) -> None:
    done = _cli(node, "leave", "0123456789abcdef")
    assert (done.stdout, done.returncode) == ("200 leave OK\n", 0)  # as the reference says it
    assert "0123456789abcdef was not joined" in done.stderr
    status, _ = node.api_raw("GET", "/network/0123456789abcdef")
    assert status == 404
