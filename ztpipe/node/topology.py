"""Worlds: the planet, the moons, who the roots are, and which root is best right now (vl1-behaviour §3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ztpipe.node.peer import ALIVE_MS, Peer
from ztpipe.wire.world import World, WorldType, verify_update

if TYPE_CHECKING:
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.inetaddress import InetAddress

_WORST_SCORE: Final = 0xFFFFFFFF
_UNKNOWN_LATENCY: Final = 65_535
_SILENCE_STEP: Final = 61_000
MAX_MOONS: Final = 256


class Topology:
    """Planet, moons and pending orbits. `roots`: address -> (identity, stable endpoints), ourselves excluded.

    wanted: moon ID -> seed address, for moons that still have to be fetched.
    """

    def __init__(self, identity: Identity, planet: World | None, moons: Iterable[World]) -> None:
        self.identity = identity
        self.planet = planet
        self.moons: dict[int, World] = {moon.id: moon for moon in moons if moon.type is WorldType.MOON}
        self.wanted: dict[int, int] = {}
        self.roots: dict[int, tuple[Identity, tuple[InetAddress, ...]]] = {}
        self.planet_roots: frozenset[int] = frozenset()
        self.we_are_root = False
        self._rebuild()

    def _rebuild(self) -> None:
        roots: dict[int, tuple[Identity, tuple[InetAddress, ...]]] = {}
        self.we_are_root = False
        for world in self.worlds():
            for root in world.roots:
                if root.identity == self.identity:
                    self.we_are_root = True
                elif root.identity.address != self.identity.address:
                    _, known = roots.get(root.identity.address, (root.identity, ()))
                    endpoints = tuple(dict.fromkeys((*known, *root.endpoints)))
                    roots[root.identity.address] = (root.identity, endpoints)
        self.roots = roots
        planet_roots = self.planet.roots if self.planet is not None else ()
        self.planet_roots = frozenset(root.identity.address for root in planet_roots)

    def worlds(self) -> list[World]:
        """Everything held, planet first."""
        return [*([self.planet] if self.planet is not None else []), *self.moons.values()]

    def is_root(self, address: int) -> bool:
        return address in self.roots

    def may_update(self, address: int) -> bool:
        """Worlds in OK(HELLO) are believed from roots and from seeds of moons we wait for (§3.2)."""
        return address in self.roots or address in self.wanted.values()

    def accept(self, world: World) -> bool:
        """A world came from a root or seed. True if it was taken: roots have changed, it must be saved."""
        if world.type is WorldType.PLANET:
            if self.planet is None or not verify_update(self.planet, world):
                return False
            self.planet = world
        elif world.type is WorldType.MOON:
            if not self._accept_moon(world):
                return False
            self.moons[world.id] = world
            self.wanted.pop(world.id, None)
        else:
            return False
        self._rebuild()
        return True

    def _accept_moon(self, moon: World) -> bool:
        held = self.moons.get(moon.id)
        if held is not None:
            return verify_update(held, moon)
        seed = self.wanted.get(moon.id)
        return seed is not None and any(root.identity.address == seed for root in moon.roots)

    def orbit(self, moon_id: int, seed: int) -> bool:
        """Want a moon. False if it is held, has no seed, or too many are wanted."""
        if moon_id in self.moons or seed == 0 or len(self.wanted) >= MAX_MOONS:
            return False
        self.wanted[moon_id] = seed
        return True

    def adopt(self, moon_id: int, stored: World) -> bool:
        """Take a wanted moon from disk: believed without a signature check, as at the start (§3.2)."""
        if moon_id not in self.wanted or stored.type is not WorldType.MOON or stored.id != moon_id:
            return False
        self.moons[moon_id] = stored
        del self.wanted[moon_id]
        self._rebuild()
        return True

    def deorbit(self, moon_id: int) -> bool:
        """Forget a moon and its seed. True if it was held."""
        self.wanted.pop(moon_id, None)
        if self.moons.pop(moon_id, None) is None:
            return False
        self._rebuild()
        return True

    def newer_worlds(self, planet: tuple[int, int], moons: Iterable[tuple[int, int]]) -> list[World]:
        """What OK(HELLO) tells somebody who holds `planet` (ID, timestamp) and listed `moons` (§3.3)."""
        newer: list[World] = []
        ours = self.planet
        if ours is not None and planet[0] == ours.id and planet[0] != 0 and ours.timestamp > planet[1]:
            newer.append(ours)
        for moon_id, timestamp in dict(moons).items():
            moon = self.moons.get(moon_id)
            if moon is not None and moon.timestamp > timestamp:
                newer.append(moon)
        return newer

    def best_root(self, now: int, find: Callable[[int], Peer | None]) -> Peer | None:
        """The root to relay through and to ask (§3.5): smallest score; ties go to the highest address."""
        best: tuple[int, int] | None = None
        chosen: Peer | None = None
        for address in self.roots:
            peer = find(address)
            if peer is None:
                continue
            rank = (_score(peer, now), -address)
            if best is None or rank < best:
                best, chosen = rank, peer
        return chosen


def _score(root: Peer, now: int) -> int:
    silence = now - root.last_receive
    if silence >= ALIVE_MS:
        return _WORST_SCORE
    entry = root.best_path(now)
    latency = _UNKNOWN_LATENCY if entry is None or entry.path.doubted else entry.path.latency or _UNKNOWN_LATENCY
    return latency * (max(silence, 0) // _SILENCE_STEP + 1)
