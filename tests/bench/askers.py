"""Requests for configurations as fast as a controller answers them, in real packets.

    python -m tests.bench.askers COUNT IP CONTROLLER_IDENTITY CONTROLLER_ENDPOINT NWID...

COUNT members ask for each of the networks once (cold: nobody has asked before), then three times more (cached), with
at most `WINDOW` requests unanswered. Requests are sealed before the clock starts. Prints one JSON object: requests
answered per second, `cold` and `cached` (the median), and `unanswered`.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator

from tests.bench.crowd import member_identity, now
from ztpipe.node.config_request import request_metadata
from ztpipe.node.settings import NodeSettings
from ztpipe.wire.armor import SessionKeys, open_packet, seal
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.packet import is_fragment
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import Hello, NetworkConfigRequest, Ok, OkHello, seal_hello

FIRST_NUMBER = 50_000  # of the identities, so that they are not those of the crowd
PORT = 19_000
WINDOW = 48
_CONFIG = 300  # bytes; what is shorter is no configuration
_PAUSE = 1.3  # seconds; a controller takes one request of a member and network per second


class Asker:
    """Everything that one member needs to say and to hear."""

    def __init__(self, number: int, controller: Identity) -> None:
        self.identity = member_identity(FIRST_NUMBER + number)
        self.controller = controller.address
        self.keys = SessionKeys(self.identity.agree(controller))
        self.met = False

    def hello(self) -> bytes:
        message = Hello(timestamp=now(), identity=self.identity)
        return seal_hello(self.keys, message, (), destination=self.controller, packet_id=_number())

    def request(self, nwid: int, metadata: bytes) -> bytes:
        return self._sealed(Verb.NETWORK_CONFIG_REQUEST, NetworkConfigRequest(nwid, metadata).encode())

    def hear(self, packet: bytes) -> bytes | None:
        """The answer to a HELLO; notes if ours was answered."""
        try:
            opened = open_packet(self.keys, packet)
        except WireError:
            return None
        if opened.verb is Verb.HELLO:
            body = OkHello(timestamp=Hello.decode(opened.payload).timestamp).encode()
            return self._sealed(Verb.OK, Ok(Verb.HELLO, opened.packet_id, body).encode())
        self.met |= opened.verb is Verb.OK
        return None

    def _sealed(self, verb: Verb, payload: bytes) -> bytes:
        return seal(
            self.keys, destination=self.controller, source=self.identity.address, verb=verb, payload=payload,
            packet_id=_number(), suite=1,
        )  # fmt: skip


class Askers:
    """All members on one socket."""

    def __init__(self, count: int, ip: str, controller: Identity, endpoint: InetAddress) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((ip, PORT))
        self.sock.connect((socket.inet_ntoa(endpoint.ip), endpoint.port))
        self.sock.settimeout(0.2)
        self.members = {asker.identity.address: asker for asker in (Asker(n, controller) for n in range(count))}

    def meet(self) -> None:
        """Introduce everybody, until all are answered and the other side has stopped to ask back."""
        deadline, quiet = time.monotonic() + 60, 0
        while quiet < 3 and time.monotonic() < deadline:
            for asker in self.members.values():
                if not asker.met:
                    self.sock.send(asker.hello())
            heard = sum(self._heard(datagram) for datagram in self._datagrams(0.5))
            quiet = 0 if heard or not all(asker.met for asker in self.members.values()) else quiet + 1

    def ask(self, packets: list[bytes]) -> tuple[float, int]:
        """Send all; answers per second, and how many never came."""
        waiting = answered = 0
        started = last = time.perf_counter()
        queue = iter(packets)
        while answered < len(packets) and time.perf_counter() - last < 1.0:
            while waiting < WINDOW and (packet := next(queue, None)) is not None:
                self.sock.send(packet)
                waiting += 1
            for datagram in self._datagrams(0.2, most=1):
                if self._heard(datagram) and len(datagram) > _CONFIG:
                    answered, waiting, last = answered + 1, waiting - 1, time.perf_counter()
        return answered / (last - started), len(packets) - answered

    def _heard(self, datagram: bytes) -> bool:
        """Whether it begins a packet; a HELLO is answered."""
        if len(datagram) < 28 or is_fragment(datagram):
            return False
        asker = self.members.get(int.from_bytes(datagram[8:13], "big"))
        if asker is not None and (len(datagram) <= _CONFIG or not asker.met):
            answer = asker.hear(datagram)
            if answer is not None:
                self.sock.send(answer)
        return True

    def _datagrams(self, seconds: float, most: int = 1_000_000) -> Iterator[bytes]:
        self.sock.settimeout(seconds)
        try:
            for _ in range(most):
                yield self.sock.recv(4096)
        except (TimeoutError, ConnectionRefusedError):
            return


def _number() -> int:
    return int.from_bytes(os.urandom(8), "big")


def main(count: str, ip: str, controller: str, endpoint: str, *nwids: str) -> None:
    askers = Askers(int(count), ip, Identity.parse(controller), InetAddress.parse(endpoint))
    askers.meet()
    metadata = request_metadata(NodeSettings())
    rates, unanswered = [], 0
    for _ in range(4):
        packets = [asker.request(int(nwid, 16), metadata) for nwid in nwids for asker in askers.members.values()]
        time.sleep(_PAUSE)
        rate, lost = askers.ask(packets)
        rates.append(rate)
        unanswered += lost
    print(json.dumps({"cold": rates[0], "cached": statistics.median(rates[1:]), "unanswered": unanswered}))


if __name__ == "__main__":
    main(*sys.argv[1:])
