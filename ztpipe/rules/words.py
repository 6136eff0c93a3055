"""The vocabulary of the rule language: reserved words, names of numbers, and how numbers are read (rules-language §2.2,
§8, §9)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_RESERVED: Final = """
    macro tag cap default drop accept tee watch redirect break priority
    ztsrc ztdest vlan vlanpcp vlandei ethertype macsrc macdest ipsrc ipdest iptos ipprotocol icmp sport dport
    chr framesize random tand tor txor tdiff teq tseq treq
    type enum class define import include log not xor or and set var let
"""
RESERVED: Final = frozenset(_RESERVED.split())

ETHERTYPES: Final = {
    "ipv4": 0x0800,
    "arp": 0x0806,
    "wol": 0x0842,
    "rarp": 0x8035,
    "ipv6": 0x86DD,
    "atalk": 0x809B,
    "aarp": 0x80F3,
    "ipx_a": 0x8137,
    "ipx_b": 0x8138,
}

IP_PROTOCOLS: Final = {
    "icmp": 1,
    "icmp4": 1,
    "icmpv4": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "igp": 9,
    "udp": 17,
    "rdp": 27,
    "esp": 50,
    "ah": 51,
    "icmp6": 58,
    "icmpv6": 58,
    "l2tp": 115,
    "sctp": 132,
    "udplite": 136,
}

#: Name to bit number.
CHARACTERISTICS: Final = {
    "inbound": 63,
    "multicast": 62,
    "broadcast": 61,
    "ipauth": 60,
    "macauth": 59,
    "tcp_fin": 0,
    "tcp_syn": 1,
    "tcp_rst": 2,
    "tcp_psh": 3,
    "tcp_ack": 4,
    "tcp_urg": 5,
    "tcp_ece": 6,
    "tcp_cwr": 7,
    "tcp_ns": 8,
    "tcp_rs2": 9,
    "tcp_rs1": 10,
    "tcp_rs0": 11,
}

#: The value of a text that is no number.
NO_NUMBER: Final = -1

_U32: Final = 0xFFFFFFFF
_MAX_DIGITS: Final = 400  # more are beyond every limit anyway
_DECIMAL: Final = re.compile(r"\s*([+-]?)([0-9]+)")
_HEX: Final = re.compile(r"\s*([+-]?)(?:0x)?([0-9a-f]+)")
_FRACTION: Final = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def number(text: str) -> int:
    """The number a text begins with: decimal, or hexadecimal after `0x`; NO_NUMBER if there is none."""
    found = leading_number(text)
    return NO_NUMBER if found is None else found


def leading_number(text: str) -> int | None:
    """The number a text begins with, None if there is none."""
    text = text.lower()
    if len(text) > 2 and text.startswith("0x"):
        found, base = _HEX.match(text[2:]), 16
    else:
        found, base = _DECIMAL.match(text), 10
    if found is None:
        return None
    value = int(found[2][:_MAX_DIGITS], base)
    return -value if found[1] == "-" else value


def bounded(text: str, high: int) -> int | None:
    """A number of 0..high; None for anything else."""
    value = number(text)
    return value if 0 <= value <= high else None


def bounded_range(text: str, high: int) -> tuple[int, int] | None:
    """`low-high` or one number for both, each of 0..high; None for anything else (rules-language §8)."""
    parts = text.split("-") if text.find("-") > 0 else [text]
    values = [bounded(part, high) for part in parts]
    low, top = values[0], values[-1]
    if len(values) > 2 or low is None or top is None or low > top:
        return None
    return low, top


def signed(value: int) -> int:
    """A value as a signed 32-bit number."""
    value &= _U32
    return value - (1 << 32) if value >> 31 else value


def fraction(text: str) -> float:
    """The decimal fraction a text begins with, within 0..1; 0 if there is none."""
    found = _FRACTION.match(text)
    return min(max(float(found[0]), 0.0), 1.0) if found else 0.0


def is_name(text: str) -> bool:
    """Whether a text may be the name of something: letters, ASCII digits and `_`, not beginning with a digit."""
    return bool(text) and not _is_digit(text[0]) and all(map(_is_name_char, text))


def _is_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_name_char(char: str) -> bool:
    if char == "_" or _is_digit(char):
        return True
    return ord(char) <= 0xFFFF and unicodedata.category(char).startswith("L")
