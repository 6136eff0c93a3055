"""Which addresses a member gets, with which prefix length (controller §8.6 to §8.8)."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Final

from ztpipe.controller.view import NetworkView, Pool
from ztpipe.wire.address import rfc4193, sixplane
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import MAX_STATIC_IPS

MAX_TRIALS: Final = 1000
_HALF: Final = 0xFFFFFFFFFFFFFFFF
_EMBEDDABLE: Final = 0xFFFFFFFFFF

#: `random(n)` gives n random bytes.
Random = Callable[[int], bytes]


@dataclass(slots=True)
class Assignment:
    """The outcome: `addresses` (port = prefix length) in the order they are sent; `chosen` = those taken from a pool
    just now, to be added to the member's record; `embedded` = an address that holds the node's own was given."""

    addresses: list[InetAddress] = field(default_factory=list)
    chosen: list[bytes] = field(default_factory=list)
    embedded: bool = False

    def add(self, ip: InetAddress) -> None:
        """Append, up to the limit of the format."""
        if len(self.addresses) < MAX_STATIC_IPS:
            self.addresses.append(ip)


def assign(
    network: NetworkView, address: int, own: list[bytes], no_auto: bool, taken: Container[bytes], random: Random
) -> Assignment:
    """The addresses of member `address`, whose record lists `own` as its static assignments.

    `taken` holds the addresses of every member of the network.  The caller must record `chosen` before the next call.
    """
    result = Assignment()
    if not no_auto:
        _embedded(network, address, result)
    families = set()
    for ip in own:
        bits = static_prefix(network, ip)
        if bits is not None:
            result.add(InetAddress(ip, bits))
            families.add(len(ip))
    if no_auto:
        return result
    if network.v6_pool and 16 not in families:
        _take(result, pick_v6(network, address, _Union(taken, own), random))
    if network.v4_pool and 4 not in families:
        _take(result, pick_v4(network, address, _Union(taken, own)))
    return result


def static_prefix(network: NetworkView, ip: bytes) -> int | None:
    """The length of the longest route target that contains `ip`, routes with a gateway included; None if none does."""
    lengths = [route.target.port for route in network.routes if _contains(route.target, ip)]
    return max(lengths, default=None)


def pick_v6(network: NetworkView, address: int, taken: Container[bytes], random: Random) -> InetAddress | None:
    """An address from the first IPv6 pool that has one (controller §8.7)."""
    for pool in network.pools:
        if pool.width == 16:
            found = _pick_v6_in(network, pool, address, taken, random)
            if found is not None:
                return found
    return None


def pick_v4(network: NetworkView, address: int, taken: Container[bytes]) -> InetAddress | None:
    """An address from the first IPv4 pool that has one (controller §8.8)."""
    for pool in network.pools:
        if pool.width == 4:
            found = _pick_v4_in(network, pool, address, taken)
            if found is not None:
                return found
    return None


class _Union(Container[bytes]):
    """What is in either of two collections."""

    def __init__(self, taken: Container[bytes], own: list[bytes]) -> None:
        self._taken = taken
        self._own = own

    def __contains__(self, ip: object) -> bool:
        return ip in self._taken or ip in self._own


def _embedded(network: NetworkView, address: int, result: Assignment) -> None:
    if network.rfc4193:
        result.add(rfc4193(network.nwid, address))
    if network.sixplane:
        result.add(sixplane(network.nwid, address))
    result.embedded = network.rfc4193 or network.sixplane


def _take(result: Assignment, found: InetAddress | None) -> None:
    if found is not None:
        result.add(found)
        result.chosen.append(found.ip)


def _contains(target: InetAddress, ip: bytes) -> bool:
    """IPv4: the leading bits agree.  IPv6: the masked address equals the *unmasked* target (controller §8.6)."""
    if len(target.ip) != len(ip):
        return False
    width = len(ip) * 8
    shift = width - target.port
    address, prefix = int.from_bytes(ip, "big"), int.from_bytes(target.ip, "big")
    if width == 32:
        return address >> shift == prefix >> shift
    return address >> shift << shift == prefix


def _pick_v6_in(
    network: NetworkView, pool: Pool, address: int, taken: Container[bytes], random: Random
) -> InetAddress | None:
    for trial in range(MAX_TRIALS):
        candidate = _embedding(pool, address) if trial == 0 else None
        ip = (_random_v6(pool, random) if candidate is None else candidate).to_bytes(16, "big")
        bits = _local_prefix_v6(network, ip)
        if bits and ip not in taken:
            return InetAddress(ip, bits)
    return None


def _embedding(pool: Pool, address: int) -> int | None:
    """The start of the pool plus the member's address, if the lower half of the range is large enough for all."""
    low_start, low_end = pool.start & _HALF, pool.end & _HALF
    if low_end - low_start < _EMBEDDABLE:
        return None
    return pool.start & ~_HALF | (low_start + address) & _HALF


def _random_v6(pool: Pool, random: Random) -> int:
    """A random address of the range; both halves are drawn on their own and neither reaches its end."""
    upper = _random_between(pool.start >> 64, pool.end >> 64, random)
    return upper << 64 | _random_between(pool.start & _HALF, pool.end & _HALF, random)


def _random_between(start: int, end: int, random: Random) -> int:
    drawn = int.from_bytes(random(8), "big")
    return (start + drawn % (end - start)) & _HALF if end > start else start


def _local_prefix_v6(network: NetworkView, ip: bytes) -> int | None:
    """The length of the last route without a gateway that contains `ip`."""
    lengths = [route.target.port for route in network.routes if route.via is None and _contains(route.target, ip)]
    return lengths[-1] if lengths else None


def _pick_v4_in(network: NetworkView, pool: Pool, address: int, taken: Container[bytes]) -> InetAddress | None:
    start, end = pool.start, pool.end
    if end < start or start == 0:
        return None
    length = end - start
    first = address & 0xFFFFFFFF
    targets = [
        (32 - route.target.port, int.from_bytes(route.target.ip, "big"))
        for route in network.routes
        if len(route.target.ip) == 4
    ]
    for trial in range(min(length + 1, MAX_TRIALS)):
        number = start + ((first + trial) & 0xFFFFFFFF) % length if length else start
        if number & 0xFF == 0xFF:
            continue
        ip = number.to_bytes(4, "big")
        bits = _first_prefix_v4(targets, number)
        if bits and ip not in taken:
            return InetAddress(ip, bits)
    return None


def _first_prefix_v4(targets: list[tuple[int, int]], number: int) -> int | None:
    """The length of the first target, as (32 - length, address), that equals the masked number; gateways do not
    matter here."""
    for shift, target in targets:
        if number >> shift << shift == target:
            return 32 - shift
    return None
