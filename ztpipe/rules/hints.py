"""What to do about an error of the rule compiler: one sentence for each kind of mistake (rules-language §10)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from ztpipe.rules.lexer import OPENING, RulesError
from ztpipe.rules.matches import MATCHES
from ztpipe.rules.words import CHARACTERISTICS, ETHERTYPES, IP_PROTOCOLS

_ACTIONS: Final = ("drop", "accept", "break", "tee", "watch", "redirect", "include", "macro", "tag", "cap")
_NAMES: Final = (
    "a name begins with a letter, holds only letters, digits and _, and is none of the words of the language"
)
_TARGET: Final = "write the ten hex digits of a member's address"

#: The beginning of a message, and the advice.
_ADVICE: Final = (
    ("Missing argument(s) to match", "the match before it needs a value; values cannot be words of the language"),
    ("Undefined variable name", "only a parameter of the macro around may be used, e.g. macro m($p) ... $p ... ;"),
    ("Include directive", "name a macro defined above: include NAME or include NAME(value,...)"),
    ("Missing one or more required macro", "give a value for each parameter, without blanks: include NAME(a,b)"),
    ("The tee and watch", "write: tee LENGTH ADDRESS, where a LENGTH of 0 or -1 stands for whole frames"),
    ("Tee/watch max packet length", "the length is a number from -1 (whole frames) to 65535"),
    ("Missing or invalid ZeroTier address target", _TARGET),
    ("The redirect action", f"after redirect {_TARGET}"),
    ("Unexpected exception: tee and watch", "write: tee LENGTH ADDRESS, where a LENGTH of -1 stands for whole frames"),
    ("Unexpected exception: a parameter of", "write: tee LENGTH ADDRESS, where a LENGTH of -1 stands for whole frames"),
    ("Unexpected exception: the parameter of redirect", f"after redirect {_TARGET}"),
    ("Unexpected exception: macros", "a macro must not include itself, directly or through others"),
    ("Unexpected exception: too many", "a source may make 65536 rules at most; macros multiply what they include"),
    ("Duplicate capability ID", "every capability needs an ID of its own"),
    ("Duplicate", "write it once"),
    ("Multiple definition", "choose another name, or remove one of the two"),
    ("Capability definition is missing a numeric", "write: cap NAME id NUMBER ... ;"),
    ("Tag definition is missing a numeric", "write: tag NAME id NUMBER ... ;"),
    ("Missing value for ID", "write a number after id"),
    ("Missing numeric value for ID", "write a number after id"),
    ("Invalid or out of range", "an ID is a number from 0 to 4294967295"),
    ("Missing value for default", "write a number, or the name of an enum or flag, after default"),
    ("Missing tag flag", "write: flag BIT NAME"),
    ("Missing tag enum", "write: enum NUMBER NAME"),
    ("Bit index invalid", "a bit is a number from 0 to 31, or a flag defined before; several are joined by commas"),
    ("Tag enum value", "the value is a number from 0 to 4294967295"),
    ("Unrecognized keyword in tag", "a tag has only id, default, flag and enum, and ends with a semicolon"),
    ("Invalid ZeroTier address", "an address has ten hex digits"),
    ("Invalid MAC address", "an Ethernet address has twelve hex digits, e.g. 32:ab:90:01:02:03"),
    ("Missing /bits", "add the length of the prefix, e.g. 10.0.0.0/8, or /32 for one address"),
    ("Invalid IP address", "write an IPv4 or IPv6 prefix, e.g. 10.0.0.0/8 or fd00::/64"),
    ("Invalid numeric range", "write a number or low-high, without blanks"),
    ("Invalid mask", "write: iptos MASK VALUE or iptos MASK LOW-HIGH, numbers from 0 to 255"),
    ("Invalid value range", "write: iptos MASK VALUE or iptos MASK LOW-HIGH, numbers from 0 to 255"),
    ("Missing or invalid ICMP", "write: icmp TYPE CODE, a TYPE from 0 to 255 and a CODE of -1 for any"),
    ("Invalid ICMP code", "the code is a number from 0 to 255, or -1 for any"),
    ("Undefined tag name", "define the tag above its use: tag NAME id NUMBER;"),
    ("Invalid tag value", "write a number, or a flag or enum of this tag"),
    ("Invalid", _NAMES),
    ("Macro definition is missing", f"write a name after macro; {_NAMES}"),
    ("Capability definition is missing", f"write a name after cap; {_NAMES}"),
    ("Tag definition is missing", f"write a name after tag; {_NAMES}"),
    ("Macro name is a", _NAMES),
    ("Capability name is a", _NAMES),
    ("Tag name is a", _NAMES),
)


def hint(error: RulesError, source: str) -> str:
    """Advice on an error in `source`; never empty."""
    word = word_at(source, error.position)
    message = error.message
    if message.startswith("Unrecognized action"):
        if word.lower() in (*MATCHES, "not", "or", "and"):
            return "a match must follow an action; a semicolon before it may have ended the statement too early"
        return _similar(word, _ACTIONS, "statements begin with " + ", ".join(_ACTIONS))
    if message.startswith("Unrecognized match"):
        if word.lower() in OPENING:
            return "end the statement before it with a semicolon; one without matches needs a word for it: accept and;"
        return _similar(word, (*MATCHES, "not", "or", "and"), "a semicolon may be missing before it")
    if message.startswith("Macro name not found"):
        names = re.findall(r"(?im)(?:^|\s)macro\s+([^\s(;]+)", source)
        return _similar(word.partition("(")[0], names, "define the macro before its use: macro NAME ... ;")
    if message.startswith("Invalid numeric value"):
        names = [*ETHERTYPES, *IP_PROTOCOLS]
        return _similar(word, names, "write a number (0x before a hexadecimal one) or a name, e.g. ipv4 or tcp")
    if message.startswith("Invalid bit index"):
        last = word.split(",")[-1]
        return _similar(last, CHARACTERISTICS, "write bits from 0 to 63 or names, joined by commas: inbound,tcp_syn")
    return next((advice for start, advice in _ADVICE if message.startswith(start)), "see the language's reference")


def word_at(source: str, position: tuple[int, int]) -> str:
    """The word at a position (from 1), less the semicolon at its end; "" if there is none."""
    lines = source.split("\n")
    line, column = position
    text = lines[line - 1][column - 1 :] if line <= len(lines) else ""
    return text.split()[0].removesuffix(";") if text.split() else ""


def _similar(word: str, known: Iterable[str], otherwise: str) -> str:
    found = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found and found[0] != word.lower() else otherwise
