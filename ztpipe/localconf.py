"""``local.conf``: the file users and management programs write (service §1.5).

The reference is lenient: a value of a wrong type gives the default, an unknown key is kept and ignored. So are we, but
every such case leaves a line in `LocalConf.warnings`, for the log. Only a file that is not a JSON object is an error.
The section ``ztpipe`` is ours and strict; `ztpipe.config` reads it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

JsonObject = dict[str, object]


class ConfigError(Exception):
    """A setting that cannot be used: says where it was found, which one it is, and what was expected instead."""

    def __init__(self, where: str, key: str, expected: str) -> None:
        self.where = where
        self.key = key
        self.expected = expected
        super().__init__(f"{where}: {key}: {expected}" if key else f"{where}: {expected}")


class LocalConfError(ConfigError):
    """The whole file is unusable. `reference_text` is the line scripts know from the reference (service §1.2)."""

    def __init__(self, path: Path, reference_text: str, expected: str) -> None:
        super().__init__(str(path), "", expected)
        self.reference_text = reference_text


class PhysicalNetwork(msgspec.Struct, frozen=True):
    """One entry of ``physical``: an underlay network, ``IP/bits``."""

    network: str
    blacklist: bool = False
    trusted_path_id: int = 0
    mtu: int = 0


class VirtualPeer(msgspec.Struct, frozen=True):
    """One entry of ``virtual``: addresses to try and to avoid for one node."""

    address: int
    try_addresses: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True):
    """``settings`` with the defaults of service §1.5; `None` where the default depends on something else."""

    primary_port: int | None = None
    secondary_port: int = 0
    tertiary_port: int = 0
    allow_secondary_port: bool = True
    port_mapping_enabled: bool = True
    bind: tuple[str, ...] = ()
    interface_prefix_blacklist: tuple[str, ...] = ()
    allow_management_from: tuple[str, ...] = ()
    allow_tcp_fallback_relay: bool = True
    force_tcp_relay: bool = False
    tcp_fallback_relay: str = "204.80.128.1/443"
    low_bandwidth_mode: bool = False
    multicore_enabled: bool = False
    concurrency: int = 1
    cpu_pinning_enabled: bool = False
    enable_web_server: bool = False
    controller_db_path: str = ""
    sso_redirect_url: str = ""
    software_update: str = "disable"
    software_update_channel: str = "release"
    default_bonding_policy: str = ""


class LocalConf(msgspec.Struct, frozen=True):
    """What was read: the document as it is (`raw`, shown by the API) and its typed reading."""

    raw: JsonObject = {}
    settings: Settings = Settings()
    physical: tuple[PhysicalNetwork, ...] = ()
    virtual: tuple[VirtualPeer, ...] = ()
    warnings: tuple[str, ...] = ()


#: Keys of ``settings`` that need more than a coercion of one value, or that nothing reads: accepted without a warning.
_ACCEPTED: Final = frozenset(
    {"softwareUpdateDist", "policies", "peerSpecificBonds", "redis", "vault", "multipathMode"},
)
_PORTS: Final = frozenset({"primaryPort", "secondaryPort", "tertiaryPort"})


def to_int(value: object, default: int) -> int:
    """An int as the reference reads it: number, boolean or decimal string; anything else is `default`."""
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return int(value) if abs(value) < 2**63 else default  # also refuses NaN and infinities
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value) if len(value) <= 20 else default
    return default


def to_bool(value: object, default: bool) -> bool:
    """A bool as the reference reads it: boolean, number (> 0), or string beginning with ``t``, ``T`` or ``1``."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value > 0
    if isinstance(value, str):
        return value.startswith(("t", "T", "1"))
    return default


def to_str(value: object, default: str) -> str:
    """A string as the reference reads it: string, number in decimal, boolean as ``1``/``0``."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return str(value)
    return default


def load(path: Path) -> LocalConf:
    """Read the file at `path`; absent or empty means all defaults.

    Raises `LocalConfError` when it is not a JSON object, and `OSError` when it exists but cannot be read.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return LocalConf()
    return parse(text, path)


def parse(text: bytes, path: Path) -> LocalConf:
    """Read the bytes of a ``local.conf``; `path` is only for messages."""
    if not text:
        return LocalConf()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LocalConfError(path, "unable to parse local.conf (invalid JSON)", f"not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise LocalConfError(
            path,
            "unable to parse local.conf (root element is not a JSON object)",
            f"expected a JSON object {{...}}, found {_kind(document)}",
        )
    warnings: list[str] = []
    settings = _section(document, "settings", warnings)
    return LocalConf(
        raw=document,
        settings=_settings(settings, warnings),
        physical=tuple(_physical(_section(document, "physical", warnings), warnings)),
        virtual=tuple(_virtual(_section(document, "virtual", warnings), warnings)),
        warnings=(*_unknown("", document, {"settings", "physical", "virtual", "ztpipe"}), *warnings),
    )


def _settings(found: Mapping[str, object], warnings: list[str]) -> Settings:
    values: dict[str, object] = {}
    known = {_camel(name): name for name in Settings.__struct_fields__}
    for key, name in known.items():
        if key in found:
            values[name] = _coerce(key, found[key], getattr(Settings(), name), warnings)
    warnings.extend(_unknown("settings.", found, known.keys() | _ACCEPTED))
    return Settings(**values)  # type: ignore[arg-type]  # every value was coerced to the type of its default


def _coerce(key: str, value: object, default: object, warnings: list[str]) -> object:
    """The value of ``settings.<key>`` with the type of `default`; a wrong one leaves a warning and the default."""
    if isinstance(default, tuple):
        return _texts(f"settings.{key}", value, warnings)
    if key in _PORTS:
        return _port(key, value, default if isinstance(default, int) else None, warnings)
    if value is not None and not isinstance(value, bool | int | float | str):
        warnings.append(f"settings.{key}: {_kind(value)} cannot be used, keeping {default!r}")
    if isinstance(default, bool):
        return to_bool(value, default)
    return to_int(value, default) if isinstance(default, int) else to_str(value, str(default))


def _port(key: str, value: object, default: int | None, warnings: list[str]) -> int | None:
    port = to_int(value, -1)
    if 0 <= port <= 65535:
        return port
    warnings.append(f"settings.{key}: expected a port from 0 to 65535, keeping the default")
    return default


def _physical(found: Mapping[str, object], warnings: list[str]) -> Iterable[PhysicalNetwork]:
    for network, entry in found.items():
        if not is_prefix(network) or not isinstance(entry, dict):
            warnings.append(f'physical."{network}": expected "IP/bits": {{...}}, ignored')
            continue
        warnings.extend(_unknown(f'physical."{network}".', entry, {"blacklist", "trustedPathId", "mtu"}))
        yield PhysicalNetwork(
            network=network,
            blacklist=to_bool(entry.get("blacklist"), False),
            trusted_path_id=to_int(entry.get("trustedPathId"), 0),
            mtu=to_int(entry.get("mtu"), 0),
        )


def _virtual(found: Mapping[str, object], warnings: list[str]) -> Iterable[VirtualPeer]:
    for address, entry in found.items():
        if len(address) != 10 or not set(address) <= set("0123456789abcdefABCDEF") or not isinstance(entry, dict):
            warnings.append(f'virtual."{address}": expected a node address of 10 hex digits: {{...}}, ignored')
            continue
        where = f'virtual."{address}".'
        warnings.extend(_unknown(where, entry, {"try", "blacklist", "role"}))
        yield VirtualPeer(
            address=int(address, 16),
            try_addresses=tuple(a for a in _texts(where + "try", entry.get("try"), warnings) if is_endpoint(a)),
            blacklist=tuple(a for a in _texts(where + "blacklist", entry.get("blacklist"), warnings) if is_prefix(a)),
        )


def is_prefix(text: str) -> bool:
    """True for ``IP/bits``; a bare IP is a prefix of full length (the reference takes it for "everything")."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_endpoint(text: str) -> bool:
    """True for ``IP/port``."""
    address, slash, port = text.partition("/")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return bool(slash) and port.isascii() and port.isdigit() and 0 < int(port) <= 65535


def _section(document: Mapping[str, object], key: str, warnings: list[str]) -> Mapping[str, object]:
    value = document.get(key, {})
    if isinstance(value, dict):
        return value
    if value is not None:
        warnings.append(f"{key}: expected an object, found {_kind(value)}; ignored")
    return {}


def _texts(where: str, value: object, warnings: list[str]) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(item for item in value if isinstance(item, str))
    if value is not None:
        warnings.append(f"{where}: expected an array of strings, found {_kind(value)}; ignored")
    return ()


def _unknown(prefix: str, found: Mapping[str, object], known: Iterable[str]) -> list[str]:
    return [f"{prefix}{key}: unknown key, ignored" for key in sorted(found.keys() - set(known))]


def _kind(value: object) -> str:
    numbers = {int: "a number", float: "a number"}
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object", **numbers}
    return names.get(type(value), "null")


def _camel(name: str) -> str:
    """``primary_port`` -> ``primaryPort``; ``sso_redirect_url`` is the one with capitals of its own."""
    head, *tail = name.split("_")
    return head + "".join("URL" if part == "url" else part.capitalize() for part in tail)
