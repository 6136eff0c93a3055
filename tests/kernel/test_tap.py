"""kernel/tap.c over a datagram socket pair, which gives and takes one frame per call as a TAP does."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import ALL_OFFLOADS, FOREVER, NWID, REMOTE_B, A, B, Lab, Pipe, Punt, Record
from tests.kernel.strategies import body
from tests.twins.frames import PLAIN_VNET, TCP, UDP, VNET, Frame, unfold
from ztpipe.kernel._kernel import lib
from ztpipe.shm.rings import RingSet
from ztpipe.wire.address import mac_of

MAC_A, MAC_B = mac_of(A, NWID).to_bytes(6, "big"), mac_of(B, NWID).to_bytes(6, "big")
OUT = MAC_B + MAC_A
FRAME = lib.ZT_PUNT_FRAME


class TapLab(Lab):
    """A tap stage with `crypto` rings each way and one network; `device` is the kernel's side of the TAP."""

    def __init__(self, *, offload: int = ALL_OFFLOADS, crypto: int = 1, slots: int = 4) -> None:
        super().__init__(A, offload=offload)
        self.rings = [(Pipe(slots), Pipe(slots)) for _ in range(crypto)]
        out, back = RingSet(), RingSet()
        for there, here in self.rings:
            out.add(there.region)
            back.add(here.region)
        self.sets = out, back
        self.tap = lib.zt_tap_new(self.context, out.pointer, back.pointer)
        assert self.tap
        self.network = self.join()
        self.peer = self.meet(B, REMOTE_B)
        self.device, self.queue = self.attach(self.network)

    def close(self) -> None:
        lib.zt_tap_free(self.tap)
        self.device.close()
        self.queue.close()
        super().close()

    def attach(self, network: int) -> tuple[socket.socket, socket.socket]:
        """Another queue: the kernel's side and ours."""
        device, queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (device, queue):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        assert lib.zt_tap_add(self.tap, queue.fileno(), network) == 0
        return device, queue

    def pull(self, frames: list[bytes], budget: int = 1000) -> list[Record]:
        for frame in frames:
            self.device.send(frame)
        lib.zt_tap_pull(self.tap, budget)
        return [record for there, _ in self.rings for record in there.take()]

    def push(self, records: list[Record], budget: int = 1000) -> list[bytes]:
        self.rings[0][1].put(records)
        lib.zt_tap_push(self.tap, budget)
        return list(self.written())

    def written(self) -> Iterator[bytes]:
        """What the kernel was given, with vnet headers if it has them."""
        while True:
            try:
                yield self.device.recv(200_000)
            except BlockingIOError:
                return


@pytest.fixture
def lab() -> Iterator[TapLab]:
    with TapLab() as made:
        yield made


def plain(macs: bytes = OUT, n: int = 60, seed: int = 0) -> bytes:
    return PLAIN_VNET + macs + b"\x88\xb5" + body(n, seed)


# ---- pull ----------------------------------------------------------------------------------------------------------


def test_frames_to_a_member(lab: TapLab) -> None:
    sent = [plain(n=n, seed=n) for n in (1, 60, 2800)] + [Frame(macs=OUT, payload=body(100)).build()]
    sent[3] = PLAIN_VNET + sent[3]
    records = lab.pull(sent)
    assert [r.data for r in records] == sent
    assert {(r.network, r.peer) for r in records} == {(lab.network, lab.peer)}
    assert all(r.flow for r in records)
    assert lab.counts() == {"tap_read_frames": 4, "tap_read_bytes": sum(map(len, sent)) - 4 * 12}


def test_super_frames_are_not_touched(lab: TapLab) -> None:
    frame = Frame(macs=OUT, payload=body(60000))
    whole = frame.vnet(1448) + frame.partial()
    assert [r.data for r in lab.pull([whole] * 4)] == [whole] * 4


def test_small_frames_share_a_slot(lab: TapLab) -> None:
    for _ in range(50):
        lab.device.send(plain())
    lib.zt_tap_pull(lab.tap, 1000)
    assert lab.rings[0][0].region.used == 1


@pytest.mark.parametrize(
    "macs",
    [
        b"\xff" * 6 + MAC_A,
        b"\x01\x00\x5e\0\0\1" + MAC_A,
        b"\x33\x33\0\0\0\1" + MAC_A,
        MAC_A + MAC_A,
        b"\x02" + MAC_B[1:] + MAC_A if MAC_B[0] != 2 else b"\x06" + MAC_B[1:] + MAC_A,
        MAC_B + b"\x02\0\0\0\0\1",
        mac_of(0x1122334455, NWID).to_bytes(6, "big") + MAC_A,
    ],
    ids=["broadcast", "multicast", "multicast6", "own", "foreign", "bridged", "stranger"],
)
def test_frames_that_want_a_decision(lab: TapLab, macs: bytes) -> None:
    frame = plain(macs)
    assert lab.pull([frame]) == []
    assert lab.punts() == [Punt(FRAME, frame[12:], nwid=NWID)]
    assert lab.counts()["tap_punted"] == 1


def test_a_network_with_rules(lab: TapLab) -> None:
    lab.join(accept_all=False)
    assert lab.pull([plain()]) == []
    assert len(lab.punts()) == 1


def test_credentials_due(lab: TapLab) -> None:
    for send_until, fast in ((0, 0), (lab.tables.now(), 0), (lab.tables.now() + 10_000, 1), (FOREVER, 1)):
        lab.tables.install_member(NWID, B, True, send_until)
        assert len(lab.pull([plain()])) == fast
        assert len(lab.punts()) == 1 - fast


def test_a_peer_that_left(lab: TapLab) -> None:
    assert len(lab.pull([plain()])) == 1
    lab.tables.remove_peer(B)
    assert lab.pull([plain()]) == []
    assert len(lab.punts()) == 1


@pytest.mark.parametrize("proto", [TCP, UDP])
def test_punted_super_frames_are_segmented(lab: TapLab, proto: int) -> None:
    frame = Frame(macs=b"\xff" * 6 + MAC_A, proto=proto, payload=body(5000))
    assert lab.pull([frame.vnet(1400) + frame.partial()]) == []
    assert [p.data for p in lab.punts()] == [part.build() for part in frame.segments(1400)]
    assert lab.counts()["tap_punted"] == 4


def test_punted_checksums_are_complete(lab: TapLab) -> None:
    frame = Frame(macs=b"\xff" * 6 + MAC_A, proto=UDP, payload=body(50))
    lab.pull([frame.vnet() + frame.partial()])
    assert [p.data for p in lab.punts()] == [frame.build()]


def test_a_punted_super_frame_is_bounded(lab: TapLab) -> None:
    frame = Frame(macs=b"\xff" * 6 + MAC_A, payload=body(5000))
    lab.pull([frame.vnet(10) + frame.partial()])
    assert len(lab.punts()) == 128
    assert lab.counts()["drop_punt_overflow"] == 500 - 128


def test_nonsense_is_dropped_under_a_name(lab: TapLab) -> None:
    lab.pull([PLAIN_VNET, PLAIN_VNET + body(13), b"x"])
    assert lab.counts()["drop_tap_short"] == 3
    lab.pull([VNET.pack(1, 1, 0, 0, 0, 0, 0) + b"\xff" * 6 + MAC_A + body(100)])
    assert lab.counts()["drop_tap_bad_vnet"] == 1
    lab.tables.remove_network(NWID)
    assert lab.pull([plain()]) == []
    assert lab.counts()["drop_tap_no_network"] == 1


def test_one_flow_takes_one_ring_and_flows_spread() -> None:
    with TapLab(crypto=4, slots=64) as lab:
        flows = [Frame(macs=OUT, ports=(port, 80), payload=body(40, port)) for port in range(64)]
        for _ in range(5):
            for flow in flows:
                lab.device.send(PLAIN_VNET + flow.build())
        while lib.zt_tap_pull(lab.tap, 1000):
            pass
        rings = [there.take() for there, _ in lab.rings]
        assert [len(ring) for ring in rings] != [320, 0, 0, 0]
        assert all(len(ring) > 30 for ring in rings)
        for flow in flows:
            holders = [ring for ring in rings if PLAIN_VNET + flow.build() in [r.data for r in ring]]
            assert len(holders) == 1
            assert [r.data for r in holders[0]].count(PLAIN_VNET + flow.build()) == 5


def test_a_full_ring_leaves_frames_with_the_kernel() -> None:
    with TapLab(slots=2) as lab:
        frame = Frame(macs=OUT, payload=body(60000))
        whole = frame.vnet(1448) + frame.partial()
        for _ in range(6):
            lab.device.send(whole)
        assert 0 < lib.zt_tap_pull(lab.tap, 1000) < 6
        got = lab.rings[0][0].take()
        while lib.zt_tap_pull(lab.tap, 1000):
            got += lab.rings[0][0].take()
        assert [r.data for r in got] == [whole] * 6


def test_the_budget(lab: TapLab) -> None:
    assert len(lab.pull([plain()] * 10, budget=4)) == 4
    assert len(lab.pull([], budget=100)) == 6


def test_without_vnet_header() -> None:
    with TapLab(offload=0) as lab:
        assert [r.data for r in lab.pull([plain()[12:]])] == [plain()]
        frame = Frame(macs=OUT, payload=body(3000))
        assert lab.push([Record(plain(), network=lab.network)]) == [plain()[12:]]
        super_frame = Record(frame.vnet(1000) + frame.partial(), network=lab.network)
        assert lab.push([super_frame]) == [part.build() for part in frame.segments(1000)]


# ---- push ----------------------------------------------------------------------------------------------------------


def test_push_writes_what_came(lab: TapLab) -> None:
    frame = Frame(macs=OUT, payload=body(60000))
    sent = [plain(), frame.vnet(1448) + frame.partial(), plain(n=2000)]
    assert lab.push([Record(data, network=lab.network) for data in sent]) == sent
    assert lab.counts() == {"tap_write_frames": 3, "tap_write_bytes": sum(map(len, sent)) - 36}


def test_push_to_a_network_that_is_gone(lab: TapLab) -> None:
    assert lab.push([Record(plain(), network=5)]) == []
    assert lab.counts() == {"drop_tap_no_network": 1}
    assert lib.zt_tap_remove(lab.tap, lab.network) == 0
    assert lib.zt_tap_remove(lab.tap, lab.network) < 0
    assert lab.push([Record(plain(), network=lab.network)]) == []
    assert lab.counts() == {"drop_tap_no_network": 2}


def test_push_counts_what_the_tap_refuses(lab: TapLab) -> None:
    lab.device.close()
    lab.rings[0][1].put([Record(plain(), network=lab.network), Record(b"", network=lab.network)])
    assert lib.zt_tap_push(lab.tap, 10) == 2
    assert lab.counts() == {"drop_tap_write": 1, "drop_tap_short": 1}


def test_a_super_frame_that_the_kernel_does_not_know_is_written_in_parts(lab: TapLab) -> None:
    """As USO on a kernel before 6.2. An epoll descriptor says EINVAL to every write: to the whole and to each part."""
    with select.epoll() as refusing:
        other = lab.join(NWID + 1)
        assert lib.zt_tap_add(lab.tap, refusing.fileno(), other) == 0
        frame = Frame(macs=OUT, proto=UDP, payload=body(3000))
        lab.push([Record(frame.vnet(1000) + frame.partial(), network=other)])
        assert lab.counts() == {"drop_tap_write": 3}
        lab.push([Record(plain(), network=other)])
        assert lab.counts() == {"drop_tap_write": 4}


def test_networks_do_not_mix(lab: TapLab) -> None:
    other = lab.join(NWID + 1)
    lab.meet(B, REMOTE_B, nwid=NWID + 1)
    device, queue = lab.attach(other)
    with device, queue:
        lab.push([Record(plain(seed=1), network=lab.network), Record(plain(seed=2), network=other)])
        assert device.recv(10_000) == plain(seed=2)
        macs = mac_of(B, NWID + 1).to_bytes(6, "big") + mac_of(A, NWID + 1).to_bytes(6, "big")
        device.send(plain(macs))
        (record,) = lab.pull([])
        assert record.network == other


def test_bad_arguments(lab: TapLab) -> None:
    assert lib.zt_tap_add(lab.tap, -1, 0) < 0
    assert lib.zt_tap_add(lab.tap, 0, 8) < 0


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    vnet=st.binary(max_size=12),
    changes=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=5),
    length=st.integers(0, 300),
    to_all=st.booleans(),
)
def test_no_frame_does_harm(
    vnet: bytes, changes: list[tuple[int, int]], length: int, to_all: bool, lab: TapLab
) -> None:
    """Pull and push of anything; each ends in exactly one place."""
    frame = bytearray(Frame(macs=(b"\xff" * 6 + MAC_A) if to_all else OUT, payload=body(200)).partial())
    for at, value in changes:
        frame[at] = value
    data = (vnet + bytes(frame))[:length]
    before = lab.counts()
    records = lab.pull([data] if data else [])
    punts = lab.punts()
    after = lab.counts()
    dropped = sum(after.get(n, 0) - before.get(n, 0) for n in ("drop_tap_short", "drop_tap_bad_vnet"))
    assert bool(data) == (len(records) + bool(punts) + dropped == 1)
    lab.push([Record(data, network=lab.network)])


def test_unfold_agrees(lab: TapLab) -> None:
    """Guards the twin that the tests above rely on."""
    frame = Frame(macs=OUT, payload=body(3000))
    assert unfold(frame.vnet(1000) + frame.partial()) == [part.build() for part in frame.segments(1000)]
