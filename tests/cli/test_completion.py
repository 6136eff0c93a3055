"""Completion in the three shells themselves: a line is given to them, what they would offer is compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ztpipe.__main__ import main
from ztpipe.cli.completion import table
from ztpipe.cli.completion_scripts import SCRIPTS

NWID = "8056c2e21c000001"

#: Runs the shell's own function on the words of a line; the last word is the one being written.
_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_ztpipe
printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH = """
compdef() { : }
_files() { print FILES }
_describe() { for one in "${found[@]}"; do [[ $one == $cur* ]] && print -r -- "${one%%:*}"; done }
source "$1"; shift
words=("$@"); CURRENT=$#
_ztpipe
"""
_FISH = """
source $argv[1]
complete -C (string join ' ' -- $argv[2..-1]) | cut -f1
"""
_RUN = {"bash": ["bash", "-c", _BASH, "bash"], "zsh": ["zsh", "-fc", _ZSH, "zsh"], "fish": ["fish", "-Nc", _FISH]}

Complete = Callable[..., list[str]]


@pytest.fixture(params=SCRIPTS)
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Complete:
    """What a shell offers for the words of a line; `zerotier-cli` there answers from a file."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"NOT TESTED in {shell}: it is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell](table(main)))
    node = tmp_path / "bin" / "zerotier-cli"
    node.parent.mkdir()
    node.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"listnetworks) echo '200 listnetworks <nwid>'; echo '200 listnetworks {NWID} name mac OK' ;;\n"
        f"/controller/network) echo '[\"{NWID}\"]' ;;\n"
        f"/controller/network/{NWID}/member) echo '{{\"aabbccddee\": 1}}' ;;\n"
        "*) exit 1 ;;\n"
        "esac\n"
    )
    node.chmod(0o755)
    environment = {"PATH": f"{node.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}

    def ask(*words: str) -> list[str]:
        arguments = [*_RUN[shell], str(script), *words]
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=30, env=environment, check=False)
        assert result.stderr == ""
        return sorted(filter(None, result.stdout.splitlines()))

    return ask


def test_commands(complete: Complete) -> None:
    assert complete("ztpipe", "controller", "mem") == ["member", "members"]
    assert {"run", "controller", "rules", "completion"} <= set(complete("ztpipe", ""))
    assert complete("ztpipe", "completion", "") == ["bash", "fish", "zsh"]
    assert complete("zerotier-cli", "jo") == ["join"]
    assert complete("zerotier-idtool", "gen") == ["generate", "genmoon"]


def test_options(complete: Complete) -> None:
    assert complete("ztpipe", "controller", "members", NWID, "--o") == ["--offline", "--online"]
    assert {"-p", "-U"} <= set(complete("zerotier-one", "-"))


def test_a_value_of_an_option_is_no_word_of_the_command(complete: Complete) -> None:
    line = ("ztpipe", "controller", "-T", "token", "-j", "token", "add", "ui", "")
    assert complete(*line) == ["all", "members", "read"]


def test_what_the_node_knows(complete: Complete) -> None:
    assert complete("zerotier-cli", "leave", "") == [NWID]
    assert "allowDNS=1" in complete("zerotier-cli", "set", NWID, "allowD")
    assert complete("ztpipe", "controller", "show", "") == [NWID]
    assert complete("ztpipe", "controller", "authorise", NWID, "") == ["aabbccddee"]
    assert complete("ztpipe", "controller", "authorise", NWID, "1122334455", "") == ["aabbccddee"], "several"
    assert complete("zerotier-cli", "deorbit", "") == [], "it does not answer"


_FRESH = """
import sys
from ztpipe.__main__ import main
from ztpipe.cli.completion import table
from ztpipe.cli.completion_scripts import SCRIPTS
sys.stdout.write(SCRIPTS[sys.argv[1]](table(main)))
"""


def test_the_command() -> None:
    """Compared with a process of its own: click remembers help options as they were when a command was first used."""
    for shell in SCRIPTS:
        arguments = [sys.executable, "-m", "ztpipe", "completion", shell]
        script = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True).stdout
        fresh = [sys.executable, "-c", _FRESH, shell]
        assert script == subprocess.run(fresh, capture_output=True, text=True, timeout=30, check=True).stdout
        assert "{program}" not in script
