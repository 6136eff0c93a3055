"""Compiled rules in plain English, one sentence per statement (rules-language §7, §8; vl2 §4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ztpipe.rules.words import CHARACTERISTICS, ETHERTYPES, IP_PROTOCOLS

_Rule = Mapping[str, Any]
_ANY_CODE: Final = (None, -1)


def explain(config: Mapping[str, Any], tags_by_name: Mapping[str, Any] | None = None) -> list[str]:
    """Lines about the `rules`, `capabilities` and `tags` of a network; tag names are used where known."""
    names = {tag.get("id"): name for name, tag in (tags_by_name or {}).items() if isinstance(tag, Mapping)}
    lines = ["Every frame, from the first statement to the last, until one decides:"]
    lines += _numbered(_statements(_objects(config.get("rules")), names))
    lines.append("  end. Drop what no statement decided, unless a capability of the sender accepts it.")
    for capability in _objects(config.get("capabilities")):
        given = "given to every new member" if capability.get("default") else "given to members by hand"
        lines.append(f"Capability {capability.get('id')} ({given}), for what no statement above decided:")
        lines += _numbered(_statements(_objects(capability.get("rules")), names))
    for tag in _objects(config.get("tags")):
        default = tag.get("default")
        value = "members have none unless set" if default is None else f"members have {default} unless set"
        lines.append(f"{_tag(tag, names)}: {value}.".capitalize())
    return lines


def _objects(value: Any) -> list[dict[str, Any]]:
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []


def _numbered(sentences: Iterable[str]) -> list[str]:
    return [f"  {number}. {sentence}" for number, sentence in enumerate(sentences, 1)]


def _statements(rules: Sequence[_Rule], names: Mapping[Any, str]) -> Iterable[str]:
    matches: list[_Rule] = []
    for rule in rules:
        kind = str(rule.get("type"))
        if not kind.startswith("ACTION_"):
            matches.append(rule)
            continue
        yield _action(rule) + (f" if {_conditions(matches, names)}." if matches else ", always.")
        matches = []
    if matches:
        yield f"Nothing: no action follows after {_conditions(matches, names)}."


def _action(rule: _Rule) -> str:
    kind, address, length = str(rule.get("type")), rule.get("address"), rule.get("length")
    part = "it whole" if length in (-1, 0, 0xFFFF) else f"its first {length} bytes"
    return {
        "ACTION_DROP": "Drop",
        "ACTION_ACCEPT": "Accept",
        "ACTION_BREAK": "Leave these rules for the capabilities",
        "ACTION_TEE": f"Copy {part} to {address}, and go on,",
        "ACTION_WATCH": f"Copy {part} to {address} with a trace of both sides, and go on,",
        "ACTION_REDIRECT": f"Send it to {address} instead",
    }.get(kind, kind)


def _conditions(matches: Sequence[_Rule], names: Mapping[Any, str]) -> str:
    """The matches joined from left to right, which is how they are evaluated: "and"/"or" have no precedence."""
    text = ""
    for rule in matches:
        sentence = _match(rule, names)
        sentence = f"not ({sentence})" if rule.get("not") else sentence
        if not text:
            text = f"always or {sentence}" if rule.get("or") else sentence
        elif rule.get("or"):
            text = f"({text}) or {sentence}" if " and " in text else f"{text} or {sentence}"
        else:
            text = f"({text}) and {sentence}" if " or " in text else f"{text} and {sentence}"
    return text


def _match(rule: _Rule, names: Mapping[Any, str]) -> str:
    kind = str(rule.get("type"))
    if kind.startswith("MATCH_TAG"):
        return _tag_match(kind, rule, names)
    say = _SENTENCES.get(kind)
    return say(rule) if say is not None else kind


def _tag(rule: _Rule, names: Mapping[Any, str]) -> str:
    ident = rule.get("id")
    return f"tag {names[ident]}" if ident in names else f"tag {ident}"


def _tag_match(kind: str, rule: _Rule, names: Mapping[Any, str]) -> str:
    tag, value = _tag(rule, names), rule.get("value")
    return {
        "MATCH_TAGS_DIFFERENCE": f"{tag} of sender and receiver differ by at most {value}",
        "MATCH_TAGS_BITWISE_AND": f"{tag} of sender and receiver, bitwise and, is {value}",
        "MATCH_TAGS_BITWISE_OR": f"{tag} of sender and receiver, bitwise or, is {value}",
        "MATCH_TAGS_BITWISE_XOR": f"{tag} of sender and receiver, bitwise xor, is {value}",
        "MATCH_TAGS_EQUAL": f"{tag} of sender and of receiver is {value}",
        "MATCH_TAG_SENDER": f"{tag} of the sender is {value}",
        "MATCH_TAG_RECEIVER": f"{tag} of the receiver is {value}",
    }.get(kind, kind)


def _is(what: str, field: str, numbers: Mapping[str, int] | None = None) -> Callable[[_Rule], str]:
    known: dict[Any, str] = {number: name for name, number in reversed(list((numbers or {}).items()))}
    return lambda rule: f"{what} is {known.get(rule.get(field), rule.get(field))}"


def _range(what: str) -> Callable[[_Rule], str]:
    def say(rule: _Rule) -> str:
        start, end = rule.get("start"), rule.get("end")
        return f"{what} is {start}" if start == end else f"{what} is from {start} to {end}"

    return say


def _tos(rule: _Rule) -> str:
    return _range(f"the IP type of service, masked with {rule.get('mask')},")(rule)


def _icmp(rule: _Rule) -> str:
    code = rule.get("icmpCode")
    return f"it is ICMP type {rule.get('icmpType')}" + ("" if code in _ANY_CODE else f" code {code}")


def _characteristics(rule: _Rule) -> str:
    try:
        mask = int(str(rule.get("mask")), 16)
    except ValueError:
        return "its characteristics are of an unreadable mask"
    names = {bit: name for name, bit in CHARACTERISTICS.items()}
    found = [names.get(bit, f"bit {bit}") for bit in range(63, -1, -1) if mask >> bit & 1]
    return f"it has any of the characteristics {', '.join(found) or '(none)'}"


def _random(rule: _Rule) -> str:
    probability = rule.get("probability")
    share = probability / 0xFFFFFFFF * 100 if isinstance(probability, int) else 0.0
    return f"a random number says so ({share:.4g} % of frames)"


_SENTENCES: Final[dict[str, Callable[[_Rule], str]]] = {
    "MATCH_SOURCE_ZEROTIER_ADDRESS": _is("the sending member", "zt"),
    "MATCH_DEST_ZEROTIER_ADDRESS": _is("the receiving member", "zt"),
    "MATCH_VLAN_ID": _is("the VLAN ID", "vlanId"),
    "MATCH_VLAN_PCP": _is("the VLAN priority", "vlanPcp"),
    "MATCH_VLAN_DEI": _is("the VLAN drop mark", "vlanDei"),
    "MATCH_ETHERTYPE": _is("the EtherType", "etherType", ETHERTYPES),
    "MATCH_IP_PROTOCOL": _is("the IP protocol", "ipProtocol", IP_PROTOCOLS),
    "MATCH_MAC_SOURCE": _is("the source MAC", "mac"),
    "MATCH_MAC_DEST": _is("the destination MAC", "mac"),
    "MATCH_IPV4_SOURCE": _is("the source IP prefix", "ip"),
    "MATCH_IPV6_SOURCE": _is("the source IP prefix", "ip"),
    "MATCH_IPV4_DEST": _is("the destination IP prefix", "ip"),
    "MATCH_IPV6_DEST": _is("the destination IP prefix", "ip"),
    "MATCH_IP_TOS": _tos,
    "MATCH_ICMP": _icmp,
    "MATCH_IP_SOURCE_PORT_RANGE": _range("the source port"),
    "MATCH_IP_DEST_PORT_RANGE": _range("the destination port"),
    "MATCH_FRAME_SIZE_RANGE": _range("the frame size"),
    "MATCH_CHARACTERISTICS": _characteristics,
    "MATCH_RANDOM": _random,
}
