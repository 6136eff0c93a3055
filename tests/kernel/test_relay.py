"""kernel/relay.c over the loopback interface: what is for others, beside its twin node/relay.py."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.stages_lab import ALL_OFFLOADS, KEYS, A, B
from tests.kernel.test_udp import NO_GSO, UdpLab
from ztpipe.kernel._kernel import lib
from ztpipe.node.relay import Relay
from ztpipe.wire.packet import destination_of, hops_of, is_fragment, parse_header, with_hops

C, D, NOBODY = 0x1122334455, 0x5544332211, 0x7777777777
PACKET = int(lib.ZT_PUNT_DATAGRAM)


class RelayLab(UdpLab):
    """A root; B and C are its peers, and their datagrams go to `other` and `third`. D is reached through a relay."""

    def __init__(self, *, offload: int = ALL_OFFLOADS) -> None:
        super().__init__(offload=offload)
        self.third = self.bind()
        self.sender = self.bind()
        self.tables.set_relay(True)
        for address, at, direct in ((B, self.other, True), (C, self.third, True), (D, self.other, False)):
            remote = self.endpoint(at)
            self.tables.install_peer(address, KEYS.salsa32, KEYS.k0, KEYS.k1, 3, 7, remote, 1432, direct)

    def close(self) -> None:
        self.third.close()
        self.sender.close()
        super().close()

    def offer(self, datagrams: list[bytes], *, batches: bool = False) -> None:
        """Send them to the node; `batches`: runs of equal size as one segmented message, which GRO gives back whole."""
        for run in _runs(datagrams) if batches else [[d] for d in datagrams]:
            control = [(socket.SOL_UDP, 103, len(run[0]).to_bytes(2, "little"))] if len(run) > 1 else []
            self.sender.sendmsg([b"".join(run)], control, 0, self.socket.getsockname())

    def settle(self, datagrams: int) -> list[bytes]:
        """Pull until so many were received; those kept for the crypto workers, in order."""
        until = time.monotonic() + 10
        kept: list[bytes] = []
        while self.counts().get("udp_receive_datagrams", 0) < datagrams and time.monotonic() < until:
            lib.zt_udp_pull(self.udp, 1000)
            kept += [d for there, _ in self.rings for record in there.take() for d in record.datagrams()]
        return kept

    def arrived(self, at: socket.socket) -> list[bytes]:
        """What has been forwarded to `at` (loopback delivers before send returns)."""
        out = []
        while True:
            try:
                out.append(at.recv(70_000))
            except BlockingIOError:
                return out


def _runs(datagrams: list[bytes]) -> Iterator[list[bytes]]:
    run: list[bytes] = []
    for d in datagrams:
        full = run and (len(run[-1]) != len(run[0]) or len(run) == 60 or len(run[0]) * len(run) > 60_000)
        if full or (run and len(d) > len(run[0])):
            yield run
            run = []
        run.append(d)
    if run:
        yield run


@pytest.fixture(params=[ALL_OFFLOADS, NO_GSO], ids=["gso", "plain"])
def lab(request: pytest.FixtureRequest) -> Iterator[RelayLab]:
    with RelayLab(offload=request.param) as made:
        yield made


def head(
    destination: int, source: int, size: int = 100, *, hops: int = 0, fill: int = 1, fragmented: bool = False
) -> bytes:
    flags = 0x18 | hops | (0x40 if fragmented else 0)
    start = fill.to_bytes(8, "big") + destination.to_bytes(5, "big") + source.to_bytes(5, "big") + bytes((flags,))
    return start + bytes((fill & 0xFF,)) * (size - len(start))


def piece(destination: int, size: int = 100, *, hops: int = 0, fill: int = 1) -> bytes:
    start = fill.to_bytes(8, "big") + destination.to_bytes(5, "big") + b"\xff\x21" + bytes((hops,))
    return start + bytes((fill & 0xFF,)) * (size - len(start))


def introduced(lab: RelayLab, *pairs: tuple[int, int]) -> None:
    """Let the first packets of these pairs pass, which are punted."""
    lab.offer([head(*pair) for pair in pairs])
    lab.settle(len(pairs))
    assert len(lab.punts()) == len(pairs)


def test_a_packet_and_its_fragment_are_forwarded_with_one_hop_more(lab: RelayLab) -> None:
    introduced(lab, (B, C))
    sent = [head(B, C, 1400, hops=2, fragmented=True), piece(B, 600), piece(B, 17, hops=1), head(B, C, 28)]
    lab.offer(sent)
    assert lab.settle(5) == []
    assert lab.arrived(lab.other) == [with_hops(d, hops_of(d) + 1) for d in sent]
    counts = lab.counts()
    assert (counts["relay_datagrams"], counts["relay_bytes"]) == (4, 2045)
    assert (counts["udp_send_datagrams"], counts["udp_punted"], counts["udp_receive_datagrams"]) == (4, 1, 5)


def test_a_batch_leaves_as_it_came_without_a_copy(lab: RelayLab) -> None:
    introduced(lab, (B, C))
    sent = [head(B, C, 1427, fill=n) if n % 2 else piece(B, 1427, fill=n) for n in range(41)] + [piece(B, 300)]
    lab.offer(sent, batches=True)
    assert lab.settle(43) == []
    assert lab.arrived(lab.other) == [with_hops(d, 1) for d in sent]


def test_small_packets_of_several_messages_share_one(lab: RelayLab) -> None:
    introduced(lab, (B, C))
    sent = [head(B, C, 90, fill=n) for n in range(50)] + [head(C, B, 90, fill=n) for n in range(7)] + [head(B, C, 40)]
    lab.offer(sent)
    assert lab.settle(59) == []
    assert lab.arrived(lab.other) == [with_hops(d, 1) for d in sent if destination_of(d) == B]
    assert lab.arrived(lab.third) == [with_hops(d, 1) for d in sent if destination_of(d) == C]


def test_nothing_is_forwarded_unless_we_are_a_root(lab: RelayLab) -> None:
    lab.tables.set_relay(False)
    sent = [head(B, C), piece(B)]
    lab.offer(sent)
    assert lab.settle(2) == sent
    assert lab.arrived(lab.other) == []


def test_what_the_slow_path_has_to_route_is_left_alone(lab: RelayLab) -> None:
    """Unknown destinations and those behind another relay: open.c punts them."""
    sent = [head(NOBODY, C), piece(NOBODY), head(D, C), head(A, C), piece(A), b"\0" * 13, b"\0" * 27]
    lab.offer(sent)
    assert lab.settle(7) == sent
    assert lab.punts() == []


def test_of_a_pair_only_one_packet_is_punted(lab: RelayLab) -> None:
    """Either direction: whom to introduce is the same. The slow path forwards the punted one itself."""
    lab.offer([head(B, C, fill=n) for n in range(5)] + [head(C, B)])
    assert lab.settle(6) == []
    punts = lab.punts()
    assert [(p.kind, p.data) for p in punts] == [(PACKET, head(B, C, fill=0))]
    assert punts[0].remote == lab.endpoint(lab.sender) and punts[0].binding == 7
    assert len(lab.arrived(lab.other)) == 4 and len(lab.arrived(lab.third)) == 1


def test_a_pair_is_punted_again_after_half_a_minute(lab: RelayLab) -> None:
    introduced(lab, (B, C))
    lab.tables.set_clock(1_000_000 + 29_000)
    lab.offer([head(B, C)])
    lab.settle(2)
    assert lab.punts() == []
    lab.tables.set_clock(1_000_000 + 31_000)
    lab.offer([head(C, B)])
    lab.settle(3)
    assert len(lab.punts()) == 1


def test_unknown_sources_are_forwarded_and_cannot_flood_the_slow_path(lab: RelayLab) -> None:
    lab.offer([head(B, NOBODY + n) for n in range(100)])
    lab.settle(100)
    assert lab.punts() == []
    assert len(lab.arrived(lab.other)) == 100


def test_a_destination_that_moves_is_followed(lab: RelayLab) -> None:
    introduced(lab, (B, C))
    lab.tables.install_peer(B, KEYS.salsa32, KEYS.k0, KEYS.k1, 3, 7, lab.endpoint(lab.third), 1432, True)
    lab.offer([head(B, C)])
    lab.settle(2)
    assert len(lab.arrived(lab.third)) == 1
    lab.tables.remove_peer(B)
    lab.offer([head(B, C)])
    assert lab.settle(3) == [head(B, C)]


# ---- beside the twin -----------------------------------------------------------------------------------------------

ADDRESSES = st.sampled_from([A, B, C, D, NOBODY])
HEADS = st.builds(head, ADDRESSES, ADDRESSES, st.sampled_from([28, 90, 90, 1400]), hops=st.integers(0, 7))
PIECES = st.builds(piece, ADDRESSES, st.sampled_from([17, 90, 90, 1400]), hops=st.integers(0, 7))


def twin(datagrams: list[bytes], told: set[frozenset[int]]) -> tuple[list[bytes], dict[int, list[bytes]], Counter[str]]:
    """What node/relay.py does with them as a root: (not for it or not to forward, sent by address, drops).

    `told`: pairs that it heard of; the rest it gets as notices.
    """
    kept: list[bytes] = []
    out: dict[int, list[bytes]] = {B: [], C: []}
    drops: Counter[str] = Counter()

    def peer(address: int) -> Any:
        best = SimpleNamespace(path=address) if address in (B, C) else None
        return SimpleNamespace(address=address, best_path=lambda now: best)

    core = SimpleNamespace(
        topology=SimpleNamespace(we_are_root=True),
        known=lambda address: peer(address) if address in (B, C, D) else None,
        best_root=lambda now: None,
        put=lambda now, path, data: out[path].append(data),
        drop=lambda reason: drops.update([reason]),
        rendezvous=SimpleNamespace(introduce=lambda now, target, source: told.add(frozenset((target.address, source)))),
    )
    relay = Relay(cast(Any, core))
    for data in datagrams:
        destination, before = destination_of(data), drops.copy()
        if destination == A:
            kept.append(data)
        elif is_fragment(data):
            relay.fragment(0, None, data, destination, hops_of(data))
        else:
            source = parse_header(data).source
            if source in (A, destination):
                drops["own_source" if source == A else "source_is_destination"] += 1
                continue
            relay.packet(0, None, data, destination, source, hops_of(data))
        if drops["relay_no_route"] > before["relay_no_route"]:
            kept.append(data)
    del drops["relay_no_route"]
    return kept, out, drops


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HEADS | PIECES, min_size=1, max_size=60), st.booleans(), st.sampled_from([ALL_OFFLOADS, NO_GSO]))
def test_as_its_twin(datagrams: list[bytes], batches: bool, offload: int) -> None:
    told: set[frozenset[int]] = set()
    kept, out, drops = twin(datagrams, told)
    with RelayLab(offload=offload) as lab:
        lab.offer(datagrams, batches=batches)
        assert lab.settle(len(datagrams)) == kept
        punts = [p.data for p in lab.punts()]
        assert {frozenset((destination_of(d), parse_header(d).source)) for d in punts} == told
        assert len(punts) == len(told)
        found = {B: lab.arrived(lab.other), C: lab.arrived(lab.third)}
        for d in punts:  # the slow path forwards these
            found[destination_of(d)].append(with_hops(d, hops_of(d) + 1))
        assert {to: sorted(got) for to, got in found.items()} == {to: sorted(got) for to, got in out.items()}
        counts = lab.counts()
        assert Counter({k[5:]: v for k, v in counts.items() if k.startswith("drop_")}) == drops
        ends = len(kept) + counts.get("relay_datagrams", 0) + counts.get("udp_punted", 0) + drops.total()
        assert counts["udp_receive_datagrams"] == ends == len(datagrams)
