"""Where errors of the compiler are for people, and what they are told to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rules.test_compiler import SOURCES, source_of
from ztpipe.rules.compiler import RulesError, compile_rules
from ztpipe.rules.hints import hint, word_at

WRONG = [path for path in SOURCES if not path.with_suffix(".json").exists()]


def failure(source: str) -> RulesError:
    with pytest.raises(RulesError) as raised:
        compile_rules(source)
    return raised.value


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_every_known_error_has_a_place_and_a_hint(path: Path) -> None:
    source = source_of(path)
    error = failure(source)
    line, column = error.position
    assert 1 <= line <= source.count("\n") + 1 and column >= 1
    assert hint(error, source) != "see the language's reference"


@pytest.mark.parametrize(
    ("source", "word", "advice"),
    [
        ("dorp;", "dorp", "did you mean drop?"),
        ("accept and;\n  drop ethertpye ipv4;", "ethertpye", "did you mean ethertype?"),
        ("drop ipprotocol udplight;", "udplight", "did you mean udplite?"),
        ("drop chr inbound,tcp_sin;", "inbound,tcp_sin", "did you mean tcp_syn?"),
        ("macro web accept dport 80; ;\ninclude wbe;", "wbe", "did you mean web?"),
        ("drop and; ethertype ipv4;", "ethertype", "a match must follow an action"),
        ("accept;\ndrop ethertype ipv4;", "drop", "end the statement before it"),
        ("drop ipsrc 10.0.0.1;", "10.0.0.1", "add the length of the prefix"),
        ("accept and;\ntee 64;", "tee", "write: tee LENGTH ADDRESS"),
    ],
)
def test_place_and_hint(source: str, word: str, advice: str) -> None:
    error = failure(source)
    assert word_at(source, error.position) == word
    assert hint(error, source).startswith(advice)
