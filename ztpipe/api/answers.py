"""The forms an answer or a request body can take (service §4.3)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

#: What a form-encoded body may have in the reference; other bodies are bounded by the server.
FORM_LIMIT = 8192
#: How long a body may take to arrive, how long it may be, and all that are arriving together.
BODY_SECONDS = 30.0
BODY_LIMIT = 16 << 20
BODIES_LIMIT = 64 << 20


class Arriving:
    """Bytes of bodies that are not complete yet."""

    size = 0


ARRIVING = web.AppKey("arriving", Arriving)


class BadBody(Exception):
    """A body that had to be JSON and is not; the text becomes the description of a 500."""


def compact(document: object) -> bytes:
    """JSON as on the wire: no blanks, keys in ascending order, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")


def document(request: web.Request, value: object, status: int = 200) -> web.Response:
    """`value` as JSON."""
    return content(request, compact(value), status)


def content(request: web.Request, body: bytes, status: int = 200) -> web.Response:
    """`body` labelled as JSON, or wrapped as JSONP; an empty result is sent as ``{}`` (``null`` when wrapped)."""
    callback = request.rel_url.query.get("jsonp")
    if callback is not None:
        wrapped = callback.encode("utf-8", "replace") + b"(" + (body or b"null") + b");"
        return web.Response(status=status, body=wrapped, content_type="application/javascript")
    return web.Response(status=status, body=body or b"{}", content_type="application/json")


def nothing(status: int) -> web.Response:
    """An answer with neither body nor content type."""
    return web.Response(status=status)


def failure(description: str, status: int = 500) -> web.Response:
    """An error with the form of the reference."""
    body = f'{{"error": {int(status)}, "description": {json.dumps(description)}}}'
    return web.Response(status=status, body=body.encode(), content_type="application/json")


async def read_body(request: web.Request) -> bytes:
    """The request's body, once; raises `web.HTTPRequestEntityTooLarge`, `web.HTTPRequestTimeout`, and
    `web.HTTPServiceUnavailable` if too much arrives at once."""
    arriving, body = request.app[ARRIVING], bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                arriving.size += len(chunk)
                if len(body) > BODY_LIMIT:
                    raise web.HTTPRequestEntityTooLarge(BODY_LIMIT, len(body))
                if arriving.size > BODIES_LIMIT:
                    raise web.HTTPServiceUnavailable
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    finally:
        arriving.size -= len(body)
    if len(body) > FORM_LIMIT and request.content_type == "application/x-www-form-urlencoded":
        raise web.HTTPRequestEntityTooLarge(FORM_LIMIT, len(body))
    return bytes(body)


async def read_json(request: web.Request) -> object:
    """The body as JSON, whatever its content type says; raises `BadBody`."""
    return decoded(await read_body(request))


def decoded(body: bytes) -> object:
    """`body` as JSON; raises `BadBody`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadBody(_parse_error(1, error.start + 1, "invalid string: ill-formed UTF-8 byte")) from None
    try:
        return parse(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise BadBody(_describe(error, text)) from None
    except (ValueError, RecursionError) as error:
        raise BadBody(_parse_error(1, 1, str(error))) from None


def parse(text: str, **options: Any) -> object:
    """JSON, in texts that can be written again: half a surrogate pair, which escapes can spell, is a ValueError."""
    value = json.loads(text, **options)
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("invalid string: half of a surrogate pair") from None
    return value


async def read_json_or_none(request: web.Request) -> object:
    """The body as JSON; None if it is not (``POST /network`` and ``POST /moon`` never fail on a bad body)."""
    try:
        return await read_json(request)
    except BadBody:
        return None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"invalid literal; last read: '{name}'")


def _describe(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text):
        return _parse_error(error.lineno, error.colno, "unexpected end of input; expected '[', '{', or a literal")
    literal = {"t": "true", "f": "false", "n": "null"}.get(text[error.pos], "")
    known = next((at for at, (a, b) in enumerate(zip(literal, text[error.pos :], strict=False)) if a != b), 0)
    read = text[error.pos : error.pos + known + 1]  # the reference reads on while it could be true, false or null
    return _parse_error(error.lineno, error.colno + len(read) - 1, f"invalid literal; last read: '{read}'")


def _parse_error(line: int, column: int, what: str) -> str:
    """The wording that clients of the reference have seen."""
    return (
        f"[json.exception.parse_error.101] parse error at line {line}, column {column}:"
        f" syntax error while parsing value - {what}"
    )
