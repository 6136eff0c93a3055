"""Who may ask what (service §4.2): the source address, then exactly one token."""

from __future__ import annotations

import hmac
import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ztpipe.api import probe_routes
from ztpipe.api.tokens import Grant, Role, TokenFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

#: Answered without a token, to whom the source address admits.
_OPEN_PATHS = frozenset({"/health", "/sso", *probe_routes.OPEN_PATHS})

#: Endings of names that nobody can register, so that no page on the web can make a browser come here under one.
_OWN_ENDINGS: Final = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".test")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Access:
    """The two tokens as read at start, a change of their files needs a restart; and the controller's named tokens."""

    def __init__(self, token: str, metrics_token: str, named: TokenFile | None = None) -> None:
        self._token = token
        self._metrics_token = metrics_token
        self._named = named

    def permits(self, request: web.BaseRequest, management_from: tuple[str, ...]) -> bool:
        """True if `request` may be answered at all; otherwise 401, also for unknown paths."""
        if request.path == "/metrics":
            return token_is_one_of(request, (self._token, self._metrics_token))
        if not source_allowed(request.remote or "", management_from):
            return False
        if _is_open(request.path):
            return True
        return token_is_one_of(request, (self._token,)) or self._grant(request) is not None

    def foreign(self, request: web.BaseRequest) -> bool:
        """True for what a page of somebody else may have made a browser ask without a token: 403.

        Only what is answered without one is in question. DNS rebinding shows in ``Host``, which then is a public name;
        a cross-site request in ``Origin``, which then is another server's.
        """
        if not _is_open(request.path) or token_is_one_of(request, (self._token,)):
            return False
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return True
        return not _is_own_name(host)

    def role_permits(self, request: web.BaseRequest) -> bool:
        """False if `request`, which may be answered, is beyond the role of its named token: 403."""
        grant = self._grant(request)
        return grant is None or grant.role.permits(request.method, request.path)

    def actor(self, request: web.BaseRequest) -> str:
        """Who asks, for the audit log: a name, never the token."""
        grant = self._grant(request)
        return "authtoken.secret" if grant is None else grant.name

    def _grant(self, request: web.BaseRequest) -> Grant | None:
        """The named token that is given; None for none or the node's own.  It opens the controller only."""
        if self._named is None or not Role.covers(request.path) or token_is_one_of(request, (self._token,)):
            return None
        given = _given_token(request)
        return self._named.find(given) if given else None


def source_allowed(remote: str, management_from: tuple[str, ...]) -> bool:
    """True for loopback and inside an entry of `management_from`: ``IP/bits``, or ``IP`` for just that one."""
    try:
        address: Address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or any(address in network for network in _networks(management_from))


@lru_cache(maxsize=4)
def _networks(entries: tuple[str, ...]) -> tuple[Network, ...]:
    networks: list[Network] = []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            continue  # an entry that is no network admits nobody
    return tuple(networks)


def _is_open(path: str) -> bool:
    return path in _OPEN_PATHS or path.startswith("/app")


def _is_own_name(host: str) -> bool:
    """Whether the value of ``Host`` is an address, or a name that only resolvers around here know; absent counts."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if "." not in name or name.endswith(_OWN_ENDINGS):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def token_is_one_of(request: web.BaseRequest, accepted: Iterable[str]) -> bool:
    """Compare the given token with all `accepted`, in constant time."""
    given = _given_token(request)
    if not given:
        return False
    found = [hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode()) for token in accepted]
    return any(found)


def _given_token(request: web.BaseRequest) -> str | None:
    """The first place that is present decides: header X-ZT1-Auth, query ``auth``, header Authorization: Bearer."""
    header = request.headers.get("X-ZT1-Auth")
    if header is not None:
        return header
    query = request.rel_url.query.get("auth")
    if query is not None:
        return query
    words = request.headers.get("Authorization", "").split()
    return words[1] if len(words) == 2 and words[0].lower() == "bearer" else None
