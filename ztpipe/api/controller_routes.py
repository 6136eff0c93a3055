"""The controller's routes, mounted on the same port (controller §6)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ztpipe.api import answers, legacy_checks
from ztpipe.controller.change import Change
from ztpipe.controller.errors import ControllerError, bad_value
from ztpipe.wire.address import controller_of, format_address

if TYPE_CHECKING:
    from ztpipe.api.service import JsonObject, Service

_NETWORKS: Final = "/controller/network"
_NETWORK: Final = _NETWORKS + "/{nwid:[0-9a-fA-F]{16}}"
_MEMBERS: Final = _NETWORK + "/member"
_MEMBER: Final = _MEMBERS + "/{address:[0-9a-fA-F]{10}}"
#: The form every user interface creates networks with: our address and six underscores.
_NEW_NETWORK: Final = _NETWORKS + "/{controller:[0-9a-fA-F]{10}}______"

#: Who asks: set by the guard for each request.
ACTOR: Final[ContextVar[str]] = ContextVar("actor", default="")

Handler = Callable[[web.Request], Awaitable[web.Response]]


def add(app: web.Application, service: Service) -> None:
    """Mount the routes; PUT equals POST everywhere."""
    routes = _ControllerRoutes(service)
    for path, handler in (
        (_NETWORKS, routes.create_network),
        (_NEW_NETWORK, routes.create_network_by_address),
        (_NETWORK, routes.update_network),
        (_MEMBER, routes.update_member),
    ):
        app.router.add_post(path, handler)
        app.router.add_put(path, handler)
    app.add_routes(
        [
            web.get("/controller", routes.status),
            web.get(_NETWORKS, routes.list_networks),
            web.get(_NETWORK, routes.get_network),
            web.delete(_NETWORK, routes.delete_network),
            web.get(_MEMBERS, routes.list_members),
            web.get(_MEMBER, routes.get_member),
            web.delete(_MEMBER, routes.delete_member),
            web.get("/unstable" + _NETWORKS, routes.all_networks),
            web.get("/unstable" + _MEMBERS, routes.all_members),
        ]
    )


class _ControllerRoutes:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._controller = service.controller

    async def status(self, request: web.Request) -> web.Response:
        """The one answer that is indented (by tabs) and ends with a newline."""
        status = self._controller.status(self._service.now())
        ordered = {key: status[key] for key in ("controller", "apiVersion", "clock", "databaseReady")}
        code = HTTPStatus.OK if ordered["databaseReady"] else HTTPStatus.SERVICE_UNAVAILABLE
        return answers.content(request, json.dumps(ordered, indent="\t").encode() + b"\n", code)

    async def list_networks(self, request: web.Request) -> web.Response:
        return answers.document(request, self._controller.list_networks())

    async def create_network(self, request: web.Request) -> web.Response:
        body = await _body(request)
        legacy_checks.network(body, None)
        return self._changed(request, self._controller.create_network(self._service.now(), body, change_of(request)))

    async def create_network_by_address(self, request: web.Request) -> web.Response:
        """Only for our own address: anything else is 400."""
        own = format_address(self._service.status().address)
        if request.match_info["controller"].lower() != own:
            raise bad_value("nwid", f"an ID that begins with the address of this controller, {own}")
        return await self.create_network(request)

    async def get_network(self, request: web.Request) -> web.Response:
        return answers.document(request, self._controller.get_network(_nwid(request)))

    async def update_network(self, request: web.Request) -> web.Response:
        body, now, nwid = await _body(request), self._service.now(), _nwid(request)
        stored = self._stored(lambda: self._controller.get_network(nwid))
        own = self._service.status().address
        if stored is None and controller_of(nwid) != own:
            raise bad_value("nwid", f"an ID that begins with the address of this controller, {format_address(own)}")
        legacy_checks.network(body, stored)
        return self._changed(request, self._controller.update_network(now, nwid, body, change_of(request)))

    async def delete_network(self, request: web.Request) -> web.Response:
        now, nwid = self._service.now(), _nwid(request)
        return self._changed(request, self._controller.delete_network(now, nwid, change_of(request)))

    async def list_members(self, request: web.Request) -> web.Response:
        return answers.document(request, self._controller.list_members(_nwid(request)))

    async def get_member(self, request: web.Request) -> web.Response:
        return answers.document(request, self._controller.get_member(_nwid(request), _address(request)))

    async def update_member(self, request: web.Request) -> web.Response:
        body = await _body(request)
        now, nwid, address = self._service.now(), _nwid(request), _address(request)
        legacy_checks.member(body, self._stored(lambda: self._controller.get_member(nwid, address)))
        return self._changed(request, self._controller.update_member(now, nwid, address, body, change_of(request)))

    async def delete_member(self, request: web.Request) -> web.Response:
        now, nwid, address = self._service.now(), _nwid(request), _address(request)
        return self._changed(request, self._controller.delete_member(now, nwid, address, change_of(request)))

    async def all_networks(self, request: web.Request) -> web.Response:
        """The bulk read of networks, each with its member counts."""
        networks = [self._with_counts(nwid) for nwid in self._controller.list_networks()]
        return answers.document(request, {"data": networks, "meta": {"networkCount": len(networks)}})

    def _with_counts(self, nwid: str) -> JsonObject:
        members = self._members(int(nwid, 16))
        counts = {"authorizedMemberCount": _authorized(members), "totalMemberCount": len(members)}
        return {**self._controller.get_network(int(nwid, 16)), "meta": counts}

    async def all_members(self, request: web.Request) -> web.Response:
        """The bulk read of the members of one network."""
        members = self._members(_nwid(request))
        counts = {"authorizedCount": _authorized(members), "totalCount": len(members)}
        return answers.document(request, {"data": members, "meta": counts})

    def _members(self, nwid: int) -> list[JsonObject]:
        return [self._controller.get_member(nwid, int(member, 16)) for member in self._controller.list_members(nwid)]

    def _stored(self, read: Callable[[], JsonObject]) -> JsonObject | None:
        """The object that a POST changes; None if it does not exist."""
        try:
            return read()
        except ControllerError:
            return None

    def _changed(self, request: web.Request, result: JsonObject) -> web.Response:
        self._service.controller_changed()
        return answers.document(request, result)


async def _body(request: web.Request) -> object:
    """The JSON of a POST; none at all is taken for an empty object."""
    try:
        body = await answers.read_body(request)
        return answers.decoded(body) if body.strip() else {}
    except answers.BadBody as error:
        message = f"the body: expected JSON: {error}"
        raise ControllerError(HTTPStatus.BAD_REQUEST, message, {"error": message, "field": "body"}) from error


def change_of(request: web.Request) -> Change:
    """Who asks, and the revision in If-Match, if there is one."""
    text = request.headers.get("If-Match")
    if text is None:
        return Change(ACTOR.get())
    number = text.strip().removeprefix('"').removesuffix('"')
    if text.strip() == "*":
        return Change(ACTOR.get(), -1)
    if not (number.isascii() and number.isdigit() and len(number) <= 20):
        message = 'If-Match: expected one revision in quotes, e.g. "3", or *'
        raise ControllerError(400, message, {"error": message, "field": "If-Match"})
    return Change(ACTOR.get(), int(number))


def _nwid(request: web.Request) -> int:
    return int(request.match_info["nwid"], 16)


def _address(request: web.Request) -> int:
    return int(request.match_info["address"], 16)


def _authorized(members: list[JsonObject]) -> int:
    return sum(member.get("authorized") is True for member in members)
