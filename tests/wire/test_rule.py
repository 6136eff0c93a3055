# ruff: noqa: E501 - known values stay on one line
"""Rules on the wire (vl2 §4.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.wire.errors import WireError
from ztpipe.wire.rule import Rule, RuleType, decode_rules, encode_rules, read_rules, value_length


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    kind = draw(st.integers(0, 63))
    length = value_length(kind)
    size = draw(st.integers(0, 255)) if length is None else length
    known = {int(t): t for t in RuleType}
    return Rule(
        known.get(kind, kind), draw(st.booleans()), draw(st.booleans()), draw(st.binary(min_size=size, max_size=size))
    )


@given(st.lists(rules(), max_size=20).map(tuple))
def test_round_trip(value: tuple[Rule, ...]) -> None:
    raw = encode_rules(value)
    assert decode_rules(raw) == value
    assert read_rules(b"x" + raw, 1, len(value)) == (value, 1 + len(raw))
    if value:
        with pytest.raises(WireError, match="truncated_rule"):
            read_rules(raw[:-1], 0, len(value))


# The table of vl2 §4.1: number, length.
LENGTHS = {
    0: 0, 1: 0, 2: 14, 3: 14, 4: 14, 5: 0, 6: 0, 24: 5, 25: 5, 26: 2, 27: 1, 28: 1, 29: 6, 30: 6, 31: 5, 32: 5, 33: 17, 34: 17,
    35: 3, 36: 1, 37: 2, 38: 3, 39: 4, 40: 4, 41: 8, 42: 4, 43: 4, 44: 8, 45: 8, 46: 8, 47: 8, 48: 8, 49: 8, 50: 8, 51: 19,
}  # fmt: skip


def test_lengths() -> None:
    assert {kind: value_length(kind) for kind in range(64) if value_length(kind) is not None} == LENGTHS
    assert {int(kind) for kind in RuleType} == set(LENGTHS)


@pytest.mark.parametrize("kind", LENGTHS)
def test_other_lengths_are_refused(kind: int) -> None:
    for size in {LENGTHS[kind] + 1, max(LENGTHS[kind] - 1, 0)} - {LENGTHS[kind]}:
        with pytest.raises(WireError, match="bad_rule"):
            decode_rules(bytes((kind, size)) + bytes(size))


def test_bits() -> None:
    assert Rule(RuleType.ETHERTYPE, negate=True, value=b"\x86\xdd").encode().hex() == "a50286dd"
    assert Rule(RuleType.IP_PROTOCOL, or_=True, value=b"\x06").encode().hex() == "640106"
    assert decode_rules(b"\xe4\x01\x06") == (Rule(RuleType.IP_PROTOCOL, True, True, b"\x06"),)


def test_limit() -> None:
    assert len(decode_rules(b"\x01\x00" * 2000)) == 1024
    assert len(decode_rules(b"\x01\x00" * 10, limit=3)) == 3


@given(st.binary(max_size=100))
def test_decode_raises_nothing_else(raw: bytes) -> None:
    try:
        assert encode_rules(decode_rules(raw)) == raw
    except WireError:
        pass
