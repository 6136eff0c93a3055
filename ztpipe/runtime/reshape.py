"""Other workers while the node runs: one change at a time, with all devices handed over (supervisor.py)."""

from __future__ import annotations

import asyncio
from typing import Final

from ztpipe.config import Config
from ztpipe.log import get_logger
from ztpipe.mesh import Plan, plan
from ztpipe.runtime.bindings import Bindings
from ztpipe.runtime.hostnetworks import HostNetworks
from ztpipe.supervisor import Supervisor

log = get_logger("workers")

#: How long the new workers read queues and sockets that are surplus, which the kernel goes on filling.
_SURPLUS_S: Final = 0.1


class Reshaper:
    """Changes the shape of the data plane."""

    def __init__(self, supervisor: Supervisor, bindings: Bindings, networks: HostNetworks) -> None:
        self._supervisor, self._bindings, self._networks = supervisor, bindings, networks
        self._lock = asyncio.Lock()

    async def reshape(self, config: Config) -> None:
        """Go on with the workers of `config`. Raises `SupervisorError`, with everything as it was."""
        async with self._lock:
            await self._supervisor.reshape(config, self._widen, self._hand_out)
            log.info("workers changed", **{role: count for role, count in plan(config)._asdict().items() if count})
            await asyncio.sleep(_SURPLUS_S)
            self._bindings.trim()
            self._networks.trim()

    def _widen(self, shape: Plan) -> None:
        self._bindings.widen(shape.sockets)
        self._networks.widen(shape.taps)

    def _hand_out(self) -> None:
        self._bindings.hand_out()
        self._networks.hand_out()
