"""Ad-hoc networks: configurations made from the network ID alone, without a controller (vl2 §1.5)."""

from __future__ import annotations

from typing import Final

from ztpipe.wire.address import sixplane
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import FLAG_NDP_EMULATION, TYPE_PUBLIC, NetworkConfig
from ztpipe.wire.rule import ACCEPT, DROP, Rule, RuleType

_DELTA_MS: Final = 7_200_000
_IPV4_FORM_LIMIT: Final = 1_024
_IPV4_FORM_MARK: Final = 0x01
_TCP_SYN: Final = 0x02
_TCP_ACK: Final = 0x10


class AdhocNotFound(Exception):
    """The network ID names a port range whose end lies before its start."""


def adhoc_config(nwid: int, address: int, now: int) -> NetworkConfig | None:
    """The configuration of an ad-hoc network; None if the ID has neither of the two known forms."""
    if nwid & 0xFFFFFF == 0:
        return _port_range_config(nwid, address, now)
    if nwid & 0xFF == _IPV4_FORM_MARK:
        return _ipv4_config(nwid, address, now)
    return None


def _port_range_config(nwid: int, address: int, now: int) -> NetworkConfig:
    first, last = nwid >> 40 & 0xFFFF, nwid >> 24 & 0xFFFF
    if last < first:
        raise AdhocNotFound
    return NetworkConfig(
        network_id=nwid,
        timestamp=now,
        credential_time_max_delta=_DELTA_MS,
        revision=1,
        issued_to=address,
        flags=FLAG_NDP_EMULATION,
        multicast_limit=0,
        type=TYPE_PUBLIC,
        name=f"adhoc-{first:04x}-{last:04x}",
        static_ips=(sixplane(nwid, address),),
        rules=_port_range_rules(first, last),
    )


def _ipv4_config(nwid: int, address: int, now: int) -> NetworkConfig:
    octet, hub = nwid >> 48 & 0xFF, nwid >> 8 & 0xFFFFFFFFFF
    return NetworkConfig(
        network_id=nwid,
        timestamp=now,
        credential_time_max_delta=_DELTA_MS,
        revision=1,
        issued_to=address,
        flags=FLAG_NDP_EMULATION,
        multicast_limit=_IPV4_FORM_LIMIT,
        type=TYPE_PUBLIC,
        name=f"adhoc-{octet}.0.0.0",
        static_ips=(
            sixplane(nwid, address),
            InetAddress(bytes((octet,)) + (address & 0xFFFFFF).to_bytes(3, "big"), 8),
        ),
        specialists=(hub,) if hub else (),
        rules=(ACCEPT,),
    )


def _port_range_rules(first: int, last: int) -> tuple[Rule, ...]:
    """IPv6 only: ICMPv6, UDP and TCP to the ports, and whatever opens no TCP connection."""

    return (
        Rule(RuleType.ETHERTYPE, negate=True, value=b"\x86\xdd"),
        DROP,
        Rule(RuleType.IP_PROTOCOL, value=b"\x3a"),
        ACCEPT,
        Rule(RuleType.IP_PROTOCOL, value=b"\x11"),
        Rule(RuleType.IP_PROTOCOL, or_=True, value=b"\x06"),
        Rule(RuleType.IP_DEST_PORT_RANGE, value=first.to_bytes(2, "big") + last.to_bytes(2, "big")),
        ACCEPT,
        Rule(RuleType.CHARACTERISTICS, negate=True, value=_TCP_SYN.to_bytes(8, "big")),
        ACCEPT,
        Rule(RuleType.CHARACTERISTICS, value=_TCP_SYN.to_bytes(8, "big")),
        Rule(RuleType.CHARACTERISTICS, value=_TCP_ACK.to_bytes(8, "big")),
        ACCEPT,
        DROP,
    )
