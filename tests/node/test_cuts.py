"""Every verb, every OK body and every ERROR body, authentic and cut off at every byte: each packet ends in one place,
and what is too short to mean anything in a drop under a name that says so."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.node.puppet import LOCAL, Bench, Puppet
from tests.wire.test_verbs import ROWS, Row
from ztpipe.node.actions import SendDatagram
from ztpipe.node.vl2 import Vl2Engine
from ztpipe.wire.armor import seal
from ztpipe.wire.protocol import ErrorCode, Suite, Verb
from ztpipe.wire.verbs import Hello, Ok, WorldVersion
from ztpipe.wire.world import WorldType

VERBS = {
    "Whois": Verb.WHOIS, "Rendezvous": Verb.RENDEZVOUS, "Frame": Verb.FRAME, "ExtFrame": Verb.EXT_FRAME,
    "Echo": Verb.ECHO, "MulticastLike": Verb.MULTICAST_LIKE, "NetworkCredentials": Verb.NETWORK_CREDENTIALS,
    "NetworkConfigRequest": Verb.NETWORK_CONFIG_REQUEST, "ConfigChunk": Verb.NETWORK_CONFIG,
    "MulticastGather": Verb.MULTICAST_GATHER, "MulticastFrame": Verb.MULTICAST_FRAME,
    "PushDirectPaths": Verb.PUSH_DIRECT_PATHS, "UserMessage": Verb.USER_MESSAGE, "RemoteTrace": Verb.REMOTE_TRACE,
    "Ok": Verb.OK, "Error": Verb.ERROR, "Hello": Verb.HELLO,
}  # fmt: skip
ANSWERS = {
    "OkHello": Verb.HELLO, "OkWhois": Verb.WHOIS, "OkExtFrame": Verb.EXT_FRAME, "OkConfig": Verb.NETWORK_CONFIG,
    "OkMulticastGather": Verb.MULTICAST_GATHER, "OkMulticastFrame": Verb.MULTICAST_FRAME,
}  # fmt: skip
ERRORS = {
    "UnwantedMulticast": ErrorCode.UNWANTED_MULTICAST,
    "AuthenticationRequired": ErrorCode.NETWORK_AUTHENTICATION_REQUIRED,
}
UNBONDED = {"Ack", "QosMeasurement", "PathNegotiationRequest"}
"""Dropped whatever they hold (vl1-behaviour §2.6, gates 8 and 9)."""
MAY_MEAN_LESS = {"Hello", "OkHello", "OkConfig", "OkExtFrame", "AuthenticationRequired", "UnwantedMulticast"}
"""Where a check that comes before the fields that are missing may decide already."""


def name(row: Row) -> str:
    return type(row.value).__name__


def packet_id(bench: Bench) -> int:
    """Of a packet that may be answered."""
    number = bench.random.getrandbits(64)
    bench.node._vl1.replies.expect(bench.now, number, bench.root.address)
    return number


def payload(bench: Bench, row: Row, body: bytes) -> tuple[Verb, bytes]:
    kind = name(row)
    if kind in ANSWERS:
        return Verb.OK, Ok(ANSWERS[kind], packet_id(bench), body).encode()
    if kind in ERRORS:
        return Verb.ERROR, bytes((Verb.NETWORK_CONFIG_REQUEST,)) + bytes(8) + bytes((ERRORS[kind],)) + body
    return VERBS[kind], body


@pytest.fixture(scope="module")
def scene() -> tuple[Bench, Puppet]:
    """A node with both layers; its root says everything, since roots may say most."""
    bench = Bench(vl2=Vl2Engine)
    bench.meet(bench.root)
    return bench, bench.root


def test_the_tables_name_every_row() -> None:
    assert {name(row) for row in ROWS} == set(VERBS) | set(ANSWERS) | set(ERRORS) | UNBONDED


@pytest.mark.parametrize(
    "row", [row for row in ROWS if name(row) not in UNBONDED], ids=lambda row: f"{name(row)}-{len(row.raw) // 2}"
)
def test_cut_at_every_byte(scene: tuple[Bench, Puppet], row: Row) -> None:
    bench, root = scene
    raw = bytes.fromhex(row.raw)
    for length in range(len(raw)):
        bench.now += 31_000  # past the gates
        verb, data = payload(bench, row, raw[:length])
        handled, drops = bench.node.packets_handled, Counter(bench.drops)
        actions = bench.say(root, verb, data)
        found = Counter(bench.drops) - drops
        accepted = bench.node.packets_handled - handled
        assert accepted + sum(found.values()) == 1, (length, accepted, found)
        if length not in row.cuts and name(row) not in MAY_MEAN_LESS:
            assert accepted == 0, length
            assert not any(isinstance(action, SendDatagram) for action in actions), length


def test_a_hello_cut_at_every_byte(scene: tuple[Bench, Puppet]) -> None:
    """vl1-wire §9.2: what may be missing behind the identity, and what must then be whole."""
    bench, root = scene
    moons = (WorldVersion(WorldType.MOON, 5, 6), WorldVersion(WorldType.MOON, 7, 8))
    endpoint, tail = 84, 84 + 7 + 16  # where the identity ends, where the list of moons begins
    for length in range(tail + 2 + 17 * len(moons) + 1):
        bench.now += 31_000
        number = bench.random.getrandbits(64)
        hello = Hello(timestamp=bench.now, identity=root.identity.without_private(), sent_to=LOCAL)
        whole = hello.with_moons(root.keys, number, moons).encode()
        data = seal(
            root.keys,
            destination=bench.identity.address,
            source=root.address,
            verb=Verb.HELLO,
            payload=whole[:length],
            packet_id=number,
            suite=Suite.POLY1305_NONE,
        )
        answered = Verb.OK in bench.verbs(root, bench.datagram(data, root.remote))
        inside_endpoint = endpoint < length < endpoint + 7
        inside_moons = tail + 2 <= length < len(whole)
        if endpoint + 7 + 2 <= length < tail:
            continue  # a planet cut short is taken for a list of moons, and decrypted to anything
        assert answered is (length >= endpoint and not inside_endpoint and not inside_moons), length
