"""Match conditions of the rule language: from keyword and arguments to JSON fields (rules-language §8)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ztpipe.rules.lexer import RulesError, Token
from ztpipe.rules.parser import TagDefinition
from ztpipe.rules.words import (
    CHARACTERISTICS,
    ETHERTYPES,
    IP_PROTOCOLS,
    bounded,
    bounded_range,
    fraction,
    number,
)

#: The fields of one rule, in the order they are written.
Fields = dict[str, object]

_U32: Final = 0xFFFFFFFF
_NOT_HEX: Final = re.compile(r"[^0-9a-f]")
#: An IPv6 address somewhere in a text: a "::", eight groups, or a zone after nothing but the link-local prefix.
_SOME_IPV6: Final = re.compile(r"::|(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|fe80:%[0-9a-zA-Z]")
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_SOME_IPV4: Final = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}")


@dataclass(frozen=True, slots=True)
class Argument:
    """A word, and its text after substitution of macro parameters."""

    token: Token
    text: str

    def error(self, message: str) -> RulesError:
        return self.token.error(message)


@dataclass(frozen=True, slots=True)
class Context:
    """What arguments may refer to.  `defects`: compute wrong characteristics masks as the reference does (§8.3)."""

    tags: Mapping[str, TagDefinition]
    defects: bool = False


Compile = Callable[[Context, list[Argument]], tuple[str, Fields]]


@dataclass(frozen=True, slots=True)
class Match:
    """A keyword: how many arguments it takes, and what is made of them: the rule's type and fields."""

    arguments: int
    compile: Compile


def _one(kind: str, field: str, value: Callable[[Argument], object]) -> Match:
    """One argument that becomes one field."""
    return Match(1, lambda _, arguments: (kind, {field: value(arguments[0])}))


def _number_or_name(names: Mapping[str, int]) -> Callable[[Argument], int]:
    def value(argument: Argument) -> int:
        found = names.get(argument.text)
        if found is None:
            found = bounded(argument.text, _U32)
        if found is None:
            raise argument.error("Invalid numeric value.")
        return found

    return value


def _node_address(argument: Argument) -> str:
    digits = _NOT_HEX.sub("", argument.text.lower())
    if len(digits) != 10:
        raise argument.error("Invalid ZeroTier address.")
    return digits


def _mac(argument: Argument) -> str:
    digits = _NOT_HEX.sub("", argument.text.lower())
    if len(digits) < 12:
        raise argument.error("Invalid MAC address.")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _ip(direction: str) -> Match:
    """The whole argument is passed through; it only has to look like an address with a prefix length."""

    def compile_(_: Context, arguments: list[Argument]) -> tuple[str, Fields]:
        argument = arguments[0]
        host, slash, _bits = argument.text.partition("/")
        if not slash or not host:
            raise argument.error("Missing /bits netmask length designation in IP.")
        if _SOME_IPV6.search(host):
            return f"MATCH_IPV6_{direction}", {"ip": argument.text}
        if _SOME_IPV4.search(host):
            return f"MATCH_IPV4_{direction}", {"ip": argument.text}
        raise argument.error("Invalid IP address (not valid IPv4 or IPv6).")

    return Match(1, compile_)


def _range(kind: str) -> Match:
    def compile_(_: Context, arguments: list[Argument]) -> tuple[str, Fields]:
        found = bounded_range(arguments[0].text, 0xFFFF)
        if found is None:
            raise arguments[0].error("Invalid numeric range.")
        return kind, {"start": found[0], "end": found[1]}

    return Match(1, compile_)


def _ip_tos(_: Context, arguments: list[Argument]) -> tuple[str, Fields]:
    mask = bounded(arguments[0].text, 0xFF)
    if mask is None:
        raise arguments[0].error("Invalid mask.")
    values = bounded_range(arguments[1].text, 0xFF)
    if values is None:
        raise arguments[1].error("Invalid value range.")
    return "MATCH_IP_TOS", {"mask": mask, "start": values[0], "end": values[1]}


def _icmp(_: Context, arguments: list[Argument]) -> tuple[str, Fields]:
    kind = bounded(arguments[0].text, 0xFF)
    if kind is None:
        raise arguments[0].error("Missing or invalid ICMP type.")
    code = number(arguments[1].text)
    if code > 0xFF:
        raise arguments[1].error("Invalid ICMP code (use -1 for none).")
    return "MATCH_ICMP", {"icmpType": kind, "icmpCode": None if code < 0 else code}


def _characteristics(context: Context, arguments: list[Argument]) -> tuple[str, Fields]:
    mask = 0
    for piece in filter(None, arguments[0].text.split(",")):
        bit = CHARACTERISTICS.get(piece)
        if bit is None:
            bit = bounded(piece, 63)
        if bit is None:
            raise arguments[0].error("Invalid bit index (range 0-63) or unrecognized name.")
        mask |= 1 << bit
    if context.defects:
        mask = _misprinted(mask >> 32) << 32 | _misprinted(mask & _U32)
    return "MATCH_CHARACTERISTICS", {"mask": f"{mask:016x}"}


def _misprinted(half: int) -> int:
    """A half whose top bit is set comes out of the reference as its negation."""
    return -half & _U32 if half >> 31 else half


def _random(argument: Argument) -> int:
    return math.floor(_U32 * fraction(argument.text))


def _tag(kind: str) -> Match:
    """A tag by name with a flag, enum or number; or a tag by number with a number (rules-language §8.5)."""

    def compile_(context: Context, arguments: list[Argument]) -> tuple[str, Fields]:
        name, value = arguments
        tag = context.tags.get(name.text)
        ident = tag.id if tag else bounded(name.text, _U32)
        if ident is None:
            raise name.error("Undefined tag name and invalid tag value.")
        return kind, {"id": ident, "value": _tag_value(tag, value)}

    return Match(2, compile_)


def _tag_value(tag: TagDefinition | None, argument: Argument) -> int:
    found = None
    if tag is not None:
        found = tag.flags.get(argument.text, tag.enums.get(argument.text))
    if found is None:
        found = number(argument.text)
    if not 0 <= found <= _U32:
        raise argument.error("Invalid tag value or unrecognized flag/enum name.")
    return found


_NUMBER: Final = _number_or_name({})

#: The condition of each keyword.
MATCHES: Final[dict[str, Match]] = {
    "ztsrc": _one("MATCH_SOURCE_ZEROTIER_ADDRESS", "zt", _node_address),
    "ztdest": _one("MATCH_DEST_ZEROTIER_ADDRESS", "zt", _node_address),
    "vlan": _one("MATCH_VLAN_ID", "vlanId", _NUMBER),
    "vlanpcp": _one("MATCH_VLAN_PCP", "vlanPcp", _NUMBER),
    "vlandei": _one("MATCH_VLAN_DEI", "vlanDei", _NUMBER),
    "ethertype": _one("MATCH_ETHERTYPE", "etherType", _number_or_name(ETHERTYPES)),
    "ipprotocol": _one("MATCH_IP_PROTOCOL", "ipProtocol", _number_or_name(IP_PROTOCOLS)),
    "macsrc": _one("MATCH_MAC_SOURCE", "mac", _mac),
    "macdest": _one("MATCH_MAC_DEST", "mac", _mac),
    "ipsrc": _ip("SOURCE"),
    "ipdest": _ip("DEST"),
    "iptos": Match(2, _ip_tos),
    "icmp": Match(2, _icmp),
    "sport": _range("MATCH_IP_SOURCE_PORT_RANGE"),
    "dport": _range("MATCH_IP_DEST_PORT_RANGE"),
    "framesize": _range("MATCH_FRAME_SIZE_RANGE"),
    "chr": Match(1, _characteristics),
    "random": _one("MATCH_RANDOM", "probability", _random),
    "tand": _tag("MATCH_TAGS_BITWISE_AND"),
    "tor": _tag("MATCH_TAGS_BITWISE_OR"),
    "txor": _tag("MATCH_TAGS_BITWISE_XOR"),
    "tdiff": _tag("MATCH_TAGS_DIFFERENCE"),
    "teq": _tag("MATCH_TAGS_EQUAL"),
    "tseq": _tag("MATCH_TAG_SENDER"),
    "treq": _tag("MATCH_TAG_RECEIVER"),
}
