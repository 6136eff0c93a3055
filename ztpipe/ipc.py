"""Messages between control and its workers.

Upwards (worker -> control): ZeroMQ, DEALER to ROUTER over ``ipc://<run_dir>/control.sock``; each message one msgpack
array ``[kind, ...]``: a flush of punts, an answer to a command, an event. Bounded by the high-water mark: what would
block is dropped, and punts are then counted as drop_punt_overflow. That a worker lives shows in its counter of beats.

Downwards (control -> worker): one SOCK_SEQPACKET socket pair per worker; each message one msgpack array
``[sequence, command, ...]`` with the file descriptors it speaks of attached, so a command and its descriptors cannot be
told apart or come in another order. The end of that socket tells a worker that control is gone.

Frames never come this way: they are in the rings.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack
import zmq

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Command",
    "CommandReader",
    "CommandWriter",
    "Downlink",
    "GatherAsked",
    "Message",
    "MessageKind",
    "Punt",
    "PuntKind",
    "Uplink",
    "endpoint",
    "iter_punts",
    "parse",
]

HIGH_WATER: Final = 16  # messages; a flush of punts is at most 256 KiB
_MAX_COMMAND: Final = 4096
_MAX_FDS: Final = 16


def endpoint(run_dir: str | Path) -> str:
    """The ZeroMQ endpoint of control."""
    return f"ipc://{run_dir}/control.sock"


# ---- punts ----------------------------------------------------------------------------------------------------------


class PuntKind(IntEnum):
    """What the C stages handed to the slow path (``enum zt_punt_kind``)."""

    DATAGRAM = 1  # one datagram as received
    PACKET = 2  # a reassembled packet, still sealed
    FRAME = 3  # an Ethernet frame from the TAP, complete
    UNKNOWN_PATH = 4  # an authenticated frame of `address` came over a path that is not in the table
    GATHER = 5  # `address` asked with an accepted frame who is in a group of `nwid`: see `GatherAsked`
    GROUP = 6  # an Ethernet frame, of `address` or from the TAP, that was sent to its group, whose entry is due
    BRIDGED = 7  # a MAC (8 bytes, the machine's order) behind the bridge `address`, whose entry is due to be renewed


class Punt(NamedTuple):
    """One punt. `remote` is (ip, port) or None."""

    kind: PuntKind
    binding: int
    remote: tuple[bytes, int] | None
    nwid: int
    address: int
    data: bytes


class GatherAsked(NamedTuple):
    """The data of a GATHER punt (``struct zt_punt_gather``). `size`: bytes of the packet as it came."""

    packet_id: int
    mac: int
    adi: int
    limit: int
    size: int
    hops: int
    suite: int

    @classmethod
    def unpack(cls, data: bytes) -> GatherAsked:
        """ValueError: not one."""
        try:
            packet_id, *rest = _GATHER.unpack(data)
        except struct.error as error:
            raise ValueError(str(error)) from None
        return cls(int.from_bytes(packet_id, "big"), *rest)


_GATHER: Final = struct.Struct("=8sQIIIBBxx")  # struct zt_punt_gather
_PUNT: Final = struct.Struct("=IHH16sHBxIQQ")  # struct zt_punt


def iter_punts(blob: bytes) -> Iterator[Punt]:
    """The punts in one flush; ends early, without an exception, where the blob does not hold what it says."""
    at = 0
    while at + _PUNT.size <= len(blob):
        size, kind, binding, ip, port, family, _, nwid, address = _PUNT.unpack_from(blob, at)
        at += _PUNT.size
        if size > len(blob) - at or kind not in PuntKind._value2member_map_:
            return
        remote = (ip[:4] if family == 4 else ip, port) if family in (4, 6) else None
        yield Punt(PuntKind(kind), binding, remote, nwid, address, blob[at : at + size])
        at += (size + 7) & ~7


# ---- worker -> control ----------------------------------------------------------------------------------------------


class MessageKind(IntEnum):
    """First element of a message from a worker."""

    READY = 1  # [pid]: attached to everything, looping
    PUNTS = 2  # [count, blob]
    DONE = 3  # [sequence, errno]: a command was carried out (0) or failed
    HEARTBEAT = 4  # [sequence]: of the last command seen, once a second at most, in case that its DONE was dropped
    EVENT = 5  # [name, fields]


class Message(NamedTuple):
    """A message as control gets it. `fields` have been checked against `kind`."""

    worker: str
    generation: int
    kind: MessageKind
    fields: tuple[Any, ...]


_FIELDS: Final[dict[MessageKind, tuple[type, ...]]] = {
    MessageKind.READY: (int,),
    MessageKind.PUNTS: (int, bytes),
    MessageKind.DONE: (int, int),
    MessageKind.HEARTBEAT: (int,),
    MessageKind.EVENT: (str, dict),
}


class Uplink:
    """The worker's end. Never blocks."""

    def __init__(self, where: str, worker: str, generation: int) -> None:
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, f"{worker}#{generation}".encode())
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        self._socket.setsockopt(zmq.LINGER, 100)
        self._socket.connect(where)

    def send(self, kind: MessageKind, *fields: object) -> bool:
        """False: control is not reading fast enough, and the message is dropped."""
        try:
            self._socket.send(msgpack.packb((kind, *fields)), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Wait at most 100 ms for what is queued, then drop it."""
        self._context.destroy(linger=100)


def parse(parts: Sequence[bytes]) -> Message | None:
    """A message as it came, sender first; None if it is none."""
    try:
        sender, body = parts
        worker, _, generation = sender.decode().partition("#")
        kind, *fields = msgpack.unpackb(body)
        kind = MessageKind(kind)
        if len(fields) != len(_FIELDS[kind]) or not all(map(isinstance, fields, _FIELDS[kind])):
            return None
        return Message(worker, int(generation), kind, tuple(fields))
    except (ValueError, TypeError, msgpack.UnpackException):
        return None


# ---- control -> worker ----------------------------------------------------------------------------------------------


class Command(IntEnum):
    """Second element of a message to a worker."""

    ADD_TAP = 1  # [network] + 1 fd
    REMOVE_TAP = 2  # [network]
    ADD_BINDING = 3  # [binding, family] + 1 fd
    REMOVE_BINDING = 4  # [binding]
    PING = 5  # []
    STOP = 6  # []
    HOLD = 7  # []: pull nothing any more; answered with EBUSY while anything lies in the worker's inputs


class Downlink(NamedTuple):
    """A command as its worker gets it; the descriptors in `fds` are the receiver's to close."""

    sequence: int
    command: Command
    arguments: tuple[int, ...]
    fds: tuple[int, ...]


class CommandWriter:
    """Control's end. Never blocks: what the socket does not take waits, with its own copies of the descriptors."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._socket = ours
        self._theirs: socket.socket | None = theirs
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self.sequence = 0

    @property
    def worker_fd(self) -> int:
        """The end to pass to the worker; valid until `started`."""
        assert self._theirs is not None
        return self._theirs.fileno()

    def started(self) -> None:
        """The worker has its end: close ours of it, so that the worker's death shows."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def send(self, command: Command, *arguments: int, fds: Sequence[int] = ()) -> int:
        """Queue a command; returns its sequence number. `fds` stay the caller's."""
        self.sequence += 1
        body = msgpack.packb((self.sequence, command, *arguments))
        self._waiting.append((body, [os.dup(fd) for fd in fds]))
        self.flush()
        return self.sequence

    def flush(self) -> bool:
        """Send what waits. False while something still does: call again later."""
        while self._waiting:
            body, fds = self._waiting[0]
            try:
                socket.send_fds(self._socket, [body], fds)
            except BlockingIOError:
                return False
            except OSError:  # the worker is dead; its successor gets everything anew
                pass
            self._waiting.popleft()
            _close_all(fds)
        return True

    def close(self) -> None:
        """Close; the worker sees the end of the socket."""
        self.started()
        self._socket.close()
        for _, fds in self._waiting:
            _close_all(fds)
        self._waiting.clear()


class CommandReader:
    """The worker's end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self.closed = False

    def fileno(self) -> int:
        """For polling."""
        return self._socket.fileno()

    def receive(self) -> list[Downlink]:
        """Everything that has arrived. `closed` becomes True when control has gone."""
        received: list[Downlink] = []
        while not self.closed:
            try:
                body, fds, _, _ = socket.recv_fds(self._socket, _MAX_COMMAND, _MAX_FDS)
            except BlockingIOError:
                break
            except OSError:
                self.closed = True
                break
            if not body:
                self.closed = True
                break
            try:
                sequence, command, *arguments = msgpack.unpackb(body)
                received.append(Downlink(sequence, Command(command), tuple(arguments), tuple(fds)))
            except (ValueError, TypeError):  # of another version of the program: nothing we could do about it
                _close_all(fds)
        return received

    def close(self) -> None:
        """Close."""
        self._socket.close()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
