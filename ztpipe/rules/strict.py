"""Frames that rules cannot judge (docs/filtering.md): what strict filtering drops at the receiver.

Rules match what the reference's engine sees, which is not always what the receiving host will see. The twin is
`unjudgeable` in kernel/filter.c: a change here is a change there.
"""

from __future__ import annotations

from typing import Final

from ztpipe.rules.frameview import ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_ICMPV6, FrameView

_HIDING: Final = frozenset({44, 51, 139, 140})
"""IPv6 headers that the walk does not step over and behind which a host goes on: fragment, AH, HIP, shim6."""
_FIRST_FRAGMENT: Final = 20  # bytes behind its IP header that a first fragment must have: a TCP header
_NEIGHBOUR_DISCOVERY: Final = range(133, 138)


def unjudgeable(frame: FrameView) -> bool:
    """Whether `frame` calls itself IP and hides from rules what it carries, or is broken."""
    if frame.ethertype == ETHERTYPE_IPV4:
        return not frame.is_ipv4 or frame.data[0] >> 4 != 4 or _ipv4(frame)
    if frame.ethertype == ETHERTYPE_IPV6:
        return not frame.is_ipv6 or frame.data[0] >> 4 != 6 or _ipv6(frame)
    return False


def _ipv4(frame: FrameView) -> bool:
    behind = frame.ipv4_header
    fragment = frame.number(6, 2)
    if behind < 20 or behind > len(frame.data) or fragment & 0x1FFF:
        return True
    return bool(fragment & 0x2000) and len(frame.data) - behind < _FIRST_FRAGMENT


def _ipv6(frame: FrameView) -> bool:
    walk = frame.ipv6_walk()
    if walk is None or walk[1] in _HIDING:
        return True
    offset, protocol = walk
    if protocol != PROTOCOL_ICMPV6 or offset == 40:
        return False
    return offset < len(frame.data) and frame.data[offset] in _NEIGHBOUR_DISCOVERY
