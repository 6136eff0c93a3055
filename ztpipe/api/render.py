"""Records of the node -> the JSON objects of the reference (service §4.5-4.8). Key order is the writer's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.wire.address import format_address, format_mac, format_nwid

if TYPE_CHECKING:
    from ztpipe.api.service import JoinedNetwork, JsonObject, Underlay
    from ztpipe.config import Config
    from ztpipe.node.status import MoonStatus, NodeStatus, PathStatus, PeerStatus
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.netconf import NetworkConfig

_DEFAULT_MTU: Final = 2800


def status(node: NodeStatus, underlay: Underlay, config: Config) -> JsonObject:
    """GET /status."""
    planet = node.planet
    return {
        "address": format_address(node.address),
        "clock": node.clock,
        "config": _config(node, underlay, config),
        "online": node.online,
        "planetWorldId": planet.id if planet else 0,
        "planetWorldTimestamp": planet.timestamp if planet else 0,
        "publicIdentity": node.identity.text(),
        "tcpFallbackActive": underlay.tcp_fallback_active,
        **_version(node.version),
        "versionBuild": 0,
    }


def health(node: NodeStatus) -> JsonObject:
    """GET /health."""
    return {"clock": node.clock, "online": node.online, **_version(node.version), "versionBuild": 0}


def _version(version: tuple[int, int, int]) -> JsonObject:
    major, minor, revision = version
    return {
        "version": f"{major}.{minor}.{revision}",
        "versionMajor": major,
        "versionMinor": minor,
        "versionRev": revision,
    }


def _config(node: NodeStatus, underlay: Underlay, config: Config) -> JsonObject:
    """local.conf as read, with ``settings`` completed by what is in force; a file value wins where it is shown raw."""
    known = config.local.settings
    in_file = config.local.raw.get("settings")
    shown: JsonObject = {
        "primaryPort": underlay.primary_port,
        "secondaryPort": underlay.secondary_port,
        "tertiaryPort": underlay.tertiary_port,
        **(in_file if isinstance(in_file, dict) else {}),
        "allowTcpFallbackRelay": known.allow_tcp_fallback_relay,
        "forceTcpRelay": known.force_tcp_relay,
        "homeDir": str(config.home),
        "listeningOn": [address.text() for address in underlay.listening],
        "surfaceAddresses": [address.text() for address in node.surface_addresses],
        "portMappingEnabled": known.port_mapping_enabled,
        "softwareUpdate": known.software_update,
        "softwareUpdateChannel": known.software_update_channel,
    }
    return {**config.local.raw, "settings": shown}


def network(joined: JoinedNetwork) -> JsonObject:
    """GET /network/{id}."""
    record, settings = joined.record, joined.settings
    rendered: JsonObject = {
        "allowDNS": settings.allow_dns,
        "allowDefault": settings.allow_default,
        "allowGlobal": settings.allow_global,
        "allowManaged": settings.allow_managed,
        "bridge": record.bridge,
        "dhcp": False,
        "id": format_nwid(record.nwid),
        "mac": format_mac(record.mac),
        "mtu": record.mtu or _DEFAULT_MTU,
        "multicastSubscriptions": [
            {"adi": group.adi, "mac": format_mac(group.mac)} for group in sorted(record.multicast_groups)
        ],
        "nwid": format_nwid(record.nwid),
        "portDeviceName": joined.device,
        "portError": joined.port_error,
        "status": record.status.value if joined.port_error == 0 else "PORT_ERROR",
        **_from_config(record.config),
    }
    if record.config is not None and record.config.sso_enabled:
        rendered["ssoEnabled"] = True
        rendered["authenticationURL"] = record.authentication_url
        rendered["authenticationExpiryTime"] = record.authentication_expiry
    return rendered


def _from_config(config: NetworkConfig | None) -> JsonObject:
    """The fields that come from the controller, with their values before it answered."""
    if config is None:
        return {
            "assignedAddresses": [],
            "broadcastEnabled": False,
            "dns": {"domain": "", "servers": []},
            "name": "",
            "netconfRevision": 0,
            "routes": [],
            "type": "PRIVATE",
        }
    return {
        "assignedAddresses": [address.text() for address in config.static_ips],
        "broadcastEnabled": config.broadcast,
        "dns": _dns(config),
        "name": config.name,
        "netconfRevision": config.revision,
        "routes": [
            {
                "flags": route.flags,
                "metric": route.metric,
                "target": route.target.text(),
                "via": _ip(route.via) if route.via is not None else None,
            }
            for route in config.routes
        ],
        "type": "PUBLIC" if config.is_public else "PRIVATE",
    }


def _dns(config: NetworkConfig) -> JsonObject:
    return {"domain": config.dns.domain, "servers": [_ip(server) for server in config.dns.servers[:4]]}


def _ip(address: InetAddress) -> str:
    return address.text().partition("/")[0]


def peer(found: PeerStatus, *, tunneled: bool = False) -> JsonObject:
    """GET /peer/{address}. Path handles are stable numbers; no client may interpret them."""
    version = found.version or (-1, -1, -1)
    return {
        "address": format_address(found.address),
        "isBonded": False,
        "latency": found.latency,
        "paths": [_path(path) for path in found.paths[:64]],
        "role": found.role.value,
        "tunneled": tunneled,
        **_version(version),
    }


def _path(path: PathStatus) -> JsonObject:
    return {
        "active": True,
        "address": path.remote.text(),
        "expired": False,
        "lastReceive": path.last_receive,
        "lastSend": path.last_send,
        "localPort": 0,
        "localSocket": path.binding,
        "preferred": path.preferred,
        "trustedPathId": 0,
    }


def moon(found: MoonStatus) -> JsonObject:
    """GET /moon/{id}; a moon still awaited has no world (service §4.8)."""
    world = found.world
    if world is None:
        return {
            "id": f"{found.id:016x}",
            "roots": [],
            "signature": None,
            "timestamp": 0,
            "updatesMustBeSignedBy": None,
            "waiting": True,
        }
    return {
        "id": f"{world.id:016x}",
        "roots": [
            {
                "identity": root.identity.text(),
                "stableEndpoints": [endpoint.text() for endpoint in root.endpoints],
            }
            for root in world.roots
        ],
        "signature": world.signature.hex(),
        "timestamp": world.timestamp,
        "updatesMustBeSignedBy": world.update_key.hex(),
        "waiting": False,
    }
