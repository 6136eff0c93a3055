"""The least that could stand in for the API under attack: ``python http_standin.py HOST PORT KIND``.

To the attackers of `http_attackers` it is what the API is - as many connections, as long, answers of the same size -
without a node or an HTTP parser behind it, so that what they cost themselves is the same beside both.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Final

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
_REFUSAL: Final = b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_IDLE: Final = 5.0  # seconds
_MOST: Final = 64  # of strangers, and so many new ones a second:
_RATE: Final = 20


async def answer(sock: socket.socket, kind: str) -> None:
    """One connection from its beginning to its end."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError), sock:
        async with asyncio.timeout(_IDLE):
            while await loop.sock_recv(sock, 1 << 16) and kind in ("flood", "churn", "drip"):
                pass
            await loop.sock_sendall(sock, _ANSWER * 5 if "pipelined" in kind else _REFUSAL)
            sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(0.3):  # an answer that a reset overtakes would be lost
            while await loop.sock_recv(sock, 1 << 16):
                await asyncio.sleep(0.02)


async def main(host: str, port: str, kind: str) -> None:
    loop, served = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    with socket.create_server((host, int(port)), backlog=128) as listener:
        listener.setblocking(False)
        print("ready", flush=True)
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            task = asyncio.create_task(answer(sock, kind))
            served.add(task)
            task.add_done_callback(served.discard)
            if not host.startswith("127."):
                await asyncio.sleep(1 / _RATE)
                while len(served) >= _MOST:
                    await asyncio.sleep(1 / _RATE)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
