"""Rules of networks and capabilities on the wire (vl2 §4.1). Their meaning is in `ztpipe.rules`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ztpipe.wire.errors import WireError

MAX_RULES: Final = 1024
MAX_CAPABILITY_RULES: Final = 64

_NOT: Final = 0x80
_OR: Final = 0x40
_TYPE: Final = 0x3F


class RuleType(IntEnum):
    """Assigned types: below 16 actions, from 16 matches."""

    ACTION_DROP = 0
    ACTION_ACCEPT = 1
    ACTION_TEE = 2
    ACTION_WATCH = 3
    ACTION_REDIRECT = 4
    ACTION_BREAK = 5
    ACTION_PRIORITY = 6
    SOURCE_ZEROTIER_ADDRESS = 24
    DEST_ZEROTIER_ADDRESS = 25
    VLAN_ID = 26
    VLAN_PCP = 27
    VLAN_DEI = 28
    MAC_SOURCE = 29
    MAC_DEST = 30
    IPV4_SOURCE = 31
    IPV4_DEST = 32
    IPV6_SOURCE = 33
    IPV6_DEST = 34
    IP_TOS = 35
    IP_PROTOCOL = 36
    ETHERTYPE = 37
    ICMP = 38
    IP_SOURCE_PORT_RANGE = 39
    IP_DEST_PORT_RANGE = 40
    CHARACTERISTICS = 41
    FRAME_SIZE_RANGE = 42
    RANDOM = 43
    TAGS_DIFFERENCE = 44
    TAGS_BITWISE_AND = 45
    TAGS_BITWISE_OR = 46
    TAGS_BITWISE_XOR = 47
    TAGS_EQUAL = 48
    TAG_SENDER = 49
    TAG_RECEIVER = 50
    INTEGER_RANGE = 51


def _lengths() -> dict[int, int]:
    by_length: dict[int, tuple[RuleType, ...]] = {
        0: (RuleType.ACTION_DROP, RuleType.ACTION_ACCEPT, RuleType.ACTION_BREAK, RuleType.ACTION_PRIORITY),
        1: (RuleType.VLAN_PCP, RuleType.VLAN_DEI, RuleType.IP_PROTOCOL),
        2: (RuleType.VLAN_ID, RuleType.ETHERTYPE),
        3: (RuleType.IP_TOS, RuleType.ICMP),
        4: (RuleType.IP_SOURCE_PORT_RANGE, RuleType.IP_DEST_PORT_RANGE, RuleType.FRAME_SIZE_RANGE, RuleType.RANDOM),
        5: (
            RuleType.SOURCE_ZEROTIER_ADDRESS,
            RuleType.DEST_ZEROTIER_ADDRESS,
            RuleType.IPV4_SOURCE,
            RuleType.IPV4_DEST,
        ),
        6: (RuleType.MAC_SOURCE, RuleType.MAC_DEST),
        8: (
            RuleType.CHARACTERISTICS,
            RuleType.TAGS_DIFFERENCE,
            RuleType.TAGS_BITWISE_AND,
            RuleType.TAGS_BITWISE_OR,
            RuleType.TAGS_BITWISE_XOR,
            RuleType.TAGS_EQUAL,
            RuleType.TAG_SENDER,
            RuleType.TAG_RECEIVER,
        ),
        14: (RuleType.ACTION_TEE, RuleType.ACTION_WATCH, RuleType.ACTION_REDIRECT),
        17: (RuleType.IPV6_SOURCE, RuleType.IPV6_DEST),
        19: (RuleType.INTEGER_RANGE,),
    }
    return {int(kind): length for length, kinds in by_length.items() for kind in kinds}


_LENGTHS: Final = _lengths()
_TYPES: Final[dict[int, RuleType]] = {int(kind): kind for kind in RuleType}


@dataclass(frozen=True, slots=True)
class Rule:
    """One action or match. `value` is the value as on the wire; unassigned types (0..63) are kept as plain integers."""

    type: RuleType | int
    negate: bool = False
    or_: bool = False
    value: bytes = b""

    @property
    def is_action(self) -> bool:
        return self.type < 16

    def encode(self) -> bytes:
        """Type byte, length byte, value."""
        head = self.type | (_NOT if self.negate else 0) | (_OR if self.or_ else 0)
        return bytes((head, len(self.value))) + self.value


ACCEPT: Final = Rule(RuleType.ACTION_ACCEPT)
DROP: Final = Rule(RuleType.ACTION_DROP)


def value_length(kind: int) -> int | None:
    """The value length of an assigned type; None for unassigned ones."""
    return _LENGTHS.get(kind)


def encode_rules(rules: Iterable[Rule]) -> bytes:
    """Rules one after the other."""
    return b"".join(rule.encode() for rule in rules)


def read_rule(buffer: bytes, offset: int) -> tuple[Rule, int]:
    """The rule at `offset` and the offset after it."""
    if offset + 2 > len(buffer):
        raise WireError("truncated_rule")
    head, size = buffer[offset], buffer[offset + 1]
    end = offset + 2 + size
    if end > len(buffer):
        raise WireError("truncated_rule")
    kind = head & _TYPE
    if _LENGTHS.get(kind, size) != size:
        raise WireError("bad_rule")
    return Rule(_TYPES.get(kind, kind), bool(head & _NOT), bool(head & _OR), buffer[offset + 2 : end]), end


def read_rules(buffer: bytes, offset: int, count: int) -> tuple[tuple[Rule, ...], int]:
    """Exactly `count` rules at `offset` and the offset after them."""
    rules = []
    for _ in range(count):
        rule, offset = read_rule(buffer, offset)
        rules.append(rule)
    return tuple(rules), offset


def decode_rules(buffer: bytes, limit: int = MAX_RULES) -> tuple[Rule, ...]:
    """All rules of a buffer; those beyond `limit` are checked for form and dropped (vl2 §2.6)."""
    rules: list[Rule] = []
    offset = 0
    while offset < len(buffer):
        rule, offset = read_rule(buffer, offset)
        if len(rules) < limit:
            rules.append(rule)
    return tuple(rules)
