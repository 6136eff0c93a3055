"""Dictionaries (vl1-wire §12, B.7; vl2 §2.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import Json, kat
from ztpipe.wire import dictionary

keys = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="="), min_size=1, max_size=8)


@pytest.mark.parametrize("vector", kat("dictionaries")["vectors"], ids=lambda v: v["what"])
def test_known(vector: Json) -> None:
    raw = bytes.fromhex(vector["raw"])
    entries = [(key, bytes.fromhex(value)) for key, value in vector["entries"]]
    assert list(dictionary.decode(raw).items()) == entries
    assert dictionary.encode(entries) == raw


@pytest.mark.parametrize("vector", kat("dictionaries")["reading"], ids=lambda v: v["raw"])
def test_known_readings(vector: Json) -> None:
    expected = {key: bytes.fromhex(value) for key, value in vector["first_value_of_each_key"]}
    assert dictionary.decode(bytes.fromhex(vector["raw"])) == expected


def test_the_appendix() -> None:
    raw = b"a=0000000000001234\nb=1\nt=x\\ey\\\\z\\r\\n\nbin=p\\0q"
    assert dictionary.encode({"a": 0x1234, "b": True, "t": "x=y\\z\r\n", "bin": b"p\0q"}) == raw


@given(st.dictionaries(keys, st.binary(max_size=40), max_size=8))
def test_round_trip(entries: dict[str, bytes]) -> None:
    assert dictionary.decode(dictionary.encode(entries)) == entries


@given(st.binary(max_size=200))
def test_decode_never_raises(raw: bytes) -> None:
    again = dictionary.decode(raw)
    assert not any(set(key) & set("\0\r\n=") for key in again)


@pytest.mark.parametrize("key", ["", "a=b", "a\n", "\0", "\r"])
def test_bad_keys(key: str) -> None:
    with pytest.raises(ValueError, match="bad dictionary key"):
        dictionary.encode({key: 1})


@pytest.mark.parametrize(
    ("text", "unsigned", "signed"),
    [
        (b"0000000000001234", 0x1234, 0x1234),
        (b"ff", 255, 255),
        (b"FF", 255, 255),
        (b"0x1f", 31, 31),
        (b"0x", 0, 0),
        (b" 12", 0x12, 0x12),
        (b"+5", 5, 5),
        (b"-5", 2**64 - 5, -5),
        (b"12zz", 0x12, 0x12),
        (b"zz", 0, 0),
        (b"024d3a68e0", 0x024D3A68E0, 0x024D3A68E0),
        (b"f" * 16, 2**64 - 1, 2**63 - 1),
        (b"f" * 40, 2**64 - 1, 2**63 - 1),
        (b"0" * 40 + b"7", 7, 7),
        (b"-" + b"f" * 16, 1, -(2**63)),
    ],
)
def test_numbers(text: bytes, unsigned: int, signed: int) -> None:
    assert dictionary.u64({"k": text}, "k", 99) == unsigned
    assert dictionary.i64({"k": text}, "k", 99) == signed


def test_defaults() -> None:
    for entries in ({}, {"k": b""}):
        assert dictionary.u64(entries, "k", 5) == 5
        assert dictionary.i64(entries, "k", -5) == -5
        assert dictionary.boolean(entries, "k", True) is True
        assert dictionary.text(entries, "k", 10, "default") == "default"


@pytest.mark.parametrize(
    ("text", "value"), [(b"1", True), (b"true", True), (b"T", True), (b"0", False), (b"yes", False)]
)
def test_booleans(text: bytes, value: bool) -> None:
    assert dictionary.boolean({"k": text}, "k") is value


def test_text_is_cut() -> None:
    assert dictionary.text({"k": b"abc\0def"}, "k", 10) == "abc"
    assert dictionary.text({"k": b"abcdef"}, "k", 3) == "abc"
    assert dictionary.text({"k": b"a\xffb"}, "k", 3) == "a�b"
