"""The compiler of the rule language: from source text to a network's rules, capabilities and tags (rules-language §1).

`compile_rules` is all a caller needs; the result can be posted to a network of a controller as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from ztpipe.rules.lexer import Block, Node, RulesError, Token
from ztpipe.rules.matches import MATCHES, Argument, Context, Fields
from ztpipe.rules.parser import Program, TagDefinition, parse, split_call
from ztpipe.rules.words import RESERVED, number

__all__ = ["Compiled", "RulesError", "compile_rules"]

MAX_DEPTH: Final = 100
MAX_RULES: Final = 65_536
_TARGET_LENGTH: Final = 10

_SIMPLE_ACTIONS: Final = {"drop": "ACTION_DROP", "accept": "ACTION_ACCEPT", "break": "ACTION_BREAK"}
_COPY_ACTIONS: Final = {"tee": "ACTION_TEE", "watch": "ACTION_WATCH"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result; rules, capabilities and tags as JSON objects."""

    rules: list[Fields]
    capabilities: list[Fields]
    tags: list[Fields]
    capabilities_by_name: dict[str, int]
    tags_by_name: dict[str, Fields]

    def config(self) -> Fields:
        """The part that goes into a network object."""
        return {"rules": self.rules, "capabilities": self.capabilities, "tags": self.tags}

    def text(self) -> str:
        """What the reference's command line prints (rules-language §1)."""
        whole = {
            "config": self.config(),
            "capabilitiesByName": self.capabilities_by_name,
            "tagsByName": self.tags_by_name,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def compile_rules(source: str, *, defects: bool = False) -> Compiled:
    """Compile a source; raises RulesError, and nothing else, for the first thing that is wrong.

    `defects` makes the masks of some combinations of characteristics wrong, as the reference makes them (§8.3).
    """
    program = parse(source)
    renderer = _Renderer(program, Context(program.tags, defects))
    capabilities: list[Fields] = [
        {"id": capability.id, "default": capability.default, "rules": renderer.rules(capability.body)}
        for capability in program.capabilities.values()
    ]
    return Compiled(
        rules=renderer.rules(program.base),
        capabilities=capabilities,
        tags=[{"id": tag.id, "default": tag.default} for tag in program.tags.values()],
        capabilities_by_name={name: capability.id for name, capability in program.capabilities.items()},
        tags_by_name={name: _tag_fields(tag) for name, tag in program.tags.items()},
    )


def _tag_fields(tag: TagDefinition) -> Fields:
    return {"id": tag.id, "default": tag.default, "enums": tag.enums, "flags": tag.flags}


def _unexpected(what: str, at: Token | None) -> RulesError:
    """Where the reference's compiler itself breaks down."""
    return RulesError(f"Unexpected exception: {what}", 0, 0, (at.line, at.column) if at else None)


class _Renderer:
    """Makes rules of blocks (rules-language §4, §7, §8)."""

    def __init__(self, program: Program, context: Context) -> None:
        self._program = program
        self._context = context
        self._count = 0

    def rules(self, block: Block) -> list[Fields]:
        """The rules of a list of statements outside of macros."""
        result: list[Fields] = []
        self._statements(block, {}, result, 0)
        return result

    def _statements(self, block: Block, parameters: dict[str, str], result: list[Fields], depth: int) -> None:
        if depth > MAX_DEPTH:
            first = next((node for node in block if isinstance(node, Token)), None)
            raise _unexpected("macros include each other too deeply", first)
        index = 0
        while index < len(block):
            word = block[index]
            index += 1
            if not isinstance(word, Token):
                continue
            following = block[index] if index < len(block) else None
            if word.text.lower() == "include":
                self._include(word, following, result, depth)
                index += 1
            else:
                arguments = following if isinstance(following, list) else None
                self._action(word, arguments, parameters, result)
                index += arguments is not None

    def _include(self, word: Token, call: Node | None, result: list[Fields], depth: int) -> None:
        if not isinstance(call, Token):
            raise word.error("Include directive is missing a macro name.")
        name, values = split_call(call.text)
        macro = self._program.macros.get(name)
        if macro is None:
            raise call.error("Macro name not found.")
        if any(at >= len(values) for at in macro.parameters.values()):
            raise call.error("Missing one or more required macro parameter.")
        self._count_one()
        parameters = {parameter: values[at] for parameter, at in macro.parameters.items()}
        self._statements(macro.body, parameters, result, depth + 1)

    def _action(self, word: Token, block: Block | None, parameters: dict[str, str], result: list[Fields]) -> None:
        action = word.text.lower()
        matches: Block = block or []
        if action in _SIMPLE_ACTIONS:
            fields: Fields = {"type": _SIMPLE_ACTIONS[action]}
        elif action in _COPY_ACTIONS:
            fields = {"type": _COPY_ACTIONS[action], **_copy_target(word, matches)}
            matches = matches[2:]
        elif action == "redirect":
            fields = {"type": "ACTION_REDIRECT", "address": _redirect_target(word, matches)}
            matches = matches[1:]
        else:
            raise word.error("Unrecognized action or directive in rule set.")
        self._matches(matches, parameters, result)
        self._add(fields, result)

    def _add(self, fields: Fields, result: list[Fields]) -> None:
        self._count_one()
        result.append(fields)

    def _count_one(self) -> None:
        """Rules and inclusions together are limited, or a short source could keep the compiler busy for ever."""
        self._count += 1
        if self._count > MAX_RULES:
            raise _unexpected("too many rules", None)

    def _matches(self, block: Block, parameters: dict[str, str], result: list[Fields]) -> None:
        negate = or_ = False
        index = 0
        while index < len(block):
            word = block[index]
            if not isinstance(word, Token):
                index += 1
                continue
            keyword = word.text.lower()
            if keyword in ("not", "or", "and"):
                negate, or_ = negate or keyword == "not", or_ or keyword == "or"
                index += 1
                continue
            match = MATCHES.get(keyword)
            if match is None:
                raise word.error(f'Unrecognized match type "{keyword}".')
            arguments = _arguments(block, index, match.arguments, parameters)
            kind, fields = match.compile(self._context, arguments)
            self._add({"type": kind, "not": negate, "or": or_, **fields}, result)
            negate = or_ = False
            index += 1 + match.arguments


def _arguments(block: Block, keyword: int, count: int, parameters: dict[str, str]) -> list[Argument]:
    """The `count` words after the keyword at index `keyword`, parameters replaced."""
    arguments: list[Argument] = []
    before = block[keyword]
    for index in range(keyword + 1, keyword + 1 + count):
        assert isinstance(before, Token)  # the keyword, or an argument that was accepted
        if index >= len(block):
            raise before.error("Missing argument(s) to match.")
        node = block[index]
        if not isinstance(node, Token) or node.text in RESERVED:
            raise before.error("Missing argument(s) to match (invalid argument or argument is reserved word).")
        text = node.text
        if text.startswith("$"):
            if text not in parameters:
                raise node.error("Undefined variable name.")
            text = parameters[text]
        arguments.append(Argument(node, text))
        before = node
    return arguments


def _copy_target(word: Token, block: Block) -> Fields:
    """Address and greatest length of a tee or watch; a length of -1 also stands for any text that is no number."""
    if not block:
        raise word.error("The tee and watch actions require two paremters (max length or 0 for all, target).")
    if len(block) < 2:
        raise _unexpected("tee and watch need two parameters", word)
    size, address = block[0], block[1]
    if not isinstance(size, Token) or not isinstance(address, Token):
        raise _unexpected("a parameter of tee or watch is a block", word)
    length = number(size.text)
    if not -1 <= length <= 0xFFFF:
        message = "Tee/watch max packet length to forward invalid or out of range."
        raise RulesError(message, size.line, address.column)
    if len(address.text) != _TARGET_LENGTH:
        raise address.error("Missing or invalid ZeroTier address target for tee/watch.")
    return {"address": address.text, "length": length}


def _redirect_target(word: Token, block: Block) -> str:
    if not block:
        raise word.error("The redirect action requires a target parameter.")
    address = block[0]
    if not isinstance(address, Token):
        raise _unexpected("the parameter of redirect is a block", word)
    if len(address.text) != _TARGET_LENGTH:
        raise address.error("Missing or invalid ZeroTier address target for redirect.")
    return address.text
