"""``ztpipe doctor`` on a host on which nothing is as it should be: every question has its bad answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ztpipe.host import checkup
from ztpipe.host.checkup import Verdict
from ztpipe.host.probe import Offloads
from ztpipe.lab import Lab, Namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

#: Without CAP_NET_ADMIN, with nothing in /dev/net, and /etc/resolv.conf on a read-only file system.
_BROKEN = """
mount -t tmpfs none /dev/net
mount --bind /etc/resolv.conf /etc/resolv.conf && mount -o remount,bind,ro /etc/resolv.conf
exec setpriv --bounding-set -net_admin --inh-caps -net_admin "$@"
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    with Lab("zpd") as lab:
        here, there = lab.namespace("here"), lab.namespace("there")
        lab.cable(here, "eth0", ["10.66.48.1/24"], there, plug="eth0", other_addresses=["10.66.48.2/24"], mtu=1200)
        for name, value in (("ip_forward", 0), ("conf.all.rp_filter", 1)):
            here.run("sysctl", "-qw", f"net.ipv4.{name}={value}")
        here.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
        yield here


def doctor(host: Namespace, home: Path, *before: str) -> tuple[int, dict[str, dict[str, str]]]:
    program = [sys.executable, "-m", "ztpipe", "doctor", "--json", str(home)]
    done = host.run(*before, *program, check=False)
    return done.returncode, {row["what"]: row for row in json.loads(done.stdout)}


def test_a_host_that_lacks_everything(host: Namespace, tmp_path: Path) -> None:
    other = host.popen("bash", "-c", "exec -a zerotier-one sleep 50")
    status, found = doctor(host, tmp_path, "unshare", "-m", "sh", "-c", _BROKEN, "sh")
    assert status == 1
    verdicts = {what: row["verdict"] for what, row in found.items()}
    assert (verdicts["TAP device"], verdicts["capabilities"]) == ("bad", "bad")
    assert "modprobe tun" in found["TAP device"]["advice"]
    assert "--cap-add NET_ADMIN" in found["capabilities"]["advice"]
    assert verdicts["underlay MTU"] == "note" and "eth0 has 1200" in found["underlay MTU"]["found"]
    assert "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1" in found["forwarding"]["advice"]
    assert verdicts["reverse path filter"] == "note"
    assert str(other.pid) in found["other nodes"]["found"]
    if "resolv.conf itself" in found["DNS"]["found"]:
        assert found["DNS"]["verdict"] == "note"
    assert all(row["advice"] for row in found.values() if row["verdict"] != "ok")


def test_a_host_without_an_interface(tmp_path: Path) -> None:
    with Lab("zpd") as lab:
        status, found = doctor(lab.namespace("alone"), tmp_path)
    assert status == 1
    assert found["underlay"]["verdict"] == "bad"
    assert found["TAP device"]["verdict"] == found["capabilities"]["verdict"] == "ok"


def test_a_home_of_somebody_else(host: Namespace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    os.chown(home, 65534, 65534)
    without = "--bounding-set=-dac_override,-dac_read_search"
    status, found = doctor(host, home, "setpriv", without, "--inh-caps=-dac_override,-dac_read_search")
    assert status == 1
    assert found["home directory"]["found"].endswith("is not writable")


def test_a_kernel_and_a_clock_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "probe", lambda: Offloads(tso=True, uso=False, gso=True, gro=False))
    assert checkup.offloads().found == "missing: USO on TAPs, UDP_GRO"
    begin = checkup.time.gmtime(0)
    monkeypatch.setattr(checkup.time, "gmtime", lambda: begin)
    assert checkup.clock().verdict is Verdict.BAD


def test_small_socket_buffers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    core = tmp_path / "sys" / "net" / "core"
    core.mkdir(parents=True)
    for name in ("rmem_max", "wmem_max"):
        (core / name).write_text("212992\n")
    monkeypatch.setattr(checkup, "_PROC", tmp_path)
    monkeypatch.setattr(checkup, "has_net_admin", lambda: False)
    assert checkup.buffers().found == "at most 208 KB: bursts are lost"
    monkeypatch.setattr(checkup, "has_net_admin", lambda: True)
    assert checkup.buffers().verdict is Verdict.GOOD
