"""Static files under /app, only with ``settings.enableWebServer`` (service §4.10)."""

from __future__ import annotations

import mimetypes
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ztpipe.api import answers

if TYPE_CHECKING:
    from ztpipe.api.service import Service

_PLAIN_PATH: Final = re.compile(r"(/[\w|-]+)+", re.ASCII)


def add(app: web.Application, service: Service) -> None:
    """Mount the directory ``<home>/app`` if local.conf asks for it at start; make it if missing."""
    if not service.config().local.settings.enable_web_server:
        return
    root = service.config().home / "app"
    root.mkdir(mode=0o755, exist_ok=True)

    async def serve(request: web.Request) -> web.Response:
        return answer(root, request.match_info["path"])

    app.router.add_get("/app/{path:.*}", serve)


def answer(root: Path, path: str) -> web.Response:
    """The answer for ``/app/<path>``: the file, else the first that applies of page, redirect, single-page fallback."""
    directory = path.endswith("/") or not path
    found = _inside(root, path + "index.html" if directory else path)
    if found is not None:
        return _file(found)
    if directory:
        return _fallback(root, path)
    if _PLAIN_PATH.fullmatch("/" + path):
        page = _inside(root, path + ".html")
        if page is not None:
            return _file(page)
        return web.Response(status=HTTPStatus.MOVED_PERMANENTLY, headers={"location": f"/app/{path}/"})
    return answers.nothing(HTTPStatus.NOT_FOUND)


def _fallback(root: Path, path: str) -> web.Response:
    """An application that routes in the browser: its index page answers for every directory below it."""
    first = path.partition("/")[0]
    if not first:
        return answers.nothing(HTTPStatus.NOT_FOUND)
    index = _inside(root, f"{first}/index.html")
    return _file(index) if index is not None else answers.nothing(HTTPStatus.INTERNAL_SERVER_ERROR)


def _inside(root: Path, path: str) -> Path | None:
    """The regular file at `path` below `root`; None when missing or when links or dots lead outside."""
    try:
        resolved = (root / path.lstrip("/")).resolve(strict=True)
    except (OSError, ValueError):  # missing, a loop of links, or a NUL in the name
        return None
    return resolved if resolved.is_relative_to(root.resolve()) and resolved.is_file() else None


def _file(path: Path) -> web.Response:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return web.Response(body=path.read_bytes(), headers={"Content-Type": kind})
