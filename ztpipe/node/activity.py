"""What the data plane did without asking: its stamps count as if the packets had passed through here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.inetaddress import InetAddress


class Activity:
    """Feeds liveness back from the shared tables."""

    __slots__ = ("core",)

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core

    def path(
        self, now: int, address: int, binding: int, remote: InetAddress, last_receive: int, last_send: int
    ) -> None:
        """Authentic, direct datagrams came over a learned path at `last_receive`; ours left at `last_send` (0 = never).

        For a relayed peer the path is a root's; report it with the address of either.
        """
        core = self.core
        path = core.paths.find(binding, remote)
        peer = core.known(address)
        if path is None or peer is None:
            return
        last_receive, last_send = min(last_receive, now), min(last_send, now)
        if last_receive > 0:
            peer.last_receive = max(peer.last_receive, last_receive)
            entry = peer.path(binding, remote)
            if entry is not None and last_receive > entry.last_receive:
                entry.last_receive = last_receive
        if last_send > path.last_out:
            path.sent(last_send)
        if last_receive > path.last_in:
            path.received(last_receive)
            core.recovery.heard(now, peer, path.key)
        core.recovery.watch(now, path)

    def peer(self, now: int, address: int, last_frame: int) -> bool:
        """A frame of a member was accepted: a non-trivial, trusted receipt. True if it is news."""
        core = self.core
        peer = core.known(address)
        last_frame = min(last_frame, now)
        if peer is None or last_frame <= 0 or last_frame <= peer.last_nontrivial:
            return False
        peer.last_receive = max(peer.last_receive, last_frame)
        peer.last_nontrivial = last_frame
        peer.last_trusted = max(peer.last_trusted, last_frame)
        core.recovery.heard(now, peer, None)
        route = core.switch.route(now, peer)
        if route is not None:
            path, direct = route
            if direct:
                path.last_trusted = max(path.last_trusted, last_frame)
            else:
                core.contact.ask_version(now, peer, path)
            core.direct_paths.push_if_due(now, peer, path, direct=direct)
        return True

    def unknown_path(self, now: int, address: int, binding: int, remote: InetAddress) -> None:
        """Something authentic came directly over a path that is not in the tables: confirm it (vl1-behaviour §2.5)."""
        peer = self.core.known(address)
        if peer is not None:
            self.core.inbound.heard_directly(now, peer, binding, remote, answer=False)
            self.core.fastpath.refresh(now, peer)
