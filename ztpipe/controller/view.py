"""A network record as the builder of configurations reads it: parsed once per revision, with defaults applied.

Records may come from disk, where fields can be missing or odd (controller §4, last paragraph); nothing here raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from ztpipe.controller import coerce
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.network import DEFAULT_RULES, MTU_DEFAULT, MULTICAST_LIMIT_DEFAULT, clamp_mtu
from ztpipe.controller.rules_json import parse_rules
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import DNS_SERVERS, MAX_ROUTES, NO_DNS, Dns, Route
from ztpipe.wire.rule import MAX_CAPABILITY_RULES, MAX_RULES, Rule

MAX_TEXT_BYTES: Final = 127

WINDOW_DEFAULT: Final = 1_800_000
WINDOW_RANGE: Final = (300_000, 7_200_000)


@dataclass(frozen=True, slots=True)
class Pool:
    """A range of addresses of one family, as numbers; `start` may be above `end`."""

    width: int  # bytes: 4 or 16
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ViewCapability:
    """A capability as defined in the network."""

    default: bool
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class NetworkView:
    """Everything a member's configuration takes from its network (controller §8)."""

    nwid: int
    revision: int
    name: str
    private: bool
    broadcast: bool
    mtu: int
    multicast_limit: int
    window: int  # credential time window in ms
    trace_target: int
    trace_level: int
    routes: tuple[Route, ...]
    pools: tuple[Pool, ...]
    v4_pool: bool
    v6_pool: bool
    rfc4193: bool
    sixplane: bool
    rules: tuple[Rule, ...]
    capabilities: dict[int, ViewCapability]
    tag_defaults: dict[int, int]  # id to value, only tags with a default, by ascending id
    dns: Dns
    auth_tokens: dict[str, int]  # token to expiry in ms, 0 = never
    sso: bool

    @classmethod
    def of(cls, nwid: int, record: JsonObject) -> Self:
        """Read a record."""
        v4 = _object(record.get("v4AssignMode"))
        v6 = _object(record.get("v6AssignMode"))
        return cls(
            nwid=nwid,
            revision=coerce.integer(record.get("revision"), 0),
            name=limited(coerce.text(record.get("name"), ""), MAX_TEXT_BYTES),
            private=coerce.boolean(record.get("private"), True),
            broadcast=coerce.boolean(record.get("enableBroadcast"), True),
            mtu=clamp_mtu(coerce.integer(record.get("mtu"), MTU_DEFAULT)),
            multicast_limit=coerce.integer(record.get("multicastLimit"), MULTICAST_LIMIT_DEFAULT) & coerce.U32,
            window=_window(record.get("certificateTimeoutWindowSize")),
            trace_target=trace_address(record) or 0,
            trace_level=coerce.integer(record.get("remoteTraceLevel"), 0) & coerce.U32,
            routes=_routes(record.get("routes")),
            pools=_pools(record.get("ipAssignmentPools")),
            v4_pool=coerce.boolean(v4.get("zt"), False),
            v6_pool=coerce.boolean(v6.get("zt"), False),
            rfc4193=coerce.boolean(v6.get("rfc4193"), False),
            sixplane=coerce.boolean(v6.get("6plane"), False),
            rules=parse_rules(record.get("rules", list(DEFAULT_RULES)), MAX_RULES),
            capabilities=_capabilities(record.get("capabilities")),
            tag_defaults=_tag_defaults(record.get("tags")),
            dns=_dns(record.get("dns")),
            auth_tokens=_auth_tokens(record.get("authTokens")),
            sso=coerce.boolean(record.get("ssoEnabled"), False),
        )


def limited(value: str, size: int) -> str:
    """`value` cut to `size` bytes of UTF-8, never within a character."""
    return value.encode()[:size].decode(errors="ignore")


def trace_address(record: JsonObject) -> int | None:
    """The remote trace target of a network or member record; None if it has none."""
    target = coerce.text(record.get("remoteTraceTarget"), "")
    return coerce.hexadecimal(target) & 0xFFFFFFFFFF if len(target.encode()) == 10 else None


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _window(value: Any) -> int:
    low, high = WINDOW_RANGE
    return min(max(coerce.integer(value, WINDOW_DEFAULT), low), high)


def _routes(value: Any) -> tuple[Route, ...]:
    routes: list[Route] = []
    for element in map(_object, _list(value)):
        target = coerce.address(element.get("target"))
        if target is None or target.port > len(target.ip) * 8:
            continue
        via = coerce.address(element.get("via"))
        if via is not None:
            via = InetAddress(via.ip, 0) if len(via.ip) == len(target.ip) else None
        routes.append(Route(target, via))
    return tuple(routes[:MAX_ROUTES])


def _pools(value: Any) -> tuple[Pool, ...]:
    pools: list[Pool] = []
    for element in map(_object, _list(value)):
        start = coerce.address(element.get("ipRangeStart"))
        end = coerce.address(element.get("ipRangeEnd"))
        if start is not None and end is not None and len(start.ip) == len(end.ip):
            pools.append(Pool(len(start.ip), int.from_bytes(start.ip, "big"), int.from_bytes(end.ip, "big")))
    return tuple(pools)


def _capabilities(value: Any) -> dict[int, ViewCapability]:
    return {
        coerce.integer(element.get("id"), 0) & coerce.U32: ViewCapability(
            coerce.boolean(element.get("default"), False), parse_rules(element.get("rules"), MAX_CAPABILITY_RULES)
        )
        for element in map(_object, _list(value))
        if element
    }


def _tag_defaults(value: Any) -> dict[int, int]:
    tags: dict[int, int] = {}
    for element in map(_object, _list(value)):
        default = element.get("default")
        if isinstance(default, int | float) and not isinstance(default, bool):
            tags[coerce.integer(element.get("id"), 0) & coerce.U32] = coerce.integer(default, 0) & coerce.U32
    return dict(sorted(tags.items()))


def _dns(value: Any) -> Dns:
    """Of the first four servers those that are addresses."""
    if not isinstance(value, dict):
        return NO_DNS
    domain = coerce.text(value.get("domain"), "").partition("\0")[0]
    servers = map(coerce.address, _list(value.get("servers"))[:DNS_SERVERS])
    addresses = tuple(InetAddress(server.ip, 0) for server in servers if server is not None)
    return Dns(limited(domain, MAX_TEXT_BYTES), addresses)


def _auth_tokens(value: Any) -> dict[str, int]:
    return {
        token: coerce.integer(expiry, 0)
        for token, expiry in _object(value).items()
        if isinstance(expiry, int | float) and not isinstance(expiry, bool)
    }
