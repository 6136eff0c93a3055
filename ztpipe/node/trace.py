"""REMOTE_TRACE: reports to the observer that a network's configuration names (vl1-behaviour §4.8, vl1-wire §9.22).

Reported are what VL2 decides about frames and credentials. A network that is traced at VERBOSE or above takes the slow
path, because every frame may have to be reported; reports are limited in number, so that a flood stays one flood.
What VL1 learns about paths is reported too if the packet that told it belongs to a network that somebody observes.
Unlike the reference's, the report of a filter decision names the outcome only, not that of each single rule.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ztpipe.node.actions import Drop
from ztpipe.node.seam import PathNews
from ztpipe.wire import dictionary
from ztpipe.wire.protocol import Verb, verb_of
from ztpipe.wire.verbs import RemoteTrace

if TYPE_CHECKING:
    from ztpipe.node.filter import EthernetFrame
    from ztpipe.node.network import Network
    from ztpipe.node.seam import PacketContext, Vl1
    from ztpipe.wire.dictionary import Value
    from ztpipe.wire.inetaddress import InetAddress
    from ztpipe.wire.netconf import NetworkConfig

MAX_PER_SECOND: Final = 200
"""Reports per network."""
_MAX_FRAME_DATA: Final = 256
_OK_BODY: Final = 9  # in the payload of OK


class Level(IntEnum):
    """How much an observer wants to know."""

    NORMAL = 0
    VERBOSE = 10
    RULES = 15


class TraceEvent(IntEnum):
    """What a report is about; hexadecimal on the wire."""

    PATHS_RESET = 0x1000
    PATH_QUESTIONED = 0x1001
    PATH_LEARNED = 0x1002
    OUTGOING_FRAME_DROPPED = 0x2000
    INCOMING_ACCESS_DENIED = 0x2001
    INCOMING_FRAME_DROPPED = 0x2002
    CREDENTIAL_REJECTED = 0x2003
    FILTER_DECISION = 0x2006


_NETWORK_FIRST: Final = frozenset(
    {
        Verb.FRAME,
        Verb.EXT_FRAME,
        Verb.MULTICAST_FRAME,
        Verb.MULTICAST_GATHER,
        Verb.NETWORK_CONFIG_REQUEST,
        Verb.NETWORK_CONFIG,
    }
)
"""Verbs whose payload, and the body of whose OK, begins with a network ID."""


def network_of(ctx: PacketContext) -> int:
    """The network that a packet belongs to; 0 if none."""
    ok = ctx.verb is Verb.OK
    verb = verb_of(ctx.payload[0]) if ok and ctx.payload else ctx.verb
    at = _OK_BODY if ok else 0
    return int.from_bytes(ctx.payload[at : at + 8], "big") if verb in _NETWORK_FIRST else 0


def wants_drops(config: NetworkConfig) -> bool:
    """Whether an observer has to be told what rules do not let through, so that the data plane must not drop alone."""
    return config.trace_target != 0 and config.trace_level >= Level.VERBOSE


def wants_decisions(config: NetworkConfig) -> bool:
    """Whether an observer has to be told about every frame, so that the data plane must not accept alone either."""
    return config.trace_target != 0 and config.trace_level >= Level.RULES


class Tracer:
    """Sends reports to observers. Costs a look at the configuration where nobody observes."""

    def __init__(self, vl1: Vl1) -> None:
        self._vl1 = vl1
        self._sent: dict[int, tuple[int, int]] = {}  # network: (second, reports in it)

    def paths_reset(self, now: int, network: Network, reporter: int, remote: InetAddress, seen: InetAddress) -> None:
        """A root sees us elsewhere than before; told as the reference tells it, without the network."""
        if self._observed(network, Level.NORMAL):
            fields: dict[str, Value] = {
                "remoteZtAddr": reporter,
                "remotePhyAddr": remote.text(),
                "localPhyAddr": seen.text(),
                "phyAddrIpScope": int(seen.scope),
            }
            self._send(now, network, {"event": f"{TraceEvent.PATHS_RESET:x}", **fields})

    def path_news(self, ctx: PacketContext, network: Network, news: PathNews) -> None:
        """A packet came over an unknown path, or taught us one."""
        if not self._observed(network, Level.NORMAL):
            return
        learned = news is PathNews.LEARNED
        event = TraceEvent.PATH_LEARNED if learned else TraceEvent.PATH_QUESTIONED
        items: dict[str, Value] = {"event": f"{event:x}", "packetId": ctx.packet_id}
        if not learned:
            items["packetVerb"] = ctx.verb
        items |= {
            "networkId": network.nwid,
            "remoteZtAddr": ctx.peer.address,
            "remotePhyAddr": ctx.remote.text(),
            "localSocket": ctx.binding,
        }
        self._send(ctx.now, network, items)

    def outgoing_dropped(self, now: int, network: Network, frame: EthernetFrame, reason: str) -> None:
        """A frame from the TAP that went nowhere."""
        if self._observed(network, Level.VERBOSE):
            fields = _macs(frame) | _kind(frame) | {"frameLength": len(frame.payload)}
            self._report(now, network, TraceEvent.OUTGOING_FRAME_DROPPED, fields, reason)

    def access_denied(self, ctx: PacketContext, network: Network) -> None:
        """A packet of somebody who does not pass the gate."""
        if self._observed(network, Level.VERBOSE):
            self._report(ctx.now, network, TraceEvent.INCOMING_ACCESS_DENIED, _packet(ctx))

    def incoming_dropped(self, ctx: PacketContext, network: Network, frame: EthernetFrame, reason: str) -> None:
        """A member's frame that is not delivered."""
        if self._observed(network, Level.VERBOSE):
            self._report(ctx.now, network, TraceEvent.INCOMING_FRAME_DROPPED, _packet(ctx) | _macs(frame), reason)

    def credential_rejected(
        self, now: int, network: Network, kind: int, number: int, timestamp: int, holder: int, reason: str
    ) -> None:
        """A credential that was offered and not taken."""
        if self._observed(network, Level.NORMAL):
            fields: dict[str, Value] = {
                "credType": kind,
                "credId": number,
                "credTs": timestamp,
                "credIssuedTo": holder,
            }
            self._report(now, network, TraceEvent.CREDENTIAL_REJECTED, fields, reason)

    def filter_decision(
        self,
        now: int,
        network: Network,
        frame: EthernetFrame,
        source: int,
        destination: int,
        *,
        no_tee: bool,
        inbound: bool,
        result: int,
    ) -> None:
        """What the rules said about one frame; `result` 0 drop, 1 accept, 2 super-accept."""
        if not self._observed(network, Level.RULES):
            return
        fields = {"sourceZtAddr": source, "destZtAddr": destination} | _macs(frame) | _kind(frame)
        fields |= {
            "filterNoTee": no_tee,
            "filterInbound": inbound,
            "filterResult": result,
            "frameLength": len(frame.payload),
        }
        if frame.payload:
            fields["frameData"] = frame.payload[:_MAX_FRAME_DATA]
        self._report(now, network, TraceEvent.FILTER_DECISION, fields)

    @staticmethod
    def _observed(network: Network, level: Level) -> bool:
        config = network.config
        return config is not None and config.trace_target != 0 and config.trace_level >= level

    def _report(
        self, now: int, network: Network, event: TraceEvent, fields: dict[str, Value], reason: str = ""
    ) -> None:
        items: dict[str, Value] = {"event": f"{event:x}", "networkId": network.nwid, **fields}
        if reason:
            items["reason"] = reason
        self._send(now, network, items)

    def _send(self, now: int, network: Network, items: dict[str, Value]) -> None:
        if network.config is None or not self._admit(now, network.nwid):
            return
        payload = RemoteTrace((dictionary.encode(items.items()),)).encode()
        self._vl1.send(now, network.config.trace_target, Verb.REMOTE_TRACE, payload, compress=True)

    def _admit(self, now: int, nwid: int) -> bool:
        second, count = self._sent.get(nwid, (0, 0))
        if second != now // 1_000:
            second, count = now // 1_000, 0
        self._sent[nwid] = (second, count + 1)
        if count >= MAX_PER_SECOND:
            self._vl1.emit(Drop("trace_rate"))
        return count < MAX_PER_SECOND

    def forget(self, nwid: int) -> None:
        """The network was left."""
        self._sent.pop(nwid, None)


def _macs(frame: EthernetFrame) -> dict[str, Value]:
    return {"sourceMac": frame.source, "destMac": frame.destination}


def _kind(frame: EthernetFrame) -> dict[str, Value]:
    return {"etherType": frame.ethertype, "vlanId": 0}


def _packet(ctx: PacketContext) -> dict[str, Value]:
    return {
        "packetId": ctx.packet_id,
        "packetVerb": ctx.verb,
        "remoteZtAddr": ctx.peer.address,
        "remotePhyAddr": ctx.remote.text(),
    }
