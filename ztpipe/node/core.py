"""What the parts of VL2 share: the joined networks, the way to VL1, and small things every part needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import Drop
from ztpipe.node.trace import Tracer

if TYPE_CHECKING:
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext, Vl1
    from ztpipe.wire.identity import Identity

AUTHORISATION_MS: Final = 180_000
"""How long our controller's answer to a member lets us take its LIKEs and answer its GATHERs (vl2 §6.2)."""
MAX_AUTHORISATIONS: Final = 65_536


class Core:
    """Shared state of VL2. `networks` is by network ID."""

    def __init__(self, vl1: Vl1) -> None:
        self.vl1 = vl1
        self.trace = Tracer(vl1)
        self.networks: dict[int, Network] = {}
        self._authorised: dict[tuple[int, int], int] = {}

    @property
    def address(self) -> int:
        """Our own address."""
        return self.vl1.identity.address

    def drop(self, reason: str) -> None:
        """Count something that went nowhere."""
        self.vl1.emit(Drop(reason))

    def identity_of(self, address: int) -> Identity | None:
        """An identity that is known without asking anybody."""
        if address == self.address:
            return self.vl1.identity
        peer = self.vl1.peer(address)
        return None if peer is None else peer.identity

    # --- members that our own controller has answered -------------------------------------------------------

    def authorise(self, now: int, nwid: int, address: int) -> None:
        """Our controller has sent `address` a configuration of its network `nwid`."""
        self._authorised.pop((nwid, address), None)
        self._authorised[nwid, address] = now
        if len(self._authorised) > MAX_AUTHORISATIONS:
            del self._authorised[next(iter(self._authorised))]

    def authorised(self, now: int, nwid: int, address: int) -> bool:
        """True if our controller has sent `address` a configuration of `nwid` of late."""
        at = self._authorised.get((nwid, address))
        return at is not None and now - at < AUTHORISATION_MS

    def expire_authorisations(self, now: int) -> None:
        """Forget the old ones."""
        while self._authorised:
            key, at = next(iter(self._authorised.items()))
            if now - at < AUTHORISATION_MS:
                return
            del self._authorised[key]

    def may_learn_groups(self, ctx: PacketContext, nwid: int) -> bool:
        """Whether a packet of that peer about groups of a network may be heeded although it did not pass the gate."""
        return self.vl1.we_are_root() or self.authorised(ctx.now, nwid, ctx.peer.address)
