"""Ad-hoc networks: what running reference nodes report about theirs (kat/adhoc.json)."""

from __future__ import annotations

import pytest

from tests.captures import Json, kat
from tests.node.vl2_lab import START, Host, some_identities
from ztpipe.node.actions import ConfigureNetwork, Event, SaveState
from ztpipe.node.adhoc import AdhocNotFound, adhoc_config
from ztpipe.node.status import NetworkStatus
from ztpipe.node.vl2 import MAX_NETWORKS
from ztpipe.wire.address import format_mac, mac_of
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.rule import ACCEPT, encode_rules

CASES = kat("adhoc")["networks"]


def synthesised(nwid: int, address: int) -> NetworkConfig | NetworkStatus:
    try:
        config = adhoc_config(nwid, address, START)
    except AdhocNotFound:
        return NetworkStatus.NOT_FOUND
    return NetworkStatus.REQUESTING_CONFIGURATION if config is None else config


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['member']}-{case['nwid']}")
def test_what_reference_nodes_report(case: Json) -> None:
    nwid, address, reported = int(case["nwid"], 16), int(case["member"], 16), case["reported"]
    made = synthesised(nwid, address)
    assert format_mac(mac_of(address, nwid)) == reported["mac"]
    if isinstance(made, NetworkStatus):
        assert made.value == reported["status"]
        return
    assert reported["status"] == "OK"
    assert made.is_public and reported["type"] == "PUBLIC"
    assert (made.name, made.mtu, made.revision) == (reported["name"], reported["mtu"], reported["netconfRevision"])
    assert made.broadcast is reported["broadcastEnabled"]
    assert [ip.text() for ip in made.static_ips] == reported["assignedAddresses"]
    assert made.issued_to == address and made.network_id == nwid and made.timestamp == START


def test_rules_of_both_forms() -> None:
    ports = adhoc_config(0xFF1F901F91000000, 1, START)
    ipv4 = adhoc_config(0xFF0A123456789A01, 1, START)
    assert ports is not None and ipv4 is not None
    assert encode_rules(ports.rules).hex() == (
        "a50286dd000024013a01002401116401062804"
        "1f901f910100a908000000000000000201002908000000000000000229080000000000000010"
        "01000000"
    )
    assert ipv4.rules == (ACCEPT,)
    assert ipv4.specialists == (0x123456789A,)
    assert ipv4.active_bridges == ipv4.anchors == ipv4.replicators == ()
    assert (ports.multicast_limit, ipv4.multicast_limit) == (0, 1024)


def test_joining_asks_nobody_and_saves_no_configuration() -> None:
    host = Host(some_identities()[0])
    host.vl1.roots = [0x1234567890]
    host.engine.join(START, 0xFF1F901F91000000)
    assert [action.status for action in host.vl1.take(ConfigureNetwork)][-1] is NetworkStatus.OK
    assert [action.data for action in host.vl1.take(SaveState)] == [b"\n"]
    host.engine.tick(START + 60_000)
    assert {sent.destination for sent in host.vl1.sent} <= {0x1234567890}
    (record,) = host.engine.statuses()
    assert record.config is not None and record.config.timestamp == START + 60_000


def test_a_range_that_ends_before_it_starts_is_not_found() -> None:
    host = Host(some_identities()[0])
    host.engine.join(START, 0xFF00500040000000)
    assert host.engine.statuses()[0].status is NetworkStatus.NOT_FOUND


def test_beyond_the_limit_nothing_is_joined_and_the_log_says_why() -> None:
    host = Host(some_identities()[0])
    for number in range(MAX_NETWORKS + 1):
        host.engine.join(START, 0xFF00000000000000 | (1000 + number) << 40 | (1000 + number) << 24)
    assert len(host.engine.statuses()) == MAX_NETWORKS
    (told,) = [event for event in host.vl1.take(Event) if event.kind == "too_many_networks"]
    assert told.fields["limit"] == MAX_NETWORKS and host.vl1.drops() == ["join_refused"]
    host.engine.leave(START, 0xFF00000000000000 | 1000 << 40 | 1000 << 24)
    host.engine.join(START, told.fields["network"])
    assert len(host.engine.statuses()) == MAX_NETWORKS and not host.vl1.drops()
