"""How a local client finds and asks the service (service §2.2, §2.3).

Health checks and scripts start this every second, so nothing is imported that is not needed: one socket, one request
and one answer need neither `http.client` (with the e-mail parser and TLS) nor `pathlib` nor `dataclasses`.
"""

from __future__ import annotations

import os
import socket

TYPE_CHECKING = False  # not from typing: that import alone is a tenth of the start
if TYPE_CHECKING:
    from typing import Final

DEFAULT_HOME: Final = "/var/lib/zerotier-one"
MAX_ANSWER: Final = 16 << 20  # bytes, head and body
_TIMEOUT: Final = 60.0  # seconds without data
_BLANKS: Final = " \t\r\n\0"
_HEAD_END: Final = b"\r\n\r\n"
#: Sent as they are in a request target; everything else is escaped.
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/?&=%:,;@+~!*'()$-_.")


class LookupFailure(Exception):
    """No port or no token; the text is for stderr."""


class Reply:
    """An answer; status 0 means that there was none, and `body` is the reason."""

    __slots__ = ("body", "status")

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body = body


class Client:
    """Where the service is, and the token."""

    __slots__ = ("host", "port", "token")

    def __init__(self, host: str, port: int, token: str) -> None:
        self.host = host
        self.port = port
        self.token = token

    def request(self, method: str, path: str, body: str | None = None) -> Reply:
        """One request over a connection of its own."""
        try:
            with socket.create_connection((self.host, self.port), timeout=_TIMEOUT) as connection:
                connection.sendall(self._request(method, path, body))
                return _receive(connection)
        except TimeoutError:
            return Reply(0, "timed out")
        except (OSError, ValueError):
            return Reply(0, "connection failed")

    def _request(self, method: str, path: str, body: str | None) -> bytes:
        """HTTP/1.0 asks for what is wanted: one whole answer, in one piece, and then the end of the connection."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"{method} {_escaped(path)} HTTP/1.0",
            f"Host: {host}:{self.port}",
            f"X-ZT1-Auth: {_one_line(self.token)}",
        ]
        data = (body or "").encode()
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        return "\r\n".join(lines).encode() + _HEAD_END + data


def _receive(connection: socket.socket) -> Reply:
    """Read one answer: as long as it says it is, else until the end. Raises ValueError if it is not HTTP."""
    received = bytearray()
    wanted = MAX_ANSWER
    body_at = 0
    while len(received) < wanted:
        data = connection.recv(65536)
        if not data:
            break
        received += data
        if not body_at and (end := received.find(_HEAD_END)) >= 0:
            body_at = end + len(_HEAD_END)
            length = _content_length(received[:end])
            wanted = MAX_ANSWER if length is None else min(body_at + length, MAX_ANSWER)
    words = bytes(received[:body_at]).split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or (wanted != MAX_ANSWER and len(received) < wanted):
        raise ValueError("no whole answer")
    if len(received) >= MAX_ANSWER:
        return Reply(0, "request too large")
    return Reply(int(words[1]), received[body_at:wanted].decode("utf-8", "replace"))


def _content_length(head: bytearray) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return max(int(value), 0)
    return None


def _escaped(path: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in path.encode("utf-8", "surrogateescape"))


def _one_line(token: str) -> str:
    """A token goes into a header: one with control characters is no token. Raises ValueError."""
    if not token.isprintable():
        raise ValueError("control characters in the token")
    return token


def find_home(given: str) -> str:
    """The switch, else the environment, else the usual place."""
    return given or os.environ.get("ZEROTIER_HOME", "") or DEFAULT_HOME


def find_port(given: int, home: str) -> int:
    """The switch, else ``zerotier-one.port``; raises `LookupFailure`."""
    if given:
        return given
    text = _read(os.path.join(home, "zerotier-one.port")).strip(_BLANKS)
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 0 < port <= 65535:
        raise LookupFailure(f"missing port and zerotier-one.port not found in {home}")
    return port


def find_token(given: str, home: str) -> str:
    """The switch, else the home's token, else the user's own copy; raises `LookupFailure`.

    White space around it is stripped, unlike in the reference: a file made by hand usually ends with a newline.
    """
    places = [os.path.join(home, "authtoken.secret")]
    if "HOME" in os.environ:
        places.append(os.path.join(os.environ["HOME"], ".zeroTierOneAuthToken"))
    for token in (given, *(_read(place).strip(_BLANKS) for place in places)):
        if token:
            return token
    raise LookupFailure(f"authtoken.secret not found or readable in {home} (try again as root)")


def _read(path: str) -> str:
    """The text of a file, empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
