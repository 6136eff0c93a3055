"""The Python rules evaluator: worked examples of vl2 §4.9, tables of hard and soft answers (§4.4, §4.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.rules.evaluate import CompiledRules, Copy, Evaluation, Situation, Verdict, compile_rules
from ztpipe.rules.frameview import FrameView
from ztpipe.wire.rule import Rule, RuleType, decode_rules

OWN, PEER, OBSERVER = 0x1111111111, 0x2222222222, 0x3333333333
IPV4, ARP, IPV6, LLDP = 0x0800, 0x0806, 0x86DD, 0x88CC

ACCEPT = "0100"
DROP = "0000"
BREAK = "0500"


def rules(text: str) -> CompiledRules:
    return compile_rules(decode_rules(bytes.fromhex(text.replace(" ", ""))))


def ipv4(protocol: int, body: bytes = b"", *, source: bytes = b"\x0a\0\0\1", tos: int = 0) -> bytes:
    return bytes((0x45, tos)) + bytes(7) + bytes((protocol,)) + bytes(2) + source + b"\x0a\0\0\2" + body


def ipv6(protocol: int, body: bytes = b"", *, source: bytes = b"\xfd" + bytes(15)) -> bytes:
    return b"\x60" + bytes(5) + bytes((protocol, 64)) + source + b"\xfd" + bytes(14) + b"\x02" + body


def ports(source: int, destination: int, rest: bytes = bytes(16)) -> bytes:
    return source.to_bytes(2, "big") + destination.to_bytes(2, "big") + rest


def situation(data: bytes = bytes(64), ethertype: int = IPV4, *, inbound: bool = False, **changes: Any) -> Situation:
    values: dict[str, Any] = {
        "frame": FrameView(ethertype, data),
        "inbound": inbound,
        "own_address": OWN,
        "zt_source": PEER if inbound else OWN,
        "zt_dest": OWN if inbound else PEER,
        "mac_source": 0x020000000001,
        "mac_dest": 0x020000000002,
        "random": lambda size: bytes(size),
    }
    return Situation(**values | changes)


def verdict(text: str, *args: Any, **kwargs: Any) -> Verdict:
    return rules(text).evaluate(situation(*args, **kwargs)).verdict


# --- worked examples ----------------------------------------------------------------------------------------

DEFAULT_RULES = "a5020800 a5020806 a50286dd 0000 0100"


@pytest.mark.parametrize(
    ("ethertype", "expected"),
    [(ARP, Verdict.ACCEPT), (IPV4, Verdict.ACCEPT), (IPV6, Verdict.ACCEPT), (LLDP, Verdict.DROP)],
)
def test_usual_default_rules(ethertype: int, expected: Verdict) -> None:
    assert verdict(DEFAULT_RULES, ethertype=ethertype) is expected


TAGS_DIFFERENCE_100_0 = "2c08 00000064 00000000"
NOT_TAGS_DIFFERENCE_100_0 = "ac08 00000064 00000000"


@pytest.mark.parametrize(("inbound", "expected"), [(False, Verdict.ACCEPT), (True, Verdict.DROP)])
def test_positive_tag_condition_is_strict_at_the_receiver_only(inbound: bool, expected: Verdict) -> None:
    assert verdict(TAGS_DIFFERENCE_100_0 + ACCEPT + DROP, inbound=inbound, local_tags={100: 7}) is expected


@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("local_tags", [{100: 7}, {}])
def test_negative_tag_condition_never_drops_a_peer_without_the_tag(inbound: bool, local_tags: dict[int, int]) -> None:
    assert verdict(NOT_TAGS_DIFFERENCE_100_0 + DROP + ACCEPT, inbound=inbound, local_tags=local_tags) is Verdict.ACCEPT


def test_negative_tag_condition_drops_a_peer_with_another_value() -> None:
    text = NOT_TAGS_DIFFERENCE_100_0 + DROP + ACCEPT
    assert verdict(text, local_tags={100: 7}, remote_tags={100: 8}) is Verdict.DROP
    assert verdict(text, local_tags={100: 7}, remote_tags={100: 7}) is Verdict.ACCEPT


@pytest.mark.parametrize(
    ("protocol", "port", "expected"),
    [(17, 80, Verdict.ACCEPT), (6, 80, Verdict.ACCEPT), (6, 81, Verdict.NO_MATCH), (132, 80, Verdict.NO_MATCH)],
)
def test_or(protocol: int, port: int, expected: Verdict) -> None:
    text = "240111 640106 280400500050 0100"
    assert verdict(text, ipv4(protocol, ports(1, port))) is expected


TEE_OBSERVER_ACCEPT = "020e 0000003333333333 00000000 0000" + ACCEPT


def test_observer_gets_a_copy_from_both_sides() -> None:
    for inbound in (False, True):
        result = rules(TEE_OBSERVER_ACCEPT).evaluate(situation(bytes(50), inbound=inbound))
        assert result == Evaluation(Verdict.ACCEPT, 0, Copy(OBSERVER, 50, watch=False))


def test_observer_takes_copies_whatever_their_addresses() -> None:
    at_observer = {"inbound": True, "own_address": OBSERVER, "zt_dest": OBSERVER}
    assert verdict(TEE_OBSERVER_ACCEPT, **at_observer) is Verdict.SUPER_ACCEPT
    # Also when the set that names it does not match: a later ACCEPT is a super accept.
    assert verdict("25020806" + TEE_OBSERVER_ACCEPT, **at_observer) is Verdict.SUPER_ACCEPT
    # And then tags of a side always match, but the DROP after them is skipped.
    tee = TEE_OBSERVER_ACCEPT.removesuffix(ACCEPT)
    assert verdict("25020806" + tee + "31080000006400000001" + DROP + ACCEPT, **at_observer) is Verdict.SUPER_ACCEPT


def test_capability_example() -> None:
    base = "25020806 0100 0500"
    capability = "280400160016 0100"
    to_22, from_22 = ipv4(6, ports(1000, 22)), ipv4(6, ports(22, 1000))
    assert verdict(base, to_22) is Verdict.NO_MATCH
    assert verdict(base, ethertype=ARP) is Verdict.ACCEPT
    assert verdict(capability, to_22) is Verdict.ACCEPT
    assert verdict(capability, from_22) is Verdict.NO_MATCH


def test_little_endian_integer_range() -> None:
    text = "3313 0000000000000123 0000000000000123 0000 8b 0100"
    assert verdict(text, bytes.fromhex("3412")) is Verdict.ACCEPT
    assert verdict(text, bytes.fromhex("4412")) is Verdict.NO_MATCH


# --- the adhoc rules (vl2 §1.5) -----------------------------------------------------------------------------

ADHOC = (
    "a50286dd 0000 24013a 0100 240111 640106 28041f901f91 0100 "
    "a9080000000000000002 0100 29080000000000000002 29080000000000000010 0100 0000"
)


@pytest.mark.parametrize(
    ("data", "ethertype", "expected"),
    [
        (ipv4(6, ports(1, 0x1F90)), IPV4, Verdict.DROP),
        (ipv6(0x3A, bytes(8)), IPV6, Verdict.ACCEPT),
        (ipv6(17, ports(1, 9)), IPV6, Verdict.ACCEPT),
        (ipv6(6, ports(1, 0x1F90, bytes(9) + b"\x02" + bytes(6))), IPV6, Verdict.ACCEPT),
        (ipv6(6, ports(1, 9, bytes(9) + b"\x02" + bytes(6))), IPV6, Verdict.DROP),
        (ipv6(6, ports(1, 9, bytes(9) + b"\x12" + bytes(6))), IPV6, Verdict.ACCEPT),
        (ipv6(6, ports(1, 9, bytes(9) + b"\x10" + bytes(6))), IPV6, Verdict.ACCEPT),
    ],
)
def test_adhoc_rules_drop_only_what_opens_other_connections(data: bytes, ethertype: int, expected: Verdict) -> None:
    assert verdict(ADHOC, data, ethertype) is expected


# --- hard answers -------------------------------------------------------------------------------------------


def test_not_has_no_effect_on_hard_answers() -> None:
    echo, reply = ipv4(1, b"\x08\x00"), ipv4(1, b"\x00\x00")
    not_echo = "a603080000 0100"
    assert verdict(not_echo, echo) is Verdict.ACCEPT
    assert verdict(not_echo, reply) is Verdict.NO_MATCH
    assert verdict("a40106 0100", ethertype=ARP) is Verdict.NO_MATCH  # NOT IP_PROTOCOL does not match ARP
    assert verdict("a80400500050 0100", ethertype=ARP) is Verdict.NO_MATCH
    assert verdict("a80400500050 0100", echo) is Verdict.ACCEPT  # but the port of IPv4 ICMP is softly missing


def test_icmp_code_is_soft() -> None:
    with_code = "2603030401 0100"
    assert verdict(with_code, ipv4(1, b"\x03\x04")) is Verdict.ACCEPT
    assert verdict(with_code, ipv4(1, b"\x03\x05")) is Verdict.NO_MATCH
    assert verdict("a603030401 0100", ipv4(1, b"\x03\x05")) is Verdict.ACCEPT


def test_port_zero_never_matches_over_ipv6() -> None:
    any_port = "28040000ffff 0100"
    assert verdict(any_port, ipv4(17, ports(1, 0))) is Verdict.ACCEPT
    assert verdict(any_port, ipv6(17, ports(1, 0)), IPV6) is Verdict.NO_MATCH
    assert verdict(any_port, ipv6(17, ports(1, 1)), IPV6) is Verdict.ACCEPT


def test_ipv6_extension_headers_are_walked_and_must_fit() -> None:
    udp = ports(1, 80)
    assert verdict("280400500050 0100", ipv6(60, b"\x11\x00" + bytes(6) + udp), IPV6) is Verdict.ACCEPT
    assert verdict("a40111 0100", ipv6(60, b"\x11\x20" + bytes(6) + udp), IPV6) is Verdict.NO_MATCH  # hard no
    assert verdict("24012c 0100", ipv6(44, udp), IPV6) is Verdict.ACCEPT  # a fragment header ends the walk


def test_ipv6_rule_address_with_bits_below_its_prefix_never_matches() -> None:
    data = ipv6(17, b"", source=b"\xfd" + bytes(14) + b"\x01")
    assert verdict("2111 fd" + "00" * 15 + "08 0100", data, IPV6) is Verdict.ACCEPT
    assert verdict("2111 fd" + "00" * 14 + "01 08 0100", data, IPV6) is Verdict.NO_MATCH
    assert verdict("2111 fd" + "00" * 14 + "01 80 0100", data, IPV6) is Verdict.ACCEPT


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("0a00000108", True),
        ("0b00000108", False),
        ("0a00000120", True),
        ("0a00000220", False),
        ("0b00000100", True),
        ("0a00000121", False),
    ],
)
def test_ipv4_prefixes(rule: str, expected: bool) -> None:
    assert (verdict("1f05" + rule + "0100", ipv4(17)) is Verdict.ACCEPT) is expected


@pytest.mark.parametrize(
    ("mask", "data", "ethertype", "inbound", "expected"),
    [
        (1 << 63, ipv4(6), IPV4, True, True),
        (1 << 63, ipv4(6), IPV4, False, False),
        (0x02, ipv4(6, ports(1, 2, bytes(9) + b"\x02")), IPV4, False, True),
        (0x12, ipv4(6, ports(1, 2, bytes(9) + b"\x10")), IPV4, False, True),  # any bit of the mask
        (0x100, ipv4(6, ports(1, 2, bytes(8) + b"\x01\x00")), IPV4, False, True),
        (0xFFF, ipv4(6, ports(1, 2, bytes(9))), IPV4, False, False),  # too short to hold the flags
        (1 << 60, ipv4(6), IPV4, False, True),
        (1 << 60, ipv6(0x3A, b"\x87" + bytes(23), source=bytes(16)), IPV6, True, True),
        (1 << 59, ipv4(6), IPV4, False, False),
    ],
)
def test_characteristics(mask: int, data: bytes, ethertype: int, inbound: bool, expected: bool) -> None:
    owns: Callable[[bytes], bool] = lambda ip: ip == b"\x0a\0\0\1"  # noqa: E731
    text = "2908" + mask.to_bytes(8, "big").hex() + ACCEPT
    assert (verdict(text, data, ethertype, inbound=inbound, owns_ip=owns) is Verdict.ACCEPT) is expected


def test_multicast_and_broadcast_characteristics() -> None:
    multicast, broadcast = "29084000000000000000 0100", "29082000000000000000 0100"
    assert verdict(multicast, mac_dest=0x01005E000001) is Verdict.ACCEPT
    assert verdict(broadcast, mac_dest=0x01005E000001) is Verdict.NO_MATCH
    assert verdict(broadcast, mac_dest=0xFFFFFFFFFFFF) is Verdict.ACCEPT


def test_unknown_matches_answer_as_the_network_says() -> None:
    assert verdict("3400 0100", unknown_matches=True) is Verdict.ACCEPT
    assert verdict("3400 0100") is Verdict.NO_MATCH
    assert verdict("b400 0100") is Verdict.ACCEPT


def test_unknown_actions_do_nothing_but_end_a_set() -> None:
    assert verdict("25020806 0700 0100") is Verdict.ACCEPT


@pytest.mark.parametrize(("first", "second"), [(0, True), (0x80000000, False)])
def test_random(first: int, second: bool) -> None:
    text = "2b0440000000 0100"
    result = verdict(text, random=lambda size: first.to_bytes(4, "big")[:size])
    assert (result is Verdict.ACCEPT) is second


def test_tos_of_both_families() -> None:
    text = "2303fc2030 0100"
    assert verdict(text, ipv4(6, tos=0x23)) is Verdict.ACCEPT
    assert verdict(text, ipv4(6, tos=0x34)) is Verdict.NO_MATCH
    assert verdict(text, b"\x62\x30" + ipv6(6)[2:], IPV6) is Verdict.ACCEPT
    assert verdict("a303fc2030 0100", ethertype=ARP) is Verdict.NO_MATCH


def test_big_endian_integer_is_at_the_end_of_an_eight_byte_window() -> None:
    text = "3313 0000000000001234 0000000000001234 0000 0f 0100"
    assert verdict(text, bytes(6) + b"\x12\x34") is Verdict.ACCEPT
    assert verdict(text, b"\x12\x34" + bytes(6)) is Verdict.NO_MATCH
    assert (
        verdict("3313" + "00" * 16 + "0000 0f 0100", b"\x12") is Verdict.ACCEPT
    )  # outside the frame: zero, still compared


# --- tags of one side ---------------------------------------------------------------------------------------

SENDER_5_IS_1, RECEIVER_5_IS_1 = "3108 00000005 00000001", "3208 00000005 00000001"


@pytest.mark.parametrize(
    ("rule", "inbound", "local", "remote", "expected"),
    [
        (SENDER_5_IS_1, False, {5: 1}, {}, Verdict.DROP),
        (SENDER_5_IS_1, False, {}, {}, Verdict.NO_MATCH),
        (SENDER_5_IS_1, True, {5: 1}, {}, Verdict.NO_MATCH),
        (SENDER_5_IS_1, True, {}, {5: 1}, Verdict.DROP),
        (RECEIVER_5_IS_1, False, {5: 1}, {}, Verdict.NO_MATCH),  # hard yes, but the DROP is skipped
        (RECEIVER_5_IS_1, False, {}, {5: 1}, Verdict.DROP),
        (RECEIVER_5_IS_1, True, {5: 1}, {}, Verdict.DROP),
        (RECEIVER_5_IS_1, True, {}, {5: 1}, Verdict.NO_MATCH),
    ],
)
def test_tags_of_one_side(
    rule: str, inbound: bool, local: dict[int, int], remote: dict[int, int], expected: Verdict
) -> None:
    assert verdict(rule + DROP, inbound=inbound, local_tags=local, remote_tags=remote) is expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("2c", 3, True), ("2c", 2, False), ("2d", 4, True), ("2e", 7, True), ("2f", 3, True), ("30", 4, False)],
)
def test_tag_comparisons(kind: str, value: int, expected: bool) -> None:
    text = f"{kind}08 00000001 {value:08x} 0100"
    assert (verdict(text, local_tags={1: 4}, remote_tags={1: 7}) is Verdict.ACCEPT) is expected


# --- targets ------------------------------------------------------------------------------------------------


def target(action: str, address: int, length: int = 0) -> str:
    return f"{action}0e {address:016x} 00000000 {length:04x}"


def test_redirect_goes_to_the_target_unless_it_is_an_end_already() -> None:
    result = rules(target("04", OBSERVER)).evaluate(situation())
    assert (result.verdict, result.redirect) == (Verdict.REDIRECT, OBSERVER)
    assert verdict(target("04", PEER) + ACCEPT) is Verdict.ACCEPT
    assert verdict(target("04", OWN) + ACCEPT) is Verdict.ACCEPT
    assert verdict(target("04", OWN), inbound=True) is Verdict.SUPER_ACCEPT


def test_a_later_copy_replaces_an_earlier_one_and_is_cut() -> None:
    result = rules(target("02", OBSERVER) + target("03", 0x4444444444, 10) + ACCEPT).evaluate(situation(bytes(50)))
    assert result.copy == Copy(0x4444444444, 10, watch=True)


def test_priority_accepts_plainly_even_after_a_super_accept() -> None:
    at_observer = {"inbound": True, "own_address": OBSERVER, "zt_dest": OBSERVER}
    assert verdict("25020806" + target("02", OBSERVER) + "0600", **at_observer) is Verdict.ACCEPT


def test_a_list_that_begins_with_accept_is_known_to_accept_everything() -> None:
    assert rules(ACCEPT).accepts_everything
    assert not rules(DEFAULT_RULES).accepts_everything
    assert not rules("").accepts_everything
    assert rules(TEE_OBSERVER_ACCEPT).copies


# --- robustness ---------------------------------------------------------------------------------------------

any_rule = st.builds(
    lambda kind, negate, or_, value: Rule(
        RuleType(kind), negate, or_, value[: _LENGTHS[kind]].ljust(_LENGTHS[kind], b"\0")
    ),
    st.sampled_from([int(kind) for kind in RuleType]),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=19),
)
_LENGTHS = {
    int(kind): {
        2: 14,
        3: 14,
        4: 14,
        26: 2,
        29: 6,
        30: 6,
        33: 17,
        34: 17,
        35: 3,
        37: 2,
        38: 3,
        39: 4,
        40: 4,
        42: 4,
        43: 4,
        51: 19,
    }.get(int(kind), 0 if kind < 16 else 5 if kind in (24, 25, 31, 32) else 1 if kind in (27, 28, 36) else 8)
    for kind in RuleType
}


@given(
    st.lists(any_rule, max_size=12),
    st.binary(max_size=120),
    st.sampled_from([IPV4, ARP, IPV6, LLDP]),
    st.booleans(),
    st.dictionaries(st.integers(0, 3), st.integers(0, 2**32 - 1)),
)
def test_every_list_ends_in_a_verdict_on_every_frame(
    listed: list[Rule], data: bytes, ethertype: int, inbound: bool, tags: dict[int, int]
) -> None:
    subject = situation(data, ethertype, inbound=inbound, local_tags=tags, remote_tags=tags)
    result = compile_rules(listed).evaluate(subject)
    assert (result.redirect != 0) <= (result.verdict is Verdict.REDIRECT)
    assert result.copy is None or result.copy.length <= len(data)


@given(st.binary(max_size=120), st.sampled_from([IPV4, ARP, IPV6]))
def test_an_or_on_the_first_match_makes_the_set_always_true(data: bytes, ethertype: int) -> None:
    assert verdict("640106 0100", data, ethertype) is Verdict.ACCEPT
