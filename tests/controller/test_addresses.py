"""Addresses: every known answer of controller §8.6 to §8.8."""

from __future__ import annotations

import pytest

from tests.controller.support import numbered_random
from ztpipe.controller.addresses import assign, pick_v4, pick_v6, static_prefix
from ztpipe.controller.coerce import address, ip_text
from ztpipe.controller.network import updated
from ztpipe.controller.view import NetworkView

MEMBER = 0x1451131615
NWID = 0xF10632353C000001
Text = str


def view(
    pools: list[tuple[str, str]], routes: list[str | tuple[str, str]], v6: dict[str, bool] | None = None
) -> NetworkView:
    """A network with those pools and routes; a route is a target or (target, via)."""
    body = {
        "ipAssignmentPools": [{"ipRangeStart": start, "ipRangeEnd": end} for start, end in pools],
        "routes": [
            {"target": route} if isinstance(route, str) else {"target": route[0], "via": route[1]} for route in routes
        ],
        "v4AssignMode": {"zt": True},
        "v6AssignMode": v6 or {},
    }
    return NetworkView.of(NWID, updated(None, body, NWID, 0))


def packed(text: str) -> bytes:
    parsed = address(text)
    assert parsed is not None
    return parsed.ip


HOSTS = ("10.77.0.1", "10.77.0.254")
NET24 = "10.77.0.0/24"

V4_ANSWERS = [
    ([HOSTS], [NET24], [], "10.77.0.169/24"),
    ([HOSTS], [NET24], ["10.77.0.169", "10.77.0.170"], "10.77.0.171/24"),
    ([("10.77.0.0", "10.77.0.255")], [NET24], [], "10.77.0.143/24"),
    ([("10.77.0.5", "10.77.0.5")], [NET24], [], "10.77.0.5/24"),
    ([("10.77.0.5", "10.77.0.6")], [NET24], ["10.77.0.5"], None),
    ([("10.76.0.1", "10.76.0.9"), ("10.77.0.1", "10.77.3.200")], ["10.77.0.0/16", NET24], [], "10.77.3.125/16"),
    ([("10.77.0.0", "10.77.255.255")], ["10.77.0.0/16"], [], "10.77.103.40/16"),
    ([("10.0.0.0", "10.255.255.255")], ["10.0.0.0/8"], [], "10.19.22.102/8"),
    ([("10.0.0.0", "10.255.255.255")], [NET24], [], None),
    ([HOSTS], ["10.77.0.1/24"], [], None),
    ([("10.77.0.200", "10.77.0.100")], [NET24], [], None),
    ([HOSTS], ["0.0.0.0/0"], [], None),
    ([HOSTS], ["10.77.0.0/16", (NET24, "10.77.0.254"), "0.0.0.0/0"], [], "10.77.0.169/16"),
]


@pytest.mark.parametrize(("pools", "routes", "taken", "expected"), V4_ANSWERS)
def test_ipv4_known_answers(
    pools: list[tuple[str, str]], routes: list[str], taken: list[str], expected: str | None
) -> None:
    found = pick_v4(view(pools, list(routes)), MEMBER, {packed(ip) for ip in taken})
    assert (None if found is None else f"{ip_text(found.ip)}/{found.port}") == expected


def test_ipv4_recorded_member() -> None:
    """The member of the recorded configuration sample got this one (vectors controller-api/member-config-sample)."""
    found = pick_v4(view([("10.77.0.1", "10.77.0.200")], [NET24]), MEMBER, set())
    assert found is not None and ip_text(found.ip) == "10.77.0.136"


V6_POOL = ("fd00:77::", "fd00:77::ff:ffff:ffff")
V6_ANSWERS = [
    (V6_POOL, ["fd00:77::/64"], "fd00:77::14:5113:1615/64"),
    (("fd00:77::1", "fd00:77::ff:ffff:ffff:ffff"), ["fd00:77::/64"], "fd00:77::14:5113:1616/64"),
    (V6_POOL, [("fd00:77::/64", "fd00:77::1")], None),
    (V6_POOL, ["fd00:77::1/64"], None),
    (V6_POOL, ["fd00:77::/64", "fd00:77::/48"], "fd00:77::14:5113:1615/48"),
]


@pytest.mark.parametrize(("pool", "routes", "expected"), V6_ANSWERS)
def test_ipv6_known_answers(pool: tuple[str, str], routes: list[str], expected: str | None) -> None:
    found = pick_v6(view([pool], list(routes)), MEMBER, set(), numbered_random())
    assert (None if found is None else f"{ip_text(found.ip)}/{found.port}") == expected


def test_ipv6_random_picks_stay_inside_and_leave_out_the_end() -> None:
    network = view([("fd00:1::1", "fd00:1::4")], ["fd00:1::/64"])
    random = numbered_random()
    taken: set[bytes] = set()
    for _ in range(3):
        found = pick_v6(network, MEMBER, taken, random)
        assert found is not None
        taken.add(found.ip)
    assert taken == {packed(f"fd00:1::{n}") for n in (1, 2, 3)}
    assert pick_v6(network, MEMBER, taken, random) is None


def test_static_prefix_is_the_longest_target_gateways_included() -> None:
    network = view([HOSTS], ["10.77.0.0/16", (NET24, "10.77.0.254"), "0.0.0.0/0"])
    assert static_prefix(network, packed("10.77.0.9")) == 24
    assert static_prefix(network, packed("192.168.5.5")) == 0
    assert static_prefix(view([HOSTS], [NET24]), packed("192.168.5.5")) is None
    assert static_prefix(view([], ["fd00:77::1/64"]), packed("fd00:77::1")) is None


def test_order_and_flag_of_all_kinds() -> None:
    network = view([V6_POOL, HOSTS], ["fd00:77::/64", NET24], {"rfc4193": True, "6plane": True, "zt": True})
    result = assign(network, MEMBER, [], False, set(), numbered_random())
    assert [f"{ip_text(ip.ip)}/{ip.port}" for ip in result.addresses] == [
        "fdf1:632:353c:0:199:9314:5113:1615/88",
        "fccd:632:3414:5113:1615::1/40",
        "fd00:77::14:5113:1615/64",
        "10.77.0.169/24",
    ]
    assert result.embedded
    assert result.chosen == [packed("fd00:77::14:5113:1615"), packed("10.77.0.169")]


def test_no_auto_keeps_static_addresses_only() -> None:
    network = view([V6_POOL, HOSTS], ["fd00:77::/64", NET24], {"rfc4193": True, "6plane": True, "zt": True})
    result = assign(network, MEMBER, [packed("10.77.0.9"), packed("1.2.3.4")], True, set(), numbered_random())
    assert [(ip_text(ip.ip), ip.port) for ip in result.addresses] == [("10.77.0.9", 24)]
    assert not result.embedded
    assert not result.chosen


def test_a_static_address_of_a_family_stops_the_pool_of_that_family() -> None:
    network = view([HOSTS], [NET24])
    assert not assign(network, MEMBER, [packed("10.77.0.9")], False, set(), numbered_random()).chosen
    uncovered = assign(network, MEMBER, [packed("1.2.3.4")], False, set(), numbered_random())
    assert uncovered.chosen == [packed("10.77.0.169")]


def test_at_most_32_addresses() -> None:
    own = [packed(f"10.77.0.{n}") for n in range(1, 60)]
    result = assign(view([], [NET24], {"rfc4193": True}), MEMBER, own, False, set(), numbered_random())
    assert len(result.addresses) == 32
    assert result.addresses[1].ip == own[0]
