"""From compiled rules back to source: what comes out compiles to the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.rules.compiler import compile_rules
from ztpipe.rules.decompile import decompile

VECTORS = Path(__file__).parents[1] / "vectors"
COMPILED = sorted((VECTORS / "rules").glob("*.json"))


@pytest.mark.parametrize("path", COMPILED, ids=lambda p: p.stem)
def test_compiled_known_answers(path: Path) -> None:
    whole = json.loads(path.read_bytes())
    source = decompile(whole["config"], whole["tagsByName"])
    again = compile_rules(source).config()
    if "# " in source:
        pytest.fail(source)
    assert comparable(again) == comparable(whole["config"])


def comparable(config: Any) -> Any:
    """Tag defaults, as the controller reads them: modulo 2^32."""
    tags = [
        {"id": t["id"], "default": t["default"] if t["default"] is None else t["default"] % 2**32}
        for t in config["tags"]
    ]
    return {**config, "tags": tags}


def test_what_cannot_be_written_is_a_comment_as_a_whole() -> None:
    rules = [
        {"type": "MATCH_ETHERTYPE", "etherType": 2048},
        {"type": "MATCH_INTEGER_RANGE", "start": "1", "end": "2"},
        {"type": "ACTION_ACCEPT"},
        {"type": "MATCH_IP_DEST_PORT_RANGE", "start": 9, "end": 3},
        {"type": "ACTION_DROP"},
        {"type": "MATCH_ETHERTYPE", "etherType": 2054},
        {"type": "ACTION_BREAK"},
        {"type": "MATCH_ETHERTYPE", "etherType": 2054},
    ]
    lines = decompile({"rules": rules}).splitlines()
    assert [line.split()[0] for line in lines] == ["#", "#", "break", "#"]
    assert compile_rules("\n".join(lines)).rules == [
        {"type": "MATCH_ETHERTYPE", "not": False, "or": False, "etherType": 2054},
        {"type": "ACTION_BREAK"},
    ]


def test_bare_actions_do_not_close_the_capability_around_them() -> None:
    rules = [{"type": "ACTION_BREAK"}, {"type": "ACTION_ACCEPT"}]
    config = {"capabilities": [{"id": 7, "default": True, "rules": rules}], "rules": rules}
    assert compile_rules(decompile(config)).config() == {**config, "tags": []}


@given(st.integers(0, 0xFFFFFFFF))
def test_probabilities(probability: int) -> None:
    rules = [{"type": "MATCH_RANDOM", "not": False, "or": False, "probability": probability}, {"type": "ACTION_DROP"}]
    assert compile_rules(decompile({"rules": rules})).rules == rules


@given(st.integers(0, 2**64 - 1))
def test_characteristics(mask: int) -> None:
    rules = [
        {"type": "MATCH_CHARACTERISTICS", "not": True, "or": True, "mask": f"{mask:016x}"},
        {"type": "ACTION_DROP"},
    ]
    assert compile_rules(decompile({"rules": rules})).rules == rules


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(
    ["ACTION_TEE", "ACTION_DROP", "MATCH_IP_TOS", "MATCH_ICMP", "MATCH_RANDOM", "MATCH_CHARACTERISTICS", "X"]
)
FIELDS = st.sampled_from(
    ["address", "length", "mask", "start", "end", "icmpType", "icmpCode", "probability", "not", "or", "default", "id"]
)
OBJECTS = st.builds(lambda kind, rest: {**rest, "type": kind}, KINDS, st.dictionaries(FIELDS, JSON, max_size=4))


@given(st.dictionaries(st.sampled_from(["rules", "tags", "capabilities"]), JSON | st.lists(JSON | OBJECTS, max_size=5)))
def test_never_fails_and_always_compiles(config: dict[str, Any]) -> None:
    compile_rules(decompile(config))
