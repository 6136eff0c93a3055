"""What both controller APIs ask of addresses, ranges and IDs; every refusal is a 400 that names the field."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

from ztpipe.controller.errors import bad_value

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Range(NamedTuple):
    """Addresses from `first` to `last`; `place` in the list that was sent, -1 for one that was stored before."""

    version: int
    first: int
    last: int
    place: int


def address(field: str, value: Any, expected: str = "an IPv4 or IPv6 address") -> Address:
    """The address that a text without zone or bits spells."""
    try:
        if isinstance(value, str) and "%" not in value:
            return ipaddress.ip_address(value)
    except ValueError:
        pass
    raise bad_value(field, expected)


def via(field: str, value: Any, target: int) -> None:
    """A gateway of the same family as the route's target."""
    if address(field, value, f"an IPv{target} address, or null").version != target:
        raise bad_value(field, f"an IPv{target} address, as the target is, or null")


def pool(field: str, start: Any, end: Any, place: int) -> Range:
    """The range between two addresses of one family, in order."""
    first = address(f"{field}.ipRangeStart", start)
    last = address(f"{field}.ipRangeEnd", end)
    if first.version != last.version or int(first) > int(last):
        raise bad_value(f"{field}.ipRangeEnd", f"an address of the same family from {first} on")
    return Range(first.version, int(first), int(last), place)


def apart(field: str, ranges: Iterable[Range]) -> None:
    """None that was sent may overlap another; of those stored before nothing is said."""
    furthest = Range(0, -1, -1, -1)
    for one in sorted(ranges):
        places = max(furthest.place, one.place)
        if one.version == furthest.version and one.first <= furthest.last and places >= 0:
            raise bad_value(f"{field}[{places}]", "a range that overlaps no other")
        if (one.version, one.last) > (furthest.version, furthest.last):
            furthest = one


def unique(field: str, idents: Iterable[int]) -> None:
    """No two elements of a list may have one ID."""
    seen: set[int] = set()
    for place, ident in enumerate(idents):
        if ident in seen:
            raise bad_value(f"{field}[{place}]", "an ID that no other has")
        seen.add(ident)
