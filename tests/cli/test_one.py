"""Options of zerotier-one, and what a failed start prints (service §1.2, service-start-errors.txt)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.api.recorded import text
from ztpipe import __main__
from ztpipe.cli import one
from ztpipe.cli.errors import explain, guarded
from ztpipe.config import KNOBS, ConfigError
from ztpipe.store import HomeError


def first_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.split("\n")[0]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert one.run(["-v"], "zerotier-one") == 0
    assert capsys.readouterr() == ("1.14.1\n", "")


@pytest.mark.parametrize(
    ("words", "status"),
    [(["-Z"], 0), (["-h"], 0), (["-?"], 0), (["a", "b"], 0), (["-p70000"], 1), (["-ix"], 0), (["-qx"], 0)],
)
def test_usage(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert one.run(words, "zerotier-one") == status
    assert "ZeroTier One version 1.14.1" in first_line(capsys)  # as in the first line of the recorded usage


@pytest.mark.parametrize(("word", "port"), [("-p9994", 9994), ("-p0", 0), ("-p", 0), ("-pabc", 0), ("-p65535", 65535)])
def test_port(word: str, port: int) -> None:
    assert one.parse([word]).port == port


def test_words_of_the_service() -> None:
    parsed = one.parse(["-U", "-d", "-p1", "/h"])
    assert (parsed.unprivileged, parsed.background, parsed.port, parsed.home) == (True, True, 1, "/h")


def test_idtool_personality(capsys: pytest.CaptureFixture[str]) -> None:
    assert one.run(["-i", "getpublic", "nofile"], "zerotier-one") == 1
    assert capsys.readouterr().err == "Identity argument invalid or file unreadable: nofile\n"
    assert one.run(["-i"], "zerotier-one") == 1
    assert "Usage: -i <command>" in capsys.readouterr().out


def test_cli_personality(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/sbin/zerotier-one", "-q", f"-D{tmp_path}", "info"])
    assert one.main() == 2
    expected = f"zerotier-one: missing port and zerotier-one.port not found in {tmp_path}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(("name", "output"), [("zerotier-cli", "1.14.1\n"), ("zerotier-idtool", "Usage: zerotier-id")])
def test_personality_by_name(
    name: str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/usr/sbin/{name}", "-v"])
    one.main()
    assert output in capsys.readouterr().out


def test_not_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert one.run(["-p9995", "./e5"], "zerotier-one") == 1
    err = capsys.readouterr().err
    assert err == "zerotier-one: must be run as root (uid 0)\n"
    assert err in text("service-start-errors.txt")


def start(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The real program, which must not get as far as opening anything."""
    root = str(Path(one.__file__).parents[2])
    code = (
        f"import sys; sys.argv[0] = 'zerotier-one'; sys.path.insert(0, {root!r})\n"
        "from ztpipe.cli.one import main\nsys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "-U", "-p9995", *words, str(home)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[]", "ERROR: unable to parse local.conf (root element is not a JSON object)"),
        ("{", "ERROR: unable to parse local.conf (invalid JSON)"),
    ],
)
def test_bad_local_conf(tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "local.conf").write_text(content)
    done = start(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{line}: {tmp_path}/local.conf: ")
    assert done.stderr.count("\n") == 1
    assert line in text("service-start-errors.txt")


def test_old_controller_database(tmp_path: Path) -> None:
    (tmp_path / "controller.db").write_text("")
    done = start(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    beginning = f"zerotier-one: FATAL: an old controller.db exists in {tmp_path} -- "
    assert done.stderr.startswith(beginning)
    assert beginning.replace(str(tmp_path), "./e4") in text("service-start-errors.txt")


def test_home_that_cannot_be_made() -> None:
    done = start(Path("/proc/nope/x"))
    assert done.returncode == 1
    expected = "zerotier-one: fatal error: home path /proc/nope/x does not exist, and could not create"
    assert done.stderr.startswith(expected)


def test_own_section_of_local_conf(tmp_path: Path) -> None:
    (tmp_path / "local.conf").write_text('{"ztpipe":{"tapWorkers":0}}')
    done = start(tmp_path)
    expected = f"{tmp_path}/local.conf: ztpipe.tapWorkers: expected a whole number from 1 to 64, found 0\n"
    assert (done.returncode, done.stderr) == (1, f"zerotier-one: fatal error: {expected}")


# Explanations


class TapError(OSError):
    """As the host layer raises it."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("environment", "ZTPIPE_X", "expected x"), "p: fatal error: environment: ZTPIPE_X: expected x"),
        (HomeError("invalid identity loaded"), "p: fatal error: invalid identity loaded"),
        (
            OSError(errno.EADDRINUSE, "Address already in use"),
            "p: fatal error: Address already in use (another node or program uses it; stop it, or choose another port)",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/var/lib/x"),
            "p: fatal error: /var/lib/x: Permission denied (run as the owner of the file or as root)",
        ),
        (
            TapError(errno.EPERM, "no CAP_NET_ADMIN, so no TAP device can be made: run as root or grant it"),
            "p: fatal error: no CAP_NET_ADMIN, so no TAP device can be made: run as root or grant it",
        ),
        (OSError("text only"), "p: fatal error: text only"),
    ],
)
def test_explanations(error: Exception, line: str) -> None:
    assert explain(error, "p") == line


def test_guard_gives_the_exit_status_of_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    class Refused(OSError):
        exit_status = 255

    def fail() -> int:
        raise Refused("no listener")

    assert guarded("p", fail) == 255
    assert capsys.readouterr().err == "p: fatal error: no listener\n"
    assert guarded("p", lambda: 7) == 7


def test_guard_lets_defects_through() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded("p", fail)


# The command ztpipe


def test_ztpipe_lists_what_it_has_without_importing_it() -> None:
    shown = CliRunner().invoke(__main__.main, ["--help"])
    assert shown.exit_code == 0
    assert "run" in shown.output
    assert CliRunner().invoke(__main__.main, ["nonsense"]).exit_code == 2


def test_ztpipe_run_has_every_knob() -> None:
    shown = CliRunner().invoke(__main__.main, ["run", "--help"]).output
    assert not [knob.flag for knob in KNOBS if knob.flag not in shown]


def test_ztpipe_run_explains_a_bad_switch(tmp_path: Path) -> None:
    done = CliRunner().invoke(__main__.main, ["run", str(tmp_path), "--layout", "spiral"])
    assert done.exit_code == 1
    assert done.stderr.startswith("ztpipe: fatal error: command line: --layout: expected")
