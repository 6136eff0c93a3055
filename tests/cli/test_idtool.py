"""Every recorded call of zerotier-idtool, in a directory with the files of the recordings."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from tests.api.recorded import load, text
from tests.cli.recordings import Call, calls
from ztpipe.cli import idtool, moonfile
from ztpipe.wire.identity import Identity
from ztpipe.wire.world import World, WorldType

_USAGE = "[usage text of zerotier-idtool]\n\n"
_REPLAYED = ("getpublic", "help", "sign-verify", "validate", "initmoon-genmoon")
_ROOT = load("get-moon-id.json")["roots"][0]["identity"]
_PUBLIC = calls("idtool-getpublic.txt")[0].out


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """id.secret is another key than the recorded one, which was not kept; id.public is the recorded one."""
    monkeypatch.chdir(tmp_path)
    bad = _PUBLIC[:-1] + ("0" if _PUBLIC[-1] != "0" else "1")
    nodes = json.loads((Path(__file__).parents[1] / "vectors/captures/b-join-private/nodes.json").read_text())["nodes"]
    signature = calls("idtool-sign-verify.txt")[0].out
    for name, content in {
        "id.secret": nodes[0]["identity_secret"],
        "id.public": _PUBLIC,
        "nl.public": _PUBLIC + "\n",
        "sp.public": _PUBLIC + "  ",
        "bad.public": bad,
        "ca.public": _ROOT,
        "msg.sig": signature,
        "bad.json": "not JSON",
        "bad2.json": '{"id":"0000000000","worldType":"moon"}',
        "bad3.json": '{"id":"142b028c0f","worldType":"sun"}',
    }.items():
        (tmp_path / name).write_text(content)
    return tmp_path


#: Calls whose result depends on keys or contents that are not in the recordings; tested below.
_OWN_TESTS = ("sign id.secret msg.txt", "verify id.public msg.txt a8", "verify id.public msg.txt msg.sig",
              "getpublic id.secret", "initmoon ca.public", "genmoon moon2.json", "genmoon bad.json")  # fmt: skip


def replayed() -> list[Call]:
    found = [call for name in _REPLAYED for call in calls(f"idtool-{name}.txt")]
    return [call for call in found if not " ".join(call.words).startswith(_OWN_TESTS)]


@pytest.mark.parametrize("call", replayed(), ids=lambda call: call.typed[:70])
def test_recorded_call(call: Call, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "msg.txt").write_text("hello")
    assert idtool.run(call.words, "zerotier-idtool") == call.status
    out, err = capsys.readouterr()
    usage = idtool.USAGE.format(program="zerotier-idtool")
    assert out.replace(usage, _USAGE[:-1]) == call.out
    assert err == call.err


def test_generate(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert idtool.run(["generate"], "zerotier-idtool") == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(r"[0-9a-f]{10}:0:[0-9a-f]{128}:[0-9a-f]{128}", printed)
    assert Identity.parse(printed).validate()
    assert idtool.run(["generate", "new.secret", "new.public"], "zerotier-idtool") == 0
    assert capsys.readouterr().out == "new.secret written\nnew.public written\n"
    made = Identity.parse((directory / "new.secret").read_text())
    assert (directory / "new.public").read_text() == made.text()
    assert stat.S_IMODE((directory / "new.secret").stat().st_mode) == 0o600


def test_generate_where_nothing_can_be_written(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert idtool.run(["generate", "/nonexistent/x"], "zerotier-idtool") == 1
    assert capsys.readouterr() == ("", "Error writing to /nonexistent/x\n")


def test_vanity(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of a search, in the recorded form."""
    identities = iter([Identity(0xF32EE2D480, bytes(64), bytes(64)), Identity(0xAA251D1BED, bytes(64), bytes(64))])
    monkeypatch.setattr(Identity, "generate", lambda _random: next(identities))
    assert idtool.run(["generate", "v.secret", "v.public", "a"], "zerotier-idtool") == 0
    out, err = capsys.readouterr()
    (recorded,) = (call for call in calls("idtool-generate.txt") if call.words[-1:] == ["a"])
    lines = recorded.err.splitlines()
    assert out == recorded.out
    assert err.splitlines() == [lines[0], lines[-1]]
    assert idtool.run(["generate", "v.secret", "v.public", "xyz"], "zerotier-idtool") == 1


def test_sign_and_verify(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "msg.txt").write_text("hello")
    assert idtool.run(["sign", "id.secret", "msg.txt"], "zerotier-idtool") == 0
    signature = capsys.readouterr().out
    assert len(signature) == 192
    (directory / "own.sig").write_text(signature + "\n")
    for given in (signature, "own.sig"):
        assert idtool.run(["verify", "id.secret", "msg.txt", given], "zerotier-idtool") == 0
        assert capsys.readouterr().out == "msg.txt signature valid\n"
    (directory / "msg.txt").write_text("hullo")
    assert idtool.run(["verify", "id.secret", "msg.txt", signature], "zerotier-idtool") == 1
    assert capsys.readouterr().err == "msg.txt signature check FAILED\n"


def test_getpublic_of_a_secret(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert idtool.run(["getpublic", "id.secret"], "zerotier-idtool") == 0
    assert capsys.readouterr().out == (directory / "id.secret").read_text()[:141]


# Moons


def test_initmoon_has_the_recorded_form(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert idtool.run(["initmoon", "ca.public"], "zerotier-idtool") == 0
    printed = capsys.readouterr().out
    (recorded,) = (call for call in calls("idtool-initmoon-genmoon.txt") if call.words == ["initmoon", "ca.public"])
    blank = re.compile(r"[0-9a-f]{128}(?=\",?\n)")
    assert blank.sub("KEY", printed) == blank.sub("KEY", recorded.out)


def recorded_moon() -> dict[str, object]:
    (recorded,) = (call for call in calls("idtool-initmoon-genmoon.txt") if call.words == ["initmoon", "ca.public"])
    moon = json.loads(recorded.out)
    assert isinstance(moon, dict)
    return moon


def test_signing_key_of_the_recording_belongs_together() -> None:
    """Our derivation of the public half from the recorded secret gives the recorded one."""
    moon = recorded_moon()
    secret = bytes.fromhex(str(moon["signingKey_SECRET"]))
    assert json.loads(moonfile.template(Identity.parse(_ROOT), secret)) == moon


def test_genmoon(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moon = recorded_moon()
    moon["roots"] = [{"identity": _ROOT, "stableEndpoints": ["10.77.0.1/9993", "::1/9993", "10.0.0.1/9993"]}]
    (directory / "moon2.json").write_text(json.dumps(moon))
    assert idtool.run(["genmoon", "moon2.json"], "zerotier-idtool") == 0
    made = World.decode((directory / "000000142b028c0f.moon").read_bytes())
    expected = f"wrote 000000142b028c0f.moon (signed world with timestamp {made.timestamp})\n"
    assert capsys.readouterr().out == expected
    assert made.type is WorldType.MOON
    assert made.verify(bytes.fromhex(str(moon["updatesMustBeSignedBy"])))
    endpoints = [endpoint.text() for endpoint in made.roots[0].endpoints]
    assert endpoints == ["10.0.0.1/9993", "10.77.0.1/9993", "::1/9993"]


def test_genmoon_makes_planets_and_worlds_without_roots(directory: Path) -> None:
    moon = {**recorded_moon(), "worldType": "planet", "id": "1234"}
    del moon["roots"]
    (directory / "planet.json").write_text(json.dumps(moon))
    assert idtool.run(["genmoon", "planet.json"], "zerotier-idtool") == 0
    made = World.decode((directory / "0000000000001234.moon").read_bytes())
    assert (made.type, made.roots) == (WorldType.PLANET, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "ID in x.json is invalid"),
        ({"id": "zz"}, "ID in x.json is invalid"),
        ({"signingKey_SECRET": "00"}, "signingKey_SECRET in x.json is invalid"),
        ({"roots": [1]}, "a root's identity in x.json is invalid"),
        ({"roots": [{"identity": "bad"}]}, "a root's identity in x.json is invalid"),
        ({"roots": 5}, "roots in x.json are invalid"),
        ({"roots": [{"identity": _ROOT, "stableEndpoints": ["10.0.0.1"]}]}, "endpoint 10.0.0.1 in x.json"),
        ({"roots": [{"identity": _ROOT, "stableEndpoints": ["a/1"]}]}, "endpoint a/1 in x.json"),
        ({"roots": [{"identity": _ROOT}] * 5}, "roots in x.json are invalid"),
    ],
)
def test_descriptions_that_make_no_world(change: dict[str, object], message: str) -> None:
    with pytest.raises(moonfile.MoonError, match=re.escape(message)):
        moonfile.world(json.dumps({**recorded_moon(), **change}), "x.json", 1)


def test_genmoon_of_what_is_not_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference aborts here."""
    assert idtool.run(["genmoon", "bad.json"], "zerotier-idtool") == 1
    assert capsys.readouterr().err.startswith("bad.json is not valid JSON")


def test_recording_is_complete() -> None:
    assert text("idtool-help.txt").count("$ zerotier-idtool") == len(calls("idtool-help.txt")) == 3
