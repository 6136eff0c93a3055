#!/usr/bin/env python3
"""Write the list of settings into man/ztpipe.1, from the same table that the program reads; a test compares them."""

from __future__ import annotations

import re
from pathlib import Path

from ztpipe.config import KNOBS, Knob

PAGE = Path(__file__).resolve().parents[1] / "man" / "ztpipe.1"
_MARK = '.\\" settings\n'


def render(knobs: tuple[Knob, ...] = KNOBS) -> str:
    """The items of the list, in mdoc."""
    return "".join(
        f".It Fl {knob.flag[1:]} , Ev {knob.variable} , Cm {knob.key}\n{knob.help}\nValue: {_escaped(knob.expected)}.\n"
        for knob in knobs
    )


def page() -> str:
    """The page as it should be."""
    head, _, rest = PAGE.read_text().partition(_MARK)
    return head + _MARK + render() + re.sub(r"\A.*?(?=\.El\n\.Sh SEE ALSO)", "", rest, flags=re.DOTALL)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace('"', "\\(dq")


if __name__ == "__main__":
    PAGE.write_text(page())
