"""The match conditions of the rules engine (vl2 §4.4, §4.5).

`compile_match` turns a rule into a function of a `Situation`. A match does not simply say yes or no: a *hard* answer
stands whatever the rule's NOT bit says, and one also makes the list skip its next DROP (`HARD_YES_SKIP_DROP`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ztpipe.rules.frameview import PROTOCOL_ICMP, PROTOCOL_ICMPV6, FrameView
from ztpipe.wire.rule import Rule, RuleType

_MASK32: Final = 0xFFFFFFFF
_BROADCAST: Final = 0xFFFFFFFFFFFF
_MULTICAST_BIT: Final = 0x010000000000
_PORT_PROTOCOLS: Final = frozenset({6, 17, 132, 136})  # TCP, UDP, SCTP, UDP-Lite

CHARACTERISTIC_INBOUND: Final = 1 << 63
CHARACTERISTIC_MULTICAST: Final = 1 << 62
CHARACTERISTIC_BROADCAST: Final = 1 << 61
CHARACTERISTIC_IP_AUTHENTICATED: Final = 1 << 60
CHARACTERISTIC_MAC_AUTHENTICATED: Final = 1 << 59


class Answer(Enum):
    """What one match condition says."""

    NO = auto()
    YES = auto()
    HARD_NO = auto()
    HARD_YES = auto()
    HARD_YES_SKIP_DROP = auto()


def _never(*_: object) -> bool:
    return False


@dataclass(slots=True)
class Situation:
    """One frame on its way, with everything rules may ask about it (vl2 §4.2).

    `local_tags` are our own by ID; `remote_tags` those of the other side that are valid now. `owns_ip` and `owns_mac`
    say whether the frame's sender is certified to own an address (our own certificates outbound; the peer's valid ones
    and the emulated-address rule inbound).
    """

    frame: FrameView
    inbound: bool
    own_address: int
    zt_source: int
    zt_dest: int
    mac_source: int
    mac_dest: int
    random: Callable[[int], bytes]
    unknown_matches: bool = False
    local_tags: Mapping[int, int] = field(default_factory=dict)
    remote_tags: Mapping[int, int] = field(default_factory=dict)
    owns_ip: Callable[[bytes], bool] = _never
    owns_mac: Callable[[int], bool] = _never
    super_accept: bool = False

    def characteristics(self) -> int:
        """The 64 characteristics bits of this frame."""
        bits = self.frame.tcp_flags()
        if self.inbound:
            bits |= CHARACTERISTIC_INBOUND
        if self.mac_dest & _MULTICAST_BIT:
            bits |= CHARACTERISTIC_MULTICAST
        if self.mac_dest == _BROADCAST:
            bits |= CHARACTERISTIC_BROADCAST
        source = self.frame.sender_ip()
        if self.frame.is_neighbour_solicitation or (source is not None and self.owns_ip(source)):
            bits |= CHARACTERISTIC_IP_AUTHENTICATED
        if self.owns_mac(self.mac_source):
            bits |= CHARACTERISTIC_MAC_AUTHENTICATED
        return bits


Test = Callable[[Situation], Answer]
_Compiler = Callable[[bytes], Test]


def _soft(condition: bool) -> Answer:
    return Answer.YES if condition else Answer.NO


def _prefix_equal(packet: bytes, rule: bytes, bits: int) -> bool:
    shift = len(packet) * 8 - bits
    return shift >= 0 and int.from_bytes(packet, "big") >> shift == int.from_bytes(rule, "big") >> shift


# --- addresses ----------------------------------------------------------------------------------------------


def _zt_source(value: bytes) -> Test:
    address = int.from_bytes(value, "big")
    return lambda s: _soft(s.zt_source == address)


def _zt_dest(value: bytes) -> Test:
    address = int.from_bytes(value, "big")
    return lambda s: _soft(s.zt_dest == address)


def _mac_source(value: bytes) -> Test:
    mac = int.from_bytes(value, "big")
    return lambda s: _soft(s.mac_source == mac)


def _mac_dest(value: bytes) -> Test:
    mac = int.from_bytes(value, "big")
    return lambda s: _soft(s.mac_dest == mac)


def _always_zero_field(value: bytes) -> Test:
    """VLAN ID, PCP and DEI: frames never carry a tag here, so the field is always 0."""
    answer = _soft(not any(value))
    return lambda s: answer


def _ipv4(offset: int) -> _Compiler:
    def compile_(value: bytes) -> Test:
        address, bits = value[:4], value[4]

        def test(s: Situation) -> Answer:
            if not s.frame.is_ipv4:
                return Answer.HARD_NO
            return _soft(_prefix_equal(s.frame.data[offset : offset + 4], address, bits))

        return test

    return compile_


def _ipv6(offset: int) -> _Compiler:
    def compile_(value: bytes) -> Test:
        address, bits = int.from_bytes(value[:16], "big"), value[16]
        mask = (1 << 128) - (1 << (128 - bits)) if bits <= 128 else -1

        def test(s: Situation) -> Answer:
            if not s.frame.is_ipv6:
                return Answer.HARD_NO
            # The rule's address is deliberately not masked: bits below its prefix never match (vl2 §4.4).
            return _soft(mask >= 0 and s.frame.number(offset, 16) & mask == address)

        return test

    return compile_


# --- headers ------------------------------------------------------------------------------------------------


def _ethertype(value: bytes) -> Test:
    wanted = int.from_bytes(value, "big")
    return lambda s: _soft(s.frame.ethertype == wanted)


def _ip_tos(value: bytes) -> Test:
    mask, low, high = value

    def test(s: Situation) -> Answer:
        data = s.frame.data
        if s.frame.is_ipv4:
            tos = data[1]
        elif s.frame.is_ipv6:
            tos = (data[0] << 4 | data[1] >> 4) & 0xFF
        else:
            return Answer.HARD_NO
        return _soft(low <= tos & mask <= high)

    return test


def _ip_protocol(value: bytes) -> Test:
    wanted = value[0]

    def test(s: Situation) -> Answer:
        if s.frame.is_ipv4:
            return _soft(s.frame.data[9] == wanted)
        walk = s.frame.ipv6_walk()
        return Answer.HARD_NO if walk is None else _soft(walk[1] == wanted)

    return test


def _icmp(value: bytes) -> Test:
    wanted_type, wanted_code, code_matters = value[0], value[1], bool(value[2] & 1)

    def test(s: Situation) -> Answer:
        frame = s.frame
        position: int | None = None
        if frame.is_ipv4:
            if frame.data[9] == PROTOCOL_ICMP:
                position = frame.ipv4_header
        elif (walk := frame.ipv6_walk()) is not None and walk[1] == PROTOCOL_ICMPV6:
            position = walk[0]
        if position is None or len(frame.data) < position + 2 or frame.data[position] != wanted_type:
            return Answer.HARD_NO
        return _soft(frame.data[position + 1] == wanted_code) if code_matters else Answer.HARD_YES

    return test


def _port_range(offset: int) -> _Compiler:
    def compile_(value: bytes) -> Test:
        low, high = int.from_bytes(value[:2], "big"), int.from_bytes(value[2:], "big")

        def test(s: Situation) -> Answer:
            frame = s.frame
            if frame.is_ipv4:
                header = frame.ipv4_header
                if frame.data[9] not in _PORT_PROTOCOLS or len(frame.data) <= header + 4:
                    return Answer.NO
                return _soft(low <= frame.number(header + offset, 2) <= high)
            walk = frame.ipv6_walk()
            if walk is None:
                return Answer.HARD_NO
            position, protocol = walk
            if protocol not in _PORT_PROTOCOLS or len(frame.data) <= position + 4:
                return Answer.NO
            port = frame.number(position + offset, 2)
            return _soft(port > 0 and low <= port <= high)  # over IPv6 port 0 never matches

        return test

    return compile_


def _characteristics(value: bytes) -> Test:
    mask = int.from_bytes(value, "big")
    return lambda s: _soft(bool(s.characteristics() & mask))


def _frame_size_range(value: bytes) -> Test:
    low, high = int.from_bytes(value[:2], "big"), int.from_bytes(value[2:], "big")
    return lambda s: _soft(low <= len(s.frame.data) <= high)


def _random(value: bytes) -> Test:
    probability = int.from_bytes(value, "big")
    return lambda s: _soft(int.from_bytes(s.random(4), "big") <= probability)


def _integer_range(value: bytes) -> Test:
    start, end = int.from_bytes(value[:8], "big"), int.from_bytes(value[8:16], "big")
    index, format_ = int.from_bytes(value[16:18], "big"), value[18]
    last = (start + ((end - start) & _MASK32)) & 0xFFFFFFFFFFFFFFFF
    bits = (format_ & 63) + 1
    size = (bits + 7) // 8
    little = bool(format_ & 0x80)
    offset = index if little else index + 8 - size

    def test(s: Situation) -> Answer:
        data = s.frame.data
        integer = 0
        if offset + size <= len(data):
            integer = int.from_bytes(data[offset : offset + size], "little" if little else "big")
            integer = integer >> (8 * size - bits) if little else integer & ((1 << bits) - 1)
        return _soft(start <= integer <= last)

    return test


# --- tags ---------------------------------------------------------------------------------------------------


def _tags(compare: Callable[[int, int, int], bool]) -> _Compiler:
    """A condition over our own tag and the remote one (vl2 §4.5): strict at the receiver, lenient at the sender."""

    def compile_(value: bytes) -> Test:
        tag, wanted = int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")

        def test(s: Situation) -> Answer:
            local = s.local_tags.get(tag)
            if local is None:
                return Answer.HARD_NO
            remote = s.remote_tags.get(tag)
            if remote is None:
                return Answer.HARD_NO if s.inbound and not s.super_accept else Answer.HARD_YES_SKIP_DROP
            return _soft(compare(local, remote, wanted))

        return test

    return compile_


def _tag_of_side(sender: bool) -> _Compiler:
    def compile_(value: bytes) -> Test:
        tag, wanted = int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")

        def test(s: Situation) -> Answer:
            if s.super_accept:
                return Answer.HARD_YES_SKIP_DROP
            about_remote = s.inbound == sender
            held = (s.remote_tags if about_remote else s.local_tags).get(tag)
            if held is not None:
                return _soft(held == wanted)
            return Answer.HARD_YES_SKIP_DROP if about_remote and not s.inbound else Answer.HARD_NO

        return test

    return compile_


def _unknown(s: Situation) -> Answer:
    return _soft(s.unknown_matches)


_COMPILERS: Final[dict[int, _Compiler]] = {
    RuleType.SOURCE_ZEROTIER_ADDRESS: _zt_source,
    RuleType.DEST_ZEROTIER_ADDRESS: _zt_dest,
    RuleType.VLAN_ID: _always_zero_field,
    RuleType.VLAN_PCP: _always_zero_field,
    RuleType.VLAN_DEI: _always_zero_field,
    RuleType.MAC_SOURCE: _mac_source,
    RuleType.MAC_DEST: _mac_dest,
    RuleType.IPV4_SOURCE: _ipv4(12),
    RuleType.IPV4_DEST: _ipv4(16),
    RuleType.IPV6_SOURCE: _ipv6(8),
    RuleType.IPV6_DEST: _ipv6(24),
    RuleType.IP_TOS: _ip_tos,
    RuleType.IP_PROTOCOL: _ip_protocol,
    RuleType.ETHERTYPE: _ethertype,
    RuleType.ICMP: _icmp,
    RuleType.IP_SOURCE_PORT_RANGE: _port_range(0),
    RuleType.IP_DEST_PORT_RANGE: _port_range(2),
    RuleType.CHARACTERISTICS: _characteristics,
    RuleType.FRAME_SIZE_RANGE: _frame_size_range,
    RuleType.RANDOM: _random,
    RuleType.TAGS_DIFFERENCE: _tags(lambda mine, theirs, value: abs(mine - theirs) <= value),
    RuleType.TAGS_BITWISE_AND: _tags(lambda mine, theirs, value: mine & theirs == value),
    RuleType.TAGS_BITWISE_OR: _tags(lambda mine, theirs, value: mine | theirs == value),
    RuleType.TAGS_BITWISE_XOR: _tags(lambda mine, theirs, value: mine ^ theirs == value),
    RuleType.TAGS_EQUAL: _tags(lambda mine, theirs, value: mine == value and theirs == value),
    RuleType.TAG_SENDER: _tag_of_side(sender=True),
    RuleType.TAG_RECEIVER: _tag_of_side(sender=False),
    RuleType.INTEGER_RANGE: _integer_range,
}


def compile_match(rule: Rule) -> Test:
    """The condition of one match rule; a type that is unknown answers as the network's flag 0x08 says.

    The parser has seen to it that values of known types have their length.
    """
    entry = _COMPILERS.get(int(rule.type))
    if entry is None:
        return _unknown
    return entry(rule.value)
