"""Answers to addresses that have not proved that they get them (beyond the reference).

An authentic packet can be recorded and sent again with a forged source. So what goes to an endpoint that is not a
learned path of its peer is never longer than what came from there (but for the 9 bytes that name the request); a longer
answer goes over a path of the peer that is proved, or waits until this one is: the confirmation (vl1-behaviour §2.5)
that is under way takes one round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ztpipe.node.path import Path, PathKey
    from ztpipe.node.peer import Peer
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.protocol import Verb

HEADER: Final = 28
NAMING: Final = 9
HOLD_MS: Final = 5_000
MAX_HELD: Final = 256
MAX_HELD_PER_PATH: Final = 8

_Held = tuple[int, int, "Verb", bytes]  # deadline, address of the peer, verb, payload


class Unproven:
    """Decides over which path an answer goes, and keeps those that have to wait."""

    __slots__ = ("_count", "_held", "core")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self._held: dict[PathKey, list[_Held]] = {}
        self._count = 0

    def fits(self, ctx: PacketContext, length: int) -> bool:
        """May an answer with `length` bytes of payload go where the packet came from?"""
        if HEADER + length <= ctx.size + NAMING:
            return True
        if ctx.hops:  # anybody can claim that there was a relay: it must be one we know
            path = self.core.paths.find(ctx.binding, ctx.remote)
            return path is not None and path.refs > 0
        peer = self.core.known(ctx.peer.address)
        return peer is not None and peer.path(ctx.binding, ctx.remote) is not None

    def path_for(self, ctx: PacketContext, peer: Peer, length: int) -> Path | None:
        """The path for an answer with `length` bytes of payload; None: it has to wait."""
        if self.fits(ctx, length):
            return self.core.paths.get(ctx.binding, ctx.remote)
        if ctx.hops:
            route = self.core.switch.route(ctx.now, peer)
            return route[0] if route is not None else None
        entry = peer.best_path(ctx.now)
        return entry.path if entry is not None and not entry.path.doubted else None

    def hold(self, ctx: PacketContext, verb: Verb, payload: bytes) -> None:
        """Keep an answer until its path is proved."""
        held = self._held.setdefault((ctx.binding, ctx.remote), [])
        if self._count >= MAX_HELD or len(held) >= MAX_HELD_PER_PATH:
            self.core.drop("answer_unproven_full")
            if not held:
                del self._held[ctx.binding, ctx.remote]
            return
        held.append((ctx.now + HOLD_MS, ctx.peer.address, verb, payload))
        self._count += 1

    def proved(self, now: int, peer: Peer, path: Path) -> None:
        """`path` has become one of `peer`: send what waited for that."""
        held = self._held.pop(path.key, [])
        self._count -= len(held)
        for deadline, address, verb, payload in held:
            if address == peer.address and now < deadline:
                self.core.send_on(now, peer, path, verb, payload)
            else:
                self.core.drop("answer_unproven")

    def expire(self, now: int) -> None:
        """Every 500 ms."""
        for key in [key for key, held in self._held.items() if now >= held[-1][0]]:
            held = self._held.pop(key)
            self._count -= len(held)
            self.core.drop_many("answer_unproven", len(held))

    def __len__(self) -> int:
        return self._count
