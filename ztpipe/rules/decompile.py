"""From rules as JSON objects back to the rule language (rules-language §7, §8).

What comes out compiles to the same rules.  A statement that the language has no words for (an integer range, a reversed
range, matches that no action follows) is written as a comment, whole: leaving out one of its matches would widen it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ztpipe.rules.compiler import RulesError, compile_rules
from ztpipe.rules.words import CHARACTERISTICS, ETHERTYPES, IP_PROTOCOLS, RESERVED

_U32: Final = 0xFFFFFFFF
_ACTIONS: Final = {"ACTION_DROP": "drop", "ACTION_ACCEPT": "accept", "ACTION_BREAK": "break"}


def decompile(config: Mapping[str, Any], tags_by_name: Mapping[str, Any] | None = None) -> str:
    """The source of a network's `rules`, `capabilities` and `tags`.

    `tags_by_name` (as the compiler gives it) supplies names, flags and enums of tags; tags and capabilities without a
    name are called after their ID.  Never fails; what cannot be written is in comments.
    """
    lines = [
        *_tag_definitions(_objects(config.get("tags")), tags_by_name or {}),
        *_capability_definitions(_objects(config.get("capabilities"))),
        *_statements(_objects(config.get("rules"))),
    ]
    return "".join(line + "\n" for line in lines)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []


def _tag_definitions(tags: Sequence[Mapping[str, Any]], by_name: Mapping[str, Any]) -> Iterable[str]:
    """One line per tag; each name is used for the first tag with its ID that is left."""
    remaining = {name: tag for name, tag in by_name.items() if isinstance(tag, dict)}
    used = set(remaining)
    for tag in tags:
        ident, default = _u32(tag.get("id")), tag.get("default")
        if ident is None or not isinstance(default, int | None):
            yield _comment([tag])
            continue
        name = next((name for name, known in remaining.items() if known.get("id") == ident), None)
        definition = remaining.pop(name) if name is not None else {}
        if name is None:
            name = _unused(f"tag_{ident}", used)
        words = ["tag", name, "id", str(ident), *_flags_and_enums(definition)]
        if default is not None:
            words += ["default", str(default & _U32)]
        yield _checked(" ".join(words) + ";", [tag])


def _flags_and_enums(definition: Mapping[str, Any]) -> Iterable[str]:
    for flag, value in definition.get("flags", {}).items():
        yield from ("flag", ",".join(str(bit) for bit in range(32) if value >> bit & 1), flag)
    for enum, value in definition.get("enums", {}).items():
        yield from ("enum", str(value), enum)


def _unused(name: str, used: set[str]) -> str:
    """A name like the one given that is not in `used` yet; it is now."""
    while name in used:
        name += "_"
    used.add(name)
    return name


def _u32(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _U32 else None


def _capability_definitions(capabilities: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    used: set[int] = set()
    for capability in capabilities:
        ident = _u32(capability.get("id"))
        if ident is None or ident in used:
            yield _comment([capability])
            continue
        used.add(ident)
        yield f"cap cap_{ident} id {ident}" + (" default" if capability.get("default") else "")
        yield from ("\t" + line for line in _statements(_objects(capability.get("rules"))))
        yield ";"


def _statements(rules: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """One line per action, with the matches before it."""
    matches: list[Mapping[str, Any]] = []
    for rule in rules:
        matches.append(rule)
        if str(rule.get("type")).startswith("ACTION_"):
            yield _statement(matches)
            matches = []
    if matches:
        yield _comment(matches)


def _statement(rules: Sequence[Mapping[str, Any]]) -> str:
    action = _action(rules[-1])
    words = [_match(rule) for rule in rules[:-1]]
    if action is None or None in words:
        return _comment(rules)
    # "and" means nothing, but keeps the semicolon from closing the block around (rules-language §2).
    line = " ".join([action, *(word for word in words if word), *([] if words else ["and"])]) + ";"
    return line if _compiles_to(line, rules) else _comment(rules)


def _compiles_to(line: str, rules: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a statement means what it was made from, for the fields that the language knows."""
    try:
        compiled = compile_rules(line).rules
    except RulesError:
        return False
    return len(compiled) == len(rules) and all(
        ours[key] == theirs.get(key, ours[key] if key in ("not", "or") else None)
        for ours, theirs in zip(compiled, rules, strict=True)
        for key in ours
    )


def _checked(line: str, objects: Sequence[Mapping[str, Any]]) -> str:
    """A definition, or a comment if it is not a valid one."""
    try:
        compile_rules(line)
    except RulesError:
        return _comment(objects)
    return line


def _comment(rules: Sequence[Mapping[str, Any]]) -> str:
    return "# cannot be written: " + json.dumps(list(rules))


def _action(rule: Mapping[str, Any]) -> str | None:
    kind = rule.get("type")
    if kind in ("ACTION_TEE", "ACTION_WATCH"):
        return f"{str(kind)[7:].lower()} {rule.get('length')} {rule.get('address')}"
    if kind == "ACTION_REDIRECT":
        return f"redirect {rule.get('address')}"
    return _ACTIONS.get(str(kind))


def _match(rule: Mapping[str, Any]) -> str | None:
    """Keyword and arguments, with `not` and `or` before them."""
    writer = _WRITERS.get(str(rule.get("type")))
    if writer is None:
        return None
    keyword, arguments = writer
    prefix = ("not " if rule.get("not") else "") + ("or " if rule.get("or") else "")
    return f"{prefix}{keyword} {arguments(rule)}"


Arguments = Callable[[Mapping[str, Any]], str]


def _fields(*names: str) -> Arguments:
    return lambda rule: " ".join(str(rule.get(name)) for name in names)


def _named(field: str, names: Mapping[str, int]) -> Arguments:
    by_text = {str(number): name for name, number in names.items() if name not in RESERVED}
    return lambda rule: by_text.get(str(rule.get(field)), str(rule.get(field)))


def _range(rule: Mapping[str, Any]) -> str:
    start, end = rule.get("start"), rule.get("end")
    return str(start) if start == end else f"{start}-{end}"


def _tos(rule: Mapping[str, Any]) -> str:
    return f"{rule.get('mask')} {_range(rule)}"


def _icmp(rule: Mapping[str, Any]) -> str:
    code = rule.get("icmpCode")
    return f"{rule.get('icmpType')} {-1 if code is None else code}"


def _characteristics(rule: Mapping[str, Any]) -> str:
    """Names, highest bit first; a mask of nothing is a list of nothing."""
    try:
        mask = int(str(rule.get("mask")), 16)
    except ValueError:
        return "invalid"
    names = {bit: name for name, bit in CHARACTERISTICS.items()}
    return ",".join(names.get(bit, str(bit)) for bit in range(63, -1, -1) if mask >> bit & 1) or ","


def _random(rule: Mapping[str, Any]) -> str:
    """A fraction in the middle of those that give this probability."""
    probability = rule.get("probability")
    if not isinstance(probability, int) or not 0 <= probability < _U32:
        return "1"
    return repr((probability + 0.5) / _U32) if probability else "0"


_WRITERS: Final[dict[str, tuple[str, Arguments]]] = {
    "MATCH_SOURCE_ZEROTIER_ADDRESS": ("ztsrc", _fields("zt")),
    "MATCH_DEST_ZEROTIER_ADDRESS": ("ztdest", _fields("zt")),
    "MATCH_VLAN_ID": ("vlan", _fields("vlanId")),
    "MATCH_VLAN_PCP": ("vlanpcp", _fields("vlanPcp")),
    "MATCH_VLAN_DEI": ("vlandei", _fields("vlanDei")),
    "MATCH_ETHERTYPE": ("ethertype", _named("etherType", ETHERTYPES)),
    "MATCH_IP_PROTOCOL": ("ipprotocol", _named("ipProtocol", IP_PROTOCOLS)),
    "MATCH_MAC_SOURCE": ("macsrc", _fields("mac")),
    "MATCH_MAC_DEST": ("macdest", _fields("mac")),
    "MATCH_IPV4_SOURCE": ("ipsrc", _fields("ip")),
    "MATCH_IPV6_SOURCE": ("ipsrc", _fields("ip")),
    "MATCH_IPV4_DEST": ("ipdest", _fields("ip")),
    "MATCH_IPV6_DEST": ("ipdest", _fields("ip")),
    "MATCH_IP_TOS": ("iptos", _tos),
    "MATCH_ICMP": ("icmp", _icmp),
    "MATCH_IP_SOURCE_PORT_RANGE": ("sport", _range),
    "MATCH_IP_DEST_PORT_RANGE": ("dport", _range),
    "MATCH_FRAME_SIZE_RANGE": ("framesize", _range),
    "MATCH_CHARACTERISTICS": ("chr", _characteristics),
    "MATCH_RANDOM": ("random", _random),
    "MATCH_TAGS_BITWISE_AND": ("tand", _fields("id", "value")),
    "MATCH_TAGS_BITWISE_OR": ("tor", _fields("id", "value")),
    "MATCH_TAGS_BITWISE_XOR": ("txor", _fields("id", "value")),
    "MATCH_TAGS_DIFFERENCE": ("tdiff", _fields("id", "value")),
    "MATCH_TAGS_EQUAL": ("teq", _fields("id", "value")),
    "MATCH_TAG_SENDER": ("tseq", _fields("id", "value")),
    "MATCH_TAG_RECEIVER": ("treq", _fields("id", "value")),
}
