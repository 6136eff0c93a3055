"""Sending one packet to a ZeroTier address: route, queue, retry (vl1-behaviour §4.1, §4.2)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ztpipe.node.path import Path
    from ztpipe.node.peer import Peer
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.protocol import Verb

QUEUE_TOTAL: Final = 256
QUEUE_PER_DESTINATION: Final = 32
QUEUE_TIMEOUT_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A packet not yet sealed: its destination is unknown or unreachable."""

    deadline: int
    verb: Verb
    payload: bytes
    compress: bool
    register: bool


class Switch:
    """Routes what we send; keeps what cannot be sent yet."""

    __slots__ = ("_queued", "_queues", "core")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self._queues: dict[int, deque[Waiting]] = {}
        self._queued = 0

    def send(
        self, now: int, destination: int, verb: Verb, payload: bytes, *, compress: bool = False, register: bool = False
    ) -> None:
        """Send now if peer and path are known, else queue; an unknown peer is asked for."""
        core = self.core
        if destination == core.identity.address:
            core.drop("send_to_self")
            return
        peer = core.find(now, destination)
        item = Waiting(now + QUEUE_TIMEOUT_MS, verb, payload, compress, register)
        if peer is not None and self._try_send(now, peer, item):
            return
        self._queue(destination, item)
        if peer is None:
            core.whois_desk.request(now, destination)

    def _try_send(self, now: int, peer: Peer, item: Waiting) -> bool:
        route = self.route(now, peer)
        if route is None or not route[1]:
            self._try_hint(now, peer)
        if route is None:
            return False
        self.core.send_on(
            now,
            peer,
            route[0],
            item.verb,
            item.payload,
            compress=item.compress,
            register=item.register,
            in_clear=True,
        )
        return True

    def route(self, now: int, peer: Peer) -> tuple[Path, bool] | None:
        """(path, is it the peer's own): best direct path, else the best root's, else the best expired one (§4.1).

        A doubted direct path is passed over while a root answers: our way out of the 243 s of §2.10.
        """
        best = peer.best_path(now)
        if best is not None and not best.path.doubted:
            return best.path, True
        root = self.core.best_root(now)
        if root is not None and root is not peer:
            relay = root.best_path(now)
            if relay is not None and (best is None or (relay.path.alive(now) and not relay.path.doubted)):
                return relay.path, False
        entry = best or peer.best_expired_path(now)
        return (entry.path, True) if entry is not None else None

    def _try_hint(self, now: int, peer: Peer) -> None:
        """``virtual`` -> ``try`` of local.conf: a HELLO to one of the endpoints somebody wrote down (gate 14)."""
        virtual = self.core.settings.virtual.get(peer.address)
        if virtual is None or not virtual.hints or peer.has_direct_path(now) or not peer.hint_gate.allow(now):
            return
        choice = int.from_bytes(self.core.random(2), "big") % len(virtual.hints)
        self.core.hellos.send(now, peer, None, virtual.hints[choice])

    # -- the queue ------------------------------------------------------------------------------------------------

    def _queue(self, destination: int, item: Waiting) -> None:
        queue = self._queues.setdefault(destination, deque())
        queue.append(item)
        self._queued += 1
        if len(queue) > QUEUE_PER_DESTINATION:
            self._drop_oldest(destination, "tx_queue_full")
        elif self._queued > QUEUE_TOTAL:
            self._drop_oldest(next(iter(self._queues)), "tx_queue_full")

    def _drop_oldest(self, destination: int, reason: str) -> None:
        queue = self._queues[destination]
        queue.popleft()
        self._queued -= 1
        if not queue:
            del self._queues[destination]
        self.core.drop(reason)

    def flush(self, now: int, destination: int) -> None:
        """Send what waits for `destination`, as far as it can be sent."""
        queue = self._queues.get(destination)
        peer = self.core.find(now, destination) if queue else None
        while queue and peer is not None and self._try_send(now, peer, queue[0]):
            queue.popleft()
            self._queued -= 1
        if queue is not None and not queue:
            self._queues.pop(destination, None)

    def tick(self, now: int) -> None:
        """Every 500 ms, and when a root was reached: expire, ask again, try again."""
        for destination in list(self._queues):
            while (queue := self._queues.get(destination)) and now >= queue[0].deadline:
                self._drop_oldest(destination, "tx_queue_timeout")
            if destination not in self._queues:
                continue
            if self.core.find(now, destination) is None:
                self.core.whois_desk.request(now, destination)
            else:
                self.flush(now, destination)

    @property
    def queued(self) -> int:
        return self._queued
