"""A small typed client of the controller's API (`/v1`), of the standard library and msgspec.

    client = Client.of_home("/var/lib/zerotier-one")
    network = client.create_network(NetworkPatch(name="office"))
    client.update_member(network.id, "aabbccddee", MemberPatch(authorized=True), revision=3)

The types are those of `ztpipe.api.schemas`, from which the service's OpenAPI document is made too.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from ztpipe.api import schemas
from ztpipe.api.schemas import (
    AuditLine,
    ControllerStatus,
    Member,
    MemberPatch,
    MembersPatch,
    Network,
    NetworkPatch,
    Problem,
)

__all__ = ["ApiError", "AuditLine", "Client", "Member", "MemberPatch", "Network", "NetworkPatch", "Unreachable"]

_TIMEOUT: Final = 60.0  # seconds without data
_T = TypeVar("_T")


class Unreachable(ConnectionError):
    """There is no answer from the service."""


class ApiError(Exception):
    """The service refused: HTTP status, and why."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.error)
        self.status = status
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Client:
    """One service, one token.  Every method raises ApiError and Unreachable."""

    host: str
    port: int
    token: str

    @classmethod
    def of_home(cls, home: str = "") -> Self:
        """The node of a home directory on this machine; raises `ztpipe.cli.client.LookupFailure`."""
        from ztpipe.cli.client import find_home, find_port, find_token

        place = find_home(home)
        return cls("127.0.0.1", find_port(0, place), find_token("", place))

    def status(self) -> ControllerStatus:
        """The controller's address and size."""
        return self._get("/v1/controller", ControllerStatus)

    def networks(self, **filters: object) -> Iterator[Network]:
        """All networks that pass the filters (`q`, `private`), page by page."""
        after: str | None = "0" * 16
        while after is not None:
            page = self._get("/v1/networks", schemas.NetworkList, {**filters, "after": after, "limit": 1000})
            yield from page.data
            after = page.meta.next

    def network(self, nwid: str) -> Network:
        """One network."""
        return self._get(_network(nwid), Network)

    def create_network(self, patch: NetworkPatch) -> Network:
        """A new network."""
        return self._send("POST", "/v1/networks", patch, Network)

    def update_network(self, nwid: str, patch: NetworkPatch, revision: int | None = None) -> Network:
        """Change a network, if it still has the revision."""
        return self._send("PATCH", _network(nwid), patch, Network, revision)

    def delete_network(self, nwid: str, revision: int | None = None) -> None:
        """Delete a network with its members."""
        self._request("DELETE", _network(nwid), None, revision)

    def members(self, nwid: str, **filters: object) -> Iterator[Member]:
        """All members that pass the filters (`q`, `authorized`, `online`, `bridge`, `tag`), page by page."""
        after: str | None = "0" * 10
        while after is not None:
            query = {**filters, "after": after, "limit": 1000}
            page = self._get(_network(nwid) + "/members", schemas.MemberList, query)
            yield from page.data
            after = page.meta.next

    def member(self, nwid: str, address: str) -> Member:
        """One member."""
        return self._get(_member(nwid, address), Member)

    def update_member(self, nwid: str, address: str, patch: MemberPatch, revision: int | None = None) -> Member:
        """Change or add a member, if it still has the revision."""
        return self._send("PATCH", _member(nwid, address), patch, Member, revision)

    def update_members(self, nwid: str, patches: Mapping[str, MemberPatch]) -> list[Member]:
        """Change or add several members, all or none."""
        patch = MembersPatch(members=dict(patches))
        return self._send("PATCH", _network(nwid) + "/members", patch, schemas.MemberList).data

    def delete_member(self, nwid: str, address: str, *, forget: bool = False) -> None:
        """Delete a member, which stays deleted unless it is to be forgotten."""
        self._request("DELETE", _member(nwid, address) + _query({"forget": forget}), None, None)

    def audit(self, limit: int = 100, **filters: object) -> list[AuditLine]:
        """Changes, newest first, at most 1000 (`before`, `nwid`, `member`)."""
        return self._get("/v1/audit", schemas.AuditList, {**filters, "limit": limit}).data

    def reload(self) -> None:
        """Have the store read again."""
        self._request("POST", "/v1/reload", None, None)

    def _get(self, path: str, kind: type[_T], query: Mapping[str, object] | None = None) -> _T:
        return self._decode(self._request("GET", path + _query(query or {}), None, None), kind)

    def _send(self, method: str, path: str, patch: msgspec.Struct, kind: type[_T], revision: int | None = None) -> _T:
        return self._decode(self._request(method, path, patch, revision), kind)

    def _decode(self, data: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"the answer is not that of a ztpipe controller: {error}") from error

    def _request(self, method: str, path: str, body: msgspec.Struct | None, revision: int | None) -> bytes:
        headers = {"X-ZT1-Auth": self.token}
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        data = None
        if body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(body), "application/json"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no answer from {self.host} port {self.port}: {error}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, _problem(answer.status, text))
        return text


def _problem(status: int, text: bytes) -> Problem:
    try:
        return msgspec.json.decode(text, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        reason = "the token is not accepted" if status == 401 else http.client.responses.get(status, "refused")
        return Problem(error=reason)


def _network(nwid: str) -> str:
    return f"/v1/networks/{quote(nwid, safe='')}"


def _member(nwid: str, address: str) -> str:
    return f"{_network(nwid)}/members/{quote(address, safe='')}"


def _query(values: Mapping[str, object]) -> str:
    given = {key: _text(value) for key, value in values.items() if value is not None}
    return "?" + urlencode(given) if given else ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
