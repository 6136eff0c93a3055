"""What a POST does to a record, for any JSON value (controller §3, §4, §5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.test_rules_json import JSON, RULES, VALUES
from ztpipe.controller import ControllerError, coerce, member, network
from ztpipe.controller.view import NetworkView

NWID = 0x3BFB63739C000001
ADDRESS = 0xDD66781748

OBJECTS = st.dictionaries(
    st.sampled_from(
        ["id", "default", "target", "via", "ipRangeStart", "ipRangeEnd", "domain", "servers", "rules", "zt"]
    ),
    VALUES | RULES,
    max_size=5,
)
NETWORK_BODIES = JSON | st.dictionaries(
    st.sampled_from([*network.defaults(0), "unknown"]),
    VALUES | st.lists(OBJECTS, max_size=4) | OBJECTS | RULES,
    max_size=8,
)
MEMBER_BODIES = JSON | st.dictionaries(
    st.sampled_from([*member.defaults(0), "name", "unknown"]),
    VALUES | st.lists(VALUES | st.lists(VALUES, min_size=2, max_size=2), max_size=4),
    max_size=8,
)


@given(NETWORK_BODIES)
def test_network_normalisation(body: Any) -> None:
    """Posting back what was stored changes nothing, and what is stored can be written and read."""
    try:
        record = network.updated(None, body, NWID, 5)
    except ControllerError:
        return
    assert json.loads(json.dumps(record, allow_nan=False, ensure_ascii=False).encode()) == record
    record = network.updated(record, record, NWID, 6)  # here the default rule loses its "not" and "or"
    assert network.updated(record, record, NWID, 7) == record
    NetworkView.of(NWID, record)


@given(MEMBER_BODIES)
def test_member_normalisation(body: Any) -> None:
    try:
        record = member.updated(None, body, NWID, ADDRESS, 5)
    except ControllerError:
        return
    assert json.loads(json.dumps(record, allow_nan=False, ensure_ascii=False).encode()) == record
    again = member.updated(record, record, NWID, ADDRESS, 6)
    again.pop(member.CAPABILITIES_CHOSEN, None)
    record.pop(member.CAPABILITIES_CHOSEN, None)
    assert again == record


@given(
    st.dictionaries(st.sampled_from([*network.defaults(0), "certificateTimeoutWindowSize"]), VALUES | OBJECTS | RULES)
)
def test_any_stored_network_can_be_read(record: dict[str, Any]) -> None:
    view = NetworkView.of(NWID, record)
    assert 1280 <= view.mtu <= 10000
    assert 300_000 <= view.window <= 7_200_000
    assert len(view.name.encode()) <= 127


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *[(3.9, 3), (-1, 2**64 - 1), (-5.5, 2**64 - 5), ("0x10", 0), ("12x", 12), (True, 1), (None, 7), ([], 7)],
        *[("", 0), ("9" * 30, 2**64 - 1), (float("inf"), 0), (2**64 + 3, 3)],
    ],
)
def test_integers(value: object, number: int) -> None:
    assert coerce.integer(value, 7) == number


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        *[(-1, True), (0, False), (0.5, False), ("true", True), ("T", True), ("1", True), ("false", False)],
        *[("yes", False), ("", False), (None, None), ([], None)],
    ],
)
def test_booleans(value: object, truth: bool | None) -> None:
    for default in (False, True):
        assert coerce.boolean(value, default) is (default if truth is None else truth)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("300.1.2.3/8", ("0.0.0.0", 8)),
        ("10.1.2.3/99", ("10.1.2.3", 99)),
        ("10.1.2.3/65544", ("10.1.2.3", 8)),
        ("10.1.2.3", ("10.1.2.3", 0)),
        ("fd00:0077:0000::1/64", ("fd00:77::1", 64)),
        ("::ffff:1.2.3.4", ("::ffff:1.2.3.4", 0)),
        ("::1.2.3.4", ("::1.2.3.4", 0)),
        ("::1", ("::1", 0)),
        ("fe80::1%eth0", ("::", 0)),
        ("bad", None),
        ("", None),
        ("1.2.3.4/" + "0" * 60, None),
        (5, None),
    ],
)
def test_addresses(text: object, expected: tuple[str, int] | None) -> None:
    found = coerce.address(text)
    assert (None if found is None else (coerce.ip_text(found.ip), found.port)) == expected


def test_fields_no_request_may_set_are_kept_as_stored() -> None:
    stored = {"rulesSource": "accept;", "ssoEnabled": True, "certificateTimeoutWindowSize": 600_000, "custom": [1]}
    record = network.updated(stored, {"ssoEnabled": False, "custom": 2}, NWID, 5)
    assert {key: record[key] for key in stored} == stored


def test_trace_target_is_ten_bytes() -> None:
    assert network.trace_target("aabbccddee") == "aabbccddee"
    assert network.trace_target("ääbbccddee") is None
    assert network.trace_target(1234567890) == "1234567890"
