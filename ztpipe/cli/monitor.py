"""``ztpipe monitor``: what rules of a network copy to this node, and what members report to it (docs/monitor.md)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from ztpipe import config, observed, pcapng
from ztpipe.cli.errors import guarded
from ztpipe.cli.frametext import describe, length_on_wire, when

_DIRECTIONS: Final = {"outbound": pcapng.OUTBOUND, "inbound": pcapng.INBOUND}
_MEGABYTE: Final = 1_000_000


@click.command(name="monitor")
@click.argument("network", metavar="NETWORK")
@click.argument("home", required=False, type=click.Path(path_type=Path))
@click.option("-w", "--write", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write pcapng files too.")
@click.option("--size", default=100, show_default=True, type=click.IntRange(1), help="Megabytes of one file.")
@click.option("--files", default=10, show_default=True, type=click.IntRange(1), help="How many files are kept.")
@click.option("--mirror", metavar="DEVICE", help="Send the frames out of this network device too, for an IDS.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the summary.")
@click.option("-c", "--count", type=click.IntRange(1), help="Stop after so many frames and reports.")
def command(
    network: str,
    home: Path | None,
    file: Path | None,
    size: int,
    files: int,
    mirror: str | None,
    as_json: bool,
    quiet: bool,
    count: int | None,
) -> None:
    """Show what reaches this node as an observer of NETWORK (16 hex digits).

    Frames come from rules of the network that tee, watch or redirect to this node's address; reports come from members
    whose configuration names it as the target of remote traces. The node runs in HOME (ZEROTIER_HOME, else
    /var/lib/zerotier-one). Ends with Ctrl-C or when the node stops.
    """
    if len(network) != 16 or not set(network.lower()) <= set("0123456789abcdef"):
        raise click.BadParameter("expected 16 hex digits", param_hint="NETWORK")
    chosen = home or Path(os.environ.get("ZEROTIER_HOME") or config.DEFAULT_HOME)

    def work() -> int:
        with contextlib.ExitStack() as stack:
            sinks = _Sinks(stack, file, size * _MEGABYTE, files, mirror, network)
            sock = stack.enter_context(_connect(chosen, int(network, 16)))
            return _follow(sock, sinks, count, as_json=as_json, quiet=quiet)

    for ending in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell ignores it for what it starts with &
        signal.signal(ending, signal.default_int_handler)
    sys.exit(guarded("ztpipe monitor", work))


class _Sinks:
    """Where frames go besides the terminal."""

    def __init__(
        self, stack: contextlib.ExitStack, file: Path | None, size: int, files: int, mirror: str | None, network: str
    ) -> None:
        self._writer = self._mirror = None
        self.refused = 0
        if file is not None:
            self._writer = pcapng.RotatingWriter(file, network, size=size, keep=files)
            stack.callback(self._writer.close)
        if mirror is not None:
            self._mirror = stack.enter_context(_raw_socket(mirror))

    def take(self, frame: observed.Frame) -> None:
        if self._writer is not None:
            comment = " ".join(filter(None, (f"{frame.sender:010x}", frame.action, frame.direction, frame.rule_text)))
            length = length_on_wire(frame.data)
            direction = _DIRECTIONS.get(frame.direction, 0)
            self._writer.write(pcapng.packet(frame.at, frame.data, length=length, comment=comment, direction=direction))
        if self._mirror is not None:
            try:
                self._mirror.send(frame.data)
            except OSError:  # longer than the device's MTU, or the device is down
                self.refused += 1


def _raw_socket(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.bind((device, 0))
    except OSError as error:
        sock.close()
        reason = f"{os.strerror(error.errno or 0)}; make it with: {_advice(device)}"
        raise OSError(error.errno, reason, device) from error
    return sock


def _advice(device: str) -> str:
    return f"ip link add {device} mtu 10000 up type dummy"


def _connect(home: Path, nwid: int) -> socket.socket:
    path = observed.socket_path(config.load(home, environment=os.environ).run_dir)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(str(path))
        sock.send(observed.encode(observed.Ask(nwid)))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{os.strerror(error.errno or 0)}; does the node run?", str(path)) from error
    return sock


def _follow(sock: socket.socket, sinks: _Sinks, count: int | None, *, as_json: bool, quiet: bool) -> int:
    frames = reports = lost = 0
    with contextlib.suppress(KeyboardInterrupt):
        for message in _messages(sock):
            if isinstance(message, observed.Lost):
                lost += message.count
                continue
            if isinstance(message, observed.Frame):
                frames += 1
                sinks.take(message)
            else:
                reports += 1
            if not quiet:
                print(_as_json(message) if as_json else _as_text(message), flush=True)
            if count is not None and frames + reports >= count:
                break
        else:
            print("the node has stopped", file=sys.stderr)
    summary = f"{frames} frames, {reports} reports, {lost} lost because this program was too slow"
    if sinks.refused:
        summary += f", {sinks.refused} not mirrored (is the device up, and its MTU large enough?)"
    print(summary, file=sys.stderr)
    return 0


def _messages(sock: socket.socket) -> Iterator[observed.Message]:
    while data := sock.recv(observed.MAX_MESSAGE):
        yield observed.decode(data)


def _as_text(message: observed.Frame | observed.Trace) -> str:
    if isinstance(message, observed.Frame):
        why = " ".join(filter(None, (message.action, message.direction, message.rule_text)))
        return f"{when(message.at)} {message.sender:010x} {why}: {describe(message.data)}"
    fields = " ".join(f"{key}={value}" for key, value in message.fields.items() if key != "frameData")
    return f"{when(message.at)} {message.sender:010x} trace: {fields}"


def _as_json(message: observed.Frame | observed.Trace) -> str:
    line: dict[str, object] = {"time": message.at / 1e9, "sender": f"{message.sender:010x}"}
    if isinstance(message, observed.Trace):
        return json.dumps(line | {"type": "trace", "fields": message.fields})
    line |= {"type": message.action, "direction": message.direction, "rule": message.rule}
    return json.dumps(line | {"capability": message.capability, "frame": message.data.hex()})
