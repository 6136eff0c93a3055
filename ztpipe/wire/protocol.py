"""Numbers of the protocol: verbs, errors, cipher suites, limits (vl1-wire §0, §5, §7, §8)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

PROTOCOL_VERSION: Final = 12
MINIMUM_PROTOCOL_VERSION: Final = 4
VERSION: Final = (1, 14, 1)
"""Software version announced: (major, minor, revision)."""
DEFAULT_PORT: Final = 9993

DEFAULT_MTU: Final = 1432
"""UDP payload bytes of one datagram, unless configured for the path."""
MIN_MTU: Final = 1400
MAX_MTU: Final = 10324
MAX_FRAGMENTS: Final = 7
MAX_PACKET: Final = 10024
MIN_PACKET: Final = 28
MAX_PAYLOAD: Final = MAX_PACKET - MIN_PACKET
FRAGMENT_HEADER: Final = 16
FRAGMENT_INDICATOR: Final = 0xFF
BEACON_LENGTH: Final = 13
MAX_RELAYED_HOPS: Final = 3

DEFAULT_NETWORK_MTU: Final = 2800
MIN_NETWORK_MTU: Final = 1280
MAX_NETWORK_MTU: Final = 10000

FLAG_ENCRYPTED: Final = 0x80
FLAG_FRAGMENTED: Final = 0x40
MASK_SUITE: Final = 0x38
MASK_HOPS: Final = 0x07
VERB_COMPRESSED: Final = 0x80
MASK_VERB: Final = 0x1F

COMPRESSION_THRESHOLD: Final = 64
"""Payloads up to this length are never compressed (vl1-wire §5.9)."""


class Verb(IntEnum):
    """Verb codes (vl1-wire §7). Unassigned codes are treated as NOP."""

    NOP = 0x00
    HELLO = 0x01
    ERROR = 0x02
    OK = 0x03
    WHOIS = 0x04
    RENDEZVOUS = 0x05
    FRAME = 0x06
    EXT_FRAME = 0x07
    ECHO = 0x08
    MULTICAST_LIKE = 0x09
    NETWORK_CREDENTIALS = 0x0A
    NETWORK_CONFIG_REQUEST = 0x0B
    NETWORK_CONFIG = 0x0C
    MULTICAST_GATHER = 0x0D
    MULTICAST_FRAME = 0x0E
    PUSH_DIRECT_PATHS = 0x10
    ACK = 0x12
    QOS_MEASUREMENT = 0x13
    USER_MESSAGE = 0x14
    REMOTE_TRACE = 0x15
    PATH_NEGOTIATION_REQUEST = 0x16


_VERBS: Final = tuple(Verb(code) if code in set(Verb) else Verb.NOP for code in range(32))


def verb_of(code: int) -> Verb:
    """The verb of a verb byte (its flags are ignored); unassigned codes are NOP."""
    return _VERBS[code & MASK_VERB]


class ErrorCode(IntEnum):
    """Error codes (vl1-wire §8.1)."""

    NONE = 0x00
    INVALID_REQUEST = 0x01
    BAD_PROTOCOL_VERSION = 0x02
    OBJ_NOT_FOUND = 0x03
    IDENTITY_COLLISION = 0x04
    UNSUPPORTED_OPERATION = 0x05
    NEED_MEMBERSHIP_CERTIFICATE = 0x06
    NETWORK_ACCESS_DENIED = 0x07
    UNWANTED_MULTICAST = 0x08
    NETWORK_AUTHENTICATION_REQUIRED = 0x09


_ERROR_CODES: Final = {int(code): code for code in ErrorCode}


def error_code_of(code: int) -> ErrorCode:
    """The error code; unknown ones are NONE, which nobody acts upon."""
    return _ERROR_CODES.get(code, ErrorCode.NONE)


class Suite(IntEnum):
    """Cipher suites (vl1-wire §5)."""

    POLY1305_NONE = 0
    SALSA2012 = 1
    TRUSTED = 2
    GMAC_SIV = 3
