"""`ztpipe planet`: what it writes is a planet that nodes take, and what it refuses says why."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ztpipe import __main__
from ztpipe.runtime.startup import load_worlds
from ztpipe.store import Home
from ztpipe.wire.identity import Identity
from ztpipe.wire.world import EARTH, World, WorldType, verify_update

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(__main__.main, ["planet", *words])


@pytest.fixture(scope="module")
def roots() -> list[Identity]:
    made = (Identity.generate(os.urandom).without_private() for _ in range(3))
    return sorted(made, key=lambda identity: identity.address)


def created(run: Run, roots: list[Identity]) -> None:
    Path("first.secret").write_text(roots[0].text())
    words = ["create", "--root", "first.secret", "192.0.2.1/9993,2001:db8::1/9993"]
    result = run(*words, "--root", roots[1].text(), "192.0.2.2/443")
    assert result.exit_code == 0, result.output


def test_create_sign_show_install(run: Run, roots: list[Identity], tmp_path: Path) -> None:
    created(run, roots)
    assert stat.S_IMODE(os.stat("planet.json").st_mode) == 0o600
    assert run("sign").exit_code == 0
    world = World.decode(Path("planet").read_bytes())
    assert world.type is WorldType.PLANET
    assert world.verify(world.update_key)
    assert {r.identity.address: [e.text() for e in r.endpoints] for r in world.roots} == {
        roots[0].address: ["192.0.2.1/9993", "2001:db8::1/9993"],
        roots[1].address: ["192.0.2.2/443"],
    }
    shown = run("show")
    assert f"root {roots[0].address:010x}\n  192.0.2.1/9993\n  2001:db8::1/9993" in shown.output
    assert "signed by that key: yes" in shown.output
    described = json.loads(run("show", "--json").output)
    assert described["signedByThatKey"] is True
    assert described["id"] == f"{world.id:016x}"
    home = tmp_path / "home"
    home.mkdir()
    assert run("install", str(home)).exit_code == 0
    planet, _ = load_worlds(Home.open(home))
    assert planet == world  # our own start takes it, and keeps it against the built-in one


def test_a_newer_version_replaces_only_what_it_may(run: Run, roots: list[Identity], tmp_path: Path) -> None:
    created(run, roots)
    assert run("sign").exit_code == 0
    first = World.decode(Path("planet").read_bytes())
    description = json.loads(Path("planet.json").read_text())
    description["roots"].append({"identity": roots[2].text(), "stableEndpoints": ["192.0.2.3/9993"]})
    Path("planet.json").write_text(json.dumps(description))
    assert run("sign").exit_code == 0
    second = World.decode(Path("planet").read_bytes())
    assert verify_update(first, second) and len(second.roots) == 3
    home = tmp_path / "home"
    home.mkdir()
    assert run("install", str(home)).exit_code == 0
    Path("old").write_bytes(first.encode())
    refused = run("install", str(home), "old")
    assert refused.exit_code == 1 and "the same or a newer version" in refused.output
    run("create", "--root", roots[0].text(), "192.0.2.9/9993", "-o", "other.json")
    refused = run("sign", "other.json")
    assert refused.exit_code == 1 and "holds another world" in refused.output
    other = json.loads(Path("other.json").read_text()) | {"id": description["id"]}
    Path("other.json").write_text(json.dumps(other))
    refused = run("sign", "other.json")
    assert refused.exit_code == 1 and "not signed by the key" in refused.output
    assert World.decode(Path("planet").read_bytes()) == second


@pytest.mark.parametrize(
    ("endpoints", "complaint"),
    [("192.0.2.1", 'expected "IP/port"'), ("", 'expected "IP/port"'), ("host/9993", 'expected "IP/port"')],
)
def test_create_refuses_endpoints_nobody_can_reach(
    run: Run, roots: list[Identity], endpoints: str, complaint: str
) -> None:
    result = run("create", "--root", roots[0].text(), endpoints)
    assert result.exit_code == 1 and complaint in result.output
    assert not Path("planet.json").exists()


def test_create_refuses_what_no_node_would_take(run: Run, roots: list[Identity]) -> None:
    root = (roots[0].text(), "192.0.2.1/9993")
    assert "the same address twice" in run("create", "--root", *root, "--root", *root).output
    assert "at most 4" in run("create", *("--root", *root) * 5).output
    bent = roots[0].text().replace(":0:", ":0:00", 1)
    assert run("create", "--root", bent, root[1]).exit_code == 1
    assert "expected an identity" in run("create", "--root", "nofile", root[1]).output
    foreign = f"{roots[1].address:010x}:0:{roots[0].text().split(':')[2]}"
    assert "not a valid identity" in run("create", "--root", foreign, root[1]).output


def test_create_keeps_an_existing_key(run: Run, roots: list[Identity]) -> None:
    created(run, roots)
    before = Path("planet.json").read_bytes()
    result = run("create", "--root", roots[0].text(), "192.0.2.1/9993")
    assert result.exit_code == 1 and "--force" in result.output
    assert Path("planet.json").read_bytes() == before


def test_show_and_install_of_other_files(run: Run, tmp_path: Path) -> None:
    assert f"planet {EARTH.id:016x}" in run("show", "builtin").output
    Path("noise").write_bytes(b"\x01" * 40)
    assert "not a binary planet or moon" in run("show", "noise").output
    assert run("show", "absent").exit_code == 1
    assert "not a binary planet" in run("install", str(tmp_path), "noise").output
    assert not (tmp_path / "planet").exists()
