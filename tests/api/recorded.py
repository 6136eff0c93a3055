"""The node of the recordings in tests/vectors/service-api, as a `Service`; and a server for it on a loopback port."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ztpipe import localconf
from ztpipe.api import http
from ztpipe.api.service import JoinedNetwork, Underlay
from ztpipe.config import Config
from ztpipe.controller import Controller, MemoryStore
from ztpipe.node.status import (
    MoonStatus,
    NetworkStatus,
    NetworkStatusRecord,
    NodeStatus,
    PathStatus,
    PeerStatus,
    Role,
)
from ztpipe.store import Home, NetworkSettings
from ztpipe.wire.address import MulticastGroup, parse_address, parse_mac, parse_nwid
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import Dns, NetworkConfig, Route
from ztpipe.wire.world import EARTH, Root, World, WorldType

VECTORS = Path(__file__).parents[1] / "vectors" / "service-api"
RECORDED_HOME = Path("/var/lib/zerotier-one")
TOKEN, METRICS_TOKEN = "TOKEN", "METRICSTOKEN"


def text(name: str) -> str:
    return (VECTORS / name).read_text()


def load(name: str) -> Any:
    return json.loads(text(name))


def addresses(texts: Sequence[str]) -> tuple[InetAddress, ...]:
    return tuple(map(InetAddress.parse, texts))


def node_status(recorded: dict[str, Any], moons: tuple[MoonStatus, ...] = ()) -> NodeStatus:
    """The record that `render.status` must turn into `recorded` again."""
    return NodeStatus(
        address=parse_address(recorded["address"]),
        identity=Identity.parse(recorded["publicIdentity"]),
        online=recorded["online"],
        is_root=False,
        clock=recorded["clock"],
        planet=EARTH,
        moons=moons,
        surface_addresses=addresses(recorded["config"]["settings"]["surfaceAddresses"]),
        protocol_version=12,
        version=(1, 14, 1),
    )


def underlay(recorded: dict[str, Any]) -> Underlay:
    settings = recorded["config"]["settings"]
    ports = [settings[key] for key in ("primaryPort", "secondaryPort", "tertiaryPort")]
    return Underlay(addresses(settings["listeningOn"]), *ports, recorded["tcpFallbackActive"])


def peer_status(recorded: dict[str, Any]) -> PeerStatus:
    version = tuple(recorded[key] for key in ("versionMajor", "versionMinor", "versionRev"))
    return PeerStatus(
        address=parse_address(recorded["address"]),
        identity=EARTH.roots[0].identity,
        protocol_version=12,
        version=None if version == (-1, -1, -1) else (version[0], version[1], version[2]),
        latency=recorded["latency"],
        role=Role(recorded["role"]),
        last_receive=0,
        paths=tuple(
            PathStatus(
                binding=path["localSocket"],
                remote=InetAddress.parse(path["address"]),
                last_send=path["lastSend"],
                last_receive=path["lastReceive"],
                preferred=path["preferred"],
                latency=0,
                doubted=False,
            )
            for path in recorded["paths"]
        ),
    )


def network(recorded: dict[str, Any]) -> JoinedNetwork:
    nwid = parse_nwid(recorded["nwid"])
    record = NetworkStatusRecord(
        nwid=nwid,
        mac=parse_mac(recorded["mac"]),
        status=NetworkStatus(recorded["status"]),
        config=_network_config(nwid, recorded) if recorded["netconfRevision"] else None,
        mtu=recorded["mtu"],
        bridge=recorded["bridge"],
        multicast_groups=tuple(
            MulticastGroup(parse_mac(group["mac"]), group["adi"])
            for group in reversed(recorded["multicastSubscriptions"])
        ),
    )
    return JoinedNetwork(record, NetworkSettings(), recorded["portDeviceName"])


def _network_config(nwid: int, recorded: dict[str, Any]) -> NetworkConfig:
    return NetworkConfig(
        network_id=nwid,
        timestamp=0,
        issued_to=0,
        revision=recorded["netconfRevision"],
        flags=2 if recorded["broadcastEnabled"] else 0,
        type=1 if recorded["type"] == "PUBLIC" else 0,
        name=recorded["name"],
        mtu=recorded["mtu"],
        static_ips=addresses(recorded["assignedAddresses"]),
        routes=tuple(
            Route(
                InetAddress.parse(route["target"]),
                InetAddress.parse(route["via"]) if route["via"] else None,
                route["flags"],
                route["metric"],
            )
            for route in recorded["routes"]
        ),
        dns=Dns(recorded["dns"]["domain"], addresses(recorded["dns"]["servers"])),
    )


def moon(recorded: dict[str, Any]) -> MoonStatus:
    roots = tuple(
        Root(Identity.parse(root["identity"]), addresses(root["stableEndpoints"])) for root in recorded["roots"]
    )
    world_id = int(recorded["id"], 16)
    update_key, signature = (bytes.fromhex(recorded[key]) for key in ("updatesMustBeSignedBy", "signature"))
    return MoonStatus(
        world_id, World(WorldType.MOON, world_id, recorded["timestamp"], update_key, signature, roots), seed=0
    )


class RecordedService:
    """Answers as the recorded node did; joining, leaving and moons work on its memory."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.recorded = load("get-status.json")
        self.local = localconf.LocalConf()
        self.clock = self.recorded["clock"]
        self.moons: list[MoonStatus] = []
        self.peer_records = [peer_status(peer) for peer in load("get-peer.json")]
        self.joined = {parse_nwid(item["nwid"]): network(item) for item in load("get-network.json")}
        self.controller_changes = 0
        self.ready = True
        self.metrics = text("get-metrics.txt")
        public = Identity.parse(self.recorded["publicIdentity"])
        identity = Identity(public.address, public.public, bytes(64))  # it may sign; nobody verifies here
        self.controller = Controller(identity, MemoryStore(), random=lambda size: b"\x90\xdc\x4a".rjust(size, b"\0"))

    def now(self) -> int:
        return int(self.clock)

    def config(self) -> Config:
        return Config(home=RECORDED_HOME, run_dir=RECORDED_HOME / "run", local=self.local)

    def underlay(self) -> Underlay:
        return underlay(self.recorded)

    def status(self) -> NodeStatus:
        return node_status({**self.recorded, "clock": self.clock}, tuple(self.moons))

    def peers(self) -> Sequence[PeerStatus]:
        return list(reversed(self.peer_records))

    def networks(self) -> Sequence[JoinedNetwork]:
        return list(self.joined.values())

    def set_network(self, nwid: int, settings: Mapping[str, bool]) -> JoinedNetwork:
        old = self.joined.get(nwid) or self._joining(nwid)
        applied = msgspec.structs.replace(old.settings, **settings)
        self.joined[nwid] = JoinedNetwork(old.record, applied, old.device, old.port_error)
        return self.joined[nwid]

    def _joining(self, nwid: int) -> JoinedNetwork:
        """As in the recorded join of ffffffffff000001."""
        status = NetworkStatus.REQUESTING_CONFIGURATION
        return JoinedNetwork(
            NetworkStatusRecord(nwid, 0x02142BFD73F0, status, None, 2800, False, ()), NetworkSettings(), "ztaaap7776"
        )

    def leave(self, nwid: int) -> bool:
        return self.joined.pop(nwid, None) is not None

    def orbit(self, world_id: int, seed: int) -> MoonStatus:
        self.moons.append(MoonStatus(world_id, None, seed))
        return self.moons[-1]

    def deorbit(self, world_id: int) -> None:
        self.moons = [moon for moon in self.moons if moon.id != world_id]

    def set_settings(self, settings: Mapping[str, object]) -> None:
        raw = dict(self.local.raw)
        section = raw.get("settings")
        raw["settings"] = {**(section if isinstance(section, dict) else {}), **settings}
        self.home.write_local_conf(raw)
        self.local = localconf.load(self.home.path / "local.conf")

    def metrics_text(self) -> str:
        return self.metrics

    def workers(self) -> list[dict[str, object]]:
        return [{"name": "control"}, {"name": "tap-0", "ready": self.ready}]

    def controller_changed(self) -> None:
        self.controller_changes += 1


@contextmanager
def serving(service: RecordedService) -> Iterator[int]:
    """The real server over `service`, on a free port, in a loop of its own; gives the port."""
    (service.home.path / "authtoken.secret").write_text(TOKEN + "\n")
    (service.home.path / "metricstoken.secret").write_text(METRICS_TOKEN)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> http.Server:
        server = http.Server(service, service.home, port=0)
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    port = server.addresses[0][1]
    service.home.write_port(port)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
