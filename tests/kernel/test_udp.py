"""kernel/udp.c over the loopback interface, with and without the kernel's segmentation and coalescing."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import ALL_OFFLOADS, A, Lab, Pipe, Record
from tests.kernel.strategies import body
from ztpipe.kernel._kernel import lib
from ztpipe.shm.rings import RingSet
from ztpipe.shm.tables import Endpoint

UDP_GRO = 104
NO_GSO = ALL_OFFLOADS & ~lib.ZT_OFFLOAD_UDP_GSO & ~lib.ZT_OFFLOAD_UDP_GRO


class UdpLab(Lab):
    """A peer stage with one socket on the loopback interface; `other` is somebody else's."""

    def __init__(self, *, offload: int = ALL_OFFLOADS, crypto: int = 1, slots: int = 4, ipv6: bool = False) -> None:
        super().__init__(A, offload=offload)
        self.rings = [(Pipe(slots), Pipe(slots)) for _ in range(crypto)]
        back, out = RingSet(), RingSet()
        for there, here in self.rings:
            out.add(there.region)
            back.add(here.region)
        self.sets = out, back
        self.udp = lib.zt_udp_new(self.context, back.pointer, out.pointer)
        assert self.udp
        self.ipv6 = ipv6
        self.socket, self.other = self.bind(), self.bind()
        assert lib.zt_udp_add(self.udp, self.socket.fileno(), 7, 6 if ipv6 else 4) == 0

    def close(self) -> None:
        lib.zt_udp_free(self.udp)
        self.socket.close()
        self.other.close()
        super().close()

    def bind(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if self.ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("::1" if self.ipv6 else "127.0.0.1", 0))
        made.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            made.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        return made

    def endpoint(self, of: socket.socket) -> Endpoint:
        host, port = of.getsockname()[:2]
        return socket.inet_pton(of.family, host), port

    def push(self, records: list[Record], budget: int = 1000) -> int:
        self.rings[0][1].put(records)
        return int(lib.zt_udp_push(self.udp, budget))

    def received(self, least: int) -> list[bytes]:
        """What the other socket got, in order; waits for `least`."""
        out: list[bytes] = []
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                out.append(self.other.recv(70_000))
            except BlockingIOError:
                if len(out) >= least:
                    return out
                time.sleep(0.001)
        return out

    def pull(self, least: int, budget: int = 1000) -> list[Record]:
        """Records of every ring, until there are `least` datagrams."""
        out: list[Record] = []
        until = time.monotonic() + 10
        while sum(r.nseg for r in out) < least and time.monotonic() < until:
            lib.zt_udp_pull(self.udp, budget)
            out += [record for there, _ in self.rings for record in there.take()]
        return out

    def to_other(self, parts: list[bytes]) -> Record:
        return Record(b"".join(parts), binding=7, remote=self.endpoint(self.other), seg=len(parts[0]), nseg=len(parts))


@pytest.fixture(params=[ALL_OFFLOADS, NO_GSO], ids=["gso", "plain"])
def lab(request: pytest.FixtureRequest) -> Iterator[UdpLab]:
    with UdpLab(offload=request.param) as made:
        yield made


def equal(count: int, size: int, last: int | None = None) -> list[bytes]:
    return [body(size, i) for i in range(count - 1)] + [body(size if last is None else last, count)]


@pytest.mark.parametrize(
    "parts",
    [equal(1, 100), equal(2, 100), equal(44, 1427), equal(64, 60), equal(3, 1000, 1), equal(2, 1432, 28)],
    ids=lambda parts: f"{len(parts)}x{len(parts[0])}",
)
def test_a_record_leaves_as_its_datagrams(lab: UdpLab, parts: list[bytes]) -> None:
    assert lab.push([lab.to_other(parts)]) == 1
    assert lab.received(len(parts)) == parts
    counts = lab.counts()
    assert counts["udp_send_datagrams"] == len(parts)
    assert counts["udp_send_bytes"] == sum(map(len, parts))
    assert len(counts) == 2


def test_many_records_in_one_call(lab: UdpLab) -> None:
    records = [lab.to_other(equal(1 + n % 3, 40 + n)) for n in range(150)]
    assert lab.push(records) == 150
    assert lab.received(300) == [part for record in records for part in record.datagrams()]


def test_a_small_budget(lab: UdpLab) -> None:
    records = [lab.to_other([body(50, n)]) for n in range(5)]
    assert lab.push(records, 2) == 2
    assert lib.zt_udp_push(lab.udp, 2) == 2
    assert lib.zt_udp_push(lab.udp, 2) == 1
    assert lib.zt_udp_push(lab.udp, 2) == 0
    assert lab.received(5) == [record.data for record in records]


def test_unknown_binding_or_family(lab: UdpLab) -> None:
    record = lab.to_other(equal(3, 50))
    record.binding = 8
    lab.push([record])
    record = lab.to_other(equal(2, 50))
    record.remote = (bytes(16), 9993)
    lab.push([record])
    assert lab.counts() == {"drop_no_binding": 5}


def test_a_refused_datagram_does_not_stop_the_others(lab: UdpLab) -> None:
    bad = lab.to_other(equal(4, 100))
    bad.remote = (bytes((127, 0, 0, 1)), 0)  # no port: EINVAL
    good = [lab.to_other([body(70, n)]) for n in range(3)]
    lab.push([good[0], bad, good[1], good[2]])
    assert lab.received(3) == [record.data for record in good]
    assert lab.counts()["drop_send_error"] == 4
    assert "udp_gso_refused" not in lab.counts(), "the remote was at fault, not the segmentation"


def test_too_long_for_udp(lab: UdpLab) -> None:
    lab.push([lab.to_other([body(65530)])])
    assert lab.counts() == {"drop_send_oversize": 1}


def test_a_batch_that_the_kernel_will_not_segment_is_sent_one_by_one() -> None:
    """More than UDP_MAX_SEGMENTS pieces are refused with EINVAL, as is everything on a kernel without UDP_SEGMENT."""
    with UdpLab() as lab:
        parts = equal(700, 40)
        lab.push([lab.to_other(parts)])
        assert lab.received(700) == parts
        assert lab.counts()["udp_gso_refused"] == 1
        lab.push([lab.to_other(equal(4, 40))])
        assert lab.received(4) == equal(4, 40)
        assert lab.counts()["udp_gso_refused"] == 1


def test_segmentation_comes_back_after_an_io_error() -> None:
    """The kernel says EIO where the device makes no checksums, as of UDP-Lite, which has checksums of its own kind."""
    try:
        lite = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE) for _ in range(2)]
    except OSError as error:
        pytest.skip(f"NOT TESTED: no UDP-Lite: {error}")
    with lite[0] as sender, lite[1] as receiver, UdpLab() as lab:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        assert lib.zt_udp_add(lab.udp, sender.fileno(), 8, 4) == 0
        parts = equal(5, 100)
        record = lab.to_other(parts)
        record.binding, record.remote = 8, lab.endpoint(receiver)
        for _ in range(2):
            lab.push([record])
            assert [receiver.recv(1000) for _ in parts] == parts
            assert lab.counts()["udp_gso_refused"] == 1, "it is not tried each time"
            assert "drop_send_error" not in lab.counts()
        os.dup2(lab.socket.fileno(), sender.fileno())  # the same socket, on a device that does
        record.remote = lab.endpoint(lab.other)
        lab.other.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        lab.push([record])
        assert lab.received(5) == parts
        lab.tables.set_clock(1_000_000 + 11_000)
        lab.push([record])
        assert lab.received(1) == [b"".join(parts)], "in one piece, as it was sent"


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("offload", [ALL_OFFLOADS, NO_GSO])
def test_pull(ipv6: bool, offload: int) -> None:
    with UdpLab(offload=offload, ipv6=ipv6) as lab:
        sent = [body(n, n) for n in (1, 28, 1432, 1432, 1432, 700, 9000, 10024)]
        for data in sent:
            lab.other.sendto(data, lab.socket.getsockname())
        records = lab.pull(len(sent))
        assert [part for record in records for part in record.datagrams()] == sent
        assert {(r.remote, r.binding, r.peer) for r in records} == {(lab.endpoint(lab.other), 7, 0xFFFFFFFF)}
        counts = lab.counts()
        assert counts == {"udp_receive_datagrams": len(sent), "udp_receive_bytes": sum(map(len, sent))}


def test_gro_keeps_a_batch_together() -> None:
    with UdpLab() as one, UdpLab() as two:
        parts = equal(44, 1427)
        record = one.to_other(parts)
        record.remote = two.endpoint(two.socket)
        one.push([record])
        (got,) = two.pull(44)
        assert got.datagrams() == parts
        assert (got.seg, got.nseg) == (1427, 44)
        assert got.remote == one.endpoint(one.socket)


@pytest.mark.parametrize("offload", [ALL_OFFLOADS, NO_GSO])
def test_what_gro_does_not_gather_is_gathered_here(offload: int) -> None:
    with UdpLab(offload=offload) as lab:
        for data in equal(16, 50):
            lab.other.sendto(data, lab.socket.getsockname())
        lab.pull(16)  # one by one if GRO is on: from now on many are taken at once
        sizes = [1432, 1432, 700, 1432, 300, 301, 28, 28, 1432]
        for number, size in enumerate(sizes):
            lab.other.sendto(body(size, number), lab.socket.getsockname())
        records = lab.pull(len(sizes))
        assert [part for r in records for part in r.datagrams()] == [body(size, i) for i, size in enumerate(sizes)]
        assert [(r.seg, r.nseg) for r in records] == [(1432, 3), (1432, 2), (301, 2), (28, 1), (1432, 1)]


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 1500), st.booleans()), min_size=1, max_size=12),
    gro=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_mixture_arrives_whole_and_in_order(batches: list[tuple[int, int, bool]], gro: bool, seed: int) -> None:
    """Batches and single datagrams of two senders, and rings that are full now and then."""
    rng = random.Random(seed)
    with UdpLab(slots=2) as one, UdpLab(offload=ALL_OFFLOADS if gro else NO_GSO, slots=2) as two:
        sent: dict[Endpoint, list[bytes]] = {one.endpoint(one.socket): [], two.endpoint(two.other): []}
        got: dict[Endpoint, list[bytes]] = {sender: [] for sender in sent}
        for number, (count, size, together) in enumerate(batches):
            parts = [body(size, number * 40 + i) for i in range(count)]
            if together:
                record = one.to_other(parts)
                record.remote = two.endpoint(two.socket)
                one.push([record])
                sent[one.endpoint(one.socket)] += parts
            else:
                for part in parts:
                    two.other.sendto(part, two.socket.getsockname())
                sent[two.endpoint(two.other)] += parts
            for _ in range(rng.randrange(3)):  # more calls than the ring has slots for
                lib.zt_udp_pull(two.udp, 7)
            if rng.random() < 0.5:
                collect(got, two.rings[0][0].take())
        collect(got, two.pull(sum(map(len, sent.values())) - sum(map(len, got.values()))))
        assert got == sent
        assert two.counts()["udp_receive_datagrams"] == sum(map(len, sent.values()))


def collect(got: dict[Endpoint, list[bytes]], records: list[Record]) -> None:
    for record in records:
        assert record.remote is not None
        got[record.remote] += record.datagrams()


def test_a_datagram_longer_than_the_buffer() -> None:
    with UdpLab(offload=NO_GSO) as lab:
        lab.other.sendto(body(20_000), lab.socket.getsockname())
        lab.other.sendto(body(100), lab.socket.getsockname())
        assert [r.data for r in lab.pull(1)] == [body(100)]
        assert lab.counts()["drop_truncated_datagram"] == 1


def test_empty_datagrams() -> None:
    for offload in (ALL_OFFLOADS, NO_GSO):
        with UdpLab(offload=offload) as lab:
            lab.other.sendto(b"", lab.socket.getsockname())
            lab.other.sendto(b"x", lab.socket.getsockname())
            assert [r.data for r in lab.pull(1)] == [b"x"]
            assert lab.counts()["drop_short_datagram"] == 1


@pytest.mark.parametrize("offload", [ALL_OFFLOADS, NO_GSO])
def test_one_remote_takes_one_ring_and_remotes_spread(offload: int) -> None:
    with UdpLab(offload=offload, crypto=4, slots=16) as lab:
        senders = [lab.bind() for _ in range(32)]
        for round_ in range(3):
            for number, sender in enumerate(senders):
                sender.sendto(bytes((number, round_)), lab.socket.getsockname())
        seen: dict[int, list[int]] = {}
        rounds: dict[int, list[int]] = {}
        for _ in range(200):
            lib.zt_udp_pull(lab.udp, 1000)
            for ring, (there, _) in enumerate(lab.rings):
                for record in there.take():
                    for part in record.datagrams():
                        seen.setdefault(part[0], []).append(ring)
                        rounds.setdefault(part[0], []).append(part[1])
        assert all(len(rings) == 3 and len(set(rings)) == 1 for rings in seen.values())
        assert all(numbers == [0, 1, 2] for numbers in rounds.values())
        assert len({rings[0] for rings in seen.values()}) == 4
        for sender in senders:
            sender.close()


@pytest.mark.parametrize("offload", [ALL_OFFLOADS, NO_GSO])
def test_a_full_ring_leaves_datagrams_with_the_kernel(offload: int) -> None:
    with UdpLab(offload=offload, slots=2) as lab:
        sent = [body(9000 + n, n) for n in range(100)]
        for data in sent:
            lab.other.sendto(data, lab.socket.getsockname())
        assert 0 < lib.zt_udp_pull(lab.udp, 1000) < 100
        assert lib.zt_rings_blocked(lab.sets[0].pointer)
        assert [part for record in lab.pull(100) for part in record.datagrams()] == sent


def test_add_and_remove(lab: UdpLab) -> None:
    assert lib.zt_udp_add(lab.udp, -1, 1, 4) < 0
    assert lib.zt_udp_add(lab.udp, 0, 65536, 4) < 0
    assert lib.zt_udp_add(lab.udp, 0, 1, 5) < 0
    assert lib.zt_udp_remove(lab.udp, 9) < 0
    assert lib.zt_udp_remove(lab.udp, 7) == 0
    assert lib.zt_udp_pull(lab.udp, 10) == 0


def test_no_record_does_harm(lab: UdpLab) -> None:
    """Lengths that do not fit together, as a broken producer might write them."""
    for seg, nseg, length in ((0, 0, 0), (0, 5, 10), (100, 5, 10), (1, 1, 3), (0xFFFF, 0xFFFF, 200)):
        lab.push([Record(body(length), binding=7, remote=lab.endpoint(lab.other), seg=seg, nseg=nseg)])
