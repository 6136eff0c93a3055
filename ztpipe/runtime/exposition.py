"""The Prometheus text format: families of samples as lines (service §5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

#: Labels as they stand between the braces, without them; and the value.
Sample = tuple[str, float]

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Family(NamedTuple):
    """One metric: `kind` is counter, gauge or histogram; `body` its sample lines, each with its newline."""

    name: str
    kind: str
    text: str
    body: str

    def render(self) -> str:
        return f"# HELP {self.name} {self.text}\n# TYPE {self.name} {self.kind}\n{self.body}"


def labels(**values: object) -> str:
    """Labels in ascending order of name, values escaped."""
    return ",".join(f'{name}="{str(values[name]).translate(_ESCAPES)}"' for name in sorted(values))


def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Family:
    """A family from samples."""
    lines = [f"{name}{'{' + inner + '}' if inner else ''} {number(value)}\n" for inner, value in samples]
    return Family(name, kind, text, "".join(lines))


def single(name: str, kind: str, text: str, value: float) -> Family:
    """A family with one sample and no labels."""
    return family(name, kind, text, [("", value)])


def number(value: float) -> str:
    """As short as can be without losing anything."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
