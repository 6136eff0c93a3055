"""Nothing that comes from the network or the TAP makes VL2 raise anything but `WireError`."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.captures import golden
from tests.node.test_vl2_members import joined, mac
from tests.node.vl2_lab import Host, Lab, some_identities
from ztpipe.node.seam import Outcome
from ztpipe.wire.netconf import ROLE_BRIDGE, ROLE_REPLICATOR
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.rule import Rule, RuleType

IDENTITIES = some_identities()
VERBS = (
    Verb.FRAME,
    Verb.EXT_FRAME,
    Verb.MULTICAST_LIKE,
    Verb.NETWORK_CREDENTIALS,
    Verb.NETWORK_CONFIG_REQUEST,
    Verb.NETWORK_CONFIG,
    Verb.MULTICAST_GATHER,
    Verb.MULTICAST_FRAME,
    Verb.OK,
    Verb.ERROR,
)
REAL = [
    (Verb[row["verb"]], bytes.fromhex(row["payload"]))
    for row in golden("f-rules")
    if row.get("kind") == "packet" and row["verb"] in {verb.name for verb in VERBS}
]
NWID_OF_CAPTURE = 0x9AF65E48BC00FF06


def lab_with_everything() -> Lab:
    """Rules with tags and copies, a bridge and a replicator, members that know each other."""
    rules = (
        Rule(RuleType.TAGS_EQUAL, value=bytes(8)),
        Rule(RuleType.ACTION_TEE, value=bytes(3) + IDENTITIES[3].address.to_bytes(5, "big") + bytes(6)),
        Rule(RuleType.CHARACTERISTICS, value=b"\xff" * 8),
        Rule(RuleType.ACTION_BREAK),
        Rule(RuleType.ACTION_ACCEPT),
    )
    lab = joined(3, rules=rules, flags=0x06)
    lab.controller.common["specialists"] = (
        IDENTITIES[1].address | ROLE_BRIDGE,
        IDENTITIES[2].address | ROLE_BRIDGE | ROLE_REPLICATOR,
    )
    for identity in IDENTITIES[1:4]:
        lab.push(identity.address)
    lab.run(100)
    return lab


LAB = lab_with_everything()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(VERBS),
    st.binary(max_size=200),
    st.booleans(),
    st.sampled_from(VERBS),
    st.sampled_from([int(code) for code in ErrorCode]),
)
def test_random_payloads(verb: Verb, tail: bytes, with_network: bool, in_re: Verb, code: int) -> None:
    head = LAB.nwid.to_bytes(8, "big") if with_network else b""
    if verb is Verb.OK:
        head = bytes((in_re,)) + bytes(8) + head
    elif verb is Verb.ERROR:
        head = bytes((in_re,)) + bytes(8) + bytes((code,)) + head
    feed(LAB.member(1), verb, head + tail)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(REAL), st.integers(0, 400), st.integers(0, 255), st.integers(0, 400))
def test_real_packets_bent(real: tuple[Verb, bytes], at: int, value: int, cut: int) -> None:
    verb, payload = real
    bent = bytearray(payload.replace(NWID_OF_CAPTURE.to_bytes(8, "big"), LAB.nwid.to_bytes(8, "big")))
    if at < len(bent):
        bent[at] = value
    feed(LAB.member(1), verb, bytes(bent[: len(bent) - cut] if cut < len(bent) else bent))


def feed(host: Host, verb: Verb, payload: bytes) -> None:
    for source in (IDENTITIES[2], IDENTITIES[5]):
        outcome = host.receive(host.context(LAB.now, source, verb, payload))
        assert isinstance(outcome, Outcome)
    host.parked.clear()
    host.vl1.sent.clear()
    host.vl1.actions.clear()


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.integers(0, 2**48 - 1), st.sampled_from([0xFFFFFFFFFFFF, 0x3333FF000001, 0x01005E000001])),
    st.one_of(st.integers(0, 2**48 - 1), st.just(None)),
    st.sampled_from([0x0800, 0x0806, 0x86DD, 0x8100, 0]),
    st.binary(max_size=100),
)
def test_random_frames_from_the_tap(destination: int, source: int | None, ethertype: int, payload: bytes) -> None:
    host = LAB.member(1)
    own = mac(host, LAB)
    host.engine.frame_received(LAB.now, LAB.nwid, destination, own if source is None else source, ethertype, payload)
    host.engine.housekeeping(LAB.now)
    host.vl1.sent.clear()
    host.vl1.actions.clear()
