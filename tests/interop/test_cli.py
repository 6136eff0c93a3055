"""The unmodified command line on our node and ours on an unmodified node: same words, same output, same exit status.

Both programs are asked about the same node at the same moment; ages and clocks are masked, nothing else is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

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


def test_the_unmodified_program_joins_and_leaves_at_our_node(pair: Pair) -> None:
    node = pair.nodes[0]
    assert run(node, False, ["leave", pair.nwid]) == (0, "200 leave OK\n", "")
    assert run(node, False, ["join", pair.nwid]) == (0, "200 join OK\n", "")
    node.wait_ok(pair.nwid, addresses=2)
    assert run(node, False, ["get", pair.nwid, "status"]) == (0, "OK\n", "")
