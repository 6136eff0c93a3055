"""Rules and credentials in the flat form that the kernel evaluates (kernel/filter.h).

`pack()` is given everything of one side that rules may ask for and returns one `bytes`, or None when it is more than
the flat form holds: frames of such a network or member take the slow path, through `ztpipe.rules.evaluate`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from ztpipe.wire.rule import Rule, RuleType

__all__ = ["MAX_SIZE", "Owned", "OwnedKind", "pack"]

MAX_SIZE: Final = 128 * 1024
"""Bytes of one policy (ZT_POLICY_MAX)."""

_MAGIC: Final = 0x5A545046
_HEADERS, _BODY, _TARGETS, _STRICT = 1, 2, 4, 8
_NOTHING, _CONSTANT, _FIRST_MATCH = 7, 16, 16
_NOT, _OR = 0x80, 0x40
_MASK32: Final = 0xFFFFFFFF
_MASK64: Final = 0xFFFFFFFFFFFFFFFF
_TCP_BITS: Final = 0xFFF
_MAX_COUNT: Final = 0xFFFF

_HEADER: Final = struct.Struct("=IIIIHHH10x")
_RULE: Final = struct.Struct("=BBHIQQ")
_THING: Final = struct.Struct("=BB6x16s")
_PAIR: Final = struct.Struct("=II")


class OwnedKind(IntEnum):
    """What a certificate of ownership names, and what counts as authenticated without one."""

    MAC = 1
    IPV4 = 2
    IPV6 = 3
    EMULATED = 4
    """An IPv6 prefix, inbound only (vl2 §4.4, "emulated address rule")."""


class Owned(NamedTuple):
    """An address or, for EMULATED, a prefix of whole bytes."""

    kind: OwnedKind
    value: bytes


class _Operands(NamedTuple):
    """The four numbers of a flat rule; what they mean depends on the rule's type."""

    a: int = 0
    b: int = 0
    x: int = 0
    y: int = 0


def pack(
    lists: Sequence[Sequence[Rule]],
    *,
    tags: Mapping[int, int],
    owned: Iterable[Owned] = (),
    unknown_matches: bool = False,
    strict: bool = False,
) -> bytes | None:
    """The policy of one side. Ours: `lists[0]` are the base rules, then our capabilities by ascending ID; a member's:
    its capabilities in force. `unknown_matches`: what matches of unknown type answer (network flag 0x08).
    `strict`: inbound frames that rules cannot judge are dropped (`ztpipe.rules.strict`).
    """
    flat: list[bytes] = []
    spans: list[bytes] = []
    flags = _STRICT if strict else 0
    for rules in lists:
        first = len(flat)
        for rule in rules:
            flat.append(_flat(rule, unknown_matches))
            flags |= _flags(rule)
        spans.append(_PAIR.pack(first, len(flat) - first))
    things = [_THING.pack(thing.kind, len(thing.value), thing.value) for thing in dict.fromkeys(owned)]
    pairs = [_PAIR.pack(tag, tags[tag]) for tag in sorted(tags)]
    body = b"".join((*flat, *things, *spans, *pairs))
    size = _HEADER.size + len(body)
    if size > MAX_SIZE or max(len(things), len(spans), len(pairs)) > _MAX_COUNT:
        return None
    if flags & _TARGETS and any(rule.type == RuleType.RANDOM for rules in lists for rule in rules):
        return None  # the slow path would draw again and copy too few frames
    return _HEADER.pack(_MAGIC, size, flags, len(flat), len(things), len(spans), len(pairs)) + body


def _flat(rule: Rule, unknown_matches: bool) -> bytes:
    kind = int(rule.type)
    flags = (_NOT if rule.negate else 0) | (_OR if rule.or_ else 0)
    if kind < _FIRST_MATCH:
        return _RULE.pack(min(kind, _NOTHING), flags, *_action(rule))
    operands = _OPERANDS.get(kind)
    if operands is None:
        return _RULE.pack(_CONSTANT, flags, int(_constant(rule, unknown_matches)), 0, 0, 0)
    return _RULE.pack(kind, flags, *operands(rule.value))


def _action(rule: Rule) -> _Operands:
    if rule.type in _TARGETED and len(rule.value) == 14:
        return _Operands(x=int.from_bytes(rule.value[:8], "big"), b=int.from_bytes(rule.value[12:], "big"))
    return _Operands()


def _constant(rule: Rule, unknown_matches: bool) -> bool:
    """Frames never carry a VLAN tag here, so the three VLAN fields are always 0."""
    return not any(rule.value) if rule.type in _VLAN else unknown_matches


def _flags(rule: Rule) -> int:
    """What the segments of one super-frame may disagree about (filter.h), and whether copies are made."""
    if rule.type in _TARGETED:
        return _TARGETS
    if rule.type in (RuleType.RANDOM, RuleType.INTEGER_RANGE):
        return _BODY
    if rule.type == RuleType.FRAME_SIZE_RANGE:
        return _HEADERS
    if rule.type == RuleType.CHARACTERISTICS and int.from_bytes(rule.value, "big") & _TCP_BITS:
        return _HEADERS
    return 0


_TARGETED: Final = frozenset({RuleType.ACTION_TEE, RuleType.ACTION_WATCH, RuleType.ACTION_REDIRECT})
_VLAN: Final = frozenset({RuleType.VLAN_ID, RuleType.VLAN_PCP, RuleType.VLAN_DEI})


def _number_in_b(value: bytes) -> _Operands:
    return _Operands(b=int.from_bytes(value, "big"))


def _number_in_x(value: bytes) -> _Operands:
    return _Operands(x=int.from_bytes(value, "big"))


def _little_in_b(value: bytes) -> _Operands:
    return _Operands(b=int.from_bytes(value, "little"))


def _ipv4(value: bytes) -> _Operands:
    return _Operands(a=value[4], b=int.from_bytes(value[:4], "big"))


def _ipv6(value: bytes) -> _Operands:
    x, y = struct.unpack("=QQ", value[:16])  # the bytes as they are
    return _Operands(a=value[16], x=x, y=y)


def _range16(value: bytes) -> _Operands:
    return _Operands(a=int.from_bytes(value[:2], "big"), b=int.from_bytes(value[2:], "big"))


def _tag(value: bytes) -> _Operands:
    return _Operands(b=int.from_bytes(value[:4], "big"), x=int.from_bytes(value[4:], "big"))


def _integer_range(value: bytes) -> _Operands:
    start, end = int.from_bytes(value[:8], "big"), int.from_bytes(value[8:16], "big")
    last = (start + ((end - start) & _MASK32)) & _MASK64
    return _Operands(a=int.from_bytes(value[16:18], "big"), b=value[18], x=start, y=last)


_OPERANDS: Final[dict[int, Callable[[bytes], _Operands]]] = {
    RuleType.SOURCE_ZEROTIER_ADDRESS: _number_in_x,
    RuleType.DEST_ZEROTIER_ADDRESS: _number_in_x,
    RuleType.MAC_SOURCE: _number_in_x,
    RuleType.MAC_DEST: _number_in_x,
    RuleType.IPV4_SOURCE: _ipv4,
    RuleType.IPV4_DEST: _ipv4,
    RuleType.IPV6_SOURCE: _ipv6,
    RuleType.IPV6_DEST: _ipv6,
    RuleType.IP_TOS: _little_in_b,
    RuleType.IP_PROTOCOL: _number_in_b,
    RuleType.ETHERTYPE: _number_in_b,
    RuleType.ICMP: _little_in_b,
    RuleType.IP_SOURCE_PORT_RANGE: _range16,
    RuleType.IP_DEST_PORT_RANGE: _range16,
    RuleType.CHARACTERISTICS: _number_in_x,
    RuleType.FRAME_SIZE_RANGE: _range16,
    RuleType.RANDOM: _number_in_b,
    RuleType.TAGS_DIFFERENCE: _tag,
    RuleType.TAGS_BITWISE_AND: _tag,
    RuleType.TAGS_BITWISE_OR: _tag,
    RuleType.TAGS_BITWISE_XOR: _tag,
    RuleType.TAGS_EQUAL: _tag,
    RuleType.TAG_SENDER: _tag,
    RuleType.TAG_RECEIVER: _tag,
    RuleType.INTEGER_RANGE: _integer_range,
}
