"""Definitions of the rule language: macros, tags and capabilities (rules-language §3 to §6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ztpipe.rules.lexer import Block, Node, Token, read
from ztpipe.rules.words import RESERVED, bounded, is_name, leading_number, signed

_U32: Final = 0xFFFFFFFF
_SEPARATORS: Final = re.compile(r"[,)]+")


@dataclass(frozen=True, slots=True)
class Macro:
    """Rules with parameters; `parameters` maps a name to the position of its value."""

    parameters: dict[str, int]
    body: Block


@dataclass(slots=True)
class TagDefinition:
    """A tag; values of flags are signed 32-bit numbers."""

    id: int
    default: int | None = None
    enums: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CapabilityDefinition:
    """A capability, its rules not compiled yet."""

    id: int
    default: bool
    body: Block


@dataclass(slots=True)
class Program:
    """A source with its definitions understood."""

    macros: dict[str, Macro] = field(default_factory=dict)
    tags: dict[str, TagDefinition] = field(default_factory=dict)
    capabilities: dict[str, CapabilityDefinition] = field(default_factory=dict)
    base: Block = field(default_factory=list)


def parse(source: str) -> Program:
    """Read a source; raises RulesError for the first definition that is wrong."""
    program = Program()
    top = read(source)
    index = 0
    while index < len(top):
        node = top[index]
        index += 1
        define = _DEFINITIONS.get(node.text.lower()) if isinstance(node, Token) else None
        if define is None or not isinstance(node, Token):
            program.base.append(node)
            continue
        following = top[index] if index < len(top) else None
        define(program, node, following if isinstance(following, list) else [])
        index += isinstance(following, list)
    return program


def split_call(text: str) -> tuple[str, list[str]]:
    """`name(a,b)` as name and pieces; without a parenthesis, or with one at the start, all of it is the name."""
    at = text.find("(")
    if at <= 0:
        return text, []
    return text[:at], [piece for piece in _SEPARATORS.split(text[at + 1 :]) if piece]


def _name_of(what: str, word: Token, block: Block, known: object) -> tuple[Token, str]:
    """The token and the lowercased text of what is defined, parameters included; checks the name itself."""
    if not block or not isinstance(block[0], Token):
        raise word.error(f"{what} definition is missing name.")
    token = block[0]
    text = token.text.lower()
    name = split_call(text)[0] if what == "Macro" else text
    if not is_name(name):
        raise token.error(f"Invalid {what.lower()} name.")
    if name in RESERVED:
        raise token.error(f"{what} name is a reserved word.")
    if isinstance(known, dict) and name in known:
        raise token.error(f"Multiple definition of {what.lower()} name.")
    return token, text


def _define_macro(program: Program, word: Token, block: Block) -> None:
    _, text = _name_of("Macro", word, block, program.macros)
    name, parameters = split_call(text)
    program.macros[name] = Macro({parameter: at for at, parameter in enumerate(parameters)}, block[1:])


def _define_capability(program: Program, word: Token, block: Block) -> None:
    token, name = _name_of("Capability", word, block, program.capabilities)
    ident: int | None = None
    default = False
    body: Block = []
    items = _Items(block[1:])
    while (item := items.next()) is not None:
        directive = item.text.lower() if isinstance(item, Token) else ""
        if isinstance(item, Token) and directive == "id":
            if ident is not None:
                raise item.error("Duplicate id directive in capability definition.")
            ident = _capability_id(program, item, items.next())
        elif directive == "default":
            default = True
        else:
            body.append(item)
    if ident is None:
        raise token.error("Capability definition is missing a numeric ID.")
    program.capabilities[name] = CapabilityDefinition(ident, default, body)


def _capability_id(program: Program, word: Token, value: Node | None) -> int:
    if value is None:
        raise word.error("Missing value for ID.")
    ident = bounded(value.text, _U32) if isinstance(value, Token) else None
    if ident is None:
        raise word.error("Invalid or out of range capability ID.")
    if any(capability.id == ident for capability in program.capabilities.values()):
        raise word.error("Duplicate capability ID.")
    return ident


def _define_tag(program: Program, word: Token, block: Block) -> None:
    token, name = _name_of("Tag", word, block, program.tags)
    program.tags[name] = _TagReader(block[1:]).read(token)


class _Items:
    """The nodes of a definition, taken one by one."""

    def __init__(self, nodes: Block) -> None:
        self._nodes = nodes
        self._at = 0

    def next(self) -> Node | None:
        """The next one, None at the end."""
        if self._at == len(self._nodes):
            return None
        self._at += 1
        return self._nodes[self._at - 1]

    def tokens(self, count: int, word: Token, message: str) -> list[Token]:
        """The next `count` words; if there are not as many, the error is at `word`."""
        found = [self.next() for _ in range(count)]
        tokens = [node for node in found if isinstance(node, Token)]
        if len(tokens) < count:
            raise word.error(message)
        return tokens


class _TagReader:
    """Reads the directives of one tag (rules-language §5)."""

    def __init__(self, nodes: Block) -> None:
        self._items = _Items(nodes)
        self._id: int | None = None
        self._default: Token | None = None
        self._tag = TagDefinition(0)

    def read(self, name: Token) -> TagDefinition:
        """All directives; errors about the whole are at `name`."""
        while (item := self._items.next()) is not None:
            directive = self._DIRECTIVES.get(item.text.lower()) if isinstance(item, Token) else None
            if not isinstance(item, Token):
                raise name.error("Unrecognized keyword in tag definition.")
            if directive is None:
                raise item.error("Unrecognized keyword in tag definition.")
            directive(self, item)
        if self._id is None:
            raise name.error("Tag definition is missing a numeric ID.")
        self._tag.id = self._id
        if self._default is not None:
            self._tag.default = self._default_value(self._default.text)
        return self._tag

    def _read_id(self, word: Token) -> None:
        if self._id is not None:
            raise word.error("Duplicate tag id definition.")
        (value,) = self._items.tokens(1, word, "Missing numeric value for ID.")
        self._id = bounded(value.text, _U32)
        if self._id is None:
            raise value.error("Invalid or out of range tag ID.")

    def _read_default(self, word: Token) -> None:
        if self._default is not None:
            raise word.error("Duplicate tag default directive.")
        (self._default,) = self._items.tokens(1, word, "Missing value for default.")

    def _read_flag(self, word: Token) -> None:
        bits, name = self._items.tokens(2, word, "Missing tag flag name or bit index.")
        value = 0
        for piece in bits.text.split(","):
            value |= self._bit(bits, piece)
        self._new_name(
            name, self._tag.flags, "Invalid or reserved flag name.", "Duplicate flag name in tag definition."
        )
        self._tag.flags[name.text.lower()] = signed(value)

    def _bit(self, bits: Token, piece: str) -> int:
        """The mask of a bit number, or of a flag defined before."""
        known = self._tag.flags.get(piece.lower())
        if known is not None:
            return known
        bit = bounded(piece, 31)
        if bit is None:
            raise bits.error("Bit index invalid, out of range, or references an undefined flag name.")
        return 1 << bit

    def _read_enum(self, word: Token) -> None:
        number, name = self._items.tokens(2, word, "Missing tag enum name or value.")
        value = bounded(number.text, _U32)
        if value is None:
            raise number.error("Tag enum value invalid or out of range.")
        duplicate = "Duplicate enum name in tag definition."
        self._new_name(name, self._tag.enums, "Invalid or reserved tag enum name.", duplicate)
        self._tag.enums[name.text.lower()] = value

    @staticmethod
    def _new_name(name: Token, known: dict[str, int], invalid: str, duplicate: str) -> None:
        if not is_name(name.text.lower()):
            raise name.error(invalid)
        if name.text.lower() in known:
            raise name.error(duplicate)

    def _default_value(self, text: str) -> int:
        """An enum, else a flag, else a number, which is made positive and then cut to a signed 32-bit one."""
        for names in (self._tag.enums, self._tag.flags):
            if text in names:
                return names[text]
        return signed(abs(leading_number(text) or 0))

    _DIRECTIVES: Final = {"id": _read_id, "default": _read_default, "flag": _read_flag, "enum": _read_enum}


_DEFINITIONS: Final[dict[str, Callable[[Program, Token, Block], None]]] = {
    "macro": _define_macro,
    "tag": _define_tag,
    "cap": _define_capability,
}
