"""How a local client finds and asks the service (service §2.2, §2.3). Standard library only: it must start fast."""

from __future__ import annotations

import http.client
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

DEFAULT_HOME: Final = "/var/lib/zerotier-one"
_TIMEOUT: Final = 60.0  # seconds without data
_BLANKS: Final = " \t\r\n\0"


class LookupFailure(Exception):
    """No port or no token; the text is for stderr."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; status 0 means that there was none, and `body` is the reason."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Client:
    """Where the service is, and the token."""

    host: str
    port: int
    token: str

    def request(self, method: str, path: str, body: str | None = None) -> Reply:
        """One request over a connection of its own."""
        headers = {"X-ZT1-Auth": self.token}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT)
        try:
            data = body.encode() if body is not None else None
            connection.request(method, quote(path, safe="/?&=%:,;@+~!*'()$-_."), data, headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read().decode("utf-8", "replace"))
        except TimeoutError:
            return Reply(0, "timed out")
        except (OSError, http.client.HTTPException, ValueError):
            return Reply(0, "connection failed")
        finally:
            connection.close()


def find_home(given: str) -> str:
    """The switch, else the environment, else the usual place."""
    return given or os.environ.get("ZEROTIER_HOME", "") or DEFAULT_HOME


def find_port(given: int, home: str) -> int:
    """The switch, else ``zerotier-one.port``; raises `LookupFailure`."""
    if given:
        return given
    text = (_read(Path(home) / "zerotier-one.port") or "").strip(_BLANKS)
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 0 < port <= 65535:
        raise LookupFailure(f"missing port and zerotier-one.port not found in {home}")
    return port


def find_token(given: str, home: str) -> str:
    """The switch, else the home's token, else the user's own copy; raises `LookupFailure`.

    White space around it is stripped, unlike in the reference: a file made by hand usually ends with a newline.
    """
    places = [Path(home) / "authtoken.secret"]
    if "HOME" in os.environ:
        places.append(Path(os.environ["HOME"]) / ".zeroTierOneAuthToken")
    for token in (given, *((_read(place) or "").strip(_BLANKS) for place in places)):
        if token:
            return token
    raise LookupFailure(f"authtoken.secret not found or readable in {home} (try again as root)")


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None
