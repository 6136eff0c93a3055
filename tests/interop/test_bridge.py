"""Two LANs joined at layer 2: by two of ours, and by one of ours and one unmodified bridge."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.lans import LEFT, RIGHT, Lans, joined_lans
from tests.pairs import Make, counted, reference, ztpipe
from ztpipe.lab import Gateway, Lab, Namespace
from ztpipe.lab.traffic import ping, transfer

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
REFERENCE_MISSING = "NOT TESTED AGAINST zerotier-one: set ZT_REFERENCE to an unmodified zerotier-one 1.14.1 program"

CASES: dict[str, tuple[Make, Make]] = {
    "two of ours": (ztpipe(), ztpipe()),
    "ours and an unmodified one": (ztpipe(), reference()),
    "an unmodified one and ours": (reference(), ztpipe()),
}
_SOL_PACKET, _PACKET_AUXDATA, _ETH_P_ALL = 263, 8, 3


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.replace(" ", "-"))
def lans(request: pytest.FixtureRequest) -> Iterator[Lans]:
    if "unmodified" in request.param and "ZT_REFERENCE" not in os.environ:
        pytest.skip(REFERENCE_MISSING)
    with Lab("zpb") as lab:
        yield joined_lans(lab, "b", 8, *CASES[request.param], like_members=request.param == "two of ours")


def test_hosts_on_both_lans_meet(lans: Lans) -> None:
    """By ARP and by neighbour discovery, in both directions."""
    for source, v4, v6 in ((lans.left, RIGHT, "fd80::12"), (lans.right, LEFT, "fd80::11")):
        source.run("ip", "neigh", "flush", "dev", "eth0")
        for target in (v4, v6):
            ping(source, target, count=2)
            assert ping(source, target, count=10, interval=0.1).lost == 0, target


def test_bytes_arrive_unchanged(lans: Lans) -> None:
    ours = [node for node in lans.pair.nodes if isinstance(node, Gateway)]
    names = ("tap_bridged", "open_bridged", "tap_punted", "open_punted")
    before = [{name: counted(node, name) for name in names} for node in ours]
    for source, sink, target in ((lans.left, lans.right, RIGHT), (lans.right, lans.left, LEFT)):
        assert transfer(source, sink, target, 3_000_000).intact
    for node, old in zip(ours, before, strict=True):
        # without the slow path, but for the first ones; workers count super-frames, and packets of 1500 bytes
        assert counted(node, "open_bridged") - old["open_bridged"] > 2_000
        assert counted(node, "tap_bridged") - old["tap_bridged"] > 100
        assert sum(counted(node, name) - old[name] for name in ("tap_punted", "open_punted")) < 400


def _tap_wire(host: Namespace) -> socket.socket:
    """A socket that sees and sends whole frames on the host's cable, tags included."""
    wire = host.open_socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    wire.bind(("eth0", _ETH_P_ALL))
    wire.settimeout(0.5)
    return wire


def _tag_of(wire: socket.socket, marker: bytes) -> int | None:
    """The VLAN tag of the next frame with that payload; the kernel hands it over beside the frame."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            data, ancillary, _, _ = wire.recvmsg(2000, 100)
        except TimeoutError:
            return None
        for level, kind, blob in ancillary:
            if marker in data and (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                return int(struct.unpack("=IIIHHHH", blob[:20])[5])
    return None


def test_vlan_tags_are_carried(lans: Lans) -> None:
    address = bytes.fromhex(lans.right.run("cat", "/sys/class/net/eth0/address").stdout.strip().replace(":", ""))
    source = bytes.fromhex(lans.left.run("cat", "/sys/class/net/eth0/address").stdout.strip().replace(":", ""))
    frame = address + source + bytes.fromhex("8100 6007 88b5") + b"tagged".ljust(60, b".")
    with _tap_wire(lans.left) as sender, _tap_wire(lans.right) as receiver:
        for _ in range(10):
            sender.send(frame)
            tag = _tag_of(receiver, b"tagged")
            if tag is not None:
                break
    assert tag == 0x6007


def test_neighbours_see_the_host_behind_not_the_bridge(lans: Lans) -> None:
    ping(lans.left, RIGHT, count=2)
    address = lans.right.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    assert address in lans.left.run("ip", "neigh", "show", RIGHT).stdout


def _dhcp(kind: int, mac: bytes, *, op: int, yours: str = "0.0.0.0") -> bytes:
    """A message with nothing but its type; `op` 1: to the server, 2: from it. Answers are asked for by broadcast."""
    head = struct.pack(">BBBBIHH", op, 1, 6, 0, 0x5A54, 0, 0x8000) + bytes(4) + socket.inet_aton(yours) + bytes(8)
    return (head + mac.ljust(16, b"\0") + bytes(192) + bytes.fromhex("63825363 3501") + bytes((kind, 255))).ljust(
        300, b"\0"
    )


def _from_nobody(mac: bytes, message: bytes) -> bytes:
    """The frame of a host that has no address yet; without a UDP checksum."""
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(message), 1, 0, 64, 17, 0) + bytes(4) + b"\xff" * 4
    total = sum(struct.unpack(">10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + header + struct.pack(">HHHH", 68, 67, 8 + len(message), 0) + message


def _heard(sock: socket.socket, marker: bytes) -> bytes:
    """The next message with these bytes in it, empty if none comes within a second."""
    sock.settimeout(0.2)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            data = sock.recv(2000)
        except TimeoutError:
            continue
        if marker in data:
            return data
    return b""


@pytest.mark.parametrize("direction", ["left asks right", "right asks left"])
def test_dhcp_crosses(lans: Lans, direction: str) -> None:
    """Discover, offer, request, acknowledge: broadcasts of a host without an address, and a server's answers."""
    client, server = (lans.left, lans.right) if direction.startswith("left") else (lans.right, lans.left)
    mac = bytes.fromhex("02005e005399")
    with _tap_wire(client) as asking, server.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        serving.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        serving.bind(("", 67))
        for question, answer in ((1, 2), (3, 5)):
            deadline = time.monotonic() + 30
            heard = b""
            while not heard:
                assert time.monotonic() < deadline, f"message {question} or its answer {answer} is lost"
                asking.send(_from_nobody(mac, _dhcp(question, mac, op=1)))
                if _heard(serving, _dhcp(question, mac, op=1)):
                    serving.sendto(_dhcp(answer, mac, op=2, yours="10.80.0.99"), ("255.255.255.255", 68))
                    heard = _heard(asking, _dhcp(answer, mac, op=2, yours="10.80.0.99"))


@pytest.mark.skipif("ZT_REFERENCE" not in os.environ and not os.environ.get("ZTPIPE_LONG"), reason="NOT TESTED: long")
def test_spanning_tree_breaks_a_loop(lans: Lans) -> None:
    """A cable beside the overlay: both bridges hear each other's BPDUs over it, and one port is blocked."""
    gateways = (lans.pair.a, lans.pair.b)
    for gateway in gateways:
        for setting in ("stp_state 1", "forward_delay 200", "hello_time 100", "max_age 600"):
            gateway.run("ip", "link", "set", "br0", "type", "bridge", *setting.split())
    lans.pair.a.run("ip", "link", "add", "short", "type", "veth", "peer", "name", "short", "netns", lans.pair.b.name)
    for gateway in gateways:
        gateway.run("ip", "link", "set", "short", "master", "br0", "up")

    def states() -> str:
        return "".join(gateway.run("bridge", "link", "show").stdout for gateway in gateways)

    deadline = time.monotonic() + 60
    while states().count("state blocking") != 1 or states().count("state forwarding") != 5:
        assert time.monotonic() < deadline, states()
        time.sleep(0.5)
    ping(lans.left, RIGHT, count=2)
    assert ping(lans.left, RIGHT, count=10, interval=0.1).lost == 0
