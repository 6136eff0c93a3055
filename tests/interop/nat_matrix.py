"""`python -m tests.interop.nat_matrix [WHO...]`: who reaches whom through which NATs, how, and how soon.

WHO is a pair such as ours-ours, ours-reference, reference-reference (all three without arguments); the unmodified node
is the program that ZT_REFERENCE names, an `old` one that of ZT_REFERENCE_OLD. Needs root; two minutes for each pair.
The exit status is 1 if a pair is not reached as its translators allow.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from tests.interop.nat_meetings import SPECIAL, Meeting, build, expected, run
from tests.pairs import Make, ztpipe
from ztpipe.lab import Lab, Reference
from ztpipe.lab.nat import KINDS

WHO = ("ours-ours", "ours-reference", "reference-reference")
_PROGRAMS = {"reference": "ZT_REFERENCE", "old": "ZT_REFERENCE_OLD"}


def make(name: str) -> Make:
    """`ours`, `reference`, or `old`: the program that ZT_REFERENCE_OLD names."""
    if name == "ours":
        return ztpipe("--layout", "fused")
    program = os.environ[_PROGRAMS[name]]
    return lambda host, lab: Reference(host, lab.directory, program=program)


def measure(
    who: str, kinds_a: Sequence[str], kinds_b: Sequence[str], special: Sequence[str], root: str = "", **options: float
) -> list[Meeting]:
    """One laboratory: the root is `root`, by default unmodified for two unmodified nodes and ours otherwise."""
    a, b = who.split("-")
    with Lab("zpn") as lab:
        root = root or (a if a == b else "ours")
        field = build(lab, make(root), make(a), make(b), kinds_a, kinds_b, special)
        run(field, **options)
        return field.meetings


def cell(meeting: Meeting) -> str:
    if meeting.result == "direct":
        return f"direct {meeting.direct:.1f}" if meeting.direct is not None else "direct ?"
    reply = f" {meeting.first_reply:.1f}" if meeting.first_reply is not None else ""
    return f"{meeting.result}{reply}{' (one-sided)' if meeting.one_sided else ''}"


def table(meetings: Sequence[Meeting], kinds: Sequence[str]) -> str:
    """Markdown: a row for each kind of the first node, a column for each of the second."""
    cells = {m.name: cell(m) for m in meetings}
    columns = [k for k in kinds if any(m.name[1] == k for m in meetings)]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in kinds:
        if any((row, k) in cells for k in columns):
            lines.append(f"| **{row}** | " + " | ".join(cells.get((row, k), "") for k in columns) + " |")
    rest = [f"{name[0]}: {text}" for name, text in cells.items() if not name[1]]
    return "\n".join(lines + (["", "; ".join(rest)] if rest else []))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interop.nat_matrix", description=__doc__.split("\n")[0])
    parser.add_argument("who", nargs="*", default=list(WHO), metavar="WHO", help=f"of {', '.join(WHO)}")
    parser.add_argument("--root", default="", choices=("", "ours", *_PROGRAMS), help="who is the root")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of NAT, separated by commas")
    parser.add_argument("--seconds", type=float, default=45, help="how long pairs try")
    parser.add_argument("--no-special", action="store_true", help="leave out the pairs below the table")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each pair instead of tables")
    options = parser.parse_args(argv)
    kinds = options.kinds.split(",")
    wrong = 0
    for who in options.who:
        special = () if options.no_special else SPECIAL
        meetings = measure(who, kinds, kinds, special, options.root, seconds=options.seconds)
        if options.json:
            for m in meetings:
                record = {"who": who, "pair": m.name, "result": m.result, "direct": m.direct, "reply": m.first_reply}
                print(json.dumps(record))
        else:
            print(f"\n{who} (seconds from the first packet)\n\n{table(meetings, kinds)}", flush=True)
        for m in meetings:
            if m.result != expected(m.name):
                wrong += 1
                print(f"not as expected: {who} {' and '.join(filter(None, m.name))}: {m.result}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
