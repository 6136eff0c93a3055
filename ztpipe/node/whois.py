"""WHOIS: asking the best root for identities, and answering (vl1-behaviour §2.2, §3.6; vl1-wire §9.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ztpipe.node.ratelimit import KeyedGate
from ztpipe.node.seam import Outcome
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import OkWhois, Whois

if TYPE_CHECKING:
    from ztpipe.node.seam import PacketContext
    from ztpipe.node.vl1 import Vl1Engine
    from ztpipe.wire.identity import Identity
    from ztpipe.wire.verbs import Ok

REQUEST_GATE_MS: Final = 500
LATE_MS: Final = 20
"""Queue ticks come every 500 ms, of which one may be as late: the next must not be refused."""
MAX_PENDING: Final = 512
MAX_PER_TICK: Final = 128
"""Lookups per queue tick: a flood of forged sources must not become a flood of questions to the root."""
MAX_ANSWERS: Final = 64


class WhoisDesk:
    """Both directions of WHOIS."""

    __slots__ = ("_budget", "_gate", "core")

    def __init__(self, core: Vl1Engine) -> None:
        self.core = core
        self._gate = KeyedGate(REQUEST_GATE_MS - LATE_MS, MAX_PENDING)
        self._budget = MAX_PER_TICK

    def request(self, now: int, address: int) -> None:
        """Ask the best root, one address per packet; at most once per 500 ms and address (gate 10)."""
        core = self.core
        root = core.best_root(now)
        entry = (root.best_path(now) or root.best_expired_path(now)) if root is not None else None
        if root is None or entry is None or address == core.identity.address:
            return
        if self._budget <= 0:
            core.drop("whois_budget")
            return
        if self._gate.allow(now, address):
            self._budget -= 1
            core.send_on(now, root, entry.path, Verb.WHOIS, Whois((address,)).encode())

    def tick(self, now: int) -> None:
        """Queue tick."""
        self._budget = MAX_PER_TICK
        self._gate.expire(now)

    def received(self, ctx: PacketContext) -> Outcome:
        """Answer from memory in one OK; pass on what we do not know. Nothing known: no answer at all."""
        core = self.core
        peer = core.known(ctx.peer.address)
        if peer is None or not (core.topology.we_are_root or peer.whois_gate.allow(ctx.now)):
            core.drop("whois_rate")
            return Outcome.DROP
        found: list[Identity] = []
        for address in Whois.decode(ctx.payload).addresses[:MAX_ANSWERS]:
            known = core.known(address)
            if address == core.identity.address:
                found.append(core.identity.without_private())
            elif known is not None:
                found.append(known.identity)
            else:
                self.request(ctx.now, address)
        if found:
            core.reply_ok(ctx, OkWhois(tuple(found)).encode())
        return Outcome.HANDLED

    def ok_received(self, ctx: PacketContext, ok: Ok) -> Outcome:
        """Roots are believed, without the self-check; only the first identity counts."""
        core = self.core
        if not core.topology.is_root(ctx.peer.address):
            core.drop("whois_answer_not_root")
            return Outcome.HANDLED
        identities = OkWhois.decode(ok.body).identities
        if identities and identities[0].address != core.identity.address:
            core.add_peer(ctx.now, identities[0])
        return Outcome.HANDLED
