"""Network configurations: what a controller tells a member (vl2 §2.6). Their chunks: `ztpipe.wire.configchunk`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeVar

from ztpipe.wire import dictionary
from ztpipe.wire.configchunk import Assembly, ConfigAssembler, ConfigChunk, chunk_config
from ztpipe.wire.credentials import Capability, CertificateOfMembership, CertificateOfOwnership, Tag
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress, write_inet
from ztpipe.wire.protocol import DEFAULT_NETWORK_MTU, MAX_NETWORK_MTU, MIN_NETWORK_MTU
from ztpipe.wire.reader import Reader
from ztpipe.wire.rule import Rule, decode_rules, encode_rules

__all__ = [
    "Assembly",
    "ConfigAssembler",
    "ConfigChunk",
    "Dns",
    "NetworkConfig",
    "Route",
    "chunk_config",
]

FORMAT_VERSION: Final = 7
MIN_FORMAT_VERSION: Final = 6

TYPE_PRIVATE: Final = 0
TYPE_PUBLIC: Final = 1

FLAG_BROADCAST: Final = 0x02
FLAG_NDP_EMULATION: Final = 0x04
FLAG_UNKNOWN_MATCHES: Final = 0x08
FLAG_NO_COMPRESSION: Final = 0x10

ROLE_BRIDGE: Final = 0x0000020000000000
ROLE_ANCHOR: Final = 0x0000040000000000
ROLE_REPLICATOR: Final = 0x0000080000000000

MAX_CAPABILITIES: Final = 128
MAX_TAGS: Final = 128
MAX_COOS: Final = 4
MAX_SPECIALISTS: Final = 256
MAX_ROUTES: Final = 128
MAX_STATIC_IPS: Final = 32
DNS_SERVERS: Final = 4

_ADDRESS: Final = 0xFFFFFFFFFF
_DOMAIN_LENGTH: Final = 128
_TRUNCATED: Final = "truncated_config"
_T = TypeVar("_T")
_SSO_TEXTS: Final = (
    ("iurl", "issuer_url", 2047),
    ("ssoce", "central_auth_url", 2047),
    ("sson", "sso_nonce", 127),
    ("ssos", "sso_state", 255),
    ("ssocid", "sso_client_id", 255),
    ("ssop", "sso_provider", 63),
)


class Route(NamedTuple):
    """A managed route; the port of `target` is its prefix length. `via` None: on the network itself."""

    target: InetAddress
    via: InetAddress | None = None
    flags: int = 0
    metric: int = 0


class Dns(NamedTuple):
    """A search domain and its servers, at most four."""

    domain: str = ""
    servers: tuple[InetAddress, ...] = ()


NO_DNS: Final = Dns()


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A member's configuration. Ports of `static_ips` are prefix lengths; `specialists` are addresses and role bits."""

    network_id: int
    timestamp: int
    issued_to: int
    credential_time_max_delta: int = 0
    revision: int = 0
    trace_target: int = 0
    trace_level: int = 0
    flags: int = 0
    multicast_limit: int = 0
    type: int = TYPE_PRIVATE
    name: str = ""
    mtu: int = DEFAULT_NETWORK_MTU
    com: CertificateOfMembership | None = None
    capabilities: tuple[Capability, ...] = ()
    tags: tuple[Tag, ...] = ()
    coos: tuple[CertificateOfOwnership, ...] = ()
    specialists: tuple[int, ...] = ()
    routes: tuple[Route, ...] = ()
    static_ips: tuple[InetAddress, ...] = ()
    rules: tuple[Rule, ...] = ()
    dns: Dns = NO_DNS
    sso_version: int = 0
    sso_enabled: bool = False
    authentication_url: str = ""
    authentication_expiry: int = 0
    issuer_url: str = ""
    central_auth_url: str = ""
    sso_nonce: str = ""
    sso_state: str = ""
    sso_client_id: str = ""
    sso_provider: str = "default"

    # --- meaning -----------------------------------------------------------------------------------------------------

    @property
    def is_public(self) -> bool:
        return self.type == TYPE_PUBLIC

    @property
    def is_private(self) -> bool:
        """True for anything but public: memberships are checked."""
        return self.type != TYPE_PUBLIC

    @property
    def broadcast(self) -> bool:
        """ff:ff:ff:ff:ff:ff is allowed."""
        return bool(self.flags & FLAG_BROADCAST)

    @property
    def ndp_emulation(self) -> bool:
        return bool(self.flags & FLAG_NDP_EMULATION)

    @property
    def unknown_matches(self) -> bool:
        """The result of match types nobody knows."""
        return bool(self.flags & FLAG_UNKNOWN_MATCHES)

    @property
    def compress_frames(self) -> bool:
        """Multicast frames may be compressed."""
        return not self.flags & FLAG_NO_COMPRESSION

    def _with_role(self, role: int) -> tuple[int, ...]:
        return tuple(word & _ADDRESS for word in self.specialists if word & role)

    @property
    def active_bridges(self) -> tuple[int, ...]:
        return self._with_role(ROLE_BRIDGE)

    @property
    def anchors(self) -> tuple[int, ...]:
        return self._with_role(ROLE_ANCHOR)

    @property
    def replicators(self) -> tuple[int, ...]:
        return self._with_role(ROLE_REPLICATOR)

    def may_bridge(self, address: int) -> bool:
        """Whether a member is an active bridge."""
        return any(word & ROLE_BRIDGE and word & _ADDRESS == address for word in self.specialists)

    # --- form --------------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """The dictionary, with keys in the order a 1.14.1 controller writes them."""
        return dictionary.encode((*self._scalars(), *self._blobs(), *self._sso()))

    def _scalars(self) -> list[tuple[str, dictionary.Value]]:
        return [
            ("v", FORMAT_VERSION),
            ("nwid", self.network_id),
            ("ts", self.timestamp),
            ("ctmd", self.credential_time_max_delta),
            ("r", self.revision),
            ("id", f"{self.issued_to:010x}"),
            ("tt", f"{self.trace_target:010x}"),
            ("tl", self.trace_level),
            ("f", self.flags),
            ("ml", self.multicast_limit),
            ("t", self.type),
            ("n", self.name),
            ("mtu", self.mtu),
        ]

    def _blobs(self) -> list[tuple[str, dictionary.Value]]:
        blobs: list[tuple[str, bytes]] = [
            ("C", b"" if self.com is None else self.com.encode()),
            ("CAP", b"".join(capability.encode() for capability in self.capabilities)),
            ("TAG", b"".join(tag.encode() for tag in self.tags)),
            ("COO", b"".join(coo.encode() for coo in self.coos)),
            ("S", b"".join(word.to_bytes(8, "big") for word in self.specialists)),
            ("RT", b"".join(map(_write_route, self.routes))),
            ("I", b"".join(map(write_inet, self.static_ips))),
            ("R", encode_rules(self.rules)),
        ]
        return [*((key, blob) for key, blob in blobs if blob), ("DNS", _write_dns(self.dns))]

    def _sso(self) -> list[tuple[str, dictionary.Value]]:
        if self.sso_version not in (0, 1):
            return []
        entries: list[tuple[str, dictionary.Value]] = [("ssov", self.sso_version), ("ssoe", self.sso_enabled)]
        if self.sso_version == 1:
            entries += [(key, str(getattr(self, name))) for key, name, _ in _SSO_TEXTS]
        elif self.sso_enabled:
            if self.authentication_url:
                entries.append(("aurl", self.authentication_url))
            entries.append(("aexpt", self.authentication_expiry))
        return entries

    @classmethod
    def decode(cls, data: bytes) -> NetworkConfig:
        """Parse a whole dictionary; raises `WireError` where the reference rejects the configuration (vl2 §2.6)."""
        entries = dictionary.decode(data)
        network_id, issued_to = dictionary.u64(entries, "nwid"), dictionary.u64(entries, "id")
        if dictionary.u64(entries, "v") < MIN_FORMAT_VERSION:
            raise WireError("obsolete_config")
        if not network_id or not 0 < issued_to <= _ADDRESS:
            raise WireError("bad_config")
        config = cls(
            network_id=network_id,
            timestamp=dictionary.i64(entries, "ts"),
            issued_to=issued_to,
            credential_time_max_delta=dictionary.i64(entries, "ctmd"),
            revision=dictionary.u64(entries, "r"),
            trace_target=dictionary.u64(entries, "tt") & _ADDRESS,
            trace_level=dictionary.u64(entries, "tl"),
            flags=dictionary.u64(entries, "f"),
            multicast_limit=dictionary.u64(entries, "ml") & 0xFFFFFFFF,
            type=dictionary.u64(entries, "t"),
            name=dictionary.text(entries, "n", 127),
            mtu=max(MIN_NETWORK_MTU, min(dictionary.u64(entries, "mtu", DEFAULT_NETWORK_MTU), MAX_NETWORK_MTU)),
        )
        return _read_sso(_read_blobs(config, entries), entries)


def _read_blobs(config: NetworkConfig, entries: Mapping[str, bytes]) -> NetworkConfig:
    com = entries.get("C")
    words = entries.get("S", b"")
    whole = min(len(words) // 8, MAX_SPECIALISTS) * 8
    capabilities = _read_some(entries.get("CAP", b""), Capability.read, MAX_CAPABILITIES)
    tags = _read_some(entries.get("TAG", b""), Tag.read, MAX_TAGS)
    static_ips = _read_all(entries.get("I", b""), Reader.inet, MAX_STATIC_IPS)
    routes = _read_all(entries.get("RT", b""), _read_route, MAX_ROUTES)
    return replace(
        config,
        com=CertificateOfMembership.decode(com) if com else None,
        capabilities=tuple(sorted(capabilities, key=lambda capability: capability.id)),
        tags=tuple(sorted(tags, key=lambda tag: tag.id)),
        coos=_read_all(entries.get("COO", b""), CertificateOfOwnership.read, MAX_COOS),
        specialists=tuple(int.from_bytes(words[at : at + 8], "big") for at in range(0, whole, 8)),
        routes=tuple(route for route in routes if route is not None),
        static_ips=tuple(ip for ip in static_ips if ip is not None),
        rules=decode_rules(entries.get("R", b"")),
        dns=_read_dns(entries["DNS"]) if entries.get("DNS") else NO_DNS,
    )


def _read_sso(config: NetworkConfig, entries: Mapping[str, bytes]) -> NetworkConfig:
    version, enabled = dictionary.u64(entries, "ssov"), dictionary.boolean(entries, "ssoe")
    config = replace(config, sso_version=version, sso_enabled=enabled)
    if version == 0 and enabled:
        return replace(
            config,
            authentication_url=dictionary.text(entries, "aurl", 2047),
            authentication_expiry=dictionary.i64(entries, "aexpt"),
        )
    if version == 1:
        texts = {name: dictionary.text(entries, key, limit) for key, name, limit in _SSO_TEXTS}
        return replace(config, **{**texts, "sso_provider": texts["sso_provider"] or "default"})  # type: ignore[arg-type]
    return config


def _read_all(data: bytes, read: Callable[[Reader], _T], limit: int) -> tuple[_T, ...]:
    """Items to the end of `data`; those beyond `limit` are parsed and dropped. A malformed one rejects the whole."""
    reader = Reader(data, reason=_TRUNCATED)
    items: list[_T] = []
    while reader.remaining:
        item = read(reader)
        if len(items) < limit:
            items.append(item)
    return tuple(items)


def _read_some(data: bytes, read: Callable[[Reader], _T], limit: int) -> list[_T]:
    """At most `limit` items; those before a malformed one are kept."""
    reader = Reader(data, reason=_TRUNCATED)
    items: list[_T] = []
    while reader.remaining and len(items) < limit:
        try:
            items.append(read(reader))
        except WireError:
            break
    return items


def _read_route(reader: Reader) -> Route | None:
    target, via = reader.inet(), reader.inet()
    flags, metric = reader.u16(), reader.u16()
    return None if target is None else Route(target, via, flags, metric)


def _write_route(route: Route) -> bytes:
    numbers = route.flags.to_bytes(2, "big") + route.metric.to_bytes(2, "big")
    return write_inet(route.target) + write_inet(route.via) + numbers


def _read_dns(data: bytes) -> Dns:
    reader = Reader(data, reason=_TRUNCATED)
    domain = reader.take(_DOMAIN_LENGTH)[:-1].partition(b"\0")[0].decode("utf-8", "replace")
    servers = [reader.inet() for _ in range(DNS_SERVERS)]
    return Dns(domain, tuple(server for server in servers if server is not None))


def _write_dns(dns: Dns) -> bytes:
    domain = dns.domain.encode()[: _DOMAIN_LENGTH - 1].ljust(_DOMAIN_LENGTH, b"\0")
    servers: list[InetAddress | None] = [*dns.servers[:DNS_SERVERS], *[None] * DNS_SERVERS]
    return domain + b"".join(map(write_inet, servers[:DNS_SERVERS]))
