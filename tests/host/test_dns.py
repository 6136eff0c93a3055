"""Name servers of networks: set, kept, and taken back without a trace."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ztpipe.host.dns import FileResolver, HostDns, Resolvconf, SystemdResolved
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import Dns

CORP = Dns("corp.example", (InetAddress(bytes((10, 1, 1, 1)), 0), InetAddress(bytes((0xFD, *bytes(14), 1)), 0)))
LAB = Dns("lab.example", (InetAddress(bytes((10, 2, 2, 2)), 0),))
ORIGINAL = "# made by hand\nnameserver 192.0.2.1\nsearch home.example\noptions ndots:2\n"


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """/sys/class/net with two devices of ours."""
    path = tmp_path / "net"
    for name in ("ztaaaa", "ztbbbb"):
        (path / name).mkdir(parents=True)
    return path


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text(ORIGINAL)
    path.chmod(0o640)
    return path


def means(conf: Path) -> tuple[list[str], list[str]]:
    """(name servers in order, search list) as the C library reads it: the last search list counts."""
    servers: list[str] = []
    search: list[str] = []
    for line in conf.read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "nameserver":
            servers.append(rest)
        elif word in ("search", "domain"):
            search = rest.split()
    return servers, search


def test_the_file(conf: Path, devices: Path) -> None:
    resolver = FileResolver(conf, devices=devices)
    resolver.set("ztaaaa", CORP)
    assert means(conf) == (["10.1.1.1", "fd00::1", "192.0.2.1"], ["corp.example", "home.example"])
    first = conf.read_text()
    resolver.set("ztaaaa", CORP)
    assert conf.read_text() == first
    resolver.set("ztbbbb", LAB)
    assert means(conf)[0] == ["10.2.2.2", "10.1.1.1", "fd00::1", "192.0.2.1"]
    assert set(means(conf)[1]) == {"lab.example", "corp.example", "home.example"}
    resolver.clear("ztbbbb")
    assert conf.read_text() == first
    resolver.clear("ztaaaa")
    assert conf.read_text() == ORIGINAL and conf.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in conf.parent.glob(".*")] == []


def test_what_others_write_meanwhile_stays(conf: Path, devices: Path) -> None:
    resolver = FileResolver(conf, devices=devices)
    resolver.set("ztaaaa", CORP)
    conf.write_text(conf.read_text().replace("192.0.2.1", "192.0.2.9") + "nameserver 192.0.2.10\n")
    resolver.clear("ztaaaa")
    assert conf.read_text() == ORIGINAL.replace("192.0.2.1", "192.0.2.9") + "nameserver 192.0.2.10\n"


def test_what_a_killed_process_left_goes_with_the_next_start(conf: Path, devices: Path) -> None:
    FileResolver(conf, devices=devices).set("ztdead", CORP)
    FileResolver(conf, devices=devices).set("ztbbbb", LAB)  # another node's, alive
    HostDns(FileResolver(conf, devices=devices)).start()
    assert means(conf) == (["10.2.2.2", "192.0.2.1"], ["lab.example", "home.example"])


def test_it_comes_back_when_somebody_else_writes_the_file(conf: Path, devices: Path) -> None:
    dns = HostDns(FileResolver(conf, devices=devices))
    dns.apply("ztaaaa", CORP)
    conf.write_text(ORIGINAL)
    dns.reassert()
    assert "10.1.1.1" in means(conf)[0]
    dns.apply("ztaaaa", Dns("", ()))
    assert conf.read_text() == ORIGINAL
    dns.reassert()
    assert conf.read_text() == ORIGINAL


def test_a_link_is_followed_and_kept(conf: Path, devices: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to(conf)
    FileResolver(link, devices=devices).set("ztaaaa", CORP)
    assert link.is_symlink() and "10.1.1.1" in means(conf)[0]


def test_no_file_at_all(tmp_path: Path, devices: Path) -> None:
    resolver = FileResolver(tmp_path / "none", devices=devices)
    resolver.clear_leftovers()
    assert not (tmp_path / "none").exists()
    resolver.set("ztaaaa", LAB)
    assert means(tmp_path / "none") == (["10.2.2.2"], ["lab.example"])


@pytest.mark.parametrize("domain", ["", "a\nnameserver 6.6.6.6", "-x", "a b", "x" * 300, "../x", "$(reboot)"])
def test_a_domain_that_is_none_is_not_written(conf: Path, devices: Path, domain: str) -> None:
    HostDns(FileResolver(conf, devices=devices)).apply("ztaaaa", Dns(domain, LAB.servers))
    assert conf.read_text() == ORIGINAL


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(text=st.lists(st.sampled_from([*ORIGINAL.splitlines(), "domain x", "# ztpipe ztaaaa begin", "", "é"])))
def test_any_file_is_as_it_was_afterwards(conf: Path, devices: Path, text: list[str]) -> None:
    whole = "".join(line + "\n" for line in text)
    if whole.count("# ztpipe"):
        return
    conf.write_text(whole)
    resolver = FileResolver(conf, devices=devices)
    resolver.set("ztaaaa", CORP)
    resolver.set("ztbbbb", LAB)
    resolver.clear("ztaaaa")
    resolver.clear("ztbbbb")
    assert conf.read_text() == whole


class Commands:
    """Records commands instead of running them."""

    def __init__(self) -> None:
        self.run: list[tuple[str, str]] = []
        self.fail = False

    def __call__(self, argv: Sequence[str], text: str) -> None:
        if self.fail:
            raise subprocess.CalledProcessError(1, list(argv))
        self.run.append((" ".join(argv), text))


def test_systemd_resolved_asks_about_the_domain_only() -> None:
    commands = Commands()
    resolver = SystemdResolved(commands)
    resolver.set("ztaaaa", CORP)
    resolver.clear("ztaaaa")
    assert [command for command, _ in commands.run] == [
        "resolvectl dns ztaaaa 10.1.1.1 fd00::1",
        "resolvectl domain ztaaaa corp.example",
        "resolvectl default-route ztaaaa no",
        "resolvectl revert ztaaaa",
    ]


def test_resolvconf_keeps_a_record_per_device(tmp_path: Path, devices: Path) -> None:
    commands = Commands()
    for name in ("ztaaaa.ztpipe", "ztdead.ztpipe", "eth0.dhclient"):
        (tmp_path / name).touch()
    resolver = Resolvconf(commands, records=[tmp_path, tmp_path / "none"], devices=devices)
    resolver.set("ztaaaa", LAB)
    resolver.clear_leftovers()
    assert commands.run == [
        ("resolvconf -a ztaaaa.ztpipe", "nameserver 10.2.2.2\nsearch lab.example\n"),
        ("resolvconf -d ztdead.ztpipe", ""),
    ]


def test_a_command_that_fails_is_tried_again() -> None:
    commands = Commands()
    dns = HostDns(SystemdResolved(commands))
    commands.fail = True
    dns.apply("ztaaaa", CORP)
    commands.fail = False
    dns.reassert()
    assert len(commands.run) == 3
    dns.remove("ztaaaa")
    dns.remove("ztaaaa")
    assert [command for command, _ in commands.run[3:]] == ["resolvectl revert ztaaaa"]
