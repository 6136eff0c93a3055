"""Our own routes for orchestrators and scripts: is the node alive, is it ready, wait until a network is up.

`/livez` and `/readyz` need no token, as `/health` does not; who may ask is decided by the source address.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ztpipe.api import answers
from ztpipe.node.status import NetworkStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ztpipe.api.service import JoinedNetwork, Service

#: Paths that are answered without a token.
OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})
_NWID: Final = re.compile(r"[0-9a-fA-F]{16}")
_POLL_SECONDS: Final = 0.1
_DEFAULT_TIMEOUT: Final = 30.0
_MAX_TIMEOUT: Final = 300.0


def add(app: web.Application, service: Service) -> None:
    """Mount the routes."""

    async def livez(request: web.Request) -> web.Response:
        """GET /livez: 200 whenever it is answered at all; workers that fail are restarted without anybody's help."""
        return answers.document(request, {"live": True})

    async def readyz(request: web.Request) -> web.Response:
        """GET /readyz[?network=<id>[,<id>...]]: 200 or 503, with what is missing; 400 for what is no network ID."""
        wanted = [text for value in request.query.getall("network", ()) for text in value.split(",") if text]
        wrong = [text for text in wanted if not _NWID.fullmatch(text)]
        if wrong:
            problems = [f"network {text}: not a network ID of 16 hexadecimal digits" for text in wrong]
            return answers.document(request, {"ready": False, "problems": problems}, HTTPStatus.BAD_REQUEST)
        problems = list(_problems(service, [int(text, 16) for text in wanted]))
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        return answers.document(request, {"ready": not problems, "problems": problems}, status)

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)


def _problems(service: Service, wanted: list[int]) -> Iterator[str]:
    for worker in service.workers():
        if worker.get("ready") is False:
            yield f"worker {worker['name']}: not running yet"
    joined = {network.record.nwid: network for network in service.networks()} if wanted else {}
    for nwid in wanted:
        problem = network_problem(joined.get(nwid))
        if problem:
            yield f"network {nwid:016x}: {problem}"


def network_problem(network: JoinedNetwork | None) -> str:
    """What a network lacks to be of use: empty if it is joined, confirmed by its controller, and has an address."""
    if network is None:
        return "not joined"
    record = network.record
    if network.port_error:
        return "no TAP device"
    if record.status is not NetworkStatus.OK:
        return f"status {record.status.value}"
    if not record.controller_reached:
        return "controller not reached since the start"
    if record.config is None or not record.config.static_ips:
        return "no address assigned"
    return ""


class BadWait(ValueError):
    """The query of a waiting request makes no sense; the text says why."""


def read_wait(query: Mapping[str, str]) -> float | None:
    """Seconds to wait for ``?wait=OK[&timeout=<seconds>]``; None if nothing is to be waited for. Raises `BadWait`."""
    if "wait" not in query:
        return None
    if query["wait"] != NetworkStatus.OK.value:
        raise BadWait('wait: expected "OK"')
    try:
        seconds = float(query.get("timeout", _DEFAULT_TIMEOUT))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_TIMEOUT:
        raise BadWait(f"timeout: expected seconds from 0 to {_MAX_TIMEOUT:.0f}")
    return seconds


async def wait_ok(service: Service, nwid: int, seconds: float) -> JoinedNetwork | None:
    """The network as soon as its status is OK, else as it is when the time is over; None once it is left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        network = next((found for found in service.networks() if found.record.nwid == nwid), None)
        if network is None or is_ok(network) or loop.time() >= deadline:
            return network
        await asyncio.sleep(_POLL_SECONDS)


def is_ok(network: JoinedNetwork) -> bool:
    """Whether GET /network shows it as OK."""
    return network.record.status is NetworkStatus.OK and not network.port_error
