"""The controller at work beside its node: requests in; answers, pushes and revocations out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from ztpipe.controller.controller import Controller
from ztpipe.log import get_logger
from ztpipe.node.actions import ControllerRequest
from ztpipe.node.node import Node
from ztpipe.runtime import controllers, eventlog
from ztpipe.runtime.clock import Clock

log = get_logger("control")

_IDLE: Final = 5.0  # seconds
_PAUSE: Final = 0.005  # seconds between two rounds of pushes, for everybody else


class ControllerDesk:
    """Carries between the controller and the node. `changed`: what was delivered has given the node something to do."""

    def __init__(self, controller: Controller, node: Node, clock: Clock, *, changed: Callable[[], None]) -> None:
        self._controller, self._node, self._clock, self._changed = controller, node, clock, changed
        self._woken = asyncio.Event()

    def asked(self, request: ControllerRequest) -> None:
        """A member asks for its configuration. Called while the node's actions are carried out."""
        now = self._clock.now()
        answers = self._controller.request(
            now, request.nwid, request.member, request.metadata, request.packet_id, request.source
        )
        controllers.deliver(self._node, now, answers)
        self._woken.set()

    def deliver(self) -> None:
        """Send what an API request or the passing of time caused: pushes, revocations."""
        self._controller.tick(self._clock.now())
        controllers.deliver(self._node, self._clock.now(), self._controller.take_actions())
        eventlog.tell_changes(self._controller.take_changes())
        self._changed()
        self._woken.set()

    async def tend(self) -> None:
        """Carry on with what takes more than one round: a change that thousands of members are to hear of."""
        while True:
            wait, begun = self._clock.pause(_IDLE), time.monotonic()
            try:
                self.deliver()
                self._woken.clear()
                due = self._controller.next_deadline(self._clock.now())
                if due is not None:
                    wait = min(self._clock.seconds_until(due), wait)
            except Exception:
                log.exception("controller failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait)
            await asyncio.sleep(begun + _PAUSE - time.monotonic())
