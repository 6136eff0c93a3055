"""Path MTU discovery by ECHO (beyond the reference): no underlay from 1280 to 9001 bytes needs tuning.

A probe is an ECHO in one datagram of the size in question that no router may cut. Its answer proves the size. Paths
start with the default of 1432 bytes of UDP payload; where that does not pass, smaller ones are tried; larger ones only
towards nodes that say in their answer that they take them. An unmodified node says nothing, returns the probe as it
came, and never gets more than 1432 bytes by these means: its receive buffer ends at 1500 (vl1-behaviour §6.4).

    probe and answer:  "ztpipe-mtu" | u16 largest datagram that the sender takes (0 in the probe) | padding in the probe

What the host's kernel learned from ICMP is a hint (`kernel_says`): the size in use is probed at once, and what the ICMP
named is tried first if that goes unanswered. Nobody is believed who only says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import SendDatagram
from ztpipe.node.physical import LEAST_PAYLOAD, payload_of
from ztpipe.node.ratelimit import NEVER
from ztpipe.wire.protocol import DEFAULT_MTU, MAX_PACKET, Verb

if TYPE_CHECKING:
    from ztpipe.node.path import Path, PathKey
    from ztpipe.node.peer import Peer
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.verbs import Ok

MAGIC: Final = b"ztpipe-mtu"
SMALLER: Final = (1_460, 1_440, 1_420, 1_400, 1_380, 1_350, 1_320, 1_300, 1_280)
"""IP MTUs of usual tunnels, tried when the default does not pass."""
LARGER: Final = (9_001, 9_000, 8_900, 8_500, 8_000, 6_000, 4_352, 4_000, 3_000)
"""IP MTUs that save datagrams: a frame of the default virtual MTU fits one of 3 000 bytes."""
RETRY_MS: Final = 450
TRIES: Final = 3
HINTED_TRIES: Final = 2
VERIFY_MS: Final = 60_000
VERIFY_BUSY_MS: Final = 10_000
"""The same for a path that carries something just now."""
GROW_MS: Final = 600_000
"""After which larger sizes are tried again: a detour may have ended (RFC 1191 §6.3 says ten minutes, too)."""
HINT_GATE_MS: Final = 60_000
BUSY_MS: Final = 3_000
TICK_MS: Final = 500
LOOKUPS: Final = 64
"""Paths of which the host is asked for its opinion every 500 ms."""
PAUSE_MS: Final = 10_000
QUIET_MS: Final = 3_000
MAX_PATHS: Final = 4_096
_OVERHEAD: Final = 28


@dataclass(slots=True)
class Search:
    """Discovery on one path: `candidates` are sizes still to be tried, the first one now."""

    path: Path
    candidates: list[int]
    due: int
    tries: int = 0
    packet_ids: set[int] = field(default_factory=set)
    far_limit: int = 0
    verifying: bool = False
    hinted: bool = False
    resting_until: int = 0
    grow_at: int = 0
    deaf_until: int = 0

    def busy(self, now: int) -> bool:
        return now - self.path.last_out < BUSY_MS


class PathMtu:
    """Probes the paths that carry traffic of active peers, a few bytes a minute each."""

    __slots__ = ("_asked_at", "_searches", "_turn", "core")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self._searches: dict[PathKey, Search] = {}
        self._asked_at = NEVER
        self._turn = 0

    def consider(self, now: int, peer: Peer, path: Path) -> None:
        """`path` is the direct path that frames to `peer` take."""
        if not self.core.settings.path_mtu_discovery or path.key in self._searches or not peer.active(now):
            return
        configured = self.core.physical.configured_mtu(path.remote)
        if peer.speaks_echo() and not configured and len(self._searches) < MAX_PATHS:
            self._searches[path.key] = self._new_search(now, peer, path)

    def _new_search(self, now: int, peer: Peer, path: Path) -> Search:
        """Where only ports differ from a path whose size is known, that one is taken, and verified at once."""
        known = next((other.mtu for other in self._alike(peer, path) if other.mtu), 0)
        if not known:
            return Search(path, self._from_default(path), now, grow_at=now + GROW_MS)
        path.mtu = known
        return Search(path, [known], now, verifying=True, grow_at=now + GROW_MS)

    def _alike(self, peer: Peer, path: Path) -> list[Path]:
        """The peer's other paths between the same two hosts: datagrams take the same way."""
        local = {binding.id: binding.local.ip for binding in self.core.bindings}
        return [
            entry.path
            for entry in peer.paths
            if entry.path is not path
            and entry.path.remote.ip == path.remote.ip
            and local.get(entry.path.binding) == local.get(path.binding)
        ]

    def _from_default(self, path: Path) -> list[int]:
        """The default first, then what is smaller."""
        limit = min(self.core.settings.mtu, self.core.physical.link_limit(path))
        smaller = [payload_of(mtu, path.remote) for mtu in SMALLER]
        return [limit, *(size for size in smaller if LEAST_PAYLOAD <= size < limit)]

    def links_resized(self, now: int, bindings: Collection[int]) -> None:
        """The devices of these sockets have another MTU: what was found counts no longer."""
        for key in [key for key in self._searches if key[0] in bindings]:
            del self._searches[key]
        for path in [path for path in self.core.paths if path.binding in bindings]:
            path.mtu = 0
        self.core.fastpath.refresh_all(now)

    # -- what the host says ---------------------------------------------------------------------------------------

    def doubtful(self, now: int) -> list[PathKey]:
        """The busy paths, a share of them at a time, of which the host is to be asked what it has learned by ICMP."""
        if now // TICK_MS == self._asked_at // TICK_MS:  # ticks come at multiples of it, and a few ms late
            return []
        self._asked_at = now
        searches = list(self._searches.values())
        self._turn = self._turn + LOOKUPS if self._turn + LOOKUPS < len(searches) else 0
        return [search.path.key for search in searches[self._turn : self._turn + LOOKUPS] if search.busy(now)]

    def kernel_says(self, now: int, binding: int, remote: InetAddress, ip_mtu: int) -> None:
        """The host has heard that IP packets of at most `ip_mtu` bytes get to `remote`: perhaps from a liar."""
        search = self._searches.get((binding, remote))
        if search is None:
            return
        size = max(payload_of(ip_mtu, remote), LEAST_PAYLOAD)
        using = self.core.physical.mtu_of(search.path, relayed=False)
        if using < size and not search.verifying and not search.hinted and size < search.candidates[0]:
            search.candidates = sorted({*search.candidates, size}, reverse=True)  # a size that nobody else would try
        if size >= using or now < search.deaf_until:
            return
        search.deaf_until = now + HINT_GATE_MS
        self._restart(search, now, [using, size, *(c for c in self._from_default(search.path) if c < size)])
        search.hinted = True

    def _restart(self, search: Search, now: int, candidates: list[int]) -> None:
        search.candidates, search.due = candidates, now
        search.tries = search.resting_until = 0
        search.packet_ids.clear()
        search.verifying = search.hinted = False

    # -- probing --------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Every 500 ms."""
        for key, search in list(self._searches.items()):
            if now < search.due or (now < search.resting_until and not search.busy(now)):
                continue
            peer = self.core.known(search.path.owner)
            if peer is None or search.path.refs == 0 or not peer.active(now):
                del self._searches[key]
            else:
                self._step(now, peer, search)

    def _step(self, now: int, peer: Peer, search: Search) -> None:
        if search.tries >= (HINTED_TRIES if search.hinted else TRIES):
            self._unanswered(now, peer, search)
        if search.candidates and now >= search.due:
            search.tries += 1
            search.due, search.resting_until = now + RETRY_MS, 0
            self._probe(now, peer, search, search.candidates[0])

    def _unanswered(self, now: int, peer: Peer, search: Search) -> None:
        """The size does not pass, unless the path as a whole is silent: then first hear whether it lives."""
        path = search.path
        if not path.doubted and now - path.last_in > QUIET_MS:
            search.due = now + RETRY_MS
            self.core.contact.attempt(now, peer, path.binding, path.remote)
            return
        search.tries = 0
        search.packet_ids.clear()
        if path.doubted:
            search.due = now + PAUSE_MS
        elif search.verifying:
            failed, search.verifying = search.candidates[0], False
            self._settle(now, peer, path, 0)
            sizes = self._from_default(path)
            search.candidates = [size for size in sizes if size < failed] or sizes
        else:
            search.candidates.pop(0)
            if not search.candidates:  # nothing passes, or nothing larger does: stay with what is known
                self._rest(now, search)

    def _probe(self, now: int, peer: Peer, search: Search, size: int) -> None:
        core, path = self.core, search.path
        payload = (MAGIC + bytes(2)).ljust(size - _OVERHEAD, b"\0")
        packet = core.seal(peer, Verb.ECHO, payload, mtu=size)
        packet_id = int.from_bytes(packet[:8], "big")
        core.replies.expect(now, packet_id, peer.address)
        search.packet_ids.add(packet_id)
        core.emit(SendDatagram(path.binding, path.remote, packet, whole=True))

    # -- answers --------------------------------------------------------------------------------------------------

    def answered(self, ctx: PacketContext, ok: Ok) -> None:
        """An expected OK(ECHO): if it is to the probe under way on the path that it came over, the size passes."""
        search = self._searches.get((ctx.binding, ctx.remote))
        peer = self.core.known(ctx.peer.address)
        if search is None or peer is None or ctx.hops or ok.in_re_id not in search.packet_ids or not search.candidates:
            return
        search.packet_ids.clear()
        search.tries = 0
        size = search.candidates[0]
        search.far_limit = _limit_in(ok.body)
        self._settle(ctx.now, peer, search.path, size)
        if search.verifying and ctx.now >= search.grow_at:
            larger = self._larger(search, size) or self._up_to_default(search.path, size)
            search.grow_at = ctx.now + GROW_MS
        else:
            done = search.verifying or search.hinted or size > DEFAULT_MTU
            larger = [] if done else self._larger(search, size)
        if larger:
            self._restart(search, ctx.now, larger)
        else:
            self._rest(ctx.now, search)

    def _larger(self, search: Search, size: int) -> list[int]:
        """What is worth trying beyond the default, largest first."""
        if size < self.core.settings.mtu:
            return []
        limit = min(search.far_limit, self.core.physical.link_limit(search.path))
        return [payload for mtu in LARGER if size < (payload := payload_of(mtu, search.path.remote)) <= limit]

    def _up_to_default(self, path: Path, size: int) -> list[int]:
        """What is worth trying on a path that takes less than the default."""
        return [candidate for candidate in self._from_default(path) if candidate > size]

    def _rest(self, now: int, search: Search) -> None:
        """Done; look again later whether what was found still passes, sooner if the path is in use."""
        known = search.path.mtu
        self._restart(search, now + VERIFY_BUSY_MS, [known] if known else self._from_default(search.path))
        search.verifying = known != 0
        search.resting_until = now + VERIFY_MS

    def _settle(self, now: int, peer: Peer, path: Path, size: int) -> None:
        """`size` is what passes on this path, 0: nobody knows any more; and on those that differ in ports only.

        Traffic may change between these at any time, and full frames would get lost until each was searched by itself.
        """
        changed = {path.key} if size != path.mtu else set()
        if changed:
            path.mtu = size
            self.core.event("path_mtu", peer=peer.address, binding=path.binding, remote=path.remote, mtu=size)
        for other in self._alike(peer, path):
            if other.mtu != size:
                other.mtu = size
                changed.add(other.key)
                search = self._searches.pop(other.key, None)
                if search is not None and size:
                    self._searches[other.key] = search
                    self._rest(now, search)
        if not changed:
            return
        for known in self.core.all_peers():
            if known.installed is not None and (known.installed.binding, known.installed.remote) in changed:
                self.core.fastpath.refresh(now, known)

    def __len__(self) -> int:
        return len(self._searches)


def answer_to(payload: bytes) -> bytes:
    """What to answer an ECHO: the same bytes, but to a probe a short note of how large a datagram we take."""
    return MAGIC + MAX_PACKET.to_bytes(2, "big") if payload.startswith(MAGIC + bytes(2)) else payload


def _limit_in(body: bytes) -> int:
    """The sender's limit in an answer; 0 from unmodified nodes, which return the probe."""
    return int.from_bytes(body[len(MAGIC) : len(MAGIC) + 2], "big") if body.startswith(MAGIC) else 0
