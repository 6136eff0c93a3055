"""What groups may cost beside busy unicast: kernel/share.h under tap_pull.c and open_multicast.c."""

from __future__ import annotations

from collections.abc import Callable

from tests.kernel.stages_lab import NWID, REMOTE_A, A, B, Lab
from tests.kernel.test_fanout import MEMBERS, TO_MDNS, GroupLab, plain
from tests.kernel.test_open import came, packet
from tests.kernel.test_open_multicast import MDNS, frame, join, sealed
from ztpipe.wire.address import BROADCAST_MAC, MulticastGroup, mac_of

MINUTE = 60_000
COPIES_PER_S = 4000
TO_ONE = mac_of(MEMBERS[0], NWID).to_bytes(6, "big") + TO_MDNS[6:]
ARP = b"\x00\x01\x08\x00\x06\x04\x00\x01" + bytes(20)


class Clock:
    """Node time of a lab, in the hand of the test: what really passes is little beside it."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.offset = lab, 1_000_000

    def pass_(self, milliseconds: int) -> None:
        self.offset += milliseconds
        self.lab.tables.set_clock(self.offset)


def flood(clock: Clock, turn: Callable[[], int], *, turns: int = 50) -> list[int]:
    """What `turn` returns, turn by turn, one every 20 ms after a second of them."""
    for _ in range(50):
        turn()
        clock.pass_(20)
    return [(turn(), clock.pass_(20))[0] for _ in range(turns)]


def test_alone_groups_take_what_they_want() -> None:
    with GroupLab() as lab:
        lab.group(MEMBERS)
        clock = Clock(lab)
        assert set(flood(clock, lambda: len(lab.pull([plain()] * 40)))) == {40}
        assert "drop_group_share" not in lab.counts()


def test_beside_unicast_the_copies_are_bounded_and_unicast_is_not() -> None:
    with GroupLab() as lab:
        lab.group(MEMBERS)
        clock = Clock(lab)
        copies = unicast = 0

        def turn() -> int:
            nonlocal unicast
            records = lab.pull([plain(TO_ONE), plain(), plain()] * 20)
            unicast += sum(not record.recipients for record in records)
            return sum(record.recipients for record in records)

        copies = sum(flood(clock, turn))
        assert unicast == 2000
        earned = COPIES_PER_S + 1000 // 20
        assert 0.9 * earned <= copies <= 1.1 * earned + len(MEMBERS), copies
        assert lab.counts()["drop_group_share"] > 0
        # and a frame for many goes to all of them
        assert copies % len(MEMBERS) == 0
        clock.pass_(5 * MINUTE)
        assert len(lab.pull([plain()] * 40)) == 40


def test_a_quiet_group_keeps_to_the_slow_path() -> None:
    """A flood of one group does not take away what has no entry: the first frames of others."""
    with GroupLab() as lab:
        lab.group(MEMBERS)
        clock = Clock(lab)
        other = plain((MDNS.mac + 1).to_bytes(6, "big") + TO_MDNS[6:])

        def turn() -> int:
            lab.pull([plain(TO_ONE)] * 20 + [plain()] * 30 + [other])
            return len(lab.punts())

        assert set(flood(clock, turn)) == {1}


def test_what_comes_in() -> None:
    with Lab(B) as lab:
        join(lab)
        lab.meet(A, REMOTE_A)
        clock = Clock(lab)
        group, unicast = came(sealed(frame())), came(packet())
        question = came(sealed(frame(ARP, group=MulticastGroup(BROADCAST_MAC, 7), ethertype=0x0806)))

        def turn() -> int:
            lab.open([unicast] * 20 + [group] * 200 + [question])
            return lab.counts()["open_multicasts"]

        counts = flood(clock, turn)
        let_in = counts[-1] - counts[0]
        assert 0.8 * 0.98 * COPIES_PER_S <= let_in <= 1.2 * COPIES_PER_S, let_in
        total = 100 * 200
        seen = lab.counts()
        assert seen["open_multicasts"] - 100 + seen["drop_group_share"] == total  # questions are none of these
        clock.pass_(MINUTE)
        before = seen["open_multicasts"]
        lab.open([group] * 200)
        assert lab.counts()["open_multicasts"] == before + 200
