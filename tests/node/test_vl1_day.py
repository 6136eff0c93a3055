"""Hours of a bad Internet: loss, reordering, copies, partitions. One good path is used, everybody who can be reached
is reached, nobody hears anything twice, and memory stays bounded."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest

from tests.node.sim import Host, Sim
from tests.node.test_vl1_meeting import message, messages

HOUR = 3_600_000
STEP = 600_000


def talk(sim: Sim, pairs: list[tuple[Host, Host]], label: bytes, times: int = 12) -> dict[tuple[str, str], set[bytes]]:
    """Everybody says something to everybody, 12 times in 12 s; what arrived, by (from, to)."""
    for number in range(times):
        for a, b in pairs:
            for one, other in ((a, b), (b, a)):
                message(sim, one, other, b"%s %s>%s %d" % (label, one.name.encode(), other.name.encode(), number))
                one.node.peer_activity(sim.now, other.address, 1, sim.now)  # frames flow, too
                one.after_event()
        sim.run(1_000)
    sim.run(3_000)
    heard: dict[tuple[str, str], set[bytes]] = {}
    for a, b in pairs:
        for one, other in ((a, b), (b, a)):
            start = b"%s %s>%s " % (label, one.name.encode(), other.name.encode())
            heard[one.name, other.name] = {text for text in messages(other) if text.startswith(start)}
    return heard


def check_bounds(host: Host, peers: int) -> None:
    core = host.node._vl1
    assert len(core.all_peers()) <= peers
    assert len(core.paths) <= 4 * peers
    assert len(core.replies) < 400
    assert len(core.surface) <= 4 * peers
    assert len(core.inbound.deferral) <= 8
    assert core.switch.queued <= 32
    assert len(core.recovery.suspects) <= 2 * peers
    assert len(core.unproven) <= 8
    for peer in core.all_peers():
        assert len(peer.paths) <= 4


def run_hours(hours: int, leaves: int, seed: int) -> None:
    rng = random.Random(seed)
    sim = Sim(seed=seed, latency=20, jitter=60, loss=0.05, copies=0.05, record=False)
    root = sim.root("R")
    hosts = [sim.leaf(name) for name in "ABCD"[:leaves]]
    pairs = list(combinations(hosts, 2))
    sim.run(30_000)
    for turn in range(hours * HOUR // STEP):
        walled = [pair for pair in pairs if rng.random() < 0.3]
        for a, b in walled:  # these two have only the root
            sim.wall(a, b)
        away = rng.choice([None, None, *hosts])  # and this one has nobody
        if away is not None:
            sim.wall(away, root)
            for other in hosts:
                if other is not away:
                    sim.wall(away, other)
        sim.run(15_000)
        heard = talk(sim, [pair for pair in pairs if away not in pair], b"%d" % turn)
        for who, got in heard.items():  # 5 % are lost on each of up to two links, of eight
            late = [text for text in got if int(text.split()[-1]) >= 4]  # by then it is known who is walled off
            assert len(late) >= 3, (turn, who, len(got))
        for a, b in pairs:
            if away not in (a, b):
                for one, other in ((a, b), (b, a)):
                    installed = one.plane.peers[other.address]
                    assert installed.direct == ((a, b) not in walled), (turn, one.name, other.name)
        sim.walls.clear()
        sim.run(STEP - 30_000)
        for host in (root, *hosts):
            check_bounds(host, leaves + 1)
    sim.run(60_000)
    for who, got in talk(sim, pairs, b"at last").items():
        assert len(got) >= 9, who
    for host in hosts:
        assert max(Counter(messages(host)).values()) == 1, "a copy was heard"
        assert host.drops["replayed"] > 0
        assert host.node.status(sim.now).online


def test_hours() -> None:
    run_hours(1, 2, seed=1)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("leaves", "seed"), [(1 + 1, 2), (3, 3), (4, 4)])
def test_a_day(leaves: int, seed: int) -> None:
    run_hours(24, leaves, seed)
