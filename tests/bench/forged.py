"""A flood of forged HELLOs: each from another source prefix and another identity, well formed, with a false MAC.

    python -m tests.bench.forged TARGET-IP PORT[,PORT...] NODE-ADDRESS PACKETS-PER-SECOND SECONDS [TURN]

Run it in a namespace that made itself: the sources are invented. With several ports each has its turn of TURN seconds,
and is printed when it comes. Prints how many were sent.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time

from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.verbs import Hello

PREPARED = 20_000
_TICK = 0.002


def hello(node: int, rng: random.Random) -> bytes:
    """Costs its receiver a key agreement, if it lets it come to that."""
    sender = Identity(rng.randrange(1 << 32, 0xFE << 32), rng.randbytes(64))
    payload = Hello(
        timestamp=int(time.time() * 1000), identity=sender, sent_to=InetAddress(bytes(4), 9993), planet_id=1,
        planet_timestamp=1, tail=bytes(2),
    ).encode()  # fmt: skip
    header = rng.randbytes(8) + node.to_bytes(5, "big") + sender.address.to_bytes(5, "big") + b"\0" + rng.randbytes(8)
    return header + b"\x01" + payload


def in_ip(target: bytes, port: int, data: bytes, rng: random.Random) -> bytes:
    """An IPv4 packet from some global address (11/8)."""
    udp = struct.pack("!HHHH", rng.randrange(1024, 65536), port, 8 + len(data), 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 0, 0, 64, 17, 0)
    return ip + bytes((11, *rng.randbytes(3))) + target + udp + data


def flood(target: str, ports: list[int], node: int, rate: int, seconds: float, turn: float) -> int:
    """Packets sent, at an even pace; all are made before the first is sent."""
    rng, address = random.Random(1), socket.inet_aton(target)
    made = [hello(node, rng) for _ in range(min(PREPARED, int(rate * seconds)))]
    packets = {port: [in_ip(address, port, data, rng) for data in made] for port in ports}
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent, start, aimed = 0, time.monotonic(), 0
    print("flooding", flush=True)
    while (passed := time.monotonic() - start) < seconds:
        port = ports[int(passed / turn) % len(ports)] if turn else ports[0]
        if turn and port != aimed:
            aimed = port
            print(port, flush=True)
        while sent < passed * rate:
            out.sendto(packets[port][sent % len(made)], (target, 0))
            sent += 1
        time.sleep(_TICK)
    return sent


if __name__ == "__main__":
    where = [int(port) for port in sys.argv[2].split(",")]
    each = float(sys.argv[6]) if len(sys.argv) > 6 else 0.0
    print(flood(sys.argv[1], where, int(sys.argv[3], 16), int(sys.argv[4]), float(sys.argv[5]), each))
