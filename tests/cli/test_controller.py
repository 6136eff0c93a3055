"""``ztpipe controller`` and `ztpipe.client` against the real HTTP server."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.api.recorded import RecordedService, serving
from ztpipe.__main__ import main
from ztpipe.api.tokens import TOKEN_FILE
from ztpipe.cli import controller as command_module
from ztpipe.client import ApiError, Client, MemberPatch, NetworkPatch, Unreachable
from ztpipe.controller.store_sqlite import SqliteStore
from ztpipe.store import Home

A, B = "aaaaaaaaaa", "bbbbbbbbbb"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    service = RecordedService(Home.open(tmp_path / "home"))
    with serving(service):
        yield tmp_path / "home"


class Command:
    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str, text: str | None = None, fails: bool = False) -> Result:
        result = CliRunner().invoke(main, ["controller", "-D", str(self.home), *arguments], input=text)
        assert result.exit_code == (1 if fails else 0), (result.output, result.exception)
        return result

    def json(self, *arguments: str) -> Any:
        return json.loads(self("-j", *arguments).stdout)


@pytest.fixture
def ztpipe(home: Path) -> Command:
    return Command(home)


@pytest.fixture
def nwid(ztpipe: Command) -> str:
    return str(ztpipe.json("create", "--name", "[red]office", "--subnet", "10.7.0.0/24")["id"])


def test_networks(ztpipe: Command, nwid: str) -> None:
    table = ztpipe("networks").stdout
    assert nwid in table and "[red]office" in table and "10.7.0.0/24" in table
    shown = ztpipe("show", nwid).stdout
    assert "10.7.0.1 to 10.7.0.254" in shown
    ztpipe("set", nwid, "mtu=1400", "private=false", 'dns={"domain":"x.test","servers":["10.7.0.1"]}')
    network = ztpipe.json("show", nwid)
    assert (network["mtu"], network["private"], network["dns"]["domain"]) == (1400, False, "x.test")
    assert "mtu" in ztpipe("set", nwid, "mtu=1", fails=True).stderr
    assert "expected FIELD=VALUE" in ztpipe("set", nwid, "mtu", fails=True).stderr
    assert ztpipe.json("status")["networks"] == 1
    ztpipe("delete", "-y", nwid)
    assert "no such network" in ztpipe("show", nwid, fails=True).stderr
    assert [line["action"] for line in ztpipe.json("audit")] == ["network.delete", "network.update", "network.create"]


def test_members(ztpipe: Command, nwid: str) -> None:
    ztpipe("authorise", nwid, A, B)
    ztpipe("deauthorize", nwid, B)
    ztpipe("member", nwid, A, "--name", "alice", "--notes", "desk 4", "--expires", "2040-01-31T12:00", "--bridge")
    table = ztpipe("members", nwid).stdout.splitlines()
    assert len(table) == 3 and "alice" in table[1] and "2040-01-31 12:00:00" in table[1]
    assert [member["id"] for member in ztpipe.json("members", nwid, "--waiting")] == [B]
    assert "desk 4" in ztpipe("member", nwid, A).stdout
    assert ztpipe.json("member", nwid, A, "--expires", "never", "--no-pools")["expiresAt"] == 0
    assert ztpipe.json("addresses", nwid, A, "--add", "10.7.0.9", "--add", "10.7.0.8") == ["10.7.0.9", "10.7.0.8"]
    assert ztpipe.json("addresses", nwid, A, "--remove", "10.7.0.9") == ["10.7.0.8"]
    assert ztpipe.json("tags", nwid, A, "--set", "7=3", "--set", "8=1") == [[7, 3], [8, 1]]
    assert ztpipe.json("tags", nwid, A, "--set", "7=4", "--remove", "8") == [[7, 4]]
    assert ztpipe.json("capabilities", nwid, A, "--add", "3", "--add", "1") == [1, 3]
    assert ztpipe.json("capabilities", nwid, A, "--remove", "3") == [1]
    created = next(line for line in ztpipe("audit").stdout.splitlines() if "member.create" in line)
    assert created.split()[-3:] == ["authorized,", "lastAuthorizedCredentialType,", "lastAuthorizedTime"]
    ztpipe("remove", nwid, A)
    assert [member["id"] for member in ztpipe.json("members", nwid)] == [B]
    assert "ipAssignments[0]" in ztpipe("addresses", nwid, B, "--add", "nine", fails=True).stderr
    assert "--expires" in ztpipe("member", nwid, B, "--expires", "soon", fails=True).stderr


def test_rules(ztpipe: Command, nwid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ztpipe("rules", "show", nwid).stdout == "accept and;\n", "made of the compiled rules"
    source = "# no IPv6\ndrop ethertype ipv6;\naccept;\n"
    (tmp_path / "r").write_text(source)
    assert ztpipe("rules", "set", nwid, str(tmp_path / "r")).stdout == "3 rules in use\n"
    assert ztpipe("rules", "show", nwid).stdout == source
    wrong = ztpipe("rules", "set", nwid, "-", text="drop ethertpye ipv6;", fails=True).stderr
    assert "line 1 column 6" in wrong and "did you mean ethertype?" in wrong
    texts = iter(["drop ethertpye ipv4;", "drop ethertype ipv4;\naccept;\n"])
    monkeypatch.setattr(command_module.click, "edit", lambda text, extension: next(texts))
    result = ztpipe("rules", "edit", nwid, text="y\n")
    assert "did you mean ethertype?" in result.stderr
    assert ztpipe("rules", "show", nwid).stdout == "drop ethertype ipv4;\naccept;\n"


def test_tokens(ztpipe: Command, home: Path, nwid: str) -> None:
    token = ztpipe("token", "add", "ui", "members").stdout.strip()
    assert stat.S_IMODE((home / TOKEN_FILE).stat().st_mode) == 0o600
    assert ztpipe.json("token", "list") == [{"name": "ui", "role": "members"}]
    ztpipe("-T", token, "authorise", nwid, A)
    assert "role" in ztpipe("-T", token, "set", nwid, "name=x", fails=True).stderr
    assert ztpipe.json("audit", "--member", A)[0]["actor"] == "ui"
    ztpipe("token", "remove", "ui")
    assert "token is not accepted" in ztpipe("-T", token, "networks", fails=True).stderr
    assert "already" in (ztpipe("token", "add", "a", "all"), ztpipe("token", "add", "a", "all", fails=True))[1].stderr


def test_backup_restore_export_import_without_a_node(tmp_path: Path) -> None:
    ztpipe = Command(tmp_path)
    assert "no controller database" in ztpipe("backup", str(tmp_path / "copy"), fails=True).stderr
    record = {"nwid": "142b028c0f000001", "id": "142b028c0f000001", "revision": 1, "name": "kept"}
    with SqliteStore(tmp_path / "controller.d") as store:
        store.save_network(record)
    ztpipe("backup", str(tmp_path / "copy"))
    assert ztpipe("export", str(tmp_path / "files")).stdout == "1 networks, 0 members\n"
    with SqliteStore(tmp_path / "controller.d") as store:
        store.delete_network(0x142B028C0F000001)
    assert "no node is running" in ztpipe("restore", "-y", str(tmp_path / "copy")).stdout
    with SqliteStore(tmp_path / "controller.d") as store:
        assert list(store.networks()) == [record]
        store.delete_network(0x142B028C0F000001)
    ztpipe("import", str(tmp_path / "files"))
    with SqliteStore(tmp_path / "controller.d") as store:
        assert list(store.networks()) == [record]
    assert "no such backup" in ztpipe("restore", "-y", str(tmp_path / "none"), fails=True).stderr


def test_no_node(tmp_path: Path) -> None:
    assert "zerotier-one.port" in Command(tmp_path)("networks", fails=True).stderr


# --- the client ----------------------------------------------------------------------------------------------------


def test_client(home: Path) -> None:
    client = Client.of_home(str(home))
    network = client.create_network(NetworkPatch(name="a"))
    changed = client.update_network(network.id, NetworkPatch(name="b"), network.revision)
    assert (changed.name, changed.revision) == ("b", 2)
    with pytest.raises(ApiError) as raised:
        client.update_network(network.id, NetworkPatch(name="c"), network.revision)
    assert (raised.value.status, raised.value.problem.revision) == (412, 2)
    client.update_members(network.id, {f"{number:010x}": MemberPatch(authorized=True) for number in range(1, 2102)})
    assert sum(1 for _ in client.members(network.id)) == 2101, "three pages"
    client.update_member(network.id, A, MemberPatch(name="alice"))
    assert [member.id for member in client.members(network.id, q="ALICE", authorized=False)] == [A]
    client.delete_member(network.id, A, forget=True)
    client.reload()
    assert [line.action for line in client.audit(2)] == ["store.reload", "member.delete"]
    assert [found.id for found in client.networks(q="b", private=True)] == [network.id]
    client.delete_network(network.id)
    assert client.status().networks == 0


def test_client_without_a_service() -> None:
    with pytest.raises(Unreachable):
        Client("127.0.0.1", 1, "x").status()
