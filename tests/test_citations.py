"""Every section of docs/protocol that code, tests or documentation cite is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROTOCOL = ROOT / "docs/protocol"
NAMES = "|".join(sorted((re.escape(path.stem) for path in PROTOCOL.glob("*.md")), key=len, reverse=True))
NUMBER = r"§\s?(?P<number>\d+(?:\.\d+)*)"
CITATION = re.compile(rf"(?:\b(?P<name>{NAMES})(?:\.md)?`?,?\s+)?(?:{NUMBER}|(?P<appendix>Appendix [A-Z]))")
FOREIGN = re.compile(r"(?:RFC \d+|virtio [\d.]+),?\s*$")
"""What stands before a section of somebody else's document."""
JOINED = re.compile(r"^(?:,| and| to|, and| or)\s*$")
MARGINS = re.compile(r"\n[ \t]*(?:#|\*|//)?[ \t]*")


@cache
def headings(name: str) -> frozenset[str]:
    text = (PROTOCOL / f"{name}.md").read_text()
    return frozenset(re.findall(r"^#+ (Appendix [A-Z]|\d+(?:\.\d+)*)\b", text, re.MULTILINE))


def missing(text: str, own: str | None = None) -> list[str]:
    """Citations in `text` that lead nowhere. A bare one is of the document `own`, or of one that the text names."""
    text = MARGINS.sub(" ", text)
    found: list[str] = []
    named = {match["name"] for match in CITATION.finditer(text) if match["name"]} | ({own} if own else set())
    last: str | None = None
    end = 0
    for match in CITATION.finditer(text):
        if FOREIGN.search(text[: match.start()][-20:]):
            continue
        joined = last is not None and JOINED.match(text[end : match.start()])
        last = match["name"] or (last if joined else None)
        end = match.end()
        section = match["number"] or match["appendix"]
        if not any(section in headings(name) for name in ({last} if last else named)):
            found.append(text[max(0, match.start() - 30) : match.end()])
    return found


def test_the_check_itself() -> None:
    assert len(missing("so (vl1-wire §9.2, §9.99), and RFC 7748 §55 (vl2 §1.2)")) == 1
    assert missing("vl1-wire §9.2 and\n * vl1-behaviour §2.3 to §2.5; vl1-wire Appendix A; virtio 1.2 §5.1.6") == []
    assert len(missing("vl1-wire §9.5; vl1-wire Appendix Z; (§77) service §2, §3.3")) == 4


FILES = [
    path
    for folder, pattern in (("ztpipe", "*.py"), ("ztpipe", "*.[ch]"), ("tests", "*.py"), ("docs", "*.md"))
    for path in sorted((ROOT / folder).rglob(pattern))
    if path.name != Path(__file__).name
]


@pytest.mark.parametrize("folder", ["ztpipe", "tests", "docs"])
def test_sections_exist(folder: str) -> None:
    wrong = {}
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == folder:
            own = path.stem if path.parent == PROTOCOL else None
            lost = missing(path.read_text(), own)
            if lost:
                wrong[str(path.relative_to(ROOT))] = lost
    assert wrong == {}
