"""Rules as JSON objects and as `wire.rule.Rule`, both directions (controller §4.4, vl2 §4.1).

A codec says for one rule type which JSON fields hold the value and how they are packed.  Parsing follows the
coercions of controller §3; rendering writes every field of the type.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ztpipe.controller import coerce
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.errors import ControllerError, bad_value
from ztpipe.wire.rule import Rule, RuleType

_ADDRESS_MASK: Final = 0xFFFFFFFFFF
_ICMP_CODE_COMPARED: Final = 0x01
_LITTLE_ENDIAN: Final = 0x80
_FIRST_MATCH: Final = 16


@dataclass(frozen=True, slots=True)
class _Codec:
    """How the value of one rule type is read from a JSON object and written into one."""

    parse: Callable[[JsonObject], bytes]
    render: Callable[[bytes], JsonObject]


def rule_of(element: Any) -> Rule | None:
    """The rule a JSON value stands for; None if it is not an object or names no known type.

    Raises ControllerError for the one value that is refused: a `mask` that is neither number nor text.
    """
    if not isinstance(element, dict):
        return None
    name = element.get("type")
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        return None
    negate = coerce.boolean(element.get("not"), False)
    or_ = coerce.boolean(element.get("or"), False)
    return Rule(kind, negate, or_, _CODECS[kind].parse(element))


def json_of(rule: Rule) -> JsonObject | None:
    """The JSON object of a rule, keys sorted; None if its type has no JSON form or its value is malformed."""
    kind = RuleType(rule.type) if int(rule.type) in _KNOWN else None
    if kind is None:
        return None
    try:
        fields = _CODECS[kind].render(rule.value)
    except (struct.error, IndexError, ValueError):
        return None
    fields["type"] = _NAMES[kind]
    if kind >= _FIRST_MATCH:
        fields["not"] = rule.negate
        fields["or"] = rule.or_
    return dict(sorted(fields.items()))


def normalise_rules(value: Any, limit: int) -> list[JsonObject]:
    """The stored form of a rule list: each element parsed and rendered back, unusable ones left out, at most
    `limit` of them; anything but an array is an empty list."""
    if not isinstance(value, list):
        return []
    rules = (rule for rule in map(rule_of, value) if rule is not None)
    return [fields for fields in map(json_of, rules) if fields is not None][:limit]


def parse_rules(value: Any, limit: int) -> tuple[Rule, ...]:
    """The first `limit` usable rules of a *stored* list; never raises, unusable elements are skipped."""
    rules: list[Rule] = []
    for element in value if isinstance(value, list) else ():
        if len(rules) == limit:
            break
        try:
            rule = rule_of(element)
        except ControllerError:
            continue
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def render_rules(rules: Iterable[Rule]) -> list[JsonObject]:
    """Rules as JSON objects; those without a JSON form are left out."""
    return [fields for fields in map(json_of, rules) if fields is not None]


# --- codecs --------------------------------------------------------------------------------------------------------


def _empty() -> _Codec:
    return _Codec(lambda _: b"", lambda _: {})


def _numbers(layout: str, *names: str) -> _Codec:
    """Unsigned numbers in fixed order, each cut to its width; absent ones are 0."""
    packer = struct.Struct(layout)
    masks = [(1 << 8 * struct.calcsize(">" + code)) - 1 for code in layout.lstrip(">")]

    def parse(fields: JsonObject) -> bytes:
        values = [coerce.integer(fields.get(name), 0) & mask for name, mask in zip(names, masks, strict=True)]
        return packer.pack(*values)

    return _Codec(parse, lambda value: dict(zip(names, packer.unpack(value), strict=True)))


def _node_address(name: str) -> _Codec:
    def parse(fields: JsonObject) -> bytes:
        return (coerce.hexadecimal(fields.get(name)) & _ADDRESS_MASK).to_bytes(5, "big")

    return _Codec(parse, lambda value: {name: f"{int.from_bytes(value, 'big'):010x}"})


def _target(with_length: bool) -> _Codec:
    """TEE, WATCH and REDIRECT: address in 8 bytes, flags, length (vl2 §4.1)."""
    packer = struct.Struct(">QIH")

    def parse(fields: JsonObject) -> bytes:
        address = coerce.hexadecimal(fields.get("address")) & _ADDRESS_MASK
        flags = coerce.integer(fields.get("flags"), 0) & coerce.U32
        length = coerce.integer(fields.get("length"), 0) & 0xFFFF if with_length else 0
        return packer.pack(address, flags, length)

    def render(value: bytes) -> JsonObject:
        address, flags, length = packer.unpack(value)
        fields: JsonObject = {"address": f"{address:010x}", "flags": flags}
        return fields | {"length": length} if with_length else fields

    return _Codec(parse, render)


def _mac() -> _Codec:
    def parse(fields: JsonObject) -> bytes:
        digits = coerce.text(fields.get("mac"), "0").replace(":", "").replace("-", "")
        pairs = zip(digits[0:12:2], digits[1:12:2], strict=False)
        return bytes(_nibble(high) << 4 | _nibble(low) for high, low in pairs).ljust(6, b"\0")

    return _Codec(parse, lambda value: {"mac": value.hex(":")})


def _nibble(digit: str) -> int:
    """A hex digit's value; anything else counts as 0."""
    found = "0123456789abcdef".find(digit.lower())
    return max(found, 0)


def _prefix(width: int) -> _Codec:
    """An IPv4 or IPv6 prefix; host bits are kept.  An address of the other family counts as all zero."""

    def parse(fields: JsonObject) -> bytes:
        address = coerce.address(coerce.text(fields.get("ip"), ""))
        if address is None:
            return bytes(width + 1)
        bits = min(address.port & 0xFF, width * 8)
        return (address.ip if len(address.ip) == width else bytes(width)) + bytes([bits])

    def render(value: bytes) -> JsonObject:
        if len(value) != width + 1:
            raise ValueError("wrong length")
        return {"ip": f"{coerce.ip_text(value[:width])}/{value[width]}"}

    return _Codec(parse, render)


def _range() -> _Codec:
    """`start` and `end`, 16 bits each; `end` defaults to `start` and may be below it."""
    packer = struct.Struct(">HH")

    def parse(fields: JsonObject) -> bytes:
        start = coerce.integer(fields.get("start"), 0) & 0xFFFF
        return packer.pack(start, coerce.integer(fields.get("end"), start) & 0xFFFF)

    return _Codec(parse, lambda value: dict(zip(("start", "end"), packer.unpack(value), strict=True)))


def _icmp() -> _Codec:
    def parse(fields: JsonObject) -> bytes:
        code = fields.get("icmpCode")
        kind = coerce.integer(fields.get("icmpType"), 0) & 0xFF
        if code is None:
            return bytes((kind, 0, 0))
        return bytes((kind, coerce.integer(code, 0) & 0xFF, _ICMP_CODE_COMPARED))

    def render(value: bytes) -> JsonObject:
        kind, code, flags = value
        return {"icmpType": kind, "icmpCode": code if flags & _ICMP_CODE_COMPARED else None}

    return _Codec(parse, render)


def _characteristics() -> _Codec:
    def parse(fields: JsonObject) -> bytes:
        mask = fields.get("mask", 0)
        if isinstance(mask, bool) or not isinstance(mask, int | float | str):
            raise bad_value("mask", "a number, or text of hex digits")
        number = coerce.hexadecimal(mask) if isinstance(mask, str) else coerce.integer(mask, 0)
        return number.to_bytes(8, "big")

    return _Codec(parse, lambda value: {"mask": f"{int.from_bytes(value, 'big'):016x}"})


def _integer_range() -> _Codec:
    """Texts are hexadecimal; the range is at most 2^32 - 1 long, which is what members keep of it (vl2 §4.1)."""
    packer = struct.Struct(">QQHB")

    def bound(value: Any) -> int:
        return coerce.hexadecimal(value) if isinstance(value, str) else coerce.integer(value, 0)

    def parse(fields: JsonObject) -> bytes:
        start = bound(fields.get("start"))
        end = (start + (bound(fields.get("end")) - start & coerce.U32)) & coerce.U64
        bits = (coerce.integer(fields.get("bits"), 1) - 1) & 63
        format_ = bits | (_LITTLE_ENDIAN if coerce.boolean(fields.get("little"), False) else 0)
        return packer.pack(start, end, coerce.integer(fields.get("idx"), 0) & 0xFFFF, format_)

    def render(value: bytes) -> JsonObject:
        start, end, index, format_ = packer.unpack(value)
        return {
            "start": f"{start:016x}",
            "end": f"{end:016x}",
            "idx": index,
            "little": bool(format_ & _LITTLE_ENDIAN),
            "bits": (format_ & 63) + 1,
        }

    return _Codec(parse, render)


_TAG: Final = _numbers(">II", "id", "value")

_CODECS: Final[dict[RuleType, _Codec]] = {
    RuleType.ACTION_DROP: _empty(),
    RuleType.ACTION_ACCEPT: _empty(),
    RuleType.ACTION_TEE: _target(with_length=True),
    RuleType.ACTION_WATCH: _target(with_length=True),
    RuleType.ACTION_REDIRECT: _target(with_length=False),
    RuleType.ACTION_BREAK: _empty(),
    RuleType.SOURCE_ZEROTIER_ADDRESS: _node_address("zt"),
    RuleType.DEST_ZEROTIER_ADDRESS: _node_address("zt"),
    RuleType.VLAN_ID: _numbers(">H", "vlanId"),
    RuleType.VLAN_PCP: _numbers(">B", "vlanPcp"),
    RuleType.VLAN_DEI: _numbers(">B", "vlanDei"),
    RuleType.MAC_SOURCE: _mac(),
    RuleType.MAC_DEST: _mac(),
    RuleType.IPV4_SOURCE: _prefix(4),
    RuleType.IPV4_DEST: _prefix(4),
    RuleType.IPV6_SOURCE: _prefix(16),
    RuleType.IPV6_DEST: _prefix(16),
    RuleType.IP_TOS: _numbers(">BBB", "mask", "start", "end"),
    RuleType.IP_PROTOCOL: _numbers(">B", "ipProtocol"),
    RuleType.ETHERTYPE: _numbers(">H", "etherType"),
    RuleType.ICMP: _icmp(),
    RuleType.IP_SOURCE_PORT_RANGE: _range(),
    RuleType.IP_DEST_PORT_RANGE: _range(),
    RuleType.CHARACTERISTICS: _characteristics(),
    RuleType.FRAME_SIZE_RANGE: _range(),
    RuleType.RANDOM: _numbers(">I", "probability"),
    RuleType.TAGS_DIFFERENCE: _TAG,
    RuleType.TAGS_BITWISE_AND: _TAG,
    RuleType.TAGS_BITWISE_OR: _TAG,
    RuleType.TAGS_BITWISE_XOR: _TAG,
    RuleType.TAGS_EQUAL: _TAG,
    RuleType.TAG_SENDER: _TAG,
    RuleType.TAG_RECEIVER: _TAG,
    RuleType.INTEGER_RANGE: _integer_range(),
}
_KNOWN: Final = frozenset(map(int, _CODECS))
_NAMES: Final = {kind: kind.name if kind < _FIRST_MATCH else f"MATCH_{kind.name}" for kind in _CODECS}
#: `INTEGER_RANGE` without the prefix is the reference's name for a rule it always drops; both names are accepted here.
_TYPES: Final = {name: kind for kind, name in _NAMES.items()} | {"INTEGER_RANGE": RuleType.INTEGER_RANGE}
