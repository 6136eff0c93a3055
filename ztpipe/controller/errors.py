"""The one exception an API operation of the controller raises."""

from __future__ import annotations

from typing import Any


class ControllerError(Exception):
    """A request that cannot be done.

    `status` is the HTTP status of the answer (controller §3, §6).  `message` goes into the `description` of a
    500.  Others have an empty body and their message is for logs only, unless `body` is given: it is what the reference
    has no answer for, and sent as JSON.
    """

    def __init__(self, status: int, message: str, body: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.body = body


def bad_value(field: str, expected: str) -> ControllerError:
    """The 400 of a field with a value that cannot be taken; names the field."""
    message = f"{field}: expected {expected}"
    return ControllerError(400, message, {"error": message, "field": field})


def not_found(what: str) -> ControllerError:
    """The 404 of an unknown network or member."""
    return ControllerError(404, f"no such {what}")
