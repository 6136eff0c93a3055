"""What an observer's node reports to whoever monitors it (vl2 §4.8, docs/monitor.md)."""

from __future__ import annotations

import pytest

from tests.node.test_vl2_members import IDENTITIES, IPV4, joined, mac, tap
from tests.node.vl2_lab import Lab
from ztpipe.node.actions import ObservedFrame, WriteFrame
from ztpipe.wire.credentials import Capability
from ztpipe.wire.rule import ACCEPT, Rule, RuleType

OBSERVER = IDENTITIES[3].address
FRAME = bytes(range(40))


def targeted(kind: RuleType, length: int = 0) -> Rule:
    return Rule(kind, value=OBSERVER.to_bytes(8, "big") + bytes(4) + length.to_bytes(2, "big"))


def only(ethertype: int) -> Rule:
    return Rule(RuleType.ETHERTYPE, value=ethertype.to_bytes(2, "big"))


def sent(lab: Lab) -> list[ObservedFrame]:
    """What the observer reports of one frame from the first member to the second."""
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, FRAME)
    lab.run(200)
    observer = lab.member(3)
    delivered = observer.vl1.take(WriteFrame)
    reported: list[ObservedFrame] = observer.vl1.take(ObservedFrame)
    assert [frame.payload for frame in delivered] == [frame.payload for frame in reported], "the TAP gets them too"
    for frame in reported:
        assert (frame.nwid, frame.ethertype) == (lab.nwid, IPV4)
        assert (frame.destination, frame.source) == (mac(two, lab), mac(one, lab))
    return reported


@pytest.mark.parametrize(
    ("kind", "flags"), [(RuleType.ACTION_TEE, (0x02, 0x08)), (RuleType.ACTION_WATCH, (0x16, 0x1C))]
)
def test_copies_of_both_sides(kind: RuleType, flags: tuple[int, int]) -> None:
    lab = joined(3, rules=(only(0x0806), targeted(RuleType.ACTION_REDIRECT), only(IPV4), targeted(kind, 8), ACCEPT))
    senders = [lab.member(1).address, lab.member(2).address]
    found = sorted(sent(lab), key=lambda frame: frame.flags)
    assert [(f.sender, f.flags, f.payload) for f in found] == [
        (sender, flag, FRAME[:8]) for sender, flag in zip(senders, flags, strict=True)
    ]
    assert {(frame.rule, frame.capability) for frame in found} == {(3, None)}


def test_redirected() -> None:
    (found,) = sent(joined(3, rules=(only(IPV4), targeted(RuleType.ACTION_REDIRECT), ACCEPT)))
    assert (found.flags, found.rule, found.payload) == (0x04, 1, FRAME)


def test_named_without_a_match_at_the_observer() -> None:
    """The rule names us, but its match (inbound there, never at us) does not hold: a later ACCEPT lets the copy in."""
    own_mac = Rule(RuleType.MAC_SOURCE, value=bytes(6), negate=True)
    assert [f.rule for f in sent(joined(3, rules=(own_mac, targeted(RuleType.ACTION_TEE), ACCEPT)))] == [1, 1]


def test_frames_that_are_no_copies_are_not_reported() -> None:
    assert sent(joined(3, rules=(only(IPV4), ACCEPT))) == []


def test_in_a_capability() -> None:
    """Only its holder makes copies; the rule's number is that in the capability."""
    lab = joined(3, rules=(only(0x0806), ACCEPT))
    one = lab.hosts[IDENTITIES[1].address]
    rules = (targeted(RuleType.ACTION_TEE), ACCEPT)
    capability = Capability(lab.nwid, lab.now, 7, rules, 1, ()).sign(lab.controller.identity, one.address)
    lab.controller.authorise(IDENTITIES[1], "10.9.0.1/24", capabilities=(capability,))
    lab.now += 1
    lab.push(one.address)
    lab.run(1_000)
    lab.member(3).vl1.actions.clear()
    found = sent(lab)
    assert {(frame.rule, frame.capability) for frame in found} == {(0, 7)}
