"""Which addresses carry the underlay."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from ztpipe import config
from ztpipe.host.netlink import UnderlayAddress
from ztpipe.host.underlay import select
from ztpipe.runtime.settings import underlay_filter
from ztpipe.wire.inetaddress import InetAddress


def net(text: str) -> InetAddress:
    interface = ipaddress.ip_interface(text)
    return InetAddress(interface.ip.packed, interface.network.prefixlen)


def at(interface: str, text: str = "192.168.1.2/24", kind: str = "") -> UnderlayAddress:
    return UnderlayAddress(interface, 1, net(text), kind)


ETH, SECOND = at("eth0"), at("eth1", "203.0.113.9/24")


def test_neither_loopback_nor_overlay() -> None:
    found = [ETH, SECOND, at("lo", "10.0.0.1/8"), at("ztabc"), at("eth0", "fe80::1/64"), at("eth0", "127.0.0.1/8")]
    assert select(found).usable == [ETH, SECOND]
    assert select(found).saved == {}  # the reference leaves those out too
    assert select(found, prefix_blacklist=["eth1"]).usable == [ETH]
    assert select(found, blacklist=[net("192.168.0.0/16")]).usable == [SECOND]
    assert select(found, own_devices={"eth0"}).usable == [SECOND]


@pytest.mark.parametrize(
    "interface",
    ["docker0", "br-3f0c6a2b91d7", "veth12ab", "cni0", "flannel.1", "cali0a1b", "wg0", "tailscale0", "cilium_host"],
)
def test_containers_and_other_overlays_save_the_user(interface: str) -> None:
    chosen = select([ETH, at(interface, "172.17.0.1/16")])
    assert chosen.usable == [ETH]
    assert list(chosen.saved) == [interface]


@pytest.mark.parametrize("kind", ["wireguard", "vxlan", "tun"])
def test_tunnels_by_kind_whatever_their_name(kind: str) -> None:
    assert select([at("office", kind=kind)]).usable == []


def test_what_runs_over_the_overlay_is_left_out_by_its_routes() -> None:
    """A VLAN on our TAP, a tunnel whose far end lies beyond it, and one over that; not so over eth0."""
    found = [
        UnderlayAddress("vlan7", 3, net("10.1.1.1/24"), "vlan", over=("ztabc",)),
        UnderlayAddress("gre1", 4, net("10.1.2.1/24"), "gre", over=("vlan7", "overlay0")),
        UnderlayAddress("gre2", 5, net("10.1.3.1/24"), "gre", over=("eth0",)),
    ]
    chosen = select(found, own_devices={"overlay0"})
    assert chosen.usable == [found[2]]
    assert chosen.saved == {"vlan7": "it runs over ztabc", "gre1": "it runs over overlay0"}


@pytest.mark.parametrize(("interface", "kind"), [("eth0", "veth"), ("br0", "bridge"), ("lan0", "veth")])
def test_ways_out_that_are_virtual_too(interface: str, kind: str) -> None:
    found = [at(interface, kind=kind)]
    assert select(found).usable == found


def test_allowed_interfaces_only_and_without_exclusions() -> None:
    found = [ETH, SECOND, at("wg0", "10.9.0.1/24", "wireguard"), at("ztabc", "10.8.0.1/24")]
    assert select(found, allow=["wg0"]).usable == [found[2]]
    assert select(found, allow=["eth*"]).usable == [ETH, SECOND]
    assert select(found, allow=["*"], own_devices={"ztabc"}).usable == found[:3]
    assert select(found, allow=["*"], prefix_blacklist=["eth"], own_devices={"ztabc"}).usable == [found[2]]


def test_bind_replaces_everything() -> None:
    chosen = select([ETH], bind=[net("0.0.0.0/32"), net("198.51.100.7/32")], allow=["nothing"])
    assert [(a.interface, a.address.ip) for a in chosen.usable] == [("", bytes(4)), ("", bytes((198, 51, 100, 7)))]


def test_settings_reach_the_selection(tmp_path: Path) -> None:
    (tmp_path / "local.conf").write_text(
        '{"settings": {"bind": ["192.0.2.1", "::", "nonsense"], "interfacePrefixBlacklist": ["eth1"]},'
        ' "physical": {"10.0.0.0/8": {"blacklist": true}}, "ztpipe": {"underlayInterfaces": ["eth*"]}}'
    )
    given = underlay_filter(config.load(tmp_path, environment={}))
    assert given["allow"] == ("eth*",)
    assert [address.ip for address in given["bind"]] == [bytes((192, 0, 2, 1)), bytes(16)]
    assert given["prefix_blacklist"] == ("eth1",)
    assert given["blacklist"] == [net("10.0.0.0/8")]
    with pytest.raises(config.ConfigError, match="--underlay-interfaces"):
        config.load(tmp_path, environment={}, flags={"underlay_interfaces": "an-interface-name-too-long"})
