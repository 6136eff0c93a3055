"""The paths of the controller's API (controller §6), as far as replaying recorded calls needs them.

The real routes, with authentication and HTTP, are the API server's; this one only finds the operation.
"""

from __future__ import annotations

import re
from typing import Any

from ztpipe.controller import Controller, ControllerError

#: A recorded answer: status, and the body, None = empty.
Answer = tuple[int, Any]

_NETWORK = re.compile(r"/controller/network/([0-9a-fA-F]{16})")
_MEMBERS = re.compile(r"/controller/network/([0-9a-fA-F]{16})/member")
_MEMBER = re.compile(r"/controller/network/([0-9a-fA-F]{16})/member/([0-9a-fA-F]{10})")


def call(controller: Controller, now: int, method: str, path: str, body: Any) -> Answer:
    """Do a call; errors become what the server answers (controller §3)."""
    try:
        return 200, _dispatch(controller, now, method, path, body)
    except ControllerError as error:
        return error.status, {"error": 500, "description": error.message} if error.status == 500 else None


def _dispatch(controller: Controller, now: int, method: str, path: str, body: Any) -> Any:
    if path == "/controller":
        return controller.status(now)
    if path in ("/controller/network", f"/controller/network/{controller.identity.address:010x}______"):
        return controller.list_networks() if method == "GET" else controller.create_network(now, body)
    if path == "/unstable/controller/network":
        return _all_networks(controller)
    if found := _MEMBERS.fullmatch(path.removeprefix("/unstable")):
        nwid = int(found[1], 16)
        return _all_members(controller, nwid) if path.startswith("/unstable") else controller.list_members(nwid)
    if found := _NETWORK.fullmatch(path):
        return _network(controller, now, method, int(found[1], 16), body)
    if found := _MEMBER.fullmatch(path):
        return _member(controller, now, method, int(found[1], 16), int(found[2], 16), body)
    raise LookupError(f"{method} {path} is not for the controller")


def _network(controller: Controller, now: int, method: str, nwid: int, body: Any) -> Any:
    if method == "GET":
        return controller.get_network(nwid)
    return controller.delete_network(now, nwid) if method == "DELETE" else controller.update_network(now, nwid, body)


def _member(controller: Controller, now: int, method: str, nwid: int, address: int, body: Any) -> Any:
    if method == "GET":
        return controller.get_member(nwid, address)
    if method == "DELETE":
        return controller.delete_member(now, nwid, address)
    return controller.update_member(now, nwid, address, body)


def _all_networks(controller: Controller) -> Any:
    networks = []
    for nwid in controller.list_networks():
        authorized, total = controller.member_counts(int(nwid, 16))
        meta = {"authorizedMemberCount": authorized, "totalMemberCount": total}
        networks.append(controller.get_network(int(nwid, 16)) | {"meta": meta})
    return {"data": networks, "meta": {"networkCount": len(networks)}}


def _all_members(controller: Controller, nwid: int) -> Any:
    authorized, total = controller.member_counts(nwid)
    members = [controller.get_member(nwid, int(address, 16)) for address in controller.list_members(nwid)]
    return {"data": members, "meta": {"authorizedCount": authorized, "totalCount": total}}
