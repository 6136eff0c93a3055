"""``ztpipe rules``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from tests.rules.test_compiler import SOURCES, source_of
from ztpipe.__main__ import main

GOOD = [path for path in SOURCES if path.with_suffix(".json").exists()]


def run(*arguments: str, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["rules", *arguments], input=text)


def test_compile_prints_what_the_reference_prints() -> None:
    for path in GOOD[::9]:
        result = run("compile", "--reference", str(path))
        assert (result.exit_code, result.stdout_bytes) == (0, path.with_suffix(".json").read_bytes())


def test_check_shows_place_line_and_hint() -> None:
    result = run("check", text="accept and;\n\tdrop not ethertpye ipv4;\n")
    assert result.exit_code == 1
    assert result.stderr == (
        '<stdin>:2:11: error: Unrecognized match type "ethertpye".\n'
        "    \tdrop not ethertpye ipv4;\n    \t         ^\nhint: did you mean ethertype?\n"
    )
    assert run("check", text="drop and; tag a id 1;").stdout == "<stdin>: correct: 1 rule, 0 capabilities, 1 tag\n"


def test_not_utf8_is_no_traceback() -> None:
    result = run("check", text=b"\xff\xfe")
    assert result.exit_code == 1 and result.stderr.startswith("<stdin>: is not UTF-8")


@pytest.mark.parametrize("text", ["[", "3"])
def test_decompile_of_what_is_no_config(text: str) -> None:
    result = run("decompile", text=text)
    assert result.exit_code == 1 and "expected" in result.stderr


def test_decompile_keeps_names_and_meaning() -> None:
    source = "tag role id 7 enum 1 boss default boss;\ndrop not tseq role boss and ethertype ipv4;\naccept;\n"
    compiled = run("compile", text=source).stdout
    again = run("decompile", text=compiled).stdout
    assert "role" in again
    assert json.loads(run("compile", text=again).stdout)["config"] == json.loads(compiled)["config"]


def test_explain_source_and_json() -> None:
    source = "tag role id 7;\ncap web id 1 accept dport 80; ;\ndrop not ethertype ipv4 and not ethertype arp; accept;"
    expected = "  1. Drop if not (the EtherType is ipv4) and not (the EtherType is arp).\n  2. Accept, always.\n"
    result = run("explain", text=source)
    assert result.exit_code == 0
    assert expected in result.stdout
    assert "Tag role: members have none unless set." in result.stdout
    assert "Accept if the destination port is 80." in result.stdout
    assert expected in run("explain", text=run("compile", text=source).stdout).stdout


def test_explain_reads_every_known_answer() -> None:
    for path in GOOD:
        assert "MATCH_" not in run("explain", str(path)).stdout, source_of(path)
