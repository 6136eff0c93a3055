"""Addresses, MACs, device names, embedded IPv6 addresses (vl1-wire §1, vl2 §1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import Json, kat
from ztpipe.wire.address import (
    BROADCAST_MAC,
    address_of_mac,
    controller_of,
    device_name,
    format_address,
    format_mac,
    format_nwid,
    is_adhoc,
    is_member_mac,
    is_multicast_mac,
    is_reserved_address,
    mac_of,
    parse_address,
    parse_mac,
    parse_nwid,
    rfc4193,
    sixplane,
)
from ztpipe.wire.errors import WireError

# The table of vl2 §1.2, for 89e92ceee5.
TABLE = (
    (
        "8056c2e21c000001",
        "02:89:e9:30:0c:27",
        "fc9c:56c2:e389:e92c:eee5::1",
        "fd80:56c2:e21c:0:199:9389:e92c:eee5",
        "ztmjfmfyq5",
    ),
    (
        "9bee8941b5000052",
        "32:89:e9:99:af:6c",
        "fc2e:ee89:1389:e92c:eee5::1",
        "fd9b:ee89:41b5:0:5299:9389:e92c:eee5",
        "zt3jnysqph",
    ),
    (
        "a09acf0233e4b070",
        "72:39:0d:1f:ec:2a",
        "fc93:7e7f:7289:e92c:eee5::1",
        "fda0:9acf:233:e4b0:7099:9389:e92c:eee5",
        "ztukusxmsd",
    ),
    (
        "ff00160016000000",
        "02:89:e9:3a:ee:f3",
        "fce9:16:89:e92c:eee5::1",
        "fdff:16:16:0:99:9389:e92c:eee5",
        "zt74lbmaaw",
    ),
    (
        "ff0a123456789a01",
        "02:13:91:7a:da:f7",
        "fca9:7288:3589:e92c:eee5::1",
        "fdff:a12:3456:789a:199:9389:e92c:eee5",
        "ztznogvlsx",
    ),
)
VECTORS = [
    *kat("derivations")["vectors"],
    *(
        {"address": "89e92ceee5", "nwid": n, "mac": m, "6plane": f"{s}/40", "rfc4193": f"{r}/88", "device": d}
        for n, m, s, r, d in TABLE
    ),
]
addresses = st.integers(0, 2**40 - 1)
nwids = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['address']}-{v['nwid']}")
def test_derivations(vector: Json) -> None:
    address, nwid = parse_address(vector["address"]), parse_nwid(vector["nwid"])
    assert format_mac(mac_of(address, nwid)) == vector["mac"]
    assert device_name(nwid) == vector["device"]
    assert sixplane(nwid, address).text() == vector["6plane"]
    assert rfc4193(nwid, address).text() == vector["rfc4193"]


@pytest.mark.parametrize("vector", kat("adhoc")["networks"], ids=lambda v: f"{v['member']}-{v['nwid']}")
def test_what_nodes_of_adhoc_networks_report(vector: Json) -> None:
    address, nwid, reported = parse_address(vector["member"]), parse_nwid(vector["nwid"]), vector["reported"]
    assert is_adhoc(nwid)
    assert format_mac(mac_of(address, nwid)) == reported["mac"]
    if reported["assignedAddresses"]:
        assert sixplane(nwid, address).text() in reported["assignedAddresses"]


@given(addresses, nwids)
def test_mac_round_trip(address: int, nwid: int) -> None:
    mac = mac_of(address, nwid)
    assert is_member_mac(mac, nwid)
    assert not is_multicast_mac(mac)
    assert mac >> 41 & 1  # locally administered
    assert mac >> 40 != 0x52
    assert address_of_mac(mac, nwid) == address


def test_device_name_trials_differ() -> None:
    names = {device_name(0x8056C2E21C000001, trial) for trial in range(100)}
    assert len(names) == 100
    assert all(len(name) == 10 for name in names)


def test_multicast() -> None:
    assert is_multicast_mac(BROADCAST_MAC)
    assert is_multicast_mac(0x01005E000001)
    assert not is_multicast_mac(0x020000000000)


def test_reserved_addresses() -> None:
    assert is_reserved_address(0)
    assert is_reserved_address(0xFF00000001)
    assert not is_reserved_address(0xFE00000001)


def test_network_ids() -> None:
    assert controller_of(0x8056C2E21C000001) == 0x8056C2E21C
    assert is_adhoc(0xFF00160016000000)
    assert not is_adhoc(0x8056C2E21C000001)


@given(addresses, nwids, st.integers(0, 2**48 - 1))
def test_text_round_trip(address: int, nwid: int, mac: int) -> None:
    assert parse_address(format_address(address)) == address
    assert parse_nwid(format_nwid(nwid)) == nwid
    assert parse_mac(format_mac(mac)) == mac
    assert parse_mac(format_mac(mac).replace(":", "").upper()) == mac


@pytest.mark.parametrize(
    "text", ["", "123", "024d3a68e", "024d3a68e00", "024d3a68eg", " 24d3a68e0", "+24d3a68e0", "0x4d3a68e0"]
)
def test_bad_address(text: str) -> None:
    with pytest.raises(WireError, match="bad_address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "02:89:e9:30:0c", "02-89-e9-30-0c-27", "02:89:e9:30:0c:2_", "0:289:e9:30:0c:27"])
def test_bad_mac(text: str) -> None:
    with pytest.raises(WireError, match="bad_mac_address"):
        parse_mac(text)


@given(st.text(max_size=20))
def test_parsers_raise_nothing_else(text: str) -> None:
    for parse in (parse_address, parse_nwid, parse_mac):
        try:
            parse(text)
        except WireError:
            continue
