"""Our own routes, beside those of the reference: the processes of the data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from ztpipe.api import answers

if TYPE_CHECKING:
    from ztpipe.api.service import Service


def add(app: web.Application, service: Service) -> None:
    """Mount the routes under /ztpipe, where the reference has none."""

    async def workers(request: web.Request) -> web.Response:
        """GET /ztpipe/workers: name, pid, restarts, CPU seconds and counters of every process, control first."""
        return answers.document(request, service.workers())

    app.router.add_get("/ztpipe/workers", workers)
