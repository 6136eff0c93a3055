"""``ztpipe monitor`` at a node that rules of a network name as observer (root); beside unmodified ones if there are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pairs import Pair, reference, relayed, ztpipe
from ztpipe.lab import Lab
from ztpipe.lab.traffic import ping
from ztpipe.rules.compiler import compile_rules

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

MEMBERS = {"ztpipe": ztpipe, "zerotier-one": reference}


@pytest.fixture(params=MEMBERS)
def watched(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A and B reach each other through the middle, which is in their network too."""
    if request.param == "zerotier-one" and "ZT_REFERENCE" not in os.environ:
        pytest.skip("NOT TESTED AGAINST zerotier-one: set ZT_REFERENCE to an unmodified zerotier-one 1.14.1 program")
    make = MEMBERS[request.param]
    with Lab("zpo") as lab:
        pair = relayed(lab, "o", "10.66.61", "10.67.61", make(), ztpipe(), make())
        middle = pair.nodes[1]
        middle.authorise(pair.nwid, middle.address, ipAssignments=["10.67.61.9"])
        middle.join(pair.nwid)
        middle.wait_ok(pair.nwid)
        yield pair


def monitor(pair: Pair, *arguments: str) -> subprocess.Popen[str]:
    middle = pair.nodes[1]
    argv = [sys.executable, "-m", "ztpipe", "monitor", pair.nwid, str(middle.home), *arguments]
    pipe = subprocess.PIPE
    process: subprocess.Popen[str] = middle.namespace.popen(*argv, text=True, stdout=pipe, stderr=pipe)
    middle.wait_for("the monitor", lambda: "monitored" in middle.log_tail(), 20)
    return process


def rules(pair: Pair, source: str) -> None:
    pair.nodes[1].api("POST", f"/controller/network/{pair.nwid}", compile_rules(source).config())


def test_tee_is_printed_written_and_mirrored(watched: Pair, tmp_path: Path) -> None:
    pair, middle = watched, watched.nodes[1]
    middle.namespace.run("ip", "link", "add", "ids0", "mtu", "9000", "type", "veth", "peer", "name", "ids1")
    middle.namespace.run("ip", "link", "set", "ids1", "up")
    middle.namespace.run("ip", "link", "set", "ids0", "up")
    rules(pair, f"tee 64 {middle.address} ipprotocol 1;\naccept;")
    process = monitor(pair, "--json", "-w", str(tmp_path / "seen.pcapng"), "--mirror", "ids0")
    before = int(middle.namespace.run("cat", "/sys/class/net/ids0/statistics/tx_packets").stdout)
    try:
        middle.wait_for("copies", lambda: _teed(pair, tmp_path), 30)
    finally:
        process.send_signal(2)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    lines = [line for line in map(json.loads, out.splitlines()) if line["type"] == "tee"]
    a, b = pair.nodes[0].address, pair.nodes[2].address
    assert {(line["sender"], line["direction"]) for line in lines} == {
        (a, "outbound"), (a, "inbound"), (b, "outbound"), (b, "inbound"),
    }  # fmt: skip
    assert {line["rule"] for line in lines} == {1}, "the match is rule 0, the action rule 1"
    frames = [bytes.fromhex(line["frame"]) for line in lines]
    assert {len(frame) for frame in frames} == {14 + 64}
    assert all(frame[12:14] == b"\x08\x00" and frame[23] == 1 for frame in frames)
    after = int(middle.namespace.run("cat", "/sys/class/net/ids0/statistics/tx_packets").stdout)
    assert after - before >= len(frames)
    assert f"{len(frames)} frames" in err
    file = tmp_path / "seen-00001.pcapng"
    assert file.stat().st_mode & 0o777 == 0o600
    if shutil.which("tshark"):
        shown = subprocess.run(
            ["tshark", "-r", file, "-T", "fields", "-e", "frame.comment", "-e", "frame.len", "-e", "frame.cap_len"],
            check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        assert len(shown) == len(frames)
        assert any(line.startswith(f"{a} tee outbound rule 1\t98\t78") for line in shown), shown[:4]


def _teed(pair: Pair, directory: Path) -> bool:
    """Pings until copies of several have come; members learn of new rules within seconds."""
    ping(pair.a, pair.target, count=3, interval=0.1)
    return (directory / "seen-00001.pcapng").stat().st_size > 3_000


@pytest.mark.long
def test_watch_and_redirect(watched: Pair) -> None:
    pair, middle = watched, watched.nodes[1]
    rules(pair, f"watch -1 {middle.address} ipprotocol 1;\nredirect {middle.address} ipprotocol 17;\naccept;")
    process = monitor(pair, "--json", "-c", "12")
    try:
        for _ in range(40):
            ping(pair.a, pair.target, count=1, timeout=0.3)
            script = "import socket; socket.socket(2, 2).sendto(b'x', ('10.67.61.2', 9))"
            pair.a.run(sys.executable, "-c", script, check=False)
            if process.poll() is not None:
                break
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    lines = [json.loads(line) for line in out.splitlines()]
    assert {"watch", "redirect"} <= {line["type"] for line in lines}, err
    redirected = [bytes.fromhex(line["frame"]) for line in lines if line["type"] == "redirect"]
    assert all(frame[23] == 17 for frame in redirected)


IDS = {
    # what must be said of a ping and of an attempt to connect: by a filter of protocol fields, and by a fingerprint.
    # (Debian 12 has neither Suricata nor Zeek.)
    "tshark": ("tshark -l -n -i ids1 -Y icmp.type==8&&ip.dst==10.67.61.2", "10.67.61.2"),
    "p0f": ("stdbuf -oL p0f -i ids1", "10.67.61.2/5777 (syn)"),
}


@pytest.mark.long
@pytest.mark.parametrize("watched", ["ztpipe"], indirect=True)
@pytest.mark.parametrize("program", IDS)
def test_programs_that_capture_live_see_what_is_mirrored(watched: Pair, tmp_path: Path, program: str) -> None:
    """`ztpipe monitor --mirror`, and an IDS behind it, with a rule that must fire."""
    if shutil.which(program) is None:
        pytest.skip(f"NOT TESTED WITH {program}: it is not installed")
    pair, middle = watched, watched.nodes[1]
    middle.namespace.run("ip", "link", "add", "ids0", "mtu", "10000", "type", "veth", "peer", "name", "ids1")
    for device in ("ids0", "ids1"):
        middle.namespace.run("ip", "link", "set", device, "mtu", "10000", "up")
    rules(pair, f"tee -1 {middle.address};\naccept;")
    command, said = IDS[program]
    with open(tmp_path / "said", "wb") as log:
        ids = middle.namespace.popen(*command.split(), stdout=log, stderr=subprocess.STDOUT)
    process = monitor(pair, "-q", "--mirror", "ids0")

    def fired() -> bool:
        ping(pair.a, pair.target, count=1, timeout=0.5)
        script = f"import socket; socket.create_connection(('{pair.target}', 5777), 0.5)"
        pair.a.run(sys.executable, "-c", script, check=False)
        return said in (tmp_path / "said").read_text(errors="replace")

    try:
        middle.wait_for(f"{program} to say so", fired, 60)
    except Exception as error:
        raise AssertionError((tmp_path / "said").read_text(errors="replace")[-2000:]) from error
    finally:
        for started in (process, ids):
            started.send_signal(2)
            started.communicate(timeout=20)


def test_nothing_to_monitor(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ztpipe", "monitor", "8056c2e21c000001", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "does the node run?" in done.stderr
