"""The rule compiler against every known answer (vectors rules/)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.rules.compiler import RulesError, compile_rules
from ztpipe.rules.words import RESERVED

VECTORS = Path(__file__).parents[1] / "vectors" / "rules"
SOURCES = sorted(VECTORS.glob("*.ztrules"))
#: The text of these depends on the host language (vectors rules/README.md).
UNEXPECTED = "Unexpected exception:"


def source_of(path: Path) -> str:
    return path.read_bytes().decode()


@pytest.mark.parametrize("path", [p for p in SOURCES if p.with_suffix(".json").exists()], ids=lambda p: p.stem)
def test_output_is_that_of_the_reference(path: Path) -> None:
    assert compile_rules(source_of(path), defects=True).text() == path.with_suffix(".json").read_bytes().decode()


@pytest.mark.parametrize("path", [p for p in SOURCES if not p.with_suffix(".json").exists()], ids=lambda p: p.stem)
def test_errors_are_those_of_the_reference(path: Path) -> None:
    expected = path.with_suffix(".error.txt").read_bytes().decode().strip()
    with pytest.raises(RulesError) as raised:
        compile_rules(source_of(path))
    actual = str(raised.value)
    if UNEXPECTED in expected:
        expected, actual = (text.partition(UNEXPECTED)[0] + UNEXPECTED for text in (expected, actual))
    assert actual == expected


def test_there_are_vectors() -> None:
    assert len(SOURCES) == 133


@pytest.mark.parametrize(
    ("names", "mask"),
    [
        ("inbound", "8000000000000000"),
        ("inbound,tcp_syn", "8000000000000002"),
        ("inbound,multicast", "c000000000000000"),
        ("inbound,broadcast,ipauth", "b000000000000000"),
        ("31,0", "0000000080000001"),
    ],
)
def test_masks_are_right_unless_defects_are_asked_for(names: str, mask: str) -> None:
    """The table of rules-language §8.3, column "intended"."""
    assert compile_rules(f"drop chr {names};").rules[0]["mask"] == mask


@pytest.mark.parametrize("body", ["drop; ", ""])
def test_macros_that_multiply_are_stopped(body: str) -> None:
    doubling = "".join(f"macro m{n + 1} include m{n} include m{n} ;\n" for n in range(40))
    with pytest.raises(RulesError, match=UNEXPECTED):
        compile_rules(f"macro m0 {body};\n{doubling}include m40\n")


OTHERS = "id flag $p m($p) m(1) m 10.0.0.0/8 ::/0 1-2 0x1f -1 # ; t"
WORDS = st.sampled_from([*sorted(RESERVED), *OTHERS.split()])


@given(st.lists(st.tuples(WORDS | st.text(max_size=6), st.sampled_from([" ", "; ", "\n", ";\r\n", ";"])), max_size=30))
def test_any_source_compiles_or_is_refused(words: list[tuple[str, str]]) -> None:
    try:
        compiled = compile_rules("".join(word + end for word, end in words))
    except RulesError:
        return
    assert compiled.text().endswith("}\n")
