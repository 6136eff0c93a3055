"""The text forms of peers, networks and properties (service §2.6-2.8). Pure functions: documents in, lines out."""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: see ztpipe.cli.client
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Final

    #: A document as the API sent it; fields may be missing when the service is another version.
    Json = dict[str, Any]

_PEERS_HEADING: Final = "<ztaddr>   <ver>  <role> <lat> <link>   <lastTX> <lastRX> <path>"
_TUNNEL_NOTE: Final = "NOTE: Currently tunneling through a TCP relay. Ensure that UDP is not blocked."
_PREFIX_LENGTH: Final = 24


def listpeers(peers: Iterable[Json], now: int) -> Iterator[str]:
    """``200 listpeers`` lines; `now` in ms for the ages."""
    yield "200 listpeers <ztaddr> <path> <latency> <version> <role>"
    for peer in peers:
        latency, role = peer.get("latency", -1), peer.get("role")
        yield f"200 listpeers {peer.get('address')} {_path(peer, now)} {latency} {_version(peer)} {role}"


def _path(peer: Json, now: int) -> str:
    path = _preferred_path(peer)
    return f"{path.get('address', '')};{_age(path, 'lastSend', now)};{_age(path, 'lastReceive', now)}" if path else "-"


def peers(found: list[Json], now: int) -> Iterator[str]:
    """The aligned table of ``peers``."""
    yield "200 peers"
    yield _PEERS_HEADING
    for peer in found:
        start = f"{peer.get('address')} {_version(peer):<6} {peer.get('role', ''):<6} {peer.get('latency', -1):>5} "
        yield start + _link(peer, now)
    if any(peer.get("tunneled") for peer in found):
        yield _TUNNEL_NOTE


def _link(peer: Json, now: int) -> str:
    path = _preferred_path(peer)
    if path is None:
        return "RELAY"
    kind = "RELAY " if peer.get("tunneled") else "DIRECT   "
    return f"{kind}{_age(path, 'lastSend', now):<8} {_age(path, 'lastReceive', now):<8} {path.get('address', '')}"


def _preferred_path(peer: Json) -> Json | None:
    return next((path for path in peer.get("paths", ()) if path.get("preferred")), None)


def _age(path: Json, key: str, now: int) -> int:
    time = path.get(key, 0)
    return max(now - time, 0) if time > 0 else -1


def _version(peer: Json) -> str:
    version = str(peer.get("version", "-"))
    return "-" if version == "-1.-1.-1" else version


def listnetworks(networks: Iterable[Json], now: int) -> Iterator[str]:
    """``200 listnetworks`` lines, with a line about the login where single sign-on is in use."""
    yield "200 listnetworks <nwid> <name> <mac> <status> <type> <dev> <ZT assigned ips>"
    for network in networks:
        fields = [network.get(key, "") for key in ("nwid", "name", "mac", "status", "type", "portDeviceName")]
        addresses = ",".join(network.get("assignedAddresses", ())) or "-"
        yield f"200 listnetworks {' '.join(map(str, fields))} {addresses}"
        yield from _login(network, now)


def _login(network: Json, now: int) -> Iterator[str]:
    if not network.get("ssoEnabled"):
        return
    expiry = network.get("authenticationExpiryTime", 0)
    if network.get("status") == "AUTHENTICATION_REQUIRED":
        yield f"    AUTH EXPIRED, URL: {network.get('authenticationURL', '')}"
    elif network.get("status") == "OK" and expiry > now:
        yield f"    AUTH OK, expires in: {(expiry - now) // 1000} seconds"


def property_text(network: Json, name: str) -> str:
    """What ``get <network> <name>`` prints; no final newline."""
    if name in ("ip", "ip4", "ip6", "ip6plane", "ip6prefix"):
        return _addresses(network, name)
    value = network.get(name)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str | int | float) and value != "-":
        return str(value)
    return "error, unknown property name"


def _addresses(network: Json, name: str) -> str:
    """The assigned addresses without prefix length, one a line.

    For ``ip6plane`` and ``ip6prefix`` an IPv6 address of another kind after a match leaves an empty line, as ever.
    """
    found = [address.partition("/")[0] for address in network.get("assignedAddresses", ())]
    if name == "ip":
        return "\n".join(found)
    if name == "ip4":
        return "\n".join(address for address in found if ":" not in address)
    lines: list[str] = []
    for address in (address for address in found if ":" in address):
        if name == "ip6" or address.startswith("fc"):
            lines.append(address[:_PREFIX_LENGTH] if name == "ip6prefix" else address)
        elif lines:
            lines.append("")
    return "\n".join(lines)
