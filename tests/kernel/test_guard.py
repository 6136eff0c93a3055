"""Rules in the hot path: kernel/guard.c under tap.c and open.c, and the memory that policies live in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import FOREVER, NWID, REMOTE_A, A, B, Lab
from tests.kernel.strategies import body
from tests.kernel.test_open import came as arrived
from tests.kernel.test_open import ext, packet
from tests.kernel.test_tap import OUT, TapLab
from tests.twins.frames import FIN, PLAIN_VNET, UDP, Frame
from ztpipe.kernel._kernel import lib
from ztpipe.rules.flat import pack
from ztpipe.shm.policies import Policies
from ztpipe.wire.address import mac_of
from ztpipe.wire.protocol import Verb
from ztpipe.wire.rule import decode_rules

ONLY_IP = "a5020800 a5020806 a50286dd 0000 0100"
EVERYTHING = "2a040000ffff 0100"
NOTHING = "2a040000ffff 0000"
TAG_100_IS_7 = "3108 00000064 00000007 0100"
OBSERVER = 0x3333333333
NETWORK = NWID.to_bytes(8, "big")
MAC_A, MAC_B = mac_of(A, NWID).to_bytes(6, "big"), mac_of(B, NWID).to_bytes(6, "big")


def policy(text: str, tags: dict[int, int] | None = None) -> bytes:
    packed = pack([decode_rules(bytes.fromhex(text.replace(" ", "")))], tags=tags or {})
    assert packed is not None
    return packed


def put_rules(lab: Lab, packed: bytes | None) -> None:
    index = lab.tables.install_network(
        NWID, mac_of(lab.address, NWID), 2800, accept_all=False, bridge=False, policy=packed
    )
    assert index is not None


def plain(ethertype: bytes = b"\x08\x00", n: int = 60) -> bytes:
    return PLAIN_VNET + OUT + ethertype + body(n)


@pytest.fixture
def tap() -> Iterator[TapLab]:
    with TapLab() as lab:
        yield lab


# ---- outbound ------------------------------------------------------------------------------------------------------


def test_out_by_the_rules(tap: TapLab) -> None:
    put_rules(tap, policy(ONLY_IP))
    assert [r.data for r in tap.pull([plain(), plain(b"\x88\xcc"), plain(b"\x86\xdd")])] == [
        plain(),
        plain(b"\x86\xdd"),
    ]
    assert tap.punts() == []
    assert tap.counts()["drop_outbound_filter"] == 1


def test_rules_that_change_hold_from_the_next_batch(tap: TapLab) -> None:
    for _ in range(3):
        for text, passed in ((EVERYTHING, 1), (NOTHING, 0), (ONLY_IP, 1)):
            put_rules(tap, policy(text))
            assert len(tap.pull([plain()])) == passed
    put_rules(tap, None)
    assert tap.pull([plain()]) == [] and len(tap.punts()) == 1
    tap.join(accept_all=True)
    assert len(tap.pull([plain(b"\x88\xcc")])) == 1


def test_out_to_a_member_by_its_tags(tap: TapLab) -> None:
    put_rules(tap, policy("3208 00000064 00000007 0100"))
    assert len(tap.pull([plain()])) == 1  # nothing is known of its tag: the receiver will judge
    for tags, passed in (({100: 8}, 0), ({100: 7}, 1), ({}, 1)):
        tap.tables.install_credentials(NWID, B, policy("", tags) if tags else b"")
        assert len(tap.pull([plain()])) == passed
    tap.tables.install_credentials(NWID, B, None)
    assert tap.pull([plain()]) == [] and len(tap.punts()) == 1


def test_copies_and_redirections_are_punted(tap: TapLab) -> None:
    put_rules(tap, policy(f"250286dd 020e {OBSERVER:016x} 00000000 0000 0100"))
    assert len(tap.pull([plain(), plain(b"\x86\xdd")])) == 1
    assert [punt.data for punt in tap.punts()] == [plain(b"\x86\xdd")[12:]]


FIN_SEGMENTS = "2908 0000000000000001"
BIG = "2a04 0000 03ff"


@pytest.mark.parametrize(
    ("text", "passed", "dropped", "punted"),
    [
        (EVERYTHING, 1, 0, 0),
        (f"2a04 0000 ffff {FIN_SEGMENTS} 0000 0100", 0, 0, 4),  # the last segment alone has FIN
        ("2908 0000000000000002 0000 0100", 1, 0, 0),  # SYN: none has
        ("2908 0000000000000010 0000 0100", 0, 1, 0),  # ACK: all have
        (f"{BIG} 0000 0100", 0, 0, 4),  # the last one is shorter than the others
        ("3313 0000000000000000 00000000ffffffff 0000 1f 0000 0100", 0, 1, 0),
        # the low byte of the IPv4 id, or of the sequence number over IPv6, differs
        ("3313 0000000000000001 0000000000000001 fffe 07 0000 0100", 1, 0, 0),
    ],
)
def test_super_frames_fare_as_their_segments_do(tap: TapLab, text: str, passed: int, dropped: int, punted: int) -> None:
    frame = Frame(macs=OUT, payload=body(3500), flags=0x10 | FIN)
    whole = frame.vnet(1000) + frame.partial()
    put_rules(tap, policy(text))
    assert [r.data for r in tap.pull([whole])] == [whole] * passed
    assert len(tap.punts()) == punted
    assert tap.counts().get("drop_outbound_filter", 0) == dropped


def test_a_rule_about_bytes_sees_finished_checksums(tap: TapLab) -> None:
    """The kernel leaves the UDP checksum to us; the rule is about the frame on the wire."""
    frame = Frame(macs=OUT, proto=UDP, payload=body(50))
    checksum = int.from_bytes(frame.build()[14 + 26 : 14 + 28], "big")
    put_rules(tap, policy(f"3313 {checksum:016x} {checksum:016x} 0014 0f 0100"))
    assert len(tap.pull([frame.vnet() + frame.partial()])) == 1


# ---- inbound -------------------------------------------------------------------------------------------------------


def frame_of(ethertype: bytes) -> bytes:
    return packet(Verb.FRAME, NETWORK + ethertype + body(60))


def test_in_by_the_rules(b: Lab) -> None:
    put_rules(b, policy(ONLY_IP))
    (record,) = b.open([arrived(frame_of(b"\x08\x00"))])
    assert record.data == PLAIN_VNET + MAC_B + MAC_A + b"\x08\x00" + body(60)
    assert b.open([arrived(frame_of(b"\x88\xcc")), arrived(ext())]) == []
    assert b.punts() == []
    assert b.counts()["drop_inbound_filter"] == 2


def test_in_by_the_tags_of_the_sender(b: Lab) -> None:
    put_rules(b, policy(TAG_100_IS_7))
    for tags, passed in ((None, 0), ({100: 7}, 1), ({100: 8}, 0), ({100: 7}, 1)):
        if tags:
            b.tables.install_credentials(NWID, A, policy("", tags))
        assert len(b.open([arrived(packet())])) == passed
    b.tables.install_credentials(NWID, A, None)
    sealed = packet()
    assert b.open([arrived(sealed)]) == []
    assert [punt.data for punt in b.punts()] == [sealed]


def test_in_by_a_capability_of_the_sender(b: Lab) -> None:
    put_rules(b, policy("25020806 0100 0500"))
    assert b.open([arrived(packet())]) == []
    b.tables.install_credentials(NWID, A, policy("250288b5 0100"))
    assert len(b.open([arrived(packet())])) == 1


@pytest.mark.parametrize("make", [packet, ext])
def test_what_has_to_be_copied_is_punted_as_it_came(b: Lab, make: object) -> None:
    put_rules(b, policy(f"020e {OBSERVER:016x} 00000000 0000 0100"))
    sealed = make()  # type: ignore[operator]
    assert b.open([arrived(sealed)]) == []
    assert [punt.data for punt in b.punts()] == [sealed]


def test_a_forged_frame_is_no_matter_for_rules(b: Lab) -> None:
    put_rules(b, policy(ONLY_IP))
    forged = bytearray(frame_of(b"\x08\x00"))
    forged[-1] ^= 1
    assert b.open([arrived(bytes(forged))]) == []
    assert b.counts()["drop_bad_mac"] == 1 and "drop_inbound_filter" not in b.counts()


def test_credentials_before_the_peer(b: Lab) -> None:
    """A member's credentials wait for its session, and survive the loss of it."""
    put_rules(b, policy(TAG_100_IS_7))
    b.tables.install_credentials(NWID, A, policy("", {100: 7}))
    b.tables.remove_peer(A)
    b.meet(A, REMOTE_A)
    assert len(b.open([arrived(packet())])) == 1
    b.tables.remove_member(NWID, A)
    b.tables.install_member(NWID, A, True, FOREVER)
    assert b.open([arrived(packet())]) == []
    assert b.counts()["drop_inbound_filter"] == 1


# ---- memory --------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 120)), max_size=40))
def test_policies_do_not_mix(b: Lab, steps: list[tuple[int, int]]) -> None:
    """Whatever is written, changed and taken away: each network's frames are judged by its own rules, the last ones."""
    rules: dict[int, bool] = {}
    for network, rubbish in steps:
        nwid = NWID + network
        if rubbish == 0:
            b.tables.remove_network(nwid)
            rules.pop(network, None)
        else:
            accept = rubbish % 2 == 0
            text = ("250288b5" * rubbish) + (EVERYTHING if accept else NOTHING)
            b.tables.install_network(nwid, mac_of(B, nwid), 2800, accept_all=False, bridge=False, policy=policy(text))
            b.tables.install_member(nwid, A, True, FOREVER)
            rules[network] = accept
        for other, accept in rules.items():
            payload = (NWID + other).to_bytes(8, "big") + b"\x88\xb5" + body(60)
            assert len(b.open([arrived(packet(Verb.FRAME, payload))])) == accept
        b.punts()


def test_memory_that_is_given_back_is_used_again(b: Lab) -> None:
    policies = [policy(condition * 1000 + EVERYTHING) for condition in ("250288b5", "1d06" + MAC_A.hex())]
    for number in range(3 * lib.ZT_POLICIES_SIZE // len(policies[0])):
        put_rules(b, policies[number % 2])
    assert b.tables.refused["policies"] == 0
    assert len(b.open([arrived(packet())])) == 1


def test_full_memory_costs_speed_only(b: Lab) -> None:
    big = policy("250288b5" * 1000 + EVERYTHING)
    filling = Policies(b.tables.pointer)
    while filling.put((filling_key := len(filling), 0), big, lambda ref: None):
        assert filling_key < 2000
    b.tables._policies = filling
    put_rules(b, big)
    assert b.tables.refused["policies"] == 1
    assert b.open([arrived(packet())]) == [] and len(b.punts()) == 1
