"""What arrives is what was sent, in its order: on a bad cable, through every kind of super-frame, over many workers."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.badcable import Cable
from tests.groupcast import Listener, talk
from tests.pairs import Pair, counted, joined, ztpipe
from tests.twins.frames import checksum, ones_sum
from ztpipe.lab import Lab
from ztpipe.lab.traffic import ping, transfer

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SIZE = 20_000_000


def tap(pair: Pair, number: int) -> str:
    return str(pair.nodes[number].network(pair.nwid)["portDeviceName"])


@pytest.fixture(scope="module", params=["pipeline", "fused"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bad(layout: str) -> Iterator[tuple[Pair, Cable]]:
    """On this cable frames travel one by one."""
    cable = Cable()
    with Lab("zpb") as lab:
        make = ztpipe("--layout", layout)
        yield joined(lab, "b", "10.66.3", "10.67.3", make, make, cable=cable), cable


@pytest.fixture(scope="module")
def good(layout: str) -> Iterator[Pair]:
    """A cable with everything a good card has."""
    with Lab("zpg") as lab:
        make = ztpipe("--layout", layout)
        yield joined(lab, "g", "10.66.4", "10.67.4", make, make)


# ---- a bad cable ---------------------------------------------------------------------------------------------------

TROUBLE = {
    "loss": {"loss": 0.003},
    "reordering": {"reordering": 0.05},
    "duplication": {"duplication": 0.1},
    "all": {"loss": 0.002, "reordering": 0.02, "duplication": 0.02},
}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("trouble", TROUBLE)
def test_tcp_arrives_intact(bad: tuple[Pair, Cable], trouble: str, family: int) -> None:
    pair, cable = bad
    target = pair.target if family == 4 else pair.overlay_v6(2)
    with cable.trouble(**TROUBLE[trouble]):
        assert transfer(pair.a, pair.b, target, SIZE).intact
    for node in pair.nodes:
        assert counted(node, "drop_bad_mac") == 0, "pieces of different packets were joined"
    if trouble != "reordering":
        pair.nodes[1].wait_for("pieces that nothing belongs to", lambda: _left_over(pair), 10)


def _left_over(pair: Pair) -> int:
    """Pieces given up: whole packets may be missing or come twice unnoticed, but not a piece of one."""
    ping(pair.a, pair.target, count=1)
    return sum(counted(pair.nodes[1], name) for name in ("drop_fragment_duplicate", "drop_fragment_expired"))


# ---- every kind of super-frame -------------------------------------------------------------------------------------


_SOL_PACKET, _PACKET_AUXDATA, _PACKET_VNET_HDR = 263, 8, 15


def _tagged_super_frame(macs: bytes, tags: bytes, payload: bytes) -> bytes:
    """A TCP super-frame in a VLAN or two, behind the vnet header that says so."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 1, 0x4000, 64, 6, 0, b"\x0a\x63\5\1", b"\x0a\x63\5\2")
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    pseudo = ones_sum(ip[12:20] + struct.pack("!HH", 6, 20 + len(payload)))
    tcp = struct.pack("!HHIIBBHHH", 4000, 5000, 1, 1, 0x50, 0x10, 65_535, pseudo, 0)
    head = macs + tags + b"\x08\0"
    vnet = struct.pack("=BBHHHH", 1, 1, len(head) + 40, 1400, len(head) + 20, 16)
    return vnet + head + ip + tcp + payload


@pytest.mark.parametrize("tags", ["81000005", "88a80005", "88a8000581000007"], ids=["802.1Q", "802.1ad", "QinQ"])
def test_tagged_super_frames(good: Pair, tags: str) -> None:
    """By packet sockets, as not every kernel has VLAN devices. A socket gets a frame's (outer) tag beside it."""
    inner = bytes.fromhex(tags)[4:] + b"\x08\0"
    mac = [
        bytes.fromhex(host.run("cat", f"/sys/class/net/{tap(good, number)}/address").stdout.replace(":", ""))
        for number, host in enumerate((good.a, good.b))
    ]
    out, back = (
        good.a.open_socket(socket.AF_PACKET, socket.SOCK_RAW),
        good.b.open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    )
    with out, back:
        out.bind((tap(good, 0), int(tags[:4], 16)))
        back.bind((tap(good, 1), 0x0003))
        out.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        back.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        back.settimeout(5)
        payload = os.urandom(30_000)
        frames = counted(good.nodes[0], "seal_frames")
        out.send(_tagged_super_frame(mac[1] + mac[0], bytes.fromhex(tags), payload))
        arrived: dict[int, bytes] = {}
        while sum(map(len, arrived.values())) < len(payload):
            data, extra, _, _ = back.recvmsg(70_000, 256)
            tag, protocol = struct.unpack_from("=IIIHHHH", extra[0][2])[5:]
            head = data[:12], struct.pack("!HH", protocol, tag), data[12 : 12 + len(inner)]
            if head == (mac[1] + mac[0], bytes.fromhex(tags)[:4], inner):
                tcp = 12 + len(inner) + 20
                arrived[int.from_bytes(data[tcp + 4 : tcp + 8], "big")] = data[tcp + 20 :]
        assert b"".join(arrived[sequence] for sequence in sorted(arrived)) == payload
        assert counted(good.nodes[0], "seal_frames") - frames < 5, "the super-frame did not reach the TAP whole"


def test_ipv6_super_frames(good: Pair) -> None:
    before = counted(good.nodes[0], "seal_frames")
    assert transfer(good.a, good.b, good.overlay_v6(2), SIZE).intact
    assert counted(good.nodes[0], "seal_frames") - before < SIZE // 5000, "the TAP gave no super-frames"


def test_congestion_marks_survive(good: Pair) -> None:
    """What is marked before the TAP comes out marked: the receiver echoes it, the sender says that it slowed down."""
    for host in (good.a, good.b):
        host.run("sysctl", "-qw", "net.ipv4.tcp_ecn=1")
    good.a.run("nft", "add table inet marks; add chain inet marks o { type filter hook output priority 0 ; }")
    good.a.run(
        "nft", f"add rule inet marks o oifname {tap(good, 0)} ip ecn != 0 numgen random mod 50 < 1 ip ecn set ce"
    )
    good.b.run("nft", "add table inet marks; add chain inet marks i { type filter hook input priority 0 ; }")
    for match in ("ip ecn ce", "tcp flags & (cwr | syn) == cwr"):
        good.b.run("nft", f"add rule inet marks i iifname {tap(good, 1)} {match} counter")
    try:
        assert transfer(good.a, good.b, good.target, SIZE).intact
        marked, answered = re.findall(
            r"counter packets (\d+)", good.b.run("nft", "list", "table", "inet", "marks").stdout
        )
    finally:
        for host in (good.a, good.b):
            host.run("nft", "delete table inet marks")
    assert int(marked) > 0
    assert int(answered) > 0, "no CWR arrived"


# ---- groups --------------------------------------------------------------------------------------------------------


def test_broadcasts_arrive_once_each(good: Pair) -> None:
    """Fast enough to be repeated in C. More members, more groups, unmodified ones: tests/interop/test_multicast.py."""
    group, count = f"{good.overlay}.255", 200
    listener = Listener(good.b, 30, 5353, [f"{group}@{tap(good, 1)}"], quiet=1.5)
    before = counted(good.nodes[0], "tap_multicasts"), counted(good.nodes[1], "open_multicasts")
    talk(good.a, 5353, count, 0.003, f"{group}@{tap(good, 0)}", 1)
    assert listener.heard() == {group: {"1": [count, count]}}
    assert counted(good.nodes[0], "tap_multicasts") - before[0] > count // 2
    assert counted(good.nodes[1], "open_multicasts") - before[1] > count // 2


# ---- the order of each flow ----------------------------------------------------------------------------------------

_COUNT = """
import selectors, socket, struct, sys
first, flows, seconds = map(int, sys.argv[1:])
chosen, state = selectors.DefaultSelector(), {}
for port in range(first, first + flows):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    s.bind(("", port)); s.setblocking(False)
    chosen.register(s, selectors.EVENT_READ); state[s] = [0, 0, -1]
print("ready", flush=True)
while events := chosen.select(seconds):
    for key, _ in events:
        entry = state[key.fileobj]
        for _ in range(64):
            try:
                data = key.fileobj.recv(2048)
            except BlockingIOError:
                break
            number = struct.unpack_from("!Q", data)[0]
            entry[0] += 1
            entry[1] += number <= entry[2]
            entry[2] = max(number, entry[2])
for received, late, last in state.values():
    print(received, late)
"""
_SEND = """
import socket, struct, sys, time
target, first, flows, rounds = sys.argv[1], *map(int, sys.argv[2:])
sockets = []
for port in range(first, first + flows):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((target, port)); sockets.append(s)
pad = bytes(1300)
for number in range(rounds):
    for flow, s in enumerate(sockets):
        for sub in range(4):
            s.send(struct.pack("!Q", number * 4 + sub) + pad[:(flow * 167 + number) % 1300])
    if number % 8 == 0:
        time.sleep(0.001)
"""


@pytest.mark.parametrize(("kind", "workers"), [("pipeline", 1), ("pipeline", 2), ("fused", 2)])
def test_no_flow_is_reordered(kind: str, workers: int) -> None:
    """24 UDP flows of mixed sizes at once; with two workers of each kind, or two fused, they take different ways."""
    flags = [word for role in ("tap", "crypto", "peer") for word in (f"--{role}-workers", str(workers))]
    flows, rounds = 24, 500
    with Lab("zpo") as lab:
        pair = joined(lab, "o", "10.66.6", "10.67.6", *[ztpipe("--layout", kind, *flags)] * 2)
        receiver = pair.b.popen(
            sys.executable, "-c", _COUNT, "6000", str(flows), "2", stdout=subprocess.PIPE, text=True
        )
        assert receiver.stdout is not None and receiver.stdout.readline() == "ready\n"
        pair.a.run(sys.executable, "-c", _SEND, pair.target, "6000", str(flows), str(rounds), timeout=60)
        results = [tuple(map(int, line.split())) for line in receiver.communicate(timeout=30)[0].splitlines()]
        counters = [worker["counters"] for worker in pair.nodes[0].api("GET", "/ztpipe/workers")]
        busy = {name: sum(c.get(name, 0) > 1000 for c in counters) for name in ("seal_packets", "udp_send_datagrams")}
    assert len(results) == flows
    assert [late for _, late in results] == [0] * flows
    assert min(received for received, _ in results) > rounds * 4 // 2, "too few to say anything"
    assert set(busy.values()) == {workers}, "the flows were not spread"
