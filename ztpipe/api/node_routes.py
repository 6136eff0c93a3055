"""The routes of the node itself: status, networks, peers, moons, settings, metrics (service §4.4)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ztpipe.api import answers, probe_routes, render
from ztpipe.api.service import TooManyNetworks

if TYPE_CHECKING:
    from ztpipe.api.service import JoinedNetwork, Service

_NWID: Final = "{nwid:[0-9a-fA-F]{16}}"
_ADDRESS: Final = "{address:[0-9a-fA-F]{10}}"
_HEX: Final = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]+)")
_PERMISSIONS: Final = {
    "allowManaged": "allow_managed",
    "allowGlobal": "allow_global",
    "allowDefault": "allow_default",
    "allowDNS": "allow_dns",
}


def add(app: web.Application, service: Service) -> None:
    """Mount the routes; PUT equals POST everywhere."""
    routes = _NodeRoutes(service)
    app.add_routes(
        [
            web.get("/status", routes.status),
            web.get("/health", routes.health),
            web.get("/config", routes.config),
            web.post("/config/settings", routes.set_settings),
            web.put("/config/settings", routes.set_settings),
            web.get("/network", routes.networks),
            web.get(f"/network/{_NWID}", routes.network),
            web.post(f"/network/{_NWID}", routes.set_network),
            web.put(f"/network/{_NWID}", routes.set_network),
            web.delete(f"/network/{_NWID}", routes.leave),
            web.get("/peer", routes.peers),
            web.get(f"/peer/{_ADDRESS}", routes.peer),
            web.get("/moon", routes.moons),
            web.get(f"/moon/{_ADDRESS}", routes.moon),
            web.post(f"/moon/{_ADDRESS}", routes.orbit),
            web.put(f"/moon/{_ADDRESS}", routes.orbit),
            web.delete(f"/moon/{_ADDRESS}", routes.deorbit),
            web.get(f"/bond/show/{_ADDRESS}", routes.no_bond),
            web.post(f"/bond/rotate/{_ADDRESS}", routes.no_bond),
            web.put(f"/bond/rotate/{_ADDRESS}", routes.no_bond),
            web.post(r"/bond/setmtu/{mtu:\d{1,6}}/{interface:\w{1,16}}/{ip:[0-9a-fA-F.:]{1,39}}", routes.no_bond_mtu),
            web.put(r"/bond/setmtu/{mtu:\d{1,6}}/{interface:\w{1,16}}/{ip:[0-9a-fA-F.:]{1,39}}", routes.no_bond_mtu),
            web.get("/metrics", routes.metrics),
        ]
    )


class _NodeRoutes:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def status(self, request: web.Request) -> web.Response:
        service = self._service
        return answers.document(request, render.status(service.status(), service.underlay(), service.config()))

    async def health(self, request: web.Request) -> web.Response:
        return answers.document(request, render.health(self._service.status()))

    async def config(self, request: web.Request) -> web.Response:
        return answers.document(request, self._service.config().local.raw)

    async def set_settings(self, request: web.Request) -> web.Response:
        body = await answers.read_json(request)
        if isinstance(body, dict):
            self._service.set_settings(body)
        return answers.document(request, {})

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._service.metrics_text().encode(), headers={"Content-Type": "text/plain"})

    # Networks

    async def networks(self, request: web.Request) -> web.Response:
        joined = sorted(self._service.networks(), key=lambda network: network.record.nwid)
        return answers.document(request, [render.network(network) for network in joined])

    async def network(self, request: web.Request) -> web.Response:
        found = self._find_network(int(request.match_info["nwid"], 16))
        if found is None:
            return answers.content(request, b"", HTTPStatus.NOT_FOUND)
        return answers.document(request, render.network(found))

    def _find_network(self, nwid: int) -> JoinedNetwork | None:
        return next((network for network in self._service.networks() if network.record.nwid == nwid), None)

    async def set_network(self, request: web.Request) -> web.Response:
        """Join and apply permissions; only real booleans count, anything else in the body is ignored (service §4.6).

        With ``?wait=OK`` the answer comes when the network is up: 200, or 504 when the time is over before it is.
        """
        try:
            wait = probe_routes.read_wait(request.query)
        except probe_routes.BadWait as error:
            return answers.document(request, {"error": str(error)}, HTTPStatus.BAD_REQUEST)
        body = await answers.read_json_or_none(request)
        given = body if isinstance(body, dict) else {}
        settings = {field: given[key] for key, field in _PERMISSIONS.items() if isinstance(given.get(key), bool)}
        nwid = _id(request, "nwid")
        try:
            joined = self._service.set_network(nwid, settings)
        except TooManyNetworks as error:
            return answers.document(request, {"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
        if joined is None:  # an ID that names no controller
            return answers.content(request, b"", HTTPStatus.NOT_FOUND)
        if wait is None:
            return answers.document(request, render.network(joined))
        found = await probe_routes.wait_ok(self._service, nwid, wait)
        if found is None:
            return answers.content(request, b"", HTTPStatus.NOT_FOUND)
        reached = probe_routes.is_ok(found)
        return answers.document(
            request, render.network(found), HTTPStatus.OK if reached else HTTPStatus.GATEWAY_TIMEOUT
        )

    async def leave(self, request: web.Request) -> web.Response:
        left = self._service.leave(_id(request, "nwid"))
        return answers.document(request, {"result": True} if left else {})

    # Peers

    async def peers(self, request: web.Request) -> web.Response:
        tunneled = self._service.underlay().tcp_fallback_active
        peers = sorted(self._service.peers(), key=lambda peer: peer.address)
        return answers.document(request, [render.peer(peer, tunneled=tunneled) for peer in peers])

    async def peer(self, request: web.Request) -> web.Response:
        """An unknown peer is ``{}`` with 200: user interfaces ask for members that were never seen."""
        address = _id(request, "address")
        tunneled = self._service.underlay().tcp_fallback_active
        found = next((peer for peer in self._service.peers() if peer.address == address), None)
        return answers.document(request, render.peer(found, tunneled=tunneled) if found else {})

    # Moons

    async def moons(self, request: web.Request) -> web.Response:
        moons = [render.moon(moon) for moon in self._service.status().moons if moon.world is not None]
        return answers.document(request, moons)

    async def moon(self, request: web.Request) -> web.Response:
        return answers.document(request, self._held_moon(_id(request, "address")) or {})

    async def orbit(self, request: web.Request) -> web.Response:
        """A known moon is shown; an unknown one is fetched if the body names a seed, and shown as waited for."""
        world_id = _id(request, "address")
        body = await answers.read_json_or_none(request)
        seed = _hex(body.get("seed")) if isinstance(body, dict) else 0
        known = self._held_moon(world_id)
        if known is not None or seed == 0:
            return answers.document(request, known or {})
        return answers.document(request, render.moon(self._service.orbit(world_id, seed)))

    async def deorbit(self, request: web.Request) -> web.Response:
        self._service.deorbit(_id(request, "address"))
        return answers.document(request, {"result": True})

    def _held_moon(self, world_id: int) -> dict[str, object] | None:
        moons = self._service.status().moons
        return next((render.moon(moon) for moon in moons if moon.id == world_id and moon.world is not None), None)

    # Bonding is not in use

    async def no_bond(self, request: web.Request) -> web.Response:
        return answers.content(request, b"", HTTPStatus.BAD_REQUEST)

    async def no_bond_mtu(self, request: web.Request) -> web.Response:
        return answers.content(request, b"Bonding layer isn't active yet", HTTPStatus.BAD_REQUEST)


def _id(request: web.Request, name: str) -> int:
    return int(request.match_info[name], 16)


def _hex(value: object) -> int:
    """The leading hex digits of a string, or of a number's decimal text; 0 for anything else."""
    match = _HEX.match(str(int(value)) if isinstance(value, int) else value) if isinstance(value, str | int) else None
    return int(match[1], 16) & (2**40 - 1) if match else 0
