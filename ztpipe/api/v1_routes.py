"""The versioned API of the controller: typed, strict, in pages, with revisions (docs/controller.md)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from aiohttp import web

from ztpipe.api import answers, checks, schemas
from ztpipe.api.controller_routes import change_of
from ztpipe.api.views import member_view, network_view
from ztpipe.controller.errors import ControllerError, bad_value, not_found
from ztpipe.controller.listing import MemberQuery, NetworkQuery
from ztpipe.wire.address import controller_of, format_address, format_nwid

if TYPE_CHECKING:
    from ztpipe.api.service import Service

_FIELD: Final = re.compile(r"(.*) - at `(?:key in )?\$\.?(.*)`", re.S)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path; the routes and the OpenAPI document are both made of these."""

    method: str
    path: str  # with {nwid} and {address}
    name: str  # of the method of `V1`, and the operation's ID
    summary: str
    answer: Any = None  # None = 204
    query: type[schemas.In] = schemas.NoQuery
    body: type[schemas.In] | None = None
    statuses: tuple[int, ...] = field(default=())  # of refusals, besides 400, 401, 403 and 503
    conditional: bool = False  # takes If-Match


_NETWORK: Final = "/v1/networks/{nwid}"
_MEMBERS: Final = _NETWORK + "/members"
_MEMBER: Final = _MEMBERS + "/{address}"

OPERATIONS: Final = (
    Operation("GET", "/v1/controller", "status", "The controller and its size.", schemas.ControllerStatus),
    Operation("GET", "/v1/networks", "list_networks", "Networks, whole, by pages.", schemas.NetworkList,
              schemas.NetworkListQuery),
    Operation("POST", "/v1/networks", "create_network", "Create a network; its ID is chosen.", schemas.Network,
              body=schemas.NetworkPatch),
    Operation("GET", _NETWORK, "get_network", "A network.", schemas.Network, statuses=(404,)),
    Operation("PATCH", _NETWORK, "update_network", "Change fields of a network.", schemas.Network,
              body=schemas.NetworkPatch, statuses=(404, 412), conditional=True),
    Operation("DELETE", _NETWORK, "delete_network", "Delete a network and its members.", statuses=(404, 412),
              conditional=True),
    Operation("GET", _MEMBERS, "list_members", "Members, whole, by pages.", schemas.MemberList,
              schemas.MemberListQuery, statuses=(404,)),
    Operation("PATCH", _MEMBERS, "update_members", "Change several members, all or none.", schemas.MemberList,
              body=schemas.MembersPatch, statuses=(404, 412), conditional=True),
    Operation("GET", _MEMBER, "get_member", "A member.", schemas.Member, statuses=(404,)),
    Operation("PATCH", _MEMBER, "update_member", "Change fields of a member, or add it.", schemas.Member,
              body=schemas.MemberPatch, statuses=(404, 412), conditional=True),
    Operation("DELETE", _MEMBER, "delete_member", "Delete a member; it stays deleted.", None, schemas.DeleteQuery,
              statuses=(404, 412), conditional=True),
    Operation("GET", "/v1/audit", "audit", "Changes, newest first.", schemas.AuditList, schemas.AuditQuery),
    Operation("POST", "/v1/reload", "reload", "Read the store again, after it was restored or imported into."),
)  # fmt: skip


def add(app: web.Application, service: Service) -> None:
    """Mount the routes."""
    api = V1(service)
    for operation in OPERATIONS:
        path = operation.path.replace("{nwid}", "{nwid:[0-9a-fA-F]{16}}")
        path = path.replace("{address}", "{address:[0-9a-fA-F]{10}}")
        app.router.add_route(operation.method, path, _guarded(getattr(api, operation.name)))


def _guarded(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Callable[..., Awaitable[web.Response]]:
    async def guarded(request: web.Request) -> web.Response:
        """Every refusal has a JSON body here."""
        try:
            return await handler(request)
        except ControllerError as error:
            body = error.body or {"error": error.message}
            return web.Response(status=error.status, body=answers.compact(body), content_type="application/json")

    return guarded


class V1:
    """The operations by name."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._controller = service.controller

    async def status(self, request: web.Request) -> web.Response:
        _query(request, schemas.NoQuery)
        metrics = self._controller.metrics()
        return _answer(
            schemas.ControllerStatus(
                address=format_address(self._service.status().address),
                clock=self._service.now(),
                networks=metrics["controller_network_count"],
                members=metrics["controller_member_count"],
            )
        )

    async def list_networks(self, request: web.Request) -> web.Response:
        query = _query(request, schemas.NetworkListQuery)
        page = self._controller.query_networks(NetworkQuery(int(query.after, 16), query.limit, query.q, query.private))
        meta = schemas.ListMeta(total=page.total, next=page.next)
        return _answer(schemas.NetworkList(data=[network_view(record) for record in page.data], meta=meta))

    async def create_network(self, request: web.Request) -> web.Response:
        body = checks.network(await _body(request, schemas.NetworkPatch))
        return self._changed(network_view(self._controller.create_network(self._now, body, change_of(request))))

    async def get_network(self, request: web.Request) -> web.Response:
        _query(request, schemas.NoQuery)
        return _answer(network_view(self._controller.get_network(_nwid(request))))

    async def update_network(self, request: web.Request) -> web.Response:
        nwid, body = _nwid(request), checks.network(await _body(request, schemas.NetworkPatch))
        self._controller.get_network(nwid)  # 404: only a POST creates
        if controller_of(nwid) != self._service.status().address:
            raise not_found(f"network {format_nwid(nwid)} of this controller")
        return self._changed(network_view(self._controller.update_network(self._now, nwid, body, change_of(request))))

    async def delete_network(self, request: web.Request) -> web.Response:
        _query(request, schemas.NoQuery)
        self._controller.delete_network(self._now, _nwid(request), change_of(request))
        return self._changed(None)

    async def list_members(self, request: web.Request) -> web.Response:
        query = _query(request, schemas.MemberListQuery)
        wanted = MemberQuery(
            int(query.after, 16), query.limit, query.q, query.authorized, query.online, query.bridge, query.tag
        )
        page = self._controller.query_members(self._now, _nwid(request), wanted)
        meta = schemas.ListMeta(total=page.total, next=page.next)
        return _answer(schemas.MemberList(data=[member_view(record) for record in page.data], meta=meta))

    async def update_members(self, request: web.Request) -> web.Response:
        patch = await _body(request, schemas.MembersPatch)
        bodies: dict[int, object] = {}
        for ident, changes in patch.members.items():
            if int(ident, 16) in bodies:
                raise ControllerError(400, "twice", {"error": "members: the same member twice", "field": "members"})
            bodies[int(ident, 16)] = checks.member(changes, f"members.{ident}.")
        records = self._controller.update_members(self._now, _nwid(request), bodies, change_of(request))
        meta = schemas.ListMeta(total=len(records), next=None)
        return self._changed(schemas.MemberList(data=[member_view(record) for record in records], meta=meta))

    async def get_member(self, request: web.Request) -> web.Response:
        _query(request, schemas.NoQuery)
        return _answer(member_view(self._controller.get_member(_nwid(request), _address(request))))

    async def update_member(self, request: web.Request) -> web.Response:
        body = checks.member(await _body(request, schemas.MemberPatch))
        change = change_of(request)
        record = self._controller.update_member(self._now, _nwid(request), _address(request), body, change)
        return self._changed(member_view(record))

    async def delete_member(self, request: web.Request) -> web.Response:
        forget = _query(request, schemas.DeleteQuery).forget
        change = change_of(request)
        self._controller.delete_member(self._now, _nwid(request), _address(request), change, forget=forget)
        return self._changed(None)

    async def audit(self, request: web.Request) -> web.Response:
        query = _query(request, schemas.AuditQuery)
        nwid = None if query.nwid is None else int(query.nwid, 16)
        address = None if query.member is None else int(query.member, 16)
        lines = self._controller.audit(query.before, query.limit, nwid, address)
        data = msgspec.convert(lines, list[schemas.AuditLine])
        following = data[-1].id if len(data) == query.limit else None
        return _answer(schemas.AuditList(data=data, next=following))

    async def reload(self, request: web.Request) -> web.Response:
        _query(request, schemas.NoQuery)
        self._controller.reload(self._now, change_of(request))
        return self._changed(None)

    @property
    def _now(self) -> int:
        return self._service.now()

    def _changed(self, result: msgspec.Struct | None) -> web.Response:
        self._service.controller_changed()
        return _answer(result)


def _answer(result: msgspec.Struct | None) -> web.Response:
    """JSON with the revision as ETag, or nothing at all."""
    if result is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    headers = {}
    if isinstance(result, schemas.Network | schemas.Member):
        headers["ETag"] = f'"{result.revision}"'
    return web.Response(body=msgspec.json.encode(result), content_type="application/json", headers=headers)


def _query(request: web.Request, kind: type[_T]) -> _T:
    """The parameters; `auth` is the token's place."""
    given: dict[str, str] = {}
    for key, value in request.rel_url.query.items():
        if key in given or (value.lower() == "null" and key != "q"):
            raise bad_value(key, "one value" if key in given else "a value, or no such parameter")
        if key != "auth":
            given[key] = value
    return _convert(given, kind, strict=False)


async def _body(request: web.Request, kind: type[_T]) -> _T:
    _query(request, schemas.NoQuery)
    try:
        text = (await answers.read_body(request)).decode()
        value = answers.parse(text, parse_constant=_refuse, parse_float=_number)
    except (ValueError, RecursionError) as error:
        message = f"the body: expected JSON: {error}"
        raise ControllerError(400, message, {"error": message}) from error
    return _convert(value, kind, strict=True)


def _number(text: str) -> int | float:
    """13.0 is an integer in JSON."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _convert(value: Any, kind: type[_T], *, strict: bool) -> _T:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        found = _FIELD.fullmatch(str(error))
        problem, place = (found[1], found[2]) if found else (str(error), "")
        body = {"error": f"{place}: {problem}", "field": place} if place else {"error": problem}
        raise ControllerError(400, str(error), body) from error


def _nwid(request: web.Request) -> int:
    return int(request.match_info["nwid"], 16)


def _address(request: web.Request) -> int:
    return int(request.match_info["address"], 16)
