"""Started as root and no longer root: what each process may, and that everything still works without."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pairs import Pair, joined, ztpipe
from ztpipe.lab import Gateway, Lab, LabNode, Namespace
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

_REVEAL = str(Path(__file__).with_name("reveal.py"))
_NOBODY = pwd.getpwnam("nobody")
_NET_ADMIN = 1 << 12


class Dropping(Gateway):
    """A gateway that becomes the user nobody."""

    def command(self) -> list[str]:
        self.home.parent.chmod(0o755)
        return [sys.executable, _REVEAL, *super().command(), "--user", "nobody"]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    def dropping(host: Namespace, lab: Lab) -> LabNode:
        return Dropping(host, lab.directory, flags=["--layout", "pipeline"])

    with Lab("zpu") as lab:
        yield joined(lab, "u", "10.66.41", "10.67.41", dropping, ztpipe())


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def capabilities(pid: int) -> set[int]:
    """Every set of every thread; the bounding set apart."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        told = status(int(task.name))
        found |= {int(told[key], 16) for key in ("CapInh", "CapAmb", "CapPrm", "CapEff")}
    return found


def workers(node: LabNode) -> dict[str, int]:
    return {worker["name"]: worker["pid"] for worker in node.api("GET", "/ztpipe/workers") if worker["pid"]}


def test_control_has_one_capability_and_workers_have_none(pair: Pair) -> None:
    node = pair.nodes[0]
    found = workers(node)
    assert {"control", "tap-0", "crypto-0", "peer-0"} == set(found)
    for name, pid in found.items():
        told = status(pid)
        assert set(told["Uid"].split()) == {str(_NOBODY.pw_uid)}, name
        assert set(told["Gid"].split()) == {str(_NOBODY.pw_gid)}, name
        assert int(told["CapBnd"], 16) & ~_NET_ADMIN == 0, name
        assert told["NoNewPrivs"] == "1", name
        assert capabilities(pid) == ({0, _NET_ADMIN} if name == "control" else {0}), name
        assert told["Seccomp"] == ("0" if name == "control" else "2"), name


def test_workers_of_root_have_no_more(pair: Pair) -> None:
    for name, pid in workers(pair.nodes[1]).items():
        if name != "control":
            assert capabilities(pid) == {0}, name
            assert status(pid)["Seccomp"] == "2", name


def test_home_belongs_to_the_user(pair: Pair) -> None:
    home = pair.nodes[0].home
    assert {path.stat().st_uid for path in (home, *home.rglob("*"))} == {_NOBODY.pw_uid}
    assert (home / "identity.secret").stat().st_mode & 0o777 == 0o600


def test_worker_is_restarted(pair: Pair) -> None:
    node = pair.nodes[0]
    for name in ("tap-0", "peer-0"):
        before = workers(node)[name]
        os.kill(before, 9)
        node.wait_for("another worker", lambda name=name, before=before: workers(node).get(name, before) != before, 15)
    node.wait_for("a ping", lambda: ping(pair.a, pair.target, count=1).times, 20)
    assert capabilities(workers(node)["peer-0"]) == {0}


def test_devices_and_sockets_that_come_later(pair: Pair) -> None:
    node = pair.nodes[0]
    second = node.create_network(routes=[{"target": "10.67.141.0/24"}], v4AssignMode={"zt": False}, private=True)
    node.authorise(second, node.address, ipAssignments=["10.67.141.1"])
    node.join(second)
    assert node.wait_ok(second)["portDeviceName"] in pair.a.run("ip", "-br", "addr", "show", "to", "10.67.141.1").stdout
    pair.a.run("ip", "addr", "add", "10.66.141.1/24", "dev", "eth0")
    node.wait_for(
        "a socket at the new address", lambda: "10.66.141.1%eth0:9993" in pair.a.run("ss", "-ulnH").stdout, 20
    )


def test_name_servers_that_cannot_be_set_are_explained(pair: Pair) -> None:
    """/etc/resolv.conf is root's, and nothing else keeps name servers here."""
    node, nwid = pair.nodes[0], pair.nwid
    node.api("POST", f"/controller/network/{nwid}", {"dns": {"domain": "lab.example", "servers": ["10.67.41.2"]}})
    node.api("POST", f"/network/{nwid}", {"allowDNS": True})
    line = node.wait_for(
        "a line in the log",
        lambda: [line for line in node.log.read_text().splitlines() if "cannot set name servers" in line],
        30,
    )[0]
    assert "ztpipe.user" in line
    assert ping(pair.a, pair.target, count=3, interval=0.05).lost == 0


def test_stops_in_order(pair: Pair) -> None:
    """Last: the devices go, and the files of a running node."""
    node = pair.nodes[0]
    assert node.stop() == 0
    assert not (node.home / "zerotier-one.pid").exists()
    assert "zt" not in pair.a.run("ip", "-br", "link").stdout


# What cannot be


def refused(home: Path, *words: str) -> str:
    """The only line that a start with this --user prints."""
    done = subprocess.run(
        [sys.executable, "-m", "ztpipe", "run", "-p", "0", *words, str(home)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_user_that_does_not_exist(tmp_path: Path) -> None:
    assert "there is no user nosuchuser" in refused(tmp_path / "home", "--user", "nosuchuser")


def test_home_that_the_user_cannot_reach(tmp_path: Path) -> None:
    """pytest's directories are closed to others; so is an interpreter under /root, which is found first."""
    assert "user nobody cannot use " in refused(tmp_path / "home", "--user", "nobody")


def test_shared_directory_is_given_to_nobody(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "of-somebody").touch()
    assert "shared by all users" in refused(shared, "--user", "nobody")
    assert (shared / "of-somebody").stat().st_uid == os.getuid()
