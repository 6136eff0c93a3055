"""``ztpipe doctor`` on made-up homes; on a running node in tests/netns/test_service.py."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.api.recorded import RecordedService, serving
from ztpipe.cli import doctor
from ztpipe.host import checkup
from ztpipe.host.checkup import Finding, Verdict
from ztpipe.store import Home


def findings(home: Path) -> tuple[int, dict[str, dict[str, str]]]:
    result = CliRunner().invoke(doctor.command, [str(home), "--json"])
    rows: list[dict[str, str]] = json.loads(result.stdout)
    assert all(row["verdict"] in {"ok", "note", "bad"} for row in rows)
    assert all(row["advice"] for row in rows if row["verdict"] != "ok"), "what is wrong comes with what to do"
    return result.exit_code, {row["what"]: row for row in rows}


def test_every_question_of_the_host_is_answered(tmp_path: Path) -> None:
    _, found = findings(tmp_path)
    assert {
        "TAP device",
        "capabilities",
        "offloads",
        "clock",
        "underlay",
        "forwarding",
        "DNS",
        "home directory",
    } <= set(found)
    assert found["other nodes"]["verdict"] in {"ok", "note"}


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    _, found = findings(tmp_path / "none")
    assert found["home directory"]["verdict"] == "note"
    assert not (tmp_path / "none").exists()


def test_a_sound_home_is_left_as_it_is(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    address = f"{home.identity().address:010x}"
    (home.path / "identity.public").write_text("something else")
    before = {path: path.stat().st_mtime_ns for path in home.path.rglob("*")}
    _, found = findings(home.path)
    assert found["home directory"]["verdict"] == "ok"
    assert address in found["home directory"]["found"]
    assert found["node"]["verdict"] == "note"
    assert {path: path.stat().st_mtime_ns for path in home.path.rglob("*")} == before


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("identity.secret", "rubbish", "identity.secret is damaged"),
        ("local.conf", "{", "local.conf"),
        ("local.conf", '{"ztpipe": {"tapWorkers": 0}}', "ztpipe.tapWorkers"),
    ],
)
def test_damage_is_bad_and_named(tmp_path: Path, name: str, content: str, named: str) -> None:
    (tmp_path / name).write_text(content)
    status, found = findings(tmp_path)
    assert status == 1
    assert found["home directory"]["verdict"] == "bad"
    assert named in found["home directory"]["found"]
    assert (tmp_path / name).read_text() == content


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "local.conf").write_text(json.dumps({"settings": {"primaryPort": port}}))
        status, found = findings(tmp_path)
    assert (status, found["port"]["verdict"]) == (1, "bad")
    assert str(port) in found["port"]["found"]


def test_what_a_running_node_says(tmp_path: Path) -> None:
    service = RecordedService(Home.open(tmp_path))
    with serving(service):
        _, found = findings(tmp_path)
    assert service.recorded["address"] in found["node"]["found"]
    assert "peers directly" in found["reachability"]["found"]
    assert "port" not in found, "it is that node's"


def test_a_table_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of 80 columns nothing is cut off: advice is there to be copied."""
    long = tmp_path / ("a" * 60) / ("b" * 60)
    monkeypatch.setattr(doctor, "_WIDE", 80)
    lines = CliRunner().invoke(doctor.command, [str(long)]).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("note  home directory ") for line in lines)
    assert any(line.strip().startswith("-> the first start makes it") for line in lines)
    assert f"{long} does not exist".replace(" ", "") in "".join(lines).replace(" ", "")


def test_a_question_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> Finding:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkup, "QUESTIONS", (broken,))
    result: Any = CliRunner().invoke(doctor.command, [str(tmp_path), "--json"])
    assert {"what": "broken", "verdict": Verdict.NOTE.value} == {
        key: json.loads(result.stdout)[0][key] for key in ("what", "verdict")
    }
