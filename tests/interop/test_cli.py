"""The unmodified command line on our node and ours on an unmodified node: same words, same output, same exit status.

Both programs are asked about the same node at the same moment; ages and clocks are masked, nothing else is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from tests.pairs import Pair, joined, reference, ztpipe
from ztpipe.lab import Lab, LabNode

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(180)]

NOBODY = "8056c2e21c000001"
#: What passes while two programs ask one after the other.
_MASKS = (
    (r'"(clock|lastReceive|lastSend|lastSeen|latency|packetErrorRatio|maxTimeSinceLastPacket)": ?-?[\d.]+', r'"\1": N'),
    (r"(DIRECT|RELAY) +-?\d+ +-?\d+", r"\1 N N"),
    (r";-?\d+;-?\d+ -?\d+ ", ";N;N N "),
    (r"(LEAF|MOON|PLANET) +-?\d+ ", r"\1 N "),
)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab("zpk") as lab:
        yield joined(lab, "k", "10.66.47", "10.67.47", ztpipe(), reference())


def run(node: LabNode, ours: bool, words: list[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr, masked, of one of the two programs."""
    program = [sys.executable, "-m", "ztpipe.cli.zerotier_cli"] if ours else [os.environ["ZT_REFERENCE"], "-q"]
    done = node.namespace.run(*program, f"-D{node.home}", *words, check=False)
    texts = []
    for text in (done.stdout, done.stderr):
        for pattern, mask in _MASKS:
            text = re.sub(pattern, mask, text)
        texts.append(text)
    return done.returncode, texts[0], texts[1]


COMMANDS = [
    ["info"],
    ["status"],
    ["info", "-j"],
    ["listpeers"],
    ["listpeers", "-j"],
    ["peers"],
    ["listnetworks"],
    ["listnetworks", "-j"],
    ["listmoons"],
    ["bond", "list"],
    ["get", "NWID", "status"],
    ["get", "NWID", "ip"],
    ["get", "NWID", "ip4"],
    ["get", "NWID", "ip6"],
    ["get", "NWID", "mtu"],
    ["get", "NWID", "allowManaged"],
    ["get", "NWID", "portDeviceName"],
    ["get", "NWID", "routes"],
    ["get", "NWID", "nothing"],
    ["get", NOBODY, "status"],
    ["set", "NWID", "allowDNS=0"],
    ["set", "NWID", "nonsense=1"],
    ["set", "NWID"],
    ["join", NOBODY],
    ["get", NOBODY, "status"],
    ["leave", NOBODY],
    ["leave", NOBODY],
    ["join", "xyz"],
    ["join", "zzzzzzzzzzzzzzzz"],
    ["orbit", "0000000001"],
    ["deorbit", "00000000ff"],
    ["/status"],
    ["/nothing"],
    ["/network/" + NOBODY],
    ["bond", "0123456789", "show"],
    ["bond"],
    ["-Twrong", "info"],
    ["-p1", "info"],
    ["-p1", "join", NOBODY],
]


@pytest.mark.parametrize("asked", ["our-node", "unmodified-node"])
def test_both_programs_say_the_same(pair: Pair, asked: str) -> None:
    node = pair.nodes[0 if asked == "our-node" else 1]
    different = []
    for words in COMMANDS:
        actual = [pair.nwid if word == "NWID" else word for word in words]
        theirs, ours = run(node, False, actual), run(node, True, actual)
        if ours[:2] != theirs[:2] or not ours[2].startswith(_stderr(theirs[2])):
            different.append((words, "theirs", theirs, "ours", ours))
    assert not different, "\n".join(map(str, different))


def _stderr(text: str) -> str:
    """Ours says more on stderr where the reference says nothing; what it says begins the same, its own name aside."""
    return re.sub(r"^\S+/", "", text)


_NO_SERVICE = ["-Dhome", "-p1", "-Tx"]
#: Program -> words that end without a node: options, missing and wrong arguments, nobody listening.
OFFLINE: dict[str, list[list[str]]] = {
    "zerotier-one": [
        ["-v"], ["-h"], ["-?"], ["-x"], ["-ifoo"], ["-qfoo"], ["-i"], ["-i", "help"], ["-i", "generate", "/none/x"],
        ["-q"], ["-q", "-v"], ["-q", "-h"], ["-q", "info"], ["-Dx", "-q", "info"], ["-j", "-q", "info"], ["a", "b"],
        ["-p70000"], ["-pabc", "-v"], ["-p0", "-v"], ["-U", "-v"], ["-d", "-v"],
    ],
    "zerotier-idtool": [
        [], ["help"], ["-h"], ["foo"], ["generate", "/none/x"], ["validate"], ["validate", "none"], ["getpublic"],
        ["getpublic", "none"], ["sign"], ["sign", "none"], ["sign", "none", "x"], ["verify"], ["verify", "a"],
        ["verify", "a", "b"], ["initmoon"], ["initmoon", "none"], ["genmoon"], ["genmoon", "none"],
    ],
    "zerotier-cli": [
        [], ["-v"], ["-vx"], ["-h"], ["-?"], ["-x"], ["-jx"], ["-qx"], ["-q", "-v"], ["-D"], ["-T"], ["-H"],
        ["-p0", "info"], ["-p65536", "info"], ["-pabc", "info"], ["-p", "info"], ["help"], ["-Dhome", "info"],
        ["-Dhome", "-p1", "info"],
        *([*_NO_SERVICE, *words] for words in (
            [], ["help"], ["info"], ["status"], ["listpeers"], ["peers", "-j"], ["listnetworks"], ["listmoons"],
            ["listbonds"], ["dump"], ["/status"], ["join"], ["join", "123"], ["join", NOBODY], ["leave"],
            ["leave", NOBODY], ["set"], ["set", NOBODY], ["set", NOBODY, "x"], ["set", NOBODY, "allowDNS"],
            ["set", NOBODY, "allowDNS=1"], ["get"], ["get", NOBODY], ["get", NOBODY, "status"], ["orbit"],
            ["orbit", "1"], ["orbit", "1", "2"], ["orbit", "zz", "2"], ["deorbit"], ["deorbit", "1"], ["bond"],
            ["bond", "list"], ["bond", "0123456789"], ["bond", "0123456789", "show"],
            ["bond", "0123456789", "rotate"], ["bond", "0123456789", "foo"],
        )),
        [*_NO_SERVICE, "-H::1", "info"], [*_NO_SERVICE, "-H1.2.3.4x", "info"],
    ],
}  # fmt: skip


@pytest.mark.parametrize("program", OFFLINE)
def test_what_they_say_without_a_node(program: str, tmp_path: Path) -> None:
    """Usage texts are our own; everything else is the same, and what ours says more is on stderr."""
    theirs = tmp_path / program
    theirs.symlink_to(os.environ["ZT_REFERENCE"])
    (tmp_path / "home").mkdir()

    def said(path: Path, words: list[str]) -> tuple[int, str, str]:
        done = subprocess.run([path, *words], capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False)
        texts = [re.sub(r"\S*zerotier-\w+", "PROGRAM", text) for text in (done.stdout, done.stderr)]
        return done.returncode, *("usage" if "\nUsage: " in text else text for text in texts)

    different = []
    for words in OFFLINE[program]:
        reference, ours = said(theirs, words), said(Path(sys.executable).with_name(program), words)
        if ours[:2] != reference[:2] or not ours[2].startswith(reference[2]):
            different.append((words, reference, ours))
    assert not different, "\n".join(map(str, different))


def test_the_unmodified_program_joins_and_leaves_at_our_node(pair: Pair) -> None:
    node = pair.nodes[0]
    assert run(node, False, ["leave", pair.nwid]) == (0, "200 leave OK\n", "")
    assert run(node, False, ["join", pair.nwid]) == (0, "200 join OK\n", "")
    node.wait_ok(pair.nwid, addresses=2)
    assert run(node, False, ["get", pair.nwid, "status"]) == (0, "OK\n", "")
