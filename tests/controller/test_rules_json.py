"""Rules as JSON and as bytes (controller §4.4, vl2 §4.1)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.support import load
from ztpipe.controller import ControllerError
from ztpipe.controller.rules_json import json_of, normalise_rules, parse_rules, render_rules, rule_of
from ztpipe.wire.rule import Rule, RuleType, decode_rules, encode_rules, value_length

EVERY_TYPE = "controller-api/44-update-network-rules-every-type"
SAMPLE = "controller-api/member-config-sample/network.json"


def test_every_type_is_stored_as_recorded() -> None:
    """Integer ranges aside, which the reference drops."""
    given_ = load(f"{EVERY_TYPE}.request.json")["body"]["rules"]
    stored = load(f"{EVERY_TYPE}.response.json")["body"]["rules"]
    ours = normalise_rules(given_, 100)
    assert [rule for rule in ours if rule["type"] != "MATCH_INTEGER_RANGE"] == stored
    assert [rule for rule in ours if rule["type"] == "MATCH_INTEGER_RANGE"] == [
        {
            "type": "MATCH_INTEGER_RANGE",
            "not": False,
            "or": False,
            "idx": 4,
            "little": True,
            "bits": 16,
            "start": "0000000000000010",
            "end": "0000000000000020",
        },
        {
            "type": "MATCH_INTEGER_RANGE",
            "not": False,
            "or": False,
            "idx": 0,
            "little": False,
            "bits": 1,
            "start": "0000000000000001",
            "end": "0000000000000002",
        },
    ]


def test_every_type_has_its_length_on_the_wire() -> None:
    rules = parse_rules(load(f"{EVERY_TYPE}.request.json")["body"]["rules"], 100)
    assert {rule.type for rule in rules} == set(RuleType) - {RuleType.ACTION_PRIORITY}
    assert all(len(rule.value) == value_length(rule.type) for rule in rules)
    assert decode_rules(encode_rules(rules)) == rules


def test_worked_integer_range() -> None:
    """The example of vl2 §4.9."""
    rule = rule_of({"type": "MATCH_INTEGER_RANGE", "start": "123", "end": "123", "little": True, "bits": 12})
    assert rule is not None
    assert rule.encode().hex() == "3313000000000000012300000000000001230000" + "8b"


def test_sampled_network_as_bytes() -> None:
    """The rules of the sampled configuration (vectors controller-api/member-config-sample)."""
    rules = parse_rules(load(SAMPLE)["rules"], 1024)
    assert encode_rules(rules).hex() == (
        "a5020800a5020806a50286dd0000260308000"
        "0020e000000aabbccddee0000000000402c0800000005000000000100a90800000000000000020500" + "0000"
    )


@pytest.mark.parametrize("mask", [True, None, [], {}])
def test_a_mask_of_another_type_is_refused(mask: object) -> None:
    with pytest.raises(ControllerError) as raised:
        normalise_rules([{"type": "MATCH_CHARACTERISTICS", "mask": mask}], 10)
    assert (raised.value.status, (raised.value.body or {})["field"]) == (400, "mask")
    assert parse_rules([{"type": "MATCH_CHARACTERISTICS", "mask": mask}, {"type": "ACTION_DROP"}], 10) == (
        Rule(RuleType.ACTION_DROP),
    )


@pytest.mark.parametrize(
    ("text", "mac"),
    [("0", "00:00:00:00:00:00"), ("zz1", "00:00:00:00:00:00"), ("aabbccddeeff0011", "aa:bb:cc:dd:ee:ff")],
)
def test_odd_macs(text: str, mac: str) -> None:
    assert normalise_rules([{"type": "MATCH_MAC_SOURCE", "mac": text}], 1)[0]["mac"] == mac


def test_limits() -> None:
    drops = [{"type": "ACTION_DROP"}] * 5
    assert len(normalise_rules(drops, 3)) == 3
    assert len(parse_rules(["bad", *drops], 3)) == 3


def test_rules_without_a_json_form_are_left_out() -> None:
    assert render_rules([Rule(60), Rule(RuleType.ACTION_PRIORITY), Rule(RuleType.VLAN_ID, value=b"x")]) == []


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    *(kind.name for kind in RuleType if kind < 16),
    *(f"MATCH_{kind.name}" for kind in RuleType if kind >= 16),
    "INTEGER_RANGE",
]
FIELDS = ["not", "or", "zt", "address", "flags", "length", "vlanId", "vlanPcp", "mac", "ip", "mask", "start", "end"]
FIELDS += ["ipProtocol", "etherType", "icmpType", "icmpCode", "probability", "id", "value", "idx", "little", "bits"]
VALUES = JSON | st.sampled_from(["10.1.2.3/8", "fe80::1%eth0/64", "::ffff:1.2.3.4/120", "ff", "-1", "0x10", "\ud800"])
RULES = st.lists(
    JSON
    | st.builds(
        lambda kind, fields: {**fields, "type": kind},
        st.sampled_from(NAMES),
        st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6),
    ),
    max_size=6,
)


@given(RULES)
def test_normalising_is_idempotent_and_raises_controller_errors_only(rules: list[Any]) -> None:
    try:
        once = normalise_rules(rules, 100)
    except ControllerError:
        return
    assert normalise_rules(once, 100) == once
    assert render_rules(parse_rules(once, 100)) == once


@given(st.sampled_from([kind for kind in RuleType if kind != RuleType.ACTION_PRIORITY]), st.data())
def test_bytes_in_normal_form_survive_the_way_through_json(kind: RuleType, data: st.DataObject) -> None:
    size = value_length(kind)
    assert size is not None
    value = data.draw(st.binary(min_size=size, max_size=size))
    fields = json_of(Rule(kind, value=value))
    assert fields is not None
    normal = rule_of(fields)
    assert normal is not None
    again = json_of(normal)
    assert rule_of(again) == normal
