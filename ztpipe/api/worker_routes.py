"""Our own routes, beside those of the reference: the processes of the data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from ztpipe.api import answers
from ztpipe.api.service import WorkersUnchanged
from ztpipe.config import ConfigError

if TYPE_CHECKING:
    from ztpipe.api.service import Service


def add(app: web.Application, service: Service) -> None:
    """Mount the routes under /ztpipe, where the reference has none."""

    async def workers(request: web.Request) -> web.Response:
        """GET /ztpipe/workers: name, pid, restarts, CPU seconds and counters of every process, control first."""
        return answers.document(request, service.workers())

    async def reshape(request: web.Request) -> web.Response:
        """POST /ztpipe/workers: other workers while frames flow, until the next start; answers as GET does after it.

        The body has keys of the section ``ztpipe`` of local.conf: tapWorkers, cryptoWorkers, peerWorkers, layout,
        pinning, busyPoll, sched, ringSlots. 400 for a key or value that cannot be, 503 when the workers do not start.
        """
        body = await answers.read_json(request)
        if not isinstance(body, dict):
            return answers.document(request, {"error": "expected an object"}, 400)
        try:
            await service.reshape(body)
        except ConfigError as error:
            return answers.document(request, {"error": str(error)}, 400)
        except WorkersUnchanged as error:
            return answers.document(request, {"error": str(error)}, 503)
        return answers.document(request, service.workers())

    app.router.add_get("/ztpipe/workers", workers)
    app.router.add_post("/ztpipe/workers", reshape)
    app.router.add_put("/ztpipe/workers", reshape)
