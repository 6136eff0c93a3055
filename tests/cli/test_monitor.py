"""``ztpipe monitor`` at the socket of a node: what it prints and writes, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ztpipe.node.actions import Event, ObservedFrame
from ztpipe.runtime.monitor import MonitorServer
from ztpipe.wire import dictionary

NWID = 0x8056C2E21C000001
SENDER = 0x89E92CEEE5
#: An echo request of 84 bytes from 10.0.0.1 to 10.0.0.2, cut short by the rule.
ECHO = bytes.fromhex("45000054000040004001 0000 0a000001 0a000002 0800 0000 0001 0001")
SEEN = ObservedFrame(NWID, SENDER, 0x02, 1, None, 0x112233445566, 0xAABBCCDDEEFF, 0x0800, ECHO)


def monitor(home: Path, *arguments: str) -> tuple[int, str, str]:
    """What the command says to two frames and a report; ends when the node does, or by itself."""

    async def go() -> tuple[int, str, str]:
        server = MonitorServer(home / "run")
        server.start()
        argv = [sys.executable, "-m", "ztpipe", "monitor", f"{NWID:016x}", str(home), *arguments]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while not server._clients and process.returncode is None:
                    await asyncio.sleep(0.02)
        for _ in range(2):
            server.frame(SEEN)
        data = dictionary.encode({"event": "2002", "networkId": NWID, "reason": "not a bridge"})
        server.trace(Event("remote_trace", {"source": SENDER, "data": data}))
        server.stop()
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    return asyncio.run(go())


def test_printed(tmp_path: Path) -> None:
    status, out, err = monitor(tmp_path)
    assert status == 0
    first, _, report = out.splitlines()
    assert first.partition(" ")[2] == (
        "89e92ceee5 tee outbound rule 1: aa:bb:cc:dd:ee:ff > 11:22:33:44:55:66 IPv4 10.0.0.1 > 10.0.0.2 ICMP, 98 bytes"
    )
    assert report.partition(" ")[2].startswith("89e92ceee5 trace: event=2002 ")
    assert err.splitlines() == ["the node has stopped", "2 frames, 1 reports, 0 lost because this program was too slow"]


def test_json_and_count(tmp_path: Path) -> None:
    status, out, _ = monitor(tmp_path, "--json", "-c", "1")
    (line,) = map(json.loads, out.splitlines())
    assert status == 0
    assert (line["type"], line["direction"], line["rule"], line["capability"]) == ("tee", "outbound", 1, None)
    assert line["sender"] == f"{SENDER:010x}" and bytes.fromhex(line["frame"])[14:] == ECHO


def test_written(tmp_path: Path) -> None:
    status, out, _ = monitor(tmp_path, "-q", "-w", str(tmp_path / "seen.pcapng"))
    file = tmp_path / "seen-00001.pcapng"
    assert status == 0 and out == "" and file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes().count(b"89e92ceee5 tee outbound rule 1") == 2
    if shutil.which("tshark"):
        fields = ["-e", "frame.comment", "-e", "frame.len", "-e", "frame.cap_len", "-e", "ip.dst"]
        argv = ["tshark", "-r", file, "-T", "fields", *fields]
        shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        assert shown == ["89e92ceee5 tee outbound rule 1\t98\t42\t10.0.0.2"] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((f"{NWID:016x}",), "does the node run?"),
        ((f"{NWID:016x}", "-w", "/nonexistent/x"), "/nonexistent/x-00001.pcapng"),
        (("xyz",), "expected 16 hex digits"),
    ],
)
def test_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    argv = [sys.executable, "-m", "ztpipe", "monitor", arguments[0], str(tmp_path), *arguments[1:]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr
