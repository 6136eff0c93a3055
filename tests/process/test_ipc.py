"""Messages between control and workers: nothing that arrives damaged does harm, and nothing blocks."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import msgpack
import zmq
from hypothesis import given
from hypothesis import strategies as st

from ztpipe.hub import Hub
from ztpipe.ipc import (
    Command,
    CommandReader,
    CommandWriter,
    MessageKind,
    Punt,
    PuntKind,
    Uplink,
    endpoint,
    iter_punts,
)
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.counters import INDEX

_remotes = st.one_of(
    st.none(),
    st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 65535)),
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 65535)),
)
_punts = st.builds(
    Punt,
    kind=st.sampled_from(PuntKind),
    binding=st.integers(0, 65535),
    remote=_remotes,
    nwid=st.integers(0, 2**64 - 1),
    address=st.integers(0, 2**64 - 1),
    data=st.binary(max_size=100),
)


class _Context:
    """A kernel context for punts, without tables or bells."""

    def __init__(self) -> None:
        self.counters = ffi.new("uint64_t[]", lib.ZT_COUNTER_BLOCK)
        self.pointer = ffi.gc(lib.zt_context_new(ffi.NULL, ffi.NULL, self.counters, ffi.NULL, 0), lib.zt_context_free)

    def add(self, punt: Punt) -> bool:
        ip, port = punt.remote or (b"", 0)
        remote = {"ip": ip.ljust(16, b"\0"), "port": port, "family": {0: 0, 4: 4, 16: 6}[len(ip)]}
        head = ffi.new("struct zt_punt *", {"kind": punt.kind, "binding": punt.binding, "remote": remote})
        head.nwid, head.address = punt.nwid, punt.address
        return bool(lib.zt_punt_add(self.pointer, head, punt.data, len(punt.data)))

    def blob(self) -> bytes:
        punts = self.pointer.punts
        return bytes(ffi.buffer(punts.data, punts.used))


@given(st.lists(_punts, max_size=8))
def test_punts_come_out_of_python_as_they_went_into_c(punts: list[Punt]) -> None:
    context = _Context()
    for punt in punts:
        assert context.add(punt)
    assert list(iter_punts(context.blob())) == punts
    assert context.pointer.punts.count == len(punts)


def test_a_full_punt_buffer_refuses_and_counts() -> None:
    context = _Context()
    punt = Punt(PuntKind.DATAGRAM, 0, None, 0, 0, bytes(1400))
    taken = 0
    while context.add(punt):
        taken += 1
    assert taken * 1400 > lib.ZT_PUNT_BYTES * 9 // 10
    assert context.counters[INDEX["drop_punt_overflow"]] == 1
    assert len(list(iter_punts(context.blob()))) == taken


@given(st.binary(max_size=300))
def test_any_blob_can_be_read(blob: bytes) -> None:
    for punt in iter_punts(blob):
        assert len(punt.data) <= len(blob)


@given(st.lists(_punts, min_size=1, max_size=4), st.data())
def test_a_blob_that_was_cut_gives_a_prefix(punts: list[Punt], data: st.DataObject) -> None:
    context = _Context()
    for punt in punts:
        context.add(punt)
    blob = context.blob()
    cut = list(iter_punts(blob[: data.draw(st.integers(0, len(blob) - 1))]))
    assert cut == punts[: len(cut)]


# ---- commands --------------------------------------------------------------------------------------------------------


def _channel() -> tuple[CommandWriter, CommandReader]:
    writer = CommandWriter()
    reader = CommandReader(os.dup(writer.worker_fd))
    writer.started()
    return writer, reader


def test_descriptors_come_with_their_command() -> None:
    writer, reader = _channel()
    read_end, write_end = os.pipe()
    writer.send(Command.ADD_TAP, 5, fds=(write_end,))
    os.close(write_end)
    assert writer.send(Command.REMOVE_TAP, 5) == 2
    add, remove = reader.receive()
    assert (add.sequence, add.command, add.arguments) == (1, Command.ADD_TAP, (5,))
    assert (remove.sequence, remove.command, remove.arguments, remove.fds) == (2, Command.REMOVE_TAP, (5,), ())
    os.write(add.fds[0], b"x")
    assert os.read(read_end, 1) == b"x"


def test_more_commands_than_the_socket_takes_wait_in_order() -> None:
    writer, reader = _channel()
    read_end, _ = os.pipe()
    for n in range(2000):
        writer.send(Command.ADD_TAP, n, fds=(read_end,) if n % 50 == 0 else ())
    assert not writer.flush(), "the test is to fill the socket"
    seen = []
    while len(seen) < 2000:
        arrived = reader.receive()
        assert arrived
        seen += arrived
        writer.flush()
    assert [order.arguments[0] for order in seen] == list(range(2000))
    assert [len(order.fds) for order in seen[:51]] == [1] + [0] * 49 + [1]
    assert writer.flush()


def test_a_command_that_cannot_be_read_is_dropped_with_its_descriptors() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader = CommandReader(theirs.detach())
    before = len(os.listdir("/proc/self/fd"))
    for body in (b"\xc1", b"\x90", msgpack.packb([1]), msgpack.packb([1, 99]), msgpack.packb("text"), msgpack.packb(7)):
        socket.send_fds(ours, [body], [0])
    assert reader.receive() == []
    assert not reader.closed
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_of_control_shows() -> None:
    writer, reader = _channel()
    writer.send(Command.PING)
    writer.close()
    assert [order.command for order in reader.receive()] == [Command.PING]
    assert reader.closed


def test_a_dead_worker_is_not_an_error_for_control() -> None:
    writer, reader = _channel()
    reader.close()
    writer.send(Command.STOP)
    assert writer.flush()


# ---- messages --------------------------------------------------------------------------------------------------------


async def test_messages_go_up(tmp_path: Path) -> None:
    hub, uplink = Hub(endpoint(tmp_path)), Uplink(endpoint(tmp_path), "crypto-1", 4)
    assert uplink.send(MessageKind.PUNTS, 2, b"blob")
    message = await hub.receive()
    assert message == ("crypto-1", 4, MessageKind.PUNTS, (2, b"blob"))
    uplink.close()
    hub.close()


async def test_many_messages_come_one_by_one_and_others_have_their_turn(tmp_path: Path) -> None:
    """The descriptor tells of the first only; bursts, and what comes while one is read, are complete and in order."""
    hub, uplink = Hub(endpoint(tmp_path)), Uplink(endpoint(tmp_path), "crypto-1", 4)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    sent = received = 0
    try:
        for burst in (1, 2, 300, 1, 40, 3):
            before, wanted = turns, sent + burst
            while received < wanted:
                while sent < wanted and uplink.send(MessageKind.PUNTS, sent, b"x"):
                    sent += 1
                if sent == received:  # the pipe is not known to be empty again yet
                    await asyncio.sleep(0.001)
                    continue
                async with asyncio.timeout(20):
                    message = await hub.receive()
                assert message.fields[0] == received
                received += 1
            assert turns > before or burst < 32
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
        uplink.close()
        hub.close()


async def test_what_is_not_a_message_is_counted(tmp_path: Path) -> None:
    hub = Hub(endpoint(tmp_path))
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.setsockopt(zmq.IDENTITY, b"tap-0#1")
    stranger.connect(endpoint(tmp_path))
    bad = [b"", b"\xc1", msgpack.packb(5), msgpack.packb([99]), msgpack.packb([2, "x", b""]), msgpack.packb([2, 1])]
    for body in bad:
        stranger.send(body)
    stranger.send_multipart([b"a", b"b"])
    stranger.send(msgpack.packb([MessageKind.HEARTBEAT, 1]))
    assert (await hub.receive()).kind is MessageKind.HEARTBEAT
    assert hub.malformed == len(bad) + 1
    context.destroy(linger=0)
    hub.close()


def test_a_control_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    uplink = Uplink(endpoint(tmp_path), "tap-0", 1)  # nobody is there
    results = [uplink.send(MessageKind.PUNTS, 1, bytes(1000)) for _ in range(100)]
    assert True in results
    assert results[-1] is False
    uplink.close()
