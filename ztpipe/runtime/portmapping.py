"""Keeps the third port mapped at the router, and tells the node its external address (vl1-behaviour §6.3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Final

from ztpipe.log import get_logger
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress, IpScope

log = get_logger("underlay")

REFRESH_SECONDS: Final = 300.0
FIRST_RETRY_SECONDS: Final = 1.0
LAST_RETRY_SECONDS: Final = 300.0
ATTEMPT_SECONDS: Final = 40.0
_MAX_ANSWER: Final = 4_096
_USABLE: Final = frozenset({IpScope.GLOBAL, IpScope.PRIVATE, IpScope.PSEUDO_PRIVATE, IpScope.SHARED})


class PortMapper:
    """Tries in a process of its own (`host.portmap`), again when links change, else ever more rarely."""

    def __init__(self, port: int, description: str, *, told: Callable[[list[InetAddress]], None]) -> None:
        self.port, self._description, self._told = port, description, told
        self.external: InetAddress | None = None
        self._again = asyncio.Event()

    def links_changed(self) -> None:
        """Another network may have another router."""
        self._again.set()

    async def run(self) -> None:
        """For ever; never raises but CancelledError."""
        pause = FIRST_RETRY_SECONDS
        while True:
            self._again.clear()
            found = await self._attempt()
            if found is None:
                wait, pause = pause, min(pause * 2, LAST_RETRY_SECONDS)
            else:
                wait, pause = REFRESH_SECONDS, FIRST_RETRY_SECONDS
            self._take(found)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._again.wait()
                pause = FIRST_RETRY_SECONDS
                await asyncio.sleep(FIRST_RETRY_SECONDS)  # links change several times in a row

    def _take(self, found: InetAddress | None) -> None:
        if found != self.external:
            self.external = found
            self._told([found] if found is not None else [])

    async def _attempt(self) -> InetAddress | None:
        argv = (sys.executable, "-m", "ztpipe.host.portmap", str(self.port), self._description)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            log.warning("cannot start the port mapper", error=str(error))
            return None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                answer = await process.stdout.read(_MAX_ANSWER)
                await process.wait()
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return self._read(answer)

    def _read(self, answer: bytes) -> InetAddress | None:
        try:
            said = json.loads(answer)
            mapped = InetAddress.parse(f"{said['ip']}/{said['port']}")
        except (ValueError, KeyError, TypeError, WireError):
            log.debug("no port mapping", answer=answer[:300].decode(errors="replace"))
            return None
        if mapped.port == 0 or mapped.scope not in _USABLE:
            log.warning("the router's mapping is of no use", address=mapped.text())
            return None
        if mapped != self.external:
            log.info("port mapped at the router", external=mapped.text(), port=self.port, by=said.get("by"))
        return mapped
