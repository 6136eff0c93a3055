"""Clients that mean no good, run inside a namespace: ``python http_attackers.py KIND HOST PORT SECONDS [TOKEN]``.

Prints one JSON object: how often what happened. Bounded in time and in number.
"""

from __future__ import annotations

import collections
import contextlib
import json
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

CONNECTIONS = 10_000
Counts = collections.Counter[str]


Target = tuple[str, int]


def connect(target: Target) -> socket.socket:
    return socket.create_connection(target, timeout=5)


def flood(target: Target, deadline: float, _token: str, counts: Counts) -> None:
    """10,000 connections that say nothing or half a head, all held open as long as the other side lets them."""
    held = []
    for number in range(CONNECTIONS):
        if time.monotonic() > deadline:
            break
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(target)
        held.append(sock)
        counts["opened"] += 1
        if number % 2:
            with contextlib.suppress(OSError):
                sock.send(b"GET /status HTTP/1.1\r\nX-Half")
        if number % 250 == 249:
            time.sleep(0.02)
    time.sleep(max(0.0, min(deadline - time.monotonic(), 8.0)))
    poller = select.poll()
    for sock in held:
        poller.register(sock, select.POLLIN | select.POLLHUP)
    counts["ended by the server"] = len(poller.poll(0))


def churn(target: Target, deadline: float, _token: str, counts: Counts) -> None:
    """Thousands of new connections a second, given up again before they are used."""
    while time.monotonic() < deadline:
        batch = []
        for _ in range(500):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(target)
            batch.append(sock)
        time.sleep(0.05)
        for sock in batch:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        counts["opened"] += len(batch)


def drip(target: Target, deadline: float, token: str, counts: Counts) -> None:
    """Heads and bodies that come a byte at a time."""
    head = f"POST /network/8056c2e21c000001 HTTP/1.1\r\nX-ZT1-Auth: {token}\r\nContent-Length: 1000000\r\n\r\n".encode()
    slow = [connect(target) for _ in range(40)]
    for sock in slow[:20]:
        sock.sendall(head)
    while time.monotonic() < deadline:
        for sock in list(slow):
            try:
                sock.send(b"x")
                counts["bytes"] += 1
            except OSError:
                slow.remove(sock)
                counts["ended by the server"] += 1
        time.sleep(0.1)


def pipelined(target: Target, deadline: float, token: str, counts: Counts) -> None:
    """A thousand requests in one breath, answers not read for a while."""
    request = f"GET /status HTTP/1.1\r\nHost: x\r\nX-ZT1-Auth: {token}\r\n\r\n".encode()
    while time.monotonic() < deadline:
        with connect(target) as sock, contextlib.suppress(OSError):
            sock.sendall(request * 1000)
            time.sleep(0.1)
            counts["answer bytes"] += len(sock.recv(1 << 20))
        counts["connections"] += 1


def bodies(target: Target, deadline: float, token: str, counts: Counts) -> None:
    """100 MB each, declared, and chunked without a declaration."""
    block = b"z" * (1 << 20)
    while time.monotonic() < deadline:
        for chunked in (False, True):
            length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 104857600"
            with connect(target) as sock, contextlib.suppress(OSError):
                head = f"POST /controller/network HTTP/1.1\r\nHost: x\r\nX-ZT1-Auth: {token}\r\n{length}\r\n\r\n"
                sock.sendall(head.encode())
                for _ in range(100):
                    sock.sendall(b"100000\r\n" + block + b"\r\n" if chunked else block)
                    counts["MB sent"] += 1
                    if select.select([sock], [], [], 0)[0]:
                        break
                counts[sock.recv(100).split(b"\r\n")[0].decode(errors="replace")] += 1


_NONSENSE = (
    (b"GET /../../../../etc/passwd", (401, 404)),
    (b"GET /app/../authtoken.secret", (401, 403, 404)),
    (b"GET /app/%2e%2e/authtoken.secret", (401, 403, 404)),
    (b"GET /network/%ff%fe", (401, 404)),
    (b"PATCH /status", (401, 404)),
    (b"BREW /status", (400, 401, 404)),
    (b"DELETE /status", (401, 404)),
    (b"GET /" + b"a" * 9000, (400, 401, 414)),
    (b"POST /network/8056c2e21c000001", (401,)),
)


def nonsense(target: Target, deadline: float, _token: str, counts: Counts) -> None:
    """Paths, methods and bytes that mean nothing, without a token: every answer is one of the expected."""
    while time.monotonic() < deadline:
        for line, expected in _NONSENSE:
            with connect(target) as sock:
                body = b"\xff\xfe{" if line.startswith(b"POST") else b""
                sock.sendall(line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                answer = b""
                with contextlib.suppress(OSError):
                    answer = sock.recv(4096)
            words = answer.split(b" ", 2)
            status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            name = "turned away" if not answer else "expected" if status in expected else f"{line[:30]!r} got {status}"
            counts[name] += 1


KINDS: dict[str, Callable[[Target, float, str, Counts], None]] = {
    work.__name__: work for work in (flood, churn, drip, pipelined, bodies, nonsense)
}


def main(kind: str, host: str, port: str, seconds: str, token: str = "") -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    counts: Counts = collections.Counter()
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        try:
            KINDS[kind]((host, int(port)), deadline, token, counts)
        except OSError:  # refused or reset: they do not give up
            counts["turned away"] += 1
            time.sleep(0.001)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
