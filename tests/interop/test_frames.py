"""What only frames show, between a member of ours and an unmodified one: spoofing, silence, ageing, multicast, MTU.

Frames are sent and looked at on the TAP devices themselves, past the hosts' own stacks.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from ztpipe.lab import Gateway, Lab, LabNode, Namespace, Reference
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping
from ztpipe.rules.compiler import compile_rules
from ztpipe.wire.address import mac_of

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(300)]

CONTROLLERS = {"our controller": Gateway, "its controller": Reference}
ALLOW = "accept;"
OWN_ADDRESSES_ONLY = "drop chr inbound and not chr ipauth and not ethertype ipv6;\naccept;"
"""Judged by the receiver alone: the sender's node lets what its host makes up pass."""
_ETH_P_ALL = 3


@dataclass
class Trio:
    """A controller, which is root and member, an unmodified member and one of ours; .1, .2, .3 of the overlay."""

    controller: LabNode
    members: list[LabNode]
    nwid: str

    def ways(self) -> list[tuple[LabNode, LabNode]]:
        one, two = self.members
        return [(one, two), (two, one)]

    def set(self, **fields: Any) -> None:
        self.controller.api("POST", f"/controller/network/{self.nwid}", fields)

    def rules(self, source: str) -> None:
        self.set(**compile_rules(source).config())

    def ip(self, node: LabNode) -> str:
        return f"10.67.21.{[self.controller, *self.members].index(node) + 1}"

    def mac(self, node: LabNode) -> bytes:
        return mac_of(node.identity.address, int(self.nwid, 16)).to_bytes(6, "big")

    def wire(self, node: LabNode) -> socket.socket:
        """Sends frames as if its host had, and sees what comes for it."""
        sock = node.namespace.open_socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind((node.network(self.nwid)["portDeviceName"], _ETH_P_ALL))
        return sock

    def reach(self, seconds: float = 60) -> None:
        """Wait until everybody answers everybody."""
        nodes = [self.controller, *self.members]
        for node in nodes:
            for other in nodes:
                if node is not other:

                    def answered(node: LabNode = node, other: LabNode = other) -> bool:
                        return bool(ping(node.namespace, self.ip(other), count=1).times)

                    node.wait_for(f"an answer of {self.ip(other)}", answered, seconds)


@pytest.fixture(scope="module", params=CONTROLLERS, ids=lambda case: case.replace(" ", "-"))
def trio(request: pytest.FixtureRequest) -> Iterator[Trio]:
    with Lab("zpf") as lab:
        switch = lab.switch("sw")
        hosts = [lab.namespace(label) for label in ("c", "r", "o")]
        for number, host in enumerate(hosts, start=1):
            lab.cable(host, "eth0", [f"10.66.21.{number}/24"], switch)
        controller = CONTROLLERS[request.param](hosts[0], lab.directory)
        members: list[LabNode] = [Reference(hosts[1], lab.directory), Gateway(hosts[2], lab.directory)]
        planet, moons = private_planet(), [moon(controller.identity, ["10.66.21.1/9993"])]
        for node in (controller, *members):
            node.use_world(planet, moons)
            node.start()
        nwid = controller.create_network(private=True, routes=[{"target": "10.67.21.0/24"}])
        found = Trio(controller, members, nwid)
        for node in (controller, *members):
            controller.authorise(nwid, node.address, ipAssignments=[found.ip(node)])
            node.join(nwid)
        for node in (controller, *members):
            node.wait_ok(nwid)
        found.reach()
        yield found


def _arrives(sender: socket.socket, receiver: socket.socket, frame: bytes, seconds: float = 2) -> bool:
    """Send it every 100 ms; whether it comes out at the other end as it is."""
    receiver.settimeout(0.1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sender.send(frame)
        try:
            while True:
                if receiver.recv(2000)[: len(frame)] == frame:
                    return True
        except TimeoutError:
            continue
    return False


def _eventually(what: str, probe: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, what


def _arp(trio: Trio, sender: LabNode, claimed: LabNode, target: LabNode) -> bytes:
    """A request of `sender` in which it has the address of `claimed`."""
    head = bytes(trio.mac(target)) + trio.mac(sender) + bytes.fromhex("0806 0001 0800 06 04 0001")
    asked = socket.inet_aton(trio.ip(target))
    return head + trio.mac(sender) + socket.inet_aton(trio.ip(claimed)) + bytes(6) + asked


def _udp(trio: Trio, sender: LabNode, claimed: LabNode, target: LabNode) -> bytes:
    """An IPv4 packet of `sender` that says it comes from `claimed`."""
    addresses = socket.inet_aton(trio.ip(claimed)) + socket.inet_aton(trio.ip(target))
    header = struct.pack(">BBHHHBBH", 0x45, 0, 36, 7, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]
    datagram = struct.pack(">HHHH", 9, 9, 16, 0) + b"spoofed?"
    return trio.mac(target) + trio.mac(sender) + b"\x08\x00" + header + datagram


def test_made_up_source_macs_do_not_cross(trio: Trio) -> None:
    for one, two in trio.ways():
        with trio.wire(one) as sender, trio.wire(two) as receiver:
            frame = trio.mac(two) + trio.mac(one) + b"\x88\xb5" + b"genuine".ljust(50, b".")
            assert _arrives(sender, receiver, frame, 20)
            for source in (trio.mac(trio.controller), bytes.fromhex("02aabbccddee")):
                made_up = frame[:6] + source + frame[12:14] + b"made up".ljust(50, b".")
                assert not _arrives(sender, receiver, made_up)


@pytest.mark.parametrize("make", [_arp, _udp], ids=["ARP", "IPv4"])
def test_made_up_addresses_are_dropped_by_the_receiver(trio: Trio, make: Callable[..., bytes]) -> None:
    """The controller's certificate of ownership says who has which address."""
    trio.rules(OWN_ADDRESSES_ONLY)
    for one, two in trio.ways():
        with trio.wire(one) as sender, trio.wire(two) as receiver:
            made_up, genuine = make(trio, one, trio.controller, two), make(trio, one, one, two)
            _eventually("the rules to be in force", lambda: not _arrives(sender, receiver, made_up, 1))  # noqa: B023
            assert _arrives(sender, receiver, genuine, 20)
            assert not _arrives(sender, receiver, made_up)
    trio.rules(ALLOW)
    one, two = trio.members
    with trio.wire(one) as sender, trio.wire(two) as receiver:
        _eventually("no rules any more", lambda: _arrives(sender, receiver, make(trio, one, trio.controller, two), 1))
    trio.reach()


@pytest.mark.parametrize("group", ["224.0.0.251", "ff02::fb"])
def test_mdns_crosses(trio: Trio, group: str) -> None:
    """A question to the group of multicast DNS is heard by a program that listens there, both ways."""
    question = bytes.fromhex("0000 0000 0001 0000 0000 0000") + b"\x05_http\x04_tcp\x05local\0\0\x0c\0\x01"
    for one, two in trio.ways():
        with _in_group(trio, two, group) as listener, _in_group(trio, one, group) as speaker:

            def heard(listener: socket.socket = listener, speaker: socket.socket = speaker) -> bool:
                speaker.sendto(question, (group, 5353))
                try:
                    return any(listener.recv(100) == question for _ in range(10))
                except TimeoutError:
                    return False

            _eventually(f"{group} to be heard", heard, 30)


def _in_group(trio: Trio, node: LabNode, group: str) -> socket.socket:
    """A UDP socket that is in the group on the TAP, and sends there by way of it without hearing itself."""
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    sock = node.namespace.open_socket(family, socket.SOCK_DGRAM)
    sock.settimeout(0.5)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", 5353))
    if family == socket.AF_INET:
        own = socket.inet_aton(trio.ip(node))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + own)
        return sock
    device = node.network(trio.nwid)["portDeviceName"]
    index = int(node.namespace.run("cat", f"/sys/class/net/{device}/ifindex").stdout)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    member = socket.inet_pton(family, group) + struct.pack("=I", index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    return sock


def _whole(source: Namespace, target: str, mtu: int) -> bool:
    """Whether a packet of that size gets through in one piece."""
    argv = ["ping", "-n", "-c1", "-W1", "-M", "do", "-s", str(mtu - 28), target]
    return "1 received" in source.run(*argv, check=False).stdout


def test_the_mtu_changes_while_frames_flow(trio: Trio) -> None:
    for mtu in (1_400, 5_000, 2_800):
        trio.set(mtu=mtu)
        for one in trio.members:
            device = one.network(trio.nwid)["portDeviceName"]

            def shown(one: LabNode = one, device: str = device, mtu: int = mtu) -> bool:
                return f"mtu {mtu} " in one.namespace.run("ip", "link", "show", device).stdout

            one.wait_for(f"an MTU of {mtu}", shown, 75)
        for one, two in trio.ways():
            _eventually(f"packets of {mtu}", lambda: _whole(one.namespace, trio.ip(two), mtu))  # noqa: B023
            assert not _whole(one.namespace, trio.ip(two), mtu + 1)


def test_a_member_that_is_deauthorised_is_silenced_at_once(trio: Trio) -> None:
    """Its frames are sent on, but nobody takes them; how long that takes is printed."""
    for one, two in trio.ways():
        with trio.wire(one) as sender, trio.wire(two) as receiver:
            frame = trio.mac(two) + trio.mac(one) + b"\x88\xb5" + b"still here".ljust(50, b".")
            assert _arrives(sender, receiver, frame, 20)
            trio.controller.authorise(trio.nwid, one.address, authorized=False)
            begin = last = time.monotonic()
            while time.monotonic() - last < 3:
                assert time.monotonic() - begin < 60, "still heard"
                if _arrives(sender, receiver, frame, 0.2):
                    last = time.monotonic()
            print(f"{type(one).__name__} was heard by {type(two).__name__} for {last - begin:.2f} s more")
            trio.controller.authorise(trio.nwid, one.address)
            one.wait_ok(trio.nwid)
            _eventually("it to be heard again", lambda: _arrives(sender, receiver, frame, 1), 90)  # noqa: B023


def test_members_go_on_without_their_controller(trio: Trio) -> None:
    """For longer than the minute after which they ask again; two certificates of one age agree for ever (vl2 §3.2)."""
    trio.reach()
    trio.controller.stop()
    for one, two in trio.ways():
        ping(one.namespace, trio.ip(two), count=2)
    one, two = trio.members
    found = ping(one.namespace, trio.ip(two), count=75, interval=1)
    assert found.lost <= 2, found
    for node in trio.members:
        assert node.network(trio.nwid)["status"] == "OK"
