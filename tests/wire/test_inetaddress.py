# ruff: noqa: E501 - known values stay on one line
"""Endpoints: binary and text forms, scopes, prefixes (vl1-wire §3, B.8; vl1-behaviour §2.7)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress, IpScope, read_inet, write_inet

ips = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
inets = st.builds(InetAddress, ips, st.integers(0, 65535))

KNOWN = (
    (InetAddress.parse("10.1.2.3/9993"), "040a0102032709"),
    (InetAddress.parse("2001:db8::1/443"), "0620010db800000000000000000000000101bb"),
    (None, "00"),
)


@pytest.mark.parametrize(("value", "encoded"), KNOWN)
def test_known_forms(value: InetAddress | None, encoded: str) -> None:
    assert write_inet(value).hex() == encoded
    assert read_inet(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@given(inets, st.binary(max_size=5), st.binary(max_size=5))
def test_round_trip(value: InetAddress, before: bytes, after: bytes) -> None:
    raw = write_inet(value)
    assert read_inet(before + raw + after, len(before)) == (value, len(before + raw))
    assert InetAddress.parse(value.text()) == value
    for size in range(len(raw)):
        with pytest.raises(WireError, match="truncated_inetaddress"):
            read_inet(before + raw[:size], len(before))


@pytest.mark.parametrize("encoded", ["01aabbccddeeff", "02aabbccddeeff", "030002aabb", "030000"])
def test_reserved_types_are_skipped(encoded: str) -> None:
    raw = bytes.fromhex(encoded)
    assert read_inet(raw + b"x", 0) == (None, len(raw))
    for size in range(len(raw)):
        with pytest.raises(WireError, match="truncated_inetaddress"):
            read_inet(raw[:size], 0)


@pytest.mark.parametrize("kind", [5, 7, 8, 255])
def test_unknown_types(kind: int) -> None:
    with pytest.raises(WireError, match="bad_inetaddress"):
        read_inet(bytes((kind,)) * 30, 0)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("0.0.0.0", IpScope.NONE),
        ("0.1.2.3", IpScope.NONE),
        ("255.255.255.255", IpScope.NONE),
        ("127.0.0.1", IpScope.LOOPBACK),
        ("224.0.0.251", IpScope.MULTICAST),
        ("239.255.255.255", IpScope.MULTICAST),
        ("240.0.0.1", IpScope.PSEUDO_PRIVATE),
        ("254.0.0.1", IpScope.PSEUDO_PRIVATE),
        ("6.0.0.1", IpScope.PSEUDO_PRIVATE),
        ("56.1.1.1", IpScope.PSEUDO_PRIVATE),
        ("51.1.1.1", IpScope.PSEUDO_PRIVATE),
        ("7.0.0.1", IpScope.GLOBAL),
        ("8.8.8.8", IpScope.GLOBAL),
        ("169.254.1.1", IpScope.LINK_LOCAL),
        ("169.253.1.1", IpScope.GLOBAL),
        ("10.55.1.1", IpScope.PRIVATE),
        ("100.64.0.1", IpScope.PRIVATE),
        ("100.127.255.255", IpScope.PRIVATE),
        ("100.128.0.0", IpScope.GLOBAL),
        ("172.16.0.1", IpScope.PRIVATE),
        ("172.32.0.1", IpScope.GLOBAL),
        ("192.168.0.1", IpScope.PRIVATE),
        ("192.0.2.1", IpScope.PRIVATE),
        ("192.0.3.1", IpScope.GLOBAL),
        ("198.18.0.1", IpScope.PRIVATE),
        ("198.19.255.255", IpScope.PRIVATE),
        ("198.20.0.0", IpScope.GLOBAL),
        ("198.51.100.7", IpScope.PRIVATE),
        ("203.0.113.7", IpScope.PRIVATE),
        ("::", IpScope.NONE),
        ("::1", IpScope.LOOPBACK),
        ("ff02::1", IpScope.MULTICAST),
        ("fe80::1", IpScope.LINK_LOCAL),
        ("febf::1", IpScope.LINK_LOCAL),
        ("fc00::1", IpScope.PRIVATE),
        ("fd80::1", IpScope.PRIVATE),
        ("2001:db8::1", IpScope.GLOBAL),
        ("::2", IpScope.GLOBAL),
    ],
)
def test_scopes(text: str, scope: IpScope) -> None:
    assert InetAddress.parse(text).scope is scope


def test_ranks() -> None:
    """Higher is preferred for paths."""
    assert [scope.name for scope in sorted(IpScope)] == [
        "NONE", "MULTICAST", "LOOPBACK", "PSEUDO_PRIVATE", "GLOBAL", "LINK_LOCAL", "SHARED", "PRIVATE",
    ]  # fmt: skip


@given(inets, st.integers(0, 128))
def test_prefixes(value: InetAddress, bits: int) -> None:
    bits = min(bits, 8 * len(value.ip))
    network = ipaddress.ip_network((value.ip, bits), strict=False)
    net = InetAddress(network.network_address.packed, bits)
    assert value.in_prefix(net)
    assert InetAddress(value.ip, bits).network() == net
    flipped = bytes((value.ip[0] ^ 0x80,)) + value.ip[1:]
    assert InetAddress(flipped, 0).in_prefix(net) == (bits == 0)


def test_prefix_of_the_other_family() -> None:
    assert not InetAddress.parse("10.0.0.1").in_prefix(InetAddress.parse("::/0"))


def test_same_ip_ignores_ports() -> None:
    assert InetAddress.parse("10.0.0.1/1").same_ip(InetAddress.parse("10.0.0.1/2"))
    assert not InetAddress.parse("10.0.0.1/1").same_ip(InetAddress.parse("10.0.0.2/1"))


@pytest.mark.parametrize(
    "text", ["", "/1", "1.2.3", "1.2.3.4/65536", "1.2.3.4/-1", "1.2.3.4/+1", "1.2.3.4/1/2", "1.2.3.4:9993", "fe80::1%eth0/1", "1.2.3.4/٣"]
)  # fmt: skip
def test_bad_text(text: str) -> None:
    with pytest.raises(WireError, match="bad_inetaddress"):
        InetAddress.parse(text)


@given(st.text(max_size=50))
def test_parse_raises_nothing_else(text: str) -> None:
    try:
        InetAddress.parse(text)
    except WireError:
        pass
