"""A thousand members in one process: real nodes without a data plane, each on a UDP port of its own.

    python -m tests.bench.crowd COUNT IP ROOT_IDENTITY ROOT_ENDPOINT NWID

Prints a JSON object on stdout every 50 ms: `time` (s), `names`: network name -> members that have a configuration with
it, `credentials`: credential packets received by all of them. Ends with its parent.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections import Counter

from tests.node.sim import identities, planet_of
from ztpipe.node.actions import SendDatagram
from ztpipe.node.node import Node
from ztpipe.node.settings import Binding
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.protocol import Verb
from ztpipe.wire.world import Root

FIRST_PORT = 20_000
FIRST_ADDRESS = 0x2000000000


def member_identity(number: int) -> Identity:
    """Working keys under an address of choice: one key pair for all, since real ones take a second each to make."""
    key = identities()[0]
    return Identity(FIRST_ADDRESS + number, key.public, key.private)


class Member:
    """One node and its socket."""

    def __init__(self, number: int, ip: str, root: Identity, endpoint: InetAddress, nwid: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((ip, FIRST_PORT + number))
        self.sock.connect((socket.inet_ntoa(endpoint.ip), endpoint.port))
        self.endpoint = endpoint
        planet = planet_of([Root(root, (endpoint,))], world_id=number + 1)
        self.node = Node(member_identity(number), random=os.urandom, planet=planet)
        self.node.set_bindings(now(), [Binding(1, InetAddress(socket.inet_aton(ip), FIRST_PORT + number), "eth0")])
        self.node.start(now())
        self.node.join(now(), nwid)
        self.name = ""
        self.credentials = 0

    def receive(self) -> None:
        try:
            while True:
                self.node.datagram_received(now(), 1, self.endpoint, self.sock.recv(4096))
                self.carry_out()
        except (BlockingIOError, ConnectionRefusedError):
            pass

    def tick(self) -> None:
        self.node.tick(now())
        self.carry_out()

    def carry_out(self) -> None:
        for action in self.node.take_actions():
            if isinstance(action, SendDatagram):
                try:
                    self.sock.send(action.data)
                except OSError:
                    pass
        config = self.node.network_statuses()[0].config
        self.name = config.name if config is not None else ""
        self.credentials = self.node.tally.received[Verb.NETWORK_CREDENTIALS]


def now() -> int:
    return time.time_ns() // 1_000_000


def main(count: str, ip: str, root: str, endpoint: str, nwid: str) -> None:
    poller = select.epoll()
    members: dict[int, Member] = {}
    told, start = 0.0, time.monotonic()
    while os.getppid() != 1:
        if len(members) < int(count):  # a few at a time, as in life
            number = len(members)
            arguments = (Identity.parse(root), InetAddress.parse(endpoint), int(nwid, 16))
            member = Member(number, ip, *arguments)
            members[member.sock.fileno()] = member
            poller.register(member.sock, select.EPOLLIN)
        for fd, _ in poller.poll(0.005):
            members[fd].receive()
        at = now()
        for member in members.values():
            if member.node.next_deadline() <= at:
                member.tick()
        if time.monotonic() - told > 0.05:
            told = time.monotonic()
            names = Counter(member.name for member in members.values())
            total = sum(member.credentials for member in members.values())
            print(json.dumps({"time": told - start, "names": names, "credentials": total}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
