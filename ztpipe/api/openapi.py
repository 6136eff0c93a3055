"""The OpenAPI 3.1 document of `/v1`, made of the operations and the types that serve them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
from aiohttp import web

from ztpipe import __version__
from ztpipe.api import schemas
from ztpipe.api.v1_routes import OPERATIONS, Operation

PATH: Final = "/openapi.json"
_PLACE: Final = "#/components/schemas/{name}"
_DESCRIPTION: Final = (
    "The typed API of the network controller. Change one object only if nobody else has: send its ETag as If-Match."
)
_MEANINGS: Final = {
    400: "A value that cannot be taken; the field is named.",
    401: "No token, or a wrong one.",
    403: "Beyond the role of the token.",
    404: "No such network or member.",
    412: "The object has another revision than If-Match says.",
    503: "The store cannot be written; nothing has changed.",
}
_PARAMETERS: Final = {
    "nwid": "^[0-9a-fA-F]{16}$",
    "address": "^[0-9a-fA-F]{10}$",
}


def add(app: web.Application) -> None:
    """Mount the document."""
    app.router.add_get(PATH, _serve)


async def _serve(_: web.Request) -> web.Response:
    return web.Response(body=msgspec.json.encode(document()), content_type="application/json")


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The whole document; do not change it."""
    used = [schemas.Problem, *(kind for op in OPERATIONS for kind in (op.answer, op.body, op.query) if kind)]
    _, components = msgspec.json.schema_components(used, ref_template=_PLACE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, components)
    queries = {operation.query.__name__ for operation in OPERATIONS}
    kept = {name: schema for name, schema in components.items() if name not in queries}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ztpipe controller", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": kept, "securitySchemes": _security_schemes()},
        "security": [{"header": []}, {"bearer": []}],
    }


def _security_schemes() -> dict[str, Any]:
    return {
        "header": {"type": "apiKey", "in": "header", "name": "X-ZT1-Auth"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }


def _operation(operation: Operation, components: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": _parameters(operation, components),
        "responses": _responses(operation),
    }
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": _json(operation.body)}
    return made


def _parameters(operation: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
        for name, pattern in _PARAMETERS.items()
        if f"{{{name}}}" in operation.path
    ]
    for name, schema in components[operation.query.__name__].get("properties", {}).items():
        found.append({"name": name, "in": "query", "required": False, "schema": _without_null(schema)})
    if operation.conditional:
        schema = {"type": "string", "pattern": '^("[0-9]{1,20}"|\\*)$'}
        found.append({"name": "If-Match", "in": "header", "required": False, "schema": schema})
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out has no null; its default then means nothing."""
    kinds = schema.get("anyOf")
    if kinds is None:
        return schema
    (kind,) = [kind for kind in kinds if kind != {"type": "null"}]
    return dict(kind)


def _responses(operation: Operation) -> dict[str, Any]:
    statuses = sorted({400, 401, 403, 503, *operation.statuses})
    refusals = {
        str(status): {"description": _MEANINGS[status]} | ({} if status == 401 else {"content": _json(schemas.Problem)})
        for status in statuses
    }
    if operation.answer is None:
        return {"204": {"description": "Done."}} | refusals
    answer: dict[str, Any] = {"description": "The result.", "content": _json(operation.answer)}
    if operation.answer in (schemas.Network, schemas.Member):
        answer["headers"] = {"ETag": {"description": "The revision.", "schema": {"type": "string"}}}
    return {"200": answer} | refusals


def _json(kind: Any) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _PLACE.format(name=kind.__name__)}}}
