"""The HTTP server: listeners, access, the errors and headers of the reference (service §4.1-4.3)."""

from __future__ import annotations

import asyncio
import errno
import socket
import weakref
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from ztpipe.api import (
    answers,
    controller_routes,
    node_routes,
    openapi,
    probe_routes,
    static,
    v1_routes,
    worker_routes,
)
from ztpipe.api.access import Access, source_allowed
from ztpipe.api.connections import LINE_LIMIT, Acceptor, ConnectionServer, Runner, Source
from ztpipe.api.controller_routes import ACTOR
from ztpipe.api.tokens import TOKEN_FILE, TokenFile
from ztpipe.controller.errors import ControllerError
from ztpipe.log import get_logger

if TYPE_CHECKING:
    from ztpipe.api.service import Service
    from ztpipe.store import Home

log = get_logger("api")

_NOT_STORED: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)
_IDLE_SECONDS: Final = 5.0
_REQUESTS_PER_CONNECTION: Final = 5
_LINGER_SECONDS: Final = 1.0  # for a client to see the answer before it has sent a body that nobody reads


def make_app(service: Service, access: Access) -> web.Application:
    """The application: every route of service §4.4 over `service`."""
    app = web.Application(middlewares=[_guard(service, access)], client_max_size=answers.BODY_LIMIT)
    app[answers.ARRIVING] = answers.Arriving()
    app.on_response_prepare.append(_Headers().prepare)
    node_routes.add(app, service)
    controller_routes.add(app, service)
    v1_routes.add(app, service)
    openapi.add(app)
    static.add(app, service)
    worker_routes.add(app, service)
    probe_routes.add(app, service)
    return app


class ListenError(OSError):
    """Neither listener could be bound."""

    exit_status = 255  # service §1.2


_ANY: Final = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # access is decided by request
_LOOPBACK: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def bind(port: int, inherited: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Listening sockets on 0.0.0.0 and [::] (one is enough) and on the loopback addresses; raises `ListenError`.

    Programs on this host thus have a queue of their own, which the connections of others cannot fill. Of the
    `inherited` listeners those on that port are used, and the rest closed.
    """
    held = {sock.getsockname()[:2]: sock for sock in inherited}
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    for family, host in (*_ANY, *_LOOPBACK):
        if (family, host) in _LOOPBACK and not sockets:
            break
        key = (host, sockets[0].getsockname()[1] if sockets else port)
        try:
            sockets.append(_share(held.pop(key), True) if key in held else _listener(family, *key))
        except OSError as error:
            failures.append(error)
    for sock in held.values():
        sock.close()
    if not sockets:
        why = failures[0]
        raise ListenError(why.errno, f"cannot listen for the control API on TCP port {port}: {why.strerror}")
    return [_share(sock, False) for sock in sockets]


def _listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _share(sock, (family, host) in _LOOPBACK)
        sock.bind((host, port))
        _share(sock, True).listen(128)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _share(sock: socket.socket, share: bool) -> socket.socket:
    """Whether its port may be bound for another address: by ourselves while we bind, and by nobody later."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
    return sock


class Server:
    """The HTTP server of a node; tokens come from (or go into) its home directory.

    `start` raises OSError when neither 0.0.0.0 nor [::] can be bound.
    """

    def __init__(self, service: Service, home: Home, *, port: int, inherited: Sequence[socket.socket] = ()) -> None:
        self._service, self._port, self._inherited = service, port, inherited
        self._acceptor: Acceptor | None = None
        #: Host and port of each listener.
        self.addresses: list[tuple[str, int]] = []
        self.descriptors: list[int] = []
        self._runner = Runner(
            make_app(service, Access(home.auth_token(), home.metrics_token(), TokenFile(home.path / TOKEN_FILE))),
            access_log=None,
            keepalive_timeout=_IDLE_SECONDS,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            shutdown_timeout=1.0,
            lingering_time=_LINGER_SECONDS,
        )

    async def start(self) -> None:
        """Bind, or take what was inherited, and begin to answer."""
        sockets = bind(self._port, self._inherited)
        self.descriptors = [sock.fileno() for sock in sockets]
        self.addresses = [sock.getsockname()[:2] for sock in sockets]
        await self._runner.setup()
        server = self._runner.server
        assert isinstance(server, ConnectionServer)
        self._acceptor = Acceptor(sockets, server, self._source)
        self._acceptor.start()

    def _source(self, host: str) -> Source:
        if source_allowed(host, ()):
            return Source.LOCAL
        managing = self._service.config().local.settings.allow_management_from
        return Source.MANAGEMENT if source_allowed(host, managing) else Source.STRANGER

    async def stop(self) -> None:
        """Close the listeners and let running requests end (a second at most)."""
        if self._acceptor is not None:
            self._acceptor.close()
        await self._runner.cleanup()


def _guard(service: Service, access: Access) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Access first, then the route, with every failure in the reference's form."""
        if not access.permits(request, service.config().local.settings.allow_management_from):
            return answers.document(request, {}, HTTPStatus.UNAUTHORIZED)
        if access.foreign(request):
            return answers.document(request, {"error": "a page of another site may not ask this"}, HTTPStatus.FORBIDDEN)
        if not access.role_permits(request):
            return answers.document(request, {"error": "the token's role does not permit this"}, HTTPStatus.FORBIDDEN)
        ACTOR.set(access.actor(request))
        try:
            if (length := request.content_length or 0) > answers.BODY_LIMIT:
                raise web.HTTPRequestEntityTooLarge(answers.BODY_LIMIT, length)
            return await handler(request)
        except answers.BadBody as error:
            return answers.failure(str(error))
        except ControllerError as error:
            if error.body is not None:
                return answers.document(request, error.body, error.status)
            failed = error.status == HTTPStatus.INTERNAL_SERVER_ERROR
            return answers.failure(error.message) if failed else answers.nothing(error.status)
        except web.HTTPRequestEntityTooLarge:
            if request.path.startswith(("/v1/", "/controller", "/unstable/controller")):
                error_text = f"the body: expected at most {answers.BODY_LIMIT >> 20} MiB"
                return answers.document(request, {"error": error_text}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return answers.nothing(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except web.HTTPServiceUnavailable as error:
            return answers.document(request, {"error": "too many long bodies at once"}, error.status)
        except web.HTTPRequestTimeout:
            return answers.nothing(HTTPStatus.REQUEST_TIMEOUT)
        except web.HTTPMethodNotAllowed as error:
            if not request.path.startswith("/v1/"):
                return answers.nothing(HTTPStatus.NOT_FOUND)
            refusal = answers.document(request, {"error": f"not with {request.method}"}, error.status)
            refusal.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return refusal
        except web.HTTPClientError:  # no such route
            if request.path.startswith("/v1/"):
                return answers.document(request, {"error": "no such path"}, HTTPStatus.NOT_FOUND)
            return answers.nothing(HTTPStatus.NOT_FOUND)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the API must not take the node down, and clients expect this form
            if isinstance(error, OSError) and error.errno in _NOT_STORED:  # and so it was not done
                log.error("cannot be stored", method=request.method, path=request.path, error=str(error))
                return answers.failure(str(error), HTTPStatus.SERVICE_UNAVAILABLE)
            log.exception("request failed", method=request.method, path=request.path)
            return answers.failure(str(error) or type(error).__name__)

    return guard


class _Headers:
    """Adjusts headers to the reference's: no Server or Date, keep-alive announced, five requests per connection."""

    def __init__(self) -> None:
        self._served: weakref.WeakKeyDictionary[asyncio.BaseTransport, int] = weakref.WeakKeyDictionary()

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.popall(hdrs.SERVER, None)
        response.headers.popall(hdrs.DATE, None)
        if "close" not in request.headers.get(hdrs.CONNECTION, "").lower():
            response.headers["Keep-Alive"] = f"timeout={_IDLE_SECONDS:.0f}, max={_REQUESTS_PER_CONNECTION}"
        if request.method == hdrs.METH_HEAD:
            response.headers["Accept-Ranges"] = "bytes"
        transport = request.transport
        if transport is not None:
            served = self._served[transport] = self._served.get(transport, 0) + 1
            if served >= _REQUESTS_PER_CONNECTION or getattr(request.protocol, "hostless", False):
                response.force_close()
                response.headers[hdrs.CONNECTION] = "close"
