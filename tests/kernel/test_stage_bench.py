"""kernel/bench.c: the hooks do the work that they measure."""

from __future__ import annotations

from dataclasses import replace

from tests.kernel.stages_lab import NWID, REMOTE_A, A, B, Pipe, Record, pair
from tests.kernel.strategies import body
from tests.twins.frames import Frame
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.wire.address import mac_of


def image(records: list[Record]) -> bytes:
    """A slot as it lies in a ring."""
    pipe = Pipe()
    pipe.put(records)
    slot = lib.zt_ring_peek(pipe.consumer.end(0))
    return bytes(ffi.buffer(slot, slot.used))


def test_seal_and_open() -> None:
    frame = Frame(macs=mac_of(B, NWID).to_bytes(6, "big") + mac_of(A, NWID).to_bytes(6, "big"), payload=body(50_000))
    a, b = pair()
    with a, b:
        network, peer = a.tables.network_index(NWID) or 0, a.tables.peer_index(B) or 0
        plain = [Record(frame.vnet(2748) + frame.partial(), network=network, peer=peer)]
        sealed = [replace(record, remote=REMOTE_A) for record in a.seal(plain)]
        a_in, a_out = a.from_tap.producer.end(0), a.to_peer.consumer.end(0)
        b_in, b_out = b.from_peer.producer.end(0), b.to_tap.consumer.end(0)
        slot = image(plain)
        assert lib.zt_bench_stage(a.crypto, lib.ZT_BENCH_SEAL, a_in, a_out, slot, len(slot), 10) > 0
        slot = image(sealed)
        assert lib.zt_bench_stage(b.crypto, lib.ZT_BENCH_OPEN, b_in, b_out, slot, len(slot), 10) > 0
        assert a.counts()["seal_frames"] == 11
        assert b.counts()["open_packets"] == 10 * 19
        assert lib.zt_bench_stage(b.crypto, lib.ZT_BENCH_OPEN, b_in, b_out, slot, lib.ZT_SLOT_BYTES + 1, 1) == -1


def test_ring() -> None:
    pipe = Pipe()
    assert lib.zt_bench_ring(pipe.producer.end(0), pipe.consumer.end(0), 1000) > 0
    assert pipe.region.used == 0
