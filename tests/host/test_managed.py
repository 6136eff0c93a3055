"""Which addresses and routes a configuration gives us (vl2 §7.1-7.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.captures import kat
from ztpipe.host.managed import LocalSettings, Plan, parse_prefixes, plan
from ztpipe.host.multicast import address_groups, read_groups
from ztpipe.host.netlink import ManagedRoute
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import NetworkConfig, Route


def net(text: str) -> InetAddress:
    return InetAddress.parse(text)


@pytest.fixture
def config() -> NetworkConfig:
    """A real configuration, with the addresses and routes of each test put in."""
    dictionary = bytes.fromhex(kat("network_configs")["vectors"][0]["dictionary"])
    return replace(NetworkConfig.decode(dictionary), static_ips=(net("10.1.1.5/24"),), routes=())


def planned(config: NetworkConfig, *routes: tuple[str, str | None], online: bool = True, **allow: bool) -> Plan:
    given = tuple(Route(net(target), net(via + "/0") if via else None, 0, 0) for target, via in routes)
    return plan(replace(config, routes=given), LocalSettings(**allow), online=online)


def test_an_address_implies_its_own_route(config: NetworkConfig) -> None:
    found = planned(config, ("10.1.1.0/24", None))
    assert found == Plan((net("10.1.1.5/24"),), ())


def test_routes_without_gateway_come_first_and_name_their_source(config: NetworkConfig) -> None:
    found = planned(config, ("10.9.0.0/16", "10.1.1.1"), ("10.8.0.0/16", None))
    source = net("10.1.1.5/24")
    assert found.routes == (
        ManagedRoute(net("10.8.0.0/16"), None, source),
        ManagedRoute(net("10.9.0.0/16"), net("10.1.1.1/0"), source),
    )


def test_no_route_to_ourselves_as_router_nor_without_an_address_of_the_family(config: NetworkConfig) -> None:
    assert planned(config, ("10.9.0.0/16", "10.1.1.5"), ("fd00:9::/64", None)).routes == ()


def test_what_needs_permission(config: NetworkConfig) -> None:
    wide = replace(config, static_ips=(net("10.1.1.5/24"), net("8.8.8.8/24")))
    assert planned(wide).addresses == (net("10.1.1.5/24"),)
    assert planned(wide, allow_global=True).addresses == (net("8.8.8.8/24"), net("10.1.1.5/24"))
    assert planned(wide, allow_managed=False) == Plan()
    assert planned(config, ("0.0.0.0/0", "10.1.1.1")).routes == ()
    assert len(planned(config, ("0.0.0.0/0", "10.1.1.1"), allow_default=True).routes) == 1
    assert planned(config, ("0.0.0.0/0", "10.1.1.1"), allow_default=True, online=False).routes == ()


def test_a_list_of_prefixes_limits_what_is_managed(config: NetworkConfig) -> None:
    only = LocalSettings(managed_prefixes=parse_prefixes("10.1.0.0/16, fd00::/8"))
    assert plan(config, only, online=True).addresses == (net("10.1.1.5/24"),)
    other = LocalSettings(managed_prefixes=parse_prefixes("10.2.0.0/16"))
    assert plan(config, other, online=True).addresses == ()


def test_nothing_without_a_configuration() -> None:
    assert plan(None, LocalSettings(), online=True) == Plan()


def test_groups_by_which_our_addresses_are_found() -> None:
    assert address_groups([net("10.1.1.5/24"), net("fd00::12:3456/64")]) == {
        MulticastGroup(BROADCAST_MAC, 0x0A010105),
        MulticastGroup(0x3333FF123456, 0),
    }


def test_groups_of_a_device(tmp_path: object) -> None:
    from pathlib import Path

    listing = Path(str(tmp_path)) / "dev_mcast"
    listing.write_text(
        "2    eth0            1     0     01005e000001\n"
        "7    ztabc           1     0     333300000001\n"
        "7    ztabc           nonsense\n"
        "7    ztabc           2     0     01005e000001\n"
    )
    groups = read_groups(str(listing))["ztabc"]
    assert groups == {MulticastGroup(0x333300000001, 0), MulticastGroup(0x01005E000001, 0)}
    assert read_groups(str(listing) + ".missing") == {}
