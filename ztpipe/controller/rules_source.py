"""Rules given as source text: compiled into the network's rules, capabilities and tags, and kept (controller §4)."""

from __future__ import annotations

from typing import Any, Final

from ztpipe.controller.coerce import JsonObject, printable
from ztpipe.controller.errors import ControllerError, bad_value
from ztpipe.controller.rules_check import check_rules
from ztpipe.rules.compiler import Compiled, RulesError, compile_rules
from ztpipe.rules.hints import hint
from ztpipe.wire.netconf import MAX_CAPABILITIES, MAX_TAGS
from ztpipe.wire.rule import MAX_CAPABILITY_RULES, MAX_RULES

MAX_SOURCE: Final = 1 << 18  # characters

#: The fields of a network that a source decides.
COMPILED_FIELDS: Final = ("rules", "capabilities", "tags")


def compiled_fields(source: str) -> JsonObject:
    """`rules`, `capabilities` and `tags` as if posted; a 400 with `line`, `column` (from 1) and `hint` if wrong.

    A source that says nothing gives nothing: it must not close a network, and ZTNET sends one with every change.
    """
    if len(source) > MAX_SOURCE:
        raise bad_value("rulesSource", f"at most {MAX_SOURCE} characters")
    try:
        compiled = compile_rules(source)
    except RulesError as error:
        raise refused(error, source) from error
    _check_size(compiled)
    _check_meaning(compiled)
    config = compiled.config()
    return config if any(config.values()) else {}


def refused(error: RulesError, source: str) -> ControllerError:
    """The 400 of a source that does not compile."""
    line, column = error.position
    body = {"error": error.message, "field": "rulesSource", "line": line, "column": column}
    return ControllerError(400, str(error), body | {"hint": hint(error, source)})


def source_of(value: Any) -> str | None:
    """The source in a request; None (absent, null) leaves what is stored."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad_value("rulesSource", "text in the rule language")
    return printable(value)


def _check_size(compiled: Compiled) -> None:
    """What a configuration cannot hold would be cut off at the member, which opens what the source closes."""
    counts = [("rules", len(compiled.rules), MAX_RULES), ("tags", len(compiled.tags), MAX_TAGS)]
    counts.append(("capabilities", len(compiled.capabilities), MAX_CAPABILITIES))
    for capability in compiled.capabilities:
        rules: Any = capability["rules"]
        counts.append((f"rules in capability {capability['id']}", len(rules), MAX_CAPABILITY_RULES))
    for what, count, limit in counts:
        if count > limit:
            raise bad_value("rulesSource", f"at most {limit} {what}, not {count}")


def _check_meaning(compiled: Compiled) -> None:
    """The language takes some values that no rule can hold: ``ipsrc 999.1.2.3/8``, ``vlan 70000``, an ID used twice."""
    try:
        check_rules("rules", compiled.rules, MAX_RULES)
        for capability in compiled.capabilities:
            rules: Any = capability["rules"]
            check_rules(f"capability {capability['id']}", rules, MAX_CAPABILITY_RULES)
    except ControllerError as error:
        message = f"rulesSource: compiled to {error.message}"
        raise ControllerError(400, message, {"error": message, "field": "rulesSource"}) from error
    idents = [tag["id"] for tag in compiled.tags]
    for ident in idents:
        if idents.count(ident) > 1:
            raise bad_value("rulesSource", f"tags with different IDs, but two have {ident}")
