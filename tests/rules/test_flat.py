"""The kernel's rules engine against its Python twin (vl2 §4.3-4.7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.rules import strategies as make
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.node.filter import decide
from ztpipe.rules import flat
from ztpipe.rules.evaluate import Copy, Evaluation, Situation, Verdict, compile_rules
from ztpipe.rules.flat import Owned, OwnedKind, pack
from ztpipe.rules.frameview import FrameView
from ztpipe.wire.rule import ACCEPT, DROP, Rule, RuleType, decode_rules

VERDICTS = [Verdict.NO_MATCH, Verdict.DROP, Verdict.ACCEPT, Verdict.SUPER_ACCEPT, Verdict.REDIRECT]
PASS, DROPPED, PUNT = lib.ZT_FILTER_PASS, lib.ZT_FILTER_DROP, lib.ZT_FILTER_PUNT


@dataclass(frozen=True)
class Case:
    """A frame, and what both sides hold."""

    frame: tuple[int, bytes]
    inbound: bool = False
    base: Sequence[Rule] = ()
    own_capabilities: Sequence[Sequence[Rule]] = ()
    remote_capabilities: Sequence[Sequence[Rule]] = ()
    own_tags: dict[int, int] = field(default_factory=dict)
    remote_tags: dict[int, int] | None = field(default_factory=dict)  # None: the other side is not known at all
    own_things: Sequence[Owned] = ()
    remote_things: Sequence[Owned] = ()
    mac_source: int = make.MACS[0]
    mac_dest: int = make.MACS[1]
    unknown_matches: bool = False


def things() -> st.SearchStrategy[list[Owned]]:
    macs = st.sampled_from(make.MACS).map(lambda mac: Owned(OwnedKind.MAC, mac.to_bytes(6, "big")))
    four = st.sampled_from(make.IPS4).map(lambda ip: Owned(OwnedKind.IPV4, ip))
    six = st.sampled_from(make.IPS6).map(lambda ip: Owned(OwnedKind.IPV6, ip))
    return st.lists(macs | four | six, max_size=4)


def emulated() -> st.SearchStrategy[list[Owned]]:
    return st.lists(st.sampled_from([5, 11]).map(lambda n: Owned(OwnedKind.EMULATED, make.IPS6[2][:n])), max_size=1)


CASES = st.builds(
    Case,
    frame=make.frames(),
    inbound=st.booleans(),
    base=make.rule_lists(),
    own_capabilities=st.lists(make.rule_lists(5), max_size=2),
    remote_capabilities=st.lists(make.rule_lists(5), max_size=2),
    own_tags=make.tag_sets(),
    remote_tags=st.none() | make.tag_sets(),
    own_things=st.tuples(things(), emulated()).map(lambda both: [*both[0], *both[1]]),
    remote_things=things(),
    mac_source=st.sampled_from(make.MACS),
    mac_dest=st.sampled_from(make.MACS),
    unknown_matches=st.booleans(),
)


# --- both engines -------------------------------------------------------------------------------------------


def _owned(case: Case, kinds: Sequence[OwnedKind], value: bytes) -> bool:
    remote = () if case.remote_tags is None else case.remote_things
    if Owned(kinds[0], value) in (remote if case.inbound else case.own_things):
        return True
    prefixes = [thing.value for thing in case.own_things if thing.kind == OwnedKind.EMULATED]
    return case.inbound and OwnedKind.EMULATED in kinds and any(value.startswith(prefix) for prefix in prefixes)


def _owns_ip(case: Case, ip: bytes) -> bool:
    return _owned(case, [OwnedKind.IPV4] if len(ip) == 4 else [OwnedKind.IPV6, OwnedKind.EMULATED], ip)


def situation(case: Case) -> Situation:
    return Situation(
        frame=FrameView(*case.frame),
        inbound=case.inbound,
        own_address=make.OWN,
        zt_source=make.PEER if case.inbound else make.OWN,
        zt_dest=make.OWN if case.inbound else make.PEER,
        mac_source=case.mac_source,
        mac_dest=case.mac_dest,
        random=lambda size: b"\x80" * size,  # neither 0 nor all ones: the two probabilities that are drawn differ
        unknown_matches=case.unknown_matches,
        local_tags=case.own_tags,
        remote_tags=case.remote_tags or {},
        owns_ip=lambda ip: _owns_ip(case, ip),
        owns_mac=lambda mac: _owned(case, [OwnedKind.MAC], mac.to_bytes(6, "big")),
    )


class InKernel:
    """The case as the kernel sees it; keeps alive what the structures point to."""

    def __init__(self, case: Case) -> None:
        unknown = case.unknown_matches
        packed = pack(
            [case.base, *case.own_capabilities], tags=case.own_tags, owned=case.own_things, unknown_matches=unknown
        )
        self.packed = packed
        self.own = ffi.NULL if packed is None else self._policy(packed)
        remote = ffi.NULL
        if case.remote_tags is not None:
            held = pack(
                case.remote_capabilities, tags=case.remote_tags, owned=case.remote_things, unknown_matches=unknown
            )
            remote = ffi.NULL if held is None else self._policy(held)
        self.data = ffi.new("uint8_t[]", case.frame[1] or b"\0")
        self.situation: Any = ffi.new(
            "struct zt_situation *",
            {
                "own": self.own,
                "remote": remote,
                "data": self.data,
                "len": len(case.frame[1]),
                "ethertype": case.frame[0],
                "inbound": case.inbound,
                "self": make.OWN,
                "peer": make.PEER,
                "mac_source": case.mac_source,
                "mac_dest": case.mac_dest,
            },
        )

    def _policy(self, packed: bytes) -> Any:
        memory = ffi.new("uint64_t[]", (len(packed) + 7) // 8)
        ffi.memmove(memory, packed, len(packed))
        assert lib.zt_policy_check(memory, len(packed)) == 0
        self.__dict__.setdefault("memory", []).append(memory)
        return ffi.cast("struct zt_policy *", memory)

    def evaluate(self, number: int) -> Evaluation:
        e = lib.zt_filter_list(self.own, number, self.situation)
        copy = Copy(e.copy_target, e.copy_length, bool(e.copy_watch)) if e.copy_target else None
        return Evaluation(VERDICTS[e.verdict], e.redirect, copy)


def _packs(case: Case) -> bool:
    held = [case.base, *case.own_capabilities], case.remote_capabilities
    return all(pack(lists, tags={}) is not None for lists in held)


# --- twins --------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(CASES)
def test_every_list_ends_as_its_twin_says(case: Case) -> None:
    if not _packs(case):
        return
    kernel = InKernel(case)
    for number, rules in enumerate([case.base, *case.own_capabilities]):
        assert kernel.evaluate(number) == compile_rules(rules).evaluate(situation(case))


@settings(max_examples=250, deadline=None)
@given(CASES)
@example(Case((make.LLDP, b""), base=()))
def test_every_frame_fares_as_its_twin_says(case: Case) -> None:
    if not _packs(case):
        return
    holders = case.own_capabilities if not case.inbound else case.remote_capabilities
    capabilities = (
        [compile_rules(rules) for rules in holders] if case.remote_tags is not None or not case.inbound else []
    )
    base, capability = decide(compile_rules(case.base), capabilities, situation(case))
    deciding = capability or base
    expected = PASS
    if deciding.verdict not in (Verdict.ACCEPT, Verdict.SUPER_ACCEPT, Verdict.REDIRECT):
        expected = DROPPED
    elif deciding.verdict is Verdict.REDIRECT or base.copy or deciding.copy:
        expected = PUNT
    assert lib.zt_filter(InKernel(case).situation) == expected


@pytest.mark.parametrize("kind", make.MATCHES)
def test_one_match_alone(kind: int) -> None:
    @settings(max_examples=250, deadline=None)
    @given(make.rules_of(kind), make.frames(), st.booleans())
    def agree(rule: Rule, frame: tuple[int, bytes], inbound: bool) -> None:
        case = Case(frame, inbound, base=(rule, ACCEPT, DROP), own_tags={1: 1, 100: 7}, remote_tags={1: 7})
        assert InKernel(case).evaluate(0) == compile_rules(case.base).evaluate(situation(case))

    agree()


SEGMENT = bytes((0, 80, 0, 22)) + bytes(8) + b"\x5f\xff" + bytes(6)
IPV4_TCP = bytes((0x45, 0x10)) + bytes(7) + b"\x06" + bytes(2) + make.IPS4[0] + make.IPS4[1] + SEGMENT
IPV6_HEAD = b"\x61\x20" + bytes(4)
HOP_BY_HOP = b"\x06\x01" + bytes(14)
ADVERTISEMENT = IPV6_HEAD + b"\x3a\x40" + make.IPS6[1] + make.IPS6[0] + b"\x88" + bytes(7) + make.IPS6[0]
WHOLE_FRAMES = [
    (make.IPV4, IPV4_TCP),
    (make.IPV6, IPV6_HEAD + b"\x06\x40" + make.IPS6[0] + make.IPS6[1] + SEGMENT),
    (make.IPV6, IPV6_HEAD + b"\x00\x40" + make.IPS6[0] + make.IPS6[1] + HOP_BY_HOP + SEGMENT),
    (make.IPV6, ADVERTISEMENT),
    (make.IPV6, ADVERTISEMENT.replace(b"\x88", b"\x87")),
    (make.ARP, bytes(14) + make.IPS4[0] + bytes(10)),
    (make.LLDP, bytes(range(40))),
]
CONDITIONS = [
    *("24 01 06", "25 02 0800", "26 03 88 00 00", "26 03 87 00 01", "27 04 0050 0050", "28 04 0000 ffff"),
    *("29 08 0000000000000fff", "29 08 0000000000000800", "29 08 1000000000000000", "29 08 0800000000000000"),
    *("1f 05 0a000001 20", "20 05 0a000002 1f", "23 03 ff 10 12", "2a 04 0028 0040"),
    "21 11 fd000000000000000000000000000001 80",
    "22 11 fd000000000000000000000000000000 41",
    *("33 13 0000000000000001 00000000ffffffff 0006 07", "33 13 0000000000000000 0000000000000005 0012 8b"),
]


@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("frame", WHOLE_FRAMES)
def test_frames_cut_off_anywhere(frame: tuple[int, bytes], inbound: bool) -> None:
    certified = [Owned(OwnedKind.IPV6, make.IPS6[0]), Owned(OwnedKind.IPV4, make.IPS4[0])]
    for text in CONDITIONS:
        base = (*decode_rules(bytes.fromhex(text)), ACCEPT, DROP)
        for length in range(len(frame[1]) + 1):
            cut = frame[0], frame[1][:length]
            case = Case(cut, inbound, base=base, own_things=certified, remote_things=certified)
            assert InKernel(case).evaluate(0) == compile_rules(base).evaluate(situation(case)), (text, length)


TEE_OWN, TEE_OTHER = "020e 0000001111111111 00000000 0000", "020e 0000003333333333 00000000 0028"
TAG, NOT_TAG, SENDER = "2c08 00000064 00000000", "ac08 00000064 00000000", "3108 00000064 00000001"


@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        f"{TAG} 0000 0000 0100",  # a skip lasts for one DROP
        f"{TAG} 2502ffff 0000 0000 0100",
        f"{NOT_TAG} 0000 0100",
        f"{NOT_TAG} 0100 0000",
        f"2502ffff {TEE_OWN} {TAG} 0000 0100",  # named in a set that does not match: tags are taken on trust
        f"2502ffff {TEE_OWN} {SENDER} 0000 0100",
        f"2502ffff {TEE_OWN} {SENDER} 0000 0600",
        f"{TEE_OWN} 0000",
        f"{TEE_OTHER} {TEE_OTHER.replace('020e', '030e')} 0500",
        "040e 0000003333333333 00000000 0000",
        "a50286dd 65020806 0100 6502ffff 0000",
    ],
)
def test_lists_that_need_care(text: str, inbound: bool) -> None:
    base = decode_rules(bytes.fromhex(text.replace(" ", "")))
    for remote_tags in ({}, {100: 1}, {100: 7}):
        case = Case((make.IPV4, IPV4_TCP), inbound, base=base, own_tags={100: 7}, remote_tags=remote_tags)
        assert InKernel(case).evaluate(0) == compile_rules(base).evaluate(situation(case))


def test_random_matches_as_often_as_it_says() -> None:
    quarter = Rule(RuleType.RANDOM, value=(1 << 30).to_bytes(4, "big"))
    kernel = InKernel(Case((make.IPV4, bytes(40)), base=(quarter, ACCEPT, DROP)))
    passed = sum(lib.zt_filter(kernel.situation) == PASS for _ in range(20_000))
    assert 4_500 < passed < 5_500  # eight standard deviations


# --- what is not packed, and what is not taken --------------------------------------------------------------


def test_what_does_not_fit_is_left_to_the_slow_path() -> None:
    assert pack([[ACCEPT] * 6000], tags={}) is None
    tee = Rule(RuleType.ACTION_TEE, value=make.OBSERVER.to_bytes(8, "big") + bytes(6))
    half = Rule(RuleType.RANDOM, value=b"\x80\0\0\0")
    assert pack([[half, tee, ACCEPT]], tags={}) is None
    assert pack([[half, ACCEPT], []], tags={}) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0100", 0),
        ("a5020800 a5020806 a50286dd 0000 0100", 0),
        ("280400500050 0100", 0),
        ("29088000000000000000 0100", 0),  # inbound: the same for every segment
        ("29080000000000000002 0100", lib.ZT_POLICY_HEADERS),
        ("2a0400000040 0100", lib.ZT_POLICY_HEADERS),
        ("2b04ffffffff 0100", lib.ZT_POLICY_BODY),
        ("3313 00000000000000010000000000000001 0000 07 0100", lib.ZT_POLICY_BODY),
        ("020e 0000003333333333 00000000 0000 0100", lib.ZT_POLICY_TARGETS),
    ],
)
def test_flags(text: str, expected: int) -> None:
    packed = pack([decode_rules(bytes.fromhex(text.replace(" ", "")))], tags={})
    assert packed is not None
    assert struct.unpack_from("=III", packed)[2] == expected


@given(st.data())
def test_a_damaged_policy_is_refused_or_harmless(data: st.DataObject) -> None:
    packed = pack([data.draw(make.rule_lists(4))], tags={1: 2, 100: 3}, owned=[Owned(OwnedKind.IPV4, make.IPS4[0])])
    if packed is None:
        return
    damaged = bytearray(packed)
    damaged[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = damaged[: data.draw(st.sampled_from([len(packed), len(packed) - 1, 31]))]
    memory = ffi.new("uint64_t[]", (len(packed) + 7) // 8)
    ffi.memmove(memory, bytes(damaged), len(damaged))
    if lib.zt_policy_check(memory, len(damaged)) == 0:
        kernel = InKernel(Case(data.draw(make.frames()), base=(ACCEPT,)))
        kernel.situation.own = ffi.cast("struct zt_policy *", memory)
        assert lib.zt_filter(kernel.situation) in (PASS, DROPPED, PUNT)
    else:
        assert len(damaged) < len(packed) or damaged != packed


def test_sizes_agree_with_the_kernel() -> None:
    assert flat.MAX_SIZE == lib.ZT_POLICY_MAX
    assert pack([], tags={}) is not None
