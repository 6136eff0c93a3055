"""The rule language's tokens, and the tree of blocks they are folded into (rules-language §2)."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

#: Words that open a block; lowercase only.
OPENING: Final = frozenset(["macro", "tag", "cap", "drop", "accept", "tee", "watch", "redirect", "break", "priority"])

_WHITESPACE: Final = " \t\r\n"
_LINE_ENDS: Final = "\r\n"


class RulesError(Exception):
    """A source that does not compile: what is wrong and where (rules-language §10).

    Lines count from 1; columns from 0 on the first line and from 1 on all others, as the reference counts them.
    `place` says where when the reference's numbers do not (they are 0 where its compiler itself breaks down).
    """

    def __init__(self, message: str, line: int, column: int, place: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self._place = place

    @property
    def position(self) -> tuple[int, int]:
        """Line and column for people and editors, both from 1."""
        if self._place is not None:
            line, column = self._place
        else:
            line, column = self.line, self.column
        return max(line, 1), max(column + (line <= 1), 1)

    def __str__(self) -> str:
        return f"line {self.line} column {self.column}: {self.message}"


class Token(NamedTuple):
    """A word and where it begins."""

    text: str
    line: int
    column: int

    def error(self, message: str) -> RulesError:
        """The error that points here."""
        return RulesError(message, self.line, self.column)


Node: TypeAlias = "Token | list[Node]"
Block: TypeAlias = list[Node]


def read(source: str) -> Block:
    """The top-level block of a source.  Never fails: what is wrong shows when the tree is looked at."""
    tokens, pending = _scan(source)
    stack: list[Block] = [[]]
    for token in tokens:
        _place(stack, token)
    if pending is not None:
        word = _without_semicolon(pending)
        if word.text:
            stack[-1].append(word)
    while len(stack) > 1 and stack[-1]:
        _close(stack)
    return stack[0]


def _scan(source: str) -> tuple[list[Token], Token | None]:
    """The words that white space ends, comments left out, and the one that the end of the source cuts off."""
    tokens: list[Token] = []
    line, column = 1, 0
    begin = -1  # where the current word begins
    place = (line, column)
    in_comment = False
    for index, char in enumerate(source):
        line_ends = char == "\n"
        if in_comment:
            line_ends = char in _LINE_ENDS  # here, and only here, a CR ends a line as well
            in_comment = not line_ends
        elif char in _WHITESPACE:
            if begin >= 0:
                tokens.append(Token(source[begin:index], *place))
            begin = -1
        elif begin < 0:
            if char == "#":
                in_comment = True
            else:
                begin, place = index, (line, column)
        line, column = (line + 1, 1) if line_ends else (line, column + 1)
    return tokens, Token(source[begin:], *place) if begin >= 0 else None


def _place(stack: list[Block], token: Token) -> None:
    """Put a word into the tree: opening words push a block, a semicolon at the end closes the innermost one."""
    word = _without_semicolon(token)
    if word.text:
        stack[-1].append(word)
    if word.text != token.text and len(stack) > 1 and stack[-1]:
        _close(stack)
    elif word.text in OPENING:
        stack.append([])


def _without_semicolon(token: Token) -> Token:
    """The token less exactly one semicolon at its end."""
    return token._replace(text=token.text[:-1]) if token.text.endswith(";") else token


def _close(stack: list[Block]) -> None:
    block = stack.pop()
    stack[-1].append(block)
