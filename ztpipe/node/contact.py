"""Probing and keeping alive: ECHO, confirmation of unknown paths, keep-alive of a peer (vl1-behaviour §2.3-2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.pathmtu import answer_to
from ztpipe.node.seam import Outcome
from ztpipe.wire.protocol import Verb

if TYPE_CHECKING:
    from ztpipe.node.path import Path
    from ztpipe.node.peer import Peer
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress

FULL_HELLO_MS: Final = 60_000
CONFIRMATIONS_PER_S: Final = 8
"""Of one peer, and four seconds' worth at once: several of its addresses, each with several ports."""


class Contact:
    """Sends probes; answers those of others."""

    __slots__ = ("core",)

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core

    def attempt(self, now: int, peer: Peer, binding: int | None, remote: InetAddress, *, full: bool = False) -> None:
        """Try `remote`: an ECHO from one socket (`binding`) or all (None); a HELLO, always from all, if `full` is
        wanted or if the peer's version does not speak ECHO or is not known."""
        core = self.core
        if full or not peer.speaks_echo():
            core.hellos.send(now, peer, binding, remote)
        elif binding is not None:
            core.send_on(now, peer, core.paths.get(binding, remote), Verb.ECHO, b"")
        else:
            packet = core.seal(peer, Verb.ECHO, b"", mtu=core.physical.mtu_to(remote))
            core.replies.expect(now, int.from_bytes(packet[:8], "big"), peer.address)
            core.put_everywhere(now, remote, packet)

    def echo_received(self, ctx: PacketContext) -> Outcome:
        """Answer with the same bytes (a probe of ours: `pathmtu`), at most once per 166 ms and path (gate 3)."""
        path = self.core.paths.get(ctx.binding, ctx.remote)
        if not path.echo_gate.allow(ctx.now):
            self.core.drop("echo_rate")
            return Outcome.DROP
        self.core.reply_ok(ctx, answer_to(ctx.payload))
        return Outcome.HANDLED

    def confirm(self, now: int, peer: Peer, binding: int, remote: InetAddress) -> bool:
        """Something authentic came directly from an unknown path: a HELLO there, once per second and path (gate 13).

        Not to any number of paths, beyond the reference: a peer can claim to be anywhere.
        """
        if not peer.confirm_gate.allow(now, (binding, remote)) or not peer.confirmations.take(now, CONFIRMATIONS_PER_S):
            return False
        self.core.hellos.send(now, peer, binding, remote)
        return True

    def ask_version(self, now: int, peer: Peer, relay: Path) -> None:
        """A HELLO through the relay to a trusted peer that we know only by WHOIS, once per 30 s: only
        its answer tells that AES may be used (§2.13)."""
        if peer.protocol_version == 0 and relay.refs and peer.trusted(now) and peer.version_gate.allow(now):
            self.core.hellos.send_via(now, peer, relay)

    def keepalive(self, now: int, peer: Peer) -> set[int]:
        """Keep the paths of one peer (§2.4). The IP lengths (4, 16) of the paths that were pinged.

        Expired paths and paths of lower priority go; HELLO on all paths every 60 s, ECHO on those idle for 14 s.
        """
        full = now - peer.last_hello >= FULL_HELLO_MS
        if full:
            peer.last_hello = now
        self._prune(now, peer)
        pinged: set[int] = set()
        for entry in peer.paths:
            path = entry.path
            if full or path.needs_heartbeat(now):
                self.attempt(now, peer, path.binding, path.remote, full=full)
                path.sent(now)
                pinged.add(len(path.remote.ip))
        return pinged

    def _prune(self, now: int, peer: Peer) -> None:
        highest = max((entry.priority for entry in peer.paths), default=1)
        keep = [entry for entry in peer.paths if entry.priority == highest and not entry.expired(now)]
        if len(keep) != len(peer.paths):
            peer.keep_paths(keep)
            self.core.fastpath.refresh(now, peer)

    def reset_scope(self, now: int, scope: int, ip_length: int) -> None:
        """Our external address of this scope and family changed: every such path must speak again (§2.8)."""
        for peer in self.core.all_peers():
            touched = False
            for entry in peer.paths:
                path = entry.path
                if path.scope == scope and len(path.remote.ip) == ip_length:
                    self.attempt(now, peer, path.binding, path.remote)
                    path.sent(now)
                    entry.last_receive = 0
                    touched = True
            if touched:
                self.core.fastpath.refresh(now, peer)

    def nop_to_beacon(self, now: int, peer: Peer, binding: int, remote: InetAddress) -> None:
        """Answer a legacy LAN beacon (vl1-behaviour §2.11)."""
        core = self.core
        core.put(now, core.paths.get(binding, remote), core.seal(peer, Verb.NOP, b"", mtu=core.settings.mtu))
