"""The rules of a network applied to a frame on its way out or in (vl2 §4.6-4.8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeVar

from ztpipe.node.actions import ObservedFrame
from ztpipe.node.ndp import emulated_owner
from ztpipe.rules.evaluate import CompiledRules, Copy, Evaluation, Situation, Verdict
from ztpipe.rules.frameview import FrameView
from ztpipe.rules.strict import unjudgeable
from ztpipe.wire.address import rfc4193, sixplane
from ztpipe.wire.credentials import Capability, CertificateOfOwnership, CredentialType, Tag
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import ExtFrame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ztpipe.node.core import Core
    from ztpipe.node.membership import Member
    from ztpipe.node.network import Network
    from ztpipe.wire.netconf import NetworkConfig

_Credential = TypeVar("_Credential", Tag, Capability, CertificateOfOwnership)

_COPIED: Final = ExtFrame.TEE_OUTBOUND | ExtFrame.REDIRECT_OUTBOUND | ExtFrame.TEE_INBOUND
"""Any of these bits: a rule had this EXT_FRAME sent to us."""
_ACCEPTING: Final = frozenset({Verdict.ACCEPT, Verdict.SUPER_ACCEPT, Verdict.REDIRECT})


@dataclass(frozen=True, slots=True)
class EthernetFrame:
    """One Ethernet frame; `payload` without the 14-byte header."""

    destination: int
    source: int
    ethertype: int
    payload: bytes
    view: FrameView = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "view", FrameView(self.ethertype, self.payload))


class Inbound(IntEnum):
    """What the inbound filter says; SUPER_ACCEPT: we are the target of a copy, addresses do not matter."""

    DROP = 0
    ACCEPT = 1
    SUPER_ACCEPT = 2


class Filter:
    """Evaluates base rules and capabilities, and sends the copies they ask for."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # --- outbound -------------------------------------------------------------------------------------------

    def outbound(self, now: int, network: Network, zt_dest: int, frame: EthernetFrame, *, copies: bool) -> bool:
        """Whether the frame may go to `zt_dest` (0: not decided yet). `copies` False: no TEE, no WATCH."""
        passed = self._outbound(now, network, zt_dest, frame, copies=copies)
        trace, own = self._core.trace, self._core.address
        trace.filter_decision(now, network, frame, own, zt_dest, no_tee=not copies, inbound=False, result=int(passed))
        if not passed:
            trace.outgoing_dropped(now, network, frame, "filter blocked")
        return passed

    def _outbound(self, now: int, network: Network, zt_dest: int, frame: EthernetFrame, *, copies: bool) -> bool:
        config = network.config
        if config is None:
            return False
        if network.rules.accepts_everything:
            return True
        member = network.members.get(zt_dest) if zt_dest else None
        situation = self._situation(network, member, frame, inbound=False)
        situation.zt_source, situation.zt_dest = self._core.address, zt_dest
        situation.owns_ip = lambda ip: any(coo.owns_ip(ip) for coo in config.coos)
        situation.owns_mac = lambda mac: any(coo.owns_mac(mac) for coo in config.coos)
        base, capability = decide(network.rules, (rules for _, rules in network.capabilities), situation)
        deciding = capability or base
        if deciding.verdict not in _ACCEPTING:
            network.refused_sent += 1
            self._core.drop("outbound_filter")
            return False
        if copies:
            self._send_copies(now, network, frame, (capability, base), ExtFrame.TEE_OUTBOUND, ExtFrame.WATCH_OUTBOUND)
        if deciding.redirect:
            self._send(now, network, deciding.redirect, ExtFrame.REDIRECT_OUTBOUND, frame, len(frame.payload))
            return False
        return True

    # --- inbound --------------------------------------------------------------------------------------------

    def inbound(self, now: int, network: Network, peer: int, frame: EthernetFrame, *, flags: int = 0) -> Inbound:
        """Whether a frame that came from `peer` is delivered; if not it is counted, unless it was redirected.

        `flags`: of its EXT_FRAME; what they call a copy made for us is reported to whoever monitors.
        """
        result = self._inbound(now, network, peer, frame, flags)
        trace, own = self._core.trace, self._core.address
        trace.filter_decision(now, network, frame, peer, own, no_tee=False, inbound=True, result=result)
        return result

    def _inbound(self, now: int, network: Network, peer: int, frame: EthernetFrame, flags: int) -> Inbound:
        config = network.config
        if config is None:
            return Inbound.DROP
        if network.rules.accepts_everything:
            return Inbound.ACCEPT
        member = network.members.get(peer)
        situation = self._situation(network, member, frame, inbound=True)
        situation.zt_source, situation.zt_dest = peer, self._core.address
        coos = [] if member is None else in_force(config, member, CredentialType.COO, member.coos.values())
        situation.owns_ip = lambda ip: any(coo.owns_ip(ip) for coo in coos) or self._emulated(network, ip)
        situation.owns_mac = lambda mac: any(coo.owns_mac(mac) for coo in coos)
        held: list[Capability] = []
        if member is not None:
            held = in_force(config, member, CredentialType.CAPABILITY, member.capabilities.values())
        capabilities = [member.compiled(capability) for capability in held] if member is not None else []
        base, capability_result = decide(network.rules, capabilities, situation)
        deciding = capability_result or base
        if deciding.verdict not in _ACCEPTING:
            network.refused_received += 1
            self._core.drop("inbound_filter")
            return Inbound.DROP
        strict = self._core.vl1.settings.strict_filtering and deciding.verdict is not Verdict.SUPER_ACCEPT
        if strict and unjudgeable(frame.view):
            network.refused_received += 1
            self._core.drop("strict_filter")
            return Inbound.DROP
        self._send_copies(now, network, frame, (capability_result, base), ExtFrame.TEE_INBOUND, ExtFrame.WATCH_INBOUND)
        if deciding.redirect:
            self._send(now, network, deciding.redirect, ExtFrame.REDIRECT_INBOUND, frame, len(frame.payload))
            return Inbound.DROP
        if deciding.verdict is not Verdict.SUPER_ACCEPT:
            return Inbound.ACCEPT
        if flags & _COPIED:
            capability = None if capability_result is None else _holder(situation, capabilities, held)
            self._report(network, peer, flags, deciding.naming, capability, frame)
        return Inbound.SUPER_ACCEPT

    def _report(
        self, network: Network, peer: int, flags: int, rule: int, capability: int | None, frame: EthernetFrame
    ) -> None:
        what = (frame.destination, frame.source, frame.ethertype, frame.payload)
        self._core.vl1.emit(ObservedFrame(network.nwid, peer, flags, rule, capability, *what))

    # --- parts ----------------------------------------------------------------------------------------------

    def _situation(self, network: Network, member: Member | None, frame: EthernetFrame, *, inbound: bool) -> Situation:
        tags: dict[int, int] = {}
        if member is not None and network.config is not None:
            held = in_force(network.config, member, CredentialType.TAG, member.tags.values())
            tags = {tag.id: tag.value for tag in held}
        return Situation(
            frame=frame.view,
            inbound=inbound,
            own_address=self._core.address,
            zt_source=0,
            zt_dest=0,
            mac_source=frame.source,
            mac_dest=frame.destination,
            random=self._core.vl1.random,
            unknown_matches=network.config is not None and network.config.unknown_matches,
            local_tags=network.local_tags,
            remote_tags=tags,
        )

    def _emulated(self, network: Network, ip: bytes) -> bool:
        """The emulated-address rule: the source lies in a 6PLANE or RFC 4193 network that we have an address in too."""
        config = network.config
        if config is None or not config.ndp_emulation or len(ip) != 16:
            return False
        return any(
            own in config.static_ips and emulated_owner(ip, own, network.nwid) is not None
            for own in (sixplane(network.nwid, self._core.address), rfc4193(network.nwid, self._core.address))
        )

    def _send_copies(
        self,
        now: int,
        network: Network,
        frame: EthernetFrame,
        evaluations: Iterable[Evaluation | None],
        tee: int,
        watch: int,
    ) -> None:
        for evaluation in evaluations:
            copy: Copy | None = None if evaluation is None else evaluation.copy
            if copy is not None:
                self._send(now, network, copy.target, watch if copy.watch else tee, frame, copy.length)

    def _send(self, now: int, network: Network, target: int, flags: int, frame: EthernetFrame, length: int) -> None:
        packet = ExtFrame(
            nwid=network.nwid,
            flags=flags,
            destination=frame.destination,
            source=frame.source,
            ethertype=frame.ethertype,
            payload=frame.payload[:length],
        )
        self._core.vl1.send(now, target, Verb.EXT_FRAME, packet.encode(), compress=True)


def decide(
    base_rules: CompiledRules, capabilities: Iterable[CompiledRules], situation: Situation
) -> tuple[Evaluation, Evaluation | None]:
    """The base rules' outcome, and that of the first capability that accepts what the base rules left open."""
    base = base_rules.evaluate(situation)
    if base.verdict is Verdict.NO_MATCH:
        for rules in capabilities:
            evaluation = rules.evaluate(situation)
            if evaluation.verdict in _ACCEPTING:
                return base, evaluation
    return base, None


def in_force(
    config: NetworkConfig, member: Member, kind: CredentialType, credentials: Iterable[_Credential]
) -> list[_Credential]:
    """Those of a member's credentials that count now (vl2 §3.8)."""
    return [c for c in credentials if member.valid(kind, c, config.timestamp, config.credential_time_max_delta)]


def _holder(situation: Situation, capabilities: Iterable[CompiledRules], held: Iterable[Capability]) -> int | None:
    """The capability that accepted the frame."""
    for rules, capability in zip(capabilities, held, strict=True):
        if rules.evaluate(situation).verdict in _ACCEPTING:
            return capability.id
    return None
