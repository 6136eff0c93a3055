"""The one exception an API operation of the controller raises."""

from __future__ import annotations


class ControllerError(Exception):
    """A request that cannot be done.

    `status` is the HTTP status of the answer (controller §3, §6).  `message` goes into the `description` of a
    500; 400, 404 and 503 have an empty body and their message is for logs only.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def not_found(what: str) -> ControllerError:
    """The 404 of an unknown network or member."""
    return ControllerError(404, f"no such {what}")
