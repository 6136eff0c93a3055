"""Configurations, byte for byte: with the reference's keys, records and clock, its dictionaries must come out.

Everything in a configuration is deterministic, signatures included, so captured ones are compared whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from tests.controller.support import METADATA, VECTORS, Bench, captured_identity, identity_with_address, load
from ztpipe.controller import Controller, LocalConfig, MemoryStore, SendPacket
from ztpipe.wire import dictionary
from ztpipe.wire.credentials import Thing
from ztpipe.wire.identity import Identity
from ztpipe.wire.netconf import ConfigAssembler, ConfigChunk, NetworkConfig
from ztpipe.wire.protocol import Verb
from ztpipe.wire.rule import ACCEPT

SCENARIOS = sorted(
    path.parent.name
    for path in (VECTORS / "captures").glob("*/controller-api.json")
    if any("/controller/network/" in call["path"] for call in json.loads(path.read_text()))
)
TRACE_LEVEL = "a member's remoteTraceLevel is kept and sent (controller §12 no. 2)"
CAPABILITIES = "a member whose capabilities nobody chose gets the defaults at its first grant (§12 no. 3)"
INTENDED = {
    ("f-rules", "tl"): TRACE_LEVEL,
    ("b-join-private", "CAP"): CAPABILITIES,
    ("e-old-peer", "CAP"): CAPABILITIES,
}


class Captured(NamedTuple):
    """The first configuration that a member got."""

    member: int
    nwid: int
    data: bytes


def assembled(packets: list[SendPacket], controller: Identity, nwid: int) -> bytes:
    """The dictionary that chunks carry, checked as a member checks them."""
    assembler = ConfigAssembler(nwid)
    whole = None
    for packet in packets:
        assert packet.compress
        assert packet.verb in (Verb.OK, Verb.NETWORK_CONFIG)
        body = packet.payload[9:] if packet.verb == Verb.OK else packet.payload
        done = assembler.add(ConfigChunk.decode(body), controller, sender=controller.address, packet_id=0)
        assert done.new
        whole = done.dictionary
    assert whole is not None
    return whole


def captured_configs(scenario: str) -> Iterator[Captured]:
    """The first configuration of every member, in order of time."""
    assemblers: dict[tuple[int, int], ConfigAssembler] = {}
    controllers: dict[int, Identity] = {}
    seen: set[tuple[int, int]] = set()
    for line in (VECTORS / "captures" / scenario / "decoded.jsonl").read_text().splitlines():
        packet = json.loads(line)
        payload = bytes.fromhex(packet.get("payload", ""))
        if packet.get("verb") == "OK" and payload[0] == Verb.NETWORK_CONFIG_REQUEST:
            payload = payload[9:]
        elif packet.get("verb") != "NETWORK_CONFIG":
            continue
        chunk = ConfigChunk.decode(payload)
        member, source = int(packet["dst"], 16), int(packet["src"], 16)
        controller = controllers.setdefault(source, captured_identity(scenario, source))
        assembler = assemblers.setdefault((member, chunk.nwid), ConfigAssembler(chunk.nwid))
        done = assembler.add(chunk, controller, sender=source, packet_id=0)
        if done.dictionary is not None and (member, chunk.nwid) not in seen:
            seen.add((member, chunk.nwid))
            yield Captured(member, chunk.nwid, done.dictionary)


def prepared(scenario: str, nwid: int) -> Controller:
    """A controller after the first call for the network and the first for each member."""
    controller = Controller(captured_identity(scenario, nwid >> 24), MemoryStore(), random=bytes)
    done: set[str] = set()
    for call in load(f"captures/{scenario}/controller-api.json"):
        path = call["path"].removeprefix("/controller/network/")
        if call["method"] != "POST" or path in done or int(path[:16], 16) != nwid:
            continue
        done.add(path)
        if "/member/" in path:
            controller.update_member(0, nwid, int(path[-10:], 16), call["body"])
        else:
            controller.update_network(0, nwid, call["body"])
    controller.take_actions()
    return controller


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "b2-sso"])
def test_captured_configurations_come_out_byte_for_byte(scenario: str) -> None:
    controllers: dict[int, Controller] = {}
    compared = 0
    differing: set[str] = set()
    for captured in captured_configs(scenario):
        controller = controllers.setdefault(captured.nwid, prepared(scenario, captured.nwid))
        now = NetworkConfig.decode(captured.data).timestamp
        member = captured_identity(scenario, captured.member).without_private()
        actions = controller.request(now, captured.nwid, member, METADATA, 5, None)
        packets = [action for action in actions if isinstance(action, SendPacket)]
        ours = assembled(packets, controller.identity, captured.nwid)
        differing |= different_keys(captured.data, ours)
        compared += 1
    assert compared > 0
    assert differing == {key for name, key in INTENDED if name == scenario}


def different_keys(expected: bytes, actual: bytes) -> set[str]:
    if expected == actual:
        return set()
    ours, theirs = dictionary.decode(actual), dictionary.decode(expected)
    keys = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    return keys or {"the form"}


def test_sampled_configuration_comes_out_but_for_its_signatures() -> None:
    """vectors controller-api/member-config-sample, whose controller's private key is not known."""
    sample = "controller-api/member-config-sample"
    expected = NetworkConfig.decode((VECTORS / sample / "config-dictionary.bin").read_bytes())
    network, member = load(f"{sample}/network.json"), load(f"{sample}/member.json")
    nwid = int(network["nwid"], 16)
    store = MemoryStore()
    store.save_network(network)
    # As it was before the configuration was made: its addresses and one tag were chosen then.
    store.save_member(member | {"ipAssignments": [], "tags": [[6, 77]], "remoteTraceLevel": 0})
    bridge = {"id": "aabbccddee", "nwid": network["nwid"], "activeBridge": True, "ipAssignments": ["10.77.0.254"]}
    store.save_member(bridge)
    controller = Controller(identity_with_address(nwid >> 24), store, random=bytes)
    actions = controller.request(expected.timestamp, nwid, Identity.parse(member["identity"]), METADATA, 5, None)
    packets = [action for action in actions if isinstance(action, SendPacket)]
    ours = NetworkConfig.decode(assembled(packets, controller.identity, nwid))
    assert unsigned(ours) == unsigned(expected)
    stored = controller.get_member(nwid, 0x1451131615)
    assert {key: stored[key] for key in ("ipAssignments", "tags")} == {
        key: member[key] for key in ("ipAssignments", "tags")
    }


def unsigned(config: NetworkConfig) -> NetworkConfig:
    """A configuration without the signatures in it."""
    assert config.com is not None
    return replace(
        config,
        com=replace(config.com, signature=b""),
        capabilities=tuple(
            replace(c, custody=tuple(link._replace(signature=b"") for link in c.custody)) for c in config.capabilities
        ),
        tags=tuple(replace(tag, signature=b"") for tag in config.tags),
        coos=tuple(replace(coo, signature=b"") for coo in config.coos),
    )


NWID = 0x3BFB63739C000001
CONTROLLER = 0x3BFB63739C
MEMBER = 0xDD66781748


def granted(
    body: dict[str, Any], member_body: dict[str, Any] | None = None, metadata: bytes = METADATA
) -> NetworkConfig:
    """What a member of a network with those settings gets."""
    bench = Bench(captured_identity("b-join-private", CONTROLLER))
    bench.controller.update_network(bench.now, NWID, {"private": False} | body)
    if member_body is not None:
        bench.controller.update_member(bench.now, NWID, MEMBER, member_body)
    member = captured_identity("b-join-private", MEMBER)
    return NetworkConfig.decode(assembled(bench.request(NWID, member, metadata), bench.identity, NWID))


def test_a_member_without_a_rules_engine_gets_one_rule() -> None:
    body = {
        "rules": [{"type": "ACTION_DROP"}],
        "tags": [{"id": 1, "default": 2}],
        "capabilities": [{"id": 1, "default": True, "rules": [{"type": "ACTION_ACCEPT"}]}],
    }
    config = granted(body, metadata=dictionary.encode([("v", 7), ("revr", 0)]))
    assert config.rules == (ACCEPT,)
    assert not config.tags
    assert not config.capabilities
    config = granted(body)
    assert config.rules != (ACCEPT,)
    assert [tag.value for tag in config.tags] == [2]
    assert [capability.id for capability in config.capabilities] == [1]


def test_defaults_are_for_members_whose_capabilities_nobody_chose() -> None:
    body = {"capabilities": [{"id": n, "default": n == 1, "rules": []} for n in (1, 2)]}
    assert [c.id for c in granted(body, {"capabilities": [2, 3]}).capabilities] == [2]
    assert [c.id for c in granted(body, {"capabilities": []}).capabilities] == []
    assert [c.id for c in granted(body, {"name": "x"}).capabilities] == [1]


def test_certificate_of_ownership_stops_at_sixteen() -> None:
    own = [f"10.1.0.{n}" for n in range(1, 21)]
    config = granted({"routes": [{"target": "10.1.0.0/24"}]}, {"ipAssignments": own})
    assert len(config.static_ips) == 20
    assert config.coos[0].things == tuple(Thing.ip(ip.ip) for ip in config.static_ips[:16])


def test_largest_configuration_fits_the_format() -> None:
    """Every list at its limit, with values that the dictionary writes with two bytes each (vl2 §2.4)."""
    worst = [{"type": "MATCH_IPV6_SOURCE", "ip": "::/0"}] * 1100
    body = {
        "name": "\\" * 500,
        "rules": worst,
        "capabilities": [{"id": n, "default": True, "rules": worst[:70]} for n in range(130)],
        "tags": [{"id": n, "default": 0} for n in range(200)],
        "routes": [{"target": "::/0", "via": "::"}] * 200,
        "dns": {"domain": "\\" * 500, "servers": ["::"] * 9},
    }
    config = granted(body, {"ipAssignments": [f"::{n}" for n in range(40)]})
    assert len(config.rules) == 1024
    assert [len(capability.rules) for capability in config.capabilities] == [64] * 128
    assert (len(config.tags), len(config.routes), len(config.static_ips)) == (128, 128, 32)
    assert config.name == "\\" * 127
    assert len(config.dns.servers) == 4


@pytest.mark.parametrize(
    ("stored", "window"), [(None, 1_800_000), (1, 300_000), (600_000, 600_000), (10**9, 7_200_000), ("x", 300_000)]
)
def test_credential_window(stored: object, window: int) -> None:
    store = MemoryStore()
    record: dict[str, Any] = {"id": f"{NWID:016x}", "nwid": f"{NWID:016x}", "private": False}
    store.save_network(record if stored is None else record | {"certificateTimeoutWindowSize": stored})
    bench = Bench(captured_identity("b-join-private", CONTROLLER), store)
    packets = bench.request(NWID, captured_identity("b-join-private", MEMBER))
    config = NetworkConfig.decode(assembled(packets, bench.identity, NWID))
    assert config.com is not None
    assert config.credential_time_max_delta == config.com.max_delta == window


def test_the_controller_as_its_own_member() -> None:
    bench = Bench(captured_identity("b-join-private", CONTROLLER))
    bench.controller.update_network(bench.now, NWID, {"private": False})
    actions = bench.controller.request(bench.now, NWID, bench.identity, METADATA, 2**64 - 1, None)
    (action,) = actions
    assert isinstance(action, LocalConfig)
    assert NetworkConfig.decode(action.dictionary).issued_to == CONTROLLER
