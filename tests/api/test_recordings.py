"""Every recorded HTTP exchange, replayed against the real server: status line, headers and body."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.recorded import RecordedService, serving, text
from ztpipe.store import Home

#: Answered by the HTTP parser, so only the status and the empty body are ours.
_NOT_HTTP = "bad method name"

#: Where a 400 says more than the reference's 500, or its 400 without a body: the field it names (docs/controller.md).
REFUSED = {
    "controller create for another node id": "nwid",
    "controller network bad JSON": "body",
    "controller member bad JSON": "body",
}


@dataclass(frozen=True)
class Exchange:
    title: str
    request: bytes
    status_line: str
    headers: dict[str, str]
    body: str


def exchanges(name: str) -> Iterator[Exchange]:
    for block in text(name).split("### ")[1:]:
        title, command, rest = block.split("\n", 2)
        head, _, body = rest.partition("\n\n")
        status_line, *lines = head.splitlines()
        headers = dict(line.split(": ", 1) for line in lines)
        yield Exchange(title, curl(command), status_line, headers, body.rstrip("\n"))


def curl(command: str) -> bytes:
    """The bytes that the recorded curl call sent; the recording shows its words without quotes."""
    words = command.removeprefix("$ curl ").split(" ")
    target = words.pop().removeprefix("http://127.0.0.1:9993")
    method, body, headers = "GET", None, []
    while words:
        option = words.pop(0)
        if option == "-I":
            method = "HEAD"
        elif option == "-X":
            method = words.pop(0)
        elif option == "-d":
            body = words.pop(0)
        elif option == "-H":
            end = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
            headers.append(" ".join(words[:end]))
            words = words[end:]
    if body is not None:
        headers += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *headers, "", body or ""]
    return "\r\n".join(lines).encode()


def exchange(
    port: int, request: bytes, *, family: socket.AddressFamily = socket.AF_INET
) -> tuple[str, dict[str, str], str]:
    """Status line, headers and body of the answer to `request`, over a connection of its own."""
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1" if family == socket.AF_INET else "::1", port))
        sock.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += _more(sock)
        head, _, body = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if request.startswith(b"HEAD") else int(headers["Content-Length"])
        while len(body) < length:
            body += _more(sock)
        assert len(body) == length
        return status_line, headers, body.decode()


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    assert data, "the connection was closed before the end of the answer"
    return data


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RecordedService, int]]:
    """One node for all exchanges of a file: the recorded ones build on each other."""
    service = RecordedService(Home.open(tmp_path_factory.mktemp("home")))
    with serving(service) as port:
        yield service, port


def replay(running: tuple[RecordedService, int], recorded: Exchange) -> None:
    service, port = running
    found = re.search(r'"clock":(\d+)', recorded.body)
    service.clock = int(found[1]) if found else service.clock
    status_line, headers, body = exchange(port, recorded.request)
    assert status_line.split(" ")[1:] == recorded.status_line.split(" ")[1:]
    assert body == recorded.body
    if recorded.title == _NOT_HTTP:
        return
    assert status_line == recorded.status_line
    if b" /status" in recorded.request or (b" /metrics" in recorded.request and not recorded.body):
        # In the recordings the home directory was renamed afterwards, and metrics were others.
        headers["Content-Length"] = recorded.headers["Content-Length"]
    assert headers == recorded.headers


@pytest.mark.parametrize("recorded", list(exchanges("http-errors.txt")), ids=lambda found: found.title)
def test_http_errors(running: tuple[RecordedService, int], recorded: Exchange) -> None:
    if recorded.title not in REFUSED:
        replay(running, recorded)
        return
    status_line, headers, body = exchange(running[1], recorded.request)
    assert status_line == "HTTP/1.1 400 Bad Request" and headers["Content-Type"] == "application/json"
    assert json.loads(body)["field"] == REFUSED[recorded.title]
    assert json.loads(body)["error"].startswith(REFUSED[recorded.title].replace("body", "the body"))


@pytest.mark.parametrize("recorded", list(exchanges("http-network-post.txt")), ids=lambda found: found.title)
def test_network_post(running: tuple[RecordedService, int], recorded: Exchange) -> None:
    replay(running, recorded)


def test_post_config_settings(service: RecordedService, port: int) -> None:
    """Recorded in post-config-settings.txt: the answer, GET /config and the file."""
    _, shown, written = text("post-config-settings.txt").split("### ")[1:]
    body = '{"portMappingEnabled":false,"x":1}'
    request = f"POST /config/settings HTTP/1.1\r\nX-ZT1-Auth: TOKEN\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    assert exchange(port, request.encode())[2] == "{}"
    answer = exchange(port, b"GET /config HTTP/1.1\r\nX-ZT1-Auth: TOKEN\r\n\r\n")[2]
    assert answer == shown.split("\n", 1)[1].strip()
    assert Path(service.home.path / "local.conf").read_text() == written.split("\n", 1)[1]
    status = json.loads(exchange(port, b"GET /status HTTP/1.1\r\nX-ZT1-Auth: TOKEN\r\n\r\n")[2])
    assert status["config"]["settings"]["x"] == 1
