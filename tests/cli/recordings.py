"""Recorded calls of the command lines: what was typed, what came out, and the exit status."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.api.recorded import text

_CALL = re.compile(
    r"^\$ (?P<typed>[^\n]*)\n--- stdout[^\n]*\n(?P<out>.*?)--- stderr\n(?P<err>.*?)--- exit (?P<status>\d+)$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Call:
    """`environment` is what stood before the program name, `words` what stood behind it."""

    typed: str
    environment: dict[str, str]
    words: list[str]
    out: str
    err: str
    status: int


def calls(name: str) -> list[Call]:
    """The calls of a recording. idtool's output stands between markers, because it may lack a final newline."""
    found = []
    for match in _CALL.finditer(text(name)):
        typed = match["typed"]
        before, _, after = re.split(r"(zerotier-(?:cli|idtool))(?: |$)", typed, maxsplit=1)
        out = match["out"]
        if out.startswith("<<<"):
            out = out.removeprefix("<<<").rsplit(">>>", 1)[0]
        environment = dict(word.split("=", 1) for word in before.split())
        found.append(Call(typed, environment, after.split(), out, match["err"], int(match["status"])))
    return found
