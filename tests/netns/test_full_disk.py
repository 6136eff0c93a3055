"""A full disk and a read-only one, real ones: writes of a running node fail, and it goes on; nothing is damaged."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.pairs import Make, Pair, joined, ztpipe
from ztpipe.lab import Gateway, Lab, LabNode, Namespace
from ztpipe.lab.traffic import ping
from ztpipe.wire.netconf import NetworkConfig

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

_OTHER = "8056c2e21c000001"


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both homes on one small disk."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab("zpf"))
        stack.enter_context(small_disk(lab.directory))
        yield joined(lab, "f", "10.66.49", "10.67.49", ztpipe(), ztpipe())


def fill(directory: Path) -> Path:
    """Take all that is left, to the last byte."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def kept(home: Path, without: Collection[str] = ()) -> dict[str, bytes]:
    """What must survive, byte for byte or as something newer that is whole."""
    names = ("identity.secret", "identity.public", "authtoken.secret", "local.conf", "planet")
    return {name: (home / name).read_bytes() for name in names if name not in without}


def whole(node: LabNode, nwid: str) -> None:
    """Every file can be read as what it is, and no half of one lies around."""
    NetworkConfig.decode((node.home / "networks.d" / f"{nwid}.conf").read_bytes())
    json.loads((node.home / "local.conf").read_text())
    assert not list(node.home.rglob(".*.new"))


def test_a_full_disk(pair: Pair) -> None:
    first, second = pair.nodes
    homes = [kept(node.home) for node in pair.nodes]
    filler = fill(first.home.parent)

    status, answer = first.api_raw("POST", f"/controller/network/{pair.nwid}", {"name": "no room"})
    assert status == 503, answer
    assert first.api("GET", f"/controller/network/{pair.nwid}")["name"] == pair.name, "all or nothing"
    status, answer = first.api_raw("POST", "/config/settings", {"settings": {"interfacePrefixBlacklist": ["x" * 9000]}})
    assert status == 503, answer
    for change, nwid in (({}, _OTHER), ({"allowDefault": True}, pair.nwid)):
        status, answer = second.api_raw("POST", f"/network/{nwid}", change)
        assert (status, answer["error"]) == (503, 503)
    assert [network["id"] for network in second.api("GET", "/network")] == [pair.nwid]
    assert second.network(pair.nwid)["allowDefault"] is False
    assert second.log_tail().count("cannot be stored") == 2
    second.wait_for("a line about the metrics", lambda: "metrics.prom cannot be written" in second.log_tail(), 10)
    assert ping(pair.a, pair.target, count=5, interval=0.1).lost == 0
    assert [kept(node.home) for node in pair.nodes] == homes
    for node in pair.nodes:
        whole(node, pair.nwid)

    filler.unlink()
    assert first.api("POST", f"/controller/network/{pair.nwid}", {"name": "room"})["name"] == "room"
    second.wait_for("the new name", lambda: second.network(pair.nwid)["name"] == "room", 10)
    second.wait_for("its cache", lambda: b"room" in (second.home / "networks.d" / f"{pair.nwid}.conf").read_bytes(), 10)
    assert all(node.stop() == 0 for node in pair.nodes)


def test_a_restart_without_room() -> None:
    """The node comes up as it was; what the controller has can be read, and nothing is written until the next start."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab("zpf"))
        stack.enter_context(small_disk(lab.directory))
        node = Gateway(lab.namespace("a"), lab.directory)
        node.start()
        nwid = node.create_network(name="kept")
        node.join(nwid)
        assert node.stop() == 0
        shutil.rmtree(node.home / "run", ignore_errors=True)
        fill(lab.directory)
        before, records = kept(node.home, without=("local.conf",)), node.home / "controller.d" / "controller.db"
        stored = records.read_bytes()
        node.start()
        assert [network["id"] for network in node.api("GET", "/network")] == [nwid]
        path = f"/controller/network/{nwid}"
        assert node.api("GET", path)["name"] == "kept"
        assert node.api_raw("POST", path, {"name": "other"})[0] == 503
        assert node.api("GET", path)["name"] == "kept"
        assert node.stop() == 0
        assert (kept(node.home, without=("local.conf",)), records.read_bytes()) == (before, stored)


def test_a_first_start_without_room(tmp_path: Path) -> None:
    """One line that names the file, and no piece of an identity."""
    with small_disk(tmp_path):
        home = tmp_path / "home"
        home.mkdir()
        fill(tmp_path)
        program = Path(sys.executable).with_name("zerotier-one")
        done = subprocess.run([program, "-U", home], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1
        assert "identity.secret: No space left on device (make room" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert [path.name for path in home.iterdir() if path.is_file()] == []


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", directory], check=True)


def member(disk: Path) -> Make:
    """A node whose home is a disk of its own; its controller's database, which is always open, is elsewhere."""

    def make(host: Namespace, lab: Lab) -> LabNode:
        node = Gateway(host, disk, settings={"controllerDbPath": str(lab.directory / "elsewhere")})
        node.log = lab.directory / "member.log"
        return node

    return make


def test_a_disk_that_became_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path), Lab("zpr") as lab:
        pair = joined(lab, "r", "10.66.48", "10.67.48", ztpipe(), member(tmp_path))
        first, second = pair.nodes
        with read_only(tmp_path):
            home = kept(second.home)
            first.api("POST", f"/controller/network/{pair.nwid}", {"name": "news"})
            second.wait_for("the new name", lambda: second.network(pair.nwid)["name"] == "news", 10)
            second.wait_for("a line about its cache", lambda: "cannot save state" in second.log_tail(), 10)
            status, answer = second.api_raw("POST", f"/network/{_OTHER}", {})
            assert (status, answer["error"]) == (503, 503)
            assert ping(pair.a, pair.target, count=5, interval=0.1).lost == 0
            assert kept(second.home) == home
        first.api("POST", f"/controller/network/{pair.nwid}", {"name": "more"})
        cache = second.home / "networks.d" / f"{pair.nwid}.conf"
        second.wait_for("its cache", lambda: b"more" in cache.read_bytes(), 10)
        whole(second, pair.nwid)
        assert all(node.stop() == 0 for node in pair.nodes)
