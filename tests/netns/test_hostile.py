"""A running node under every truncation and many mutations of real packets addressed to it.

Half of the mutations are made inside the packet and sealed again, so that they pass authentication and reach the
parsers. In a normal run one node of three scenarios is attacked; ZTPIPE_HOSTILE=full takes every node of every scenario
and 200,000 mutations (some minutes).
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.captures import SCENARIOS, Captured, Node, nodes, packets
from ztpipe.lab import Gateway, Lab
from ztpipe.lab.nodes import private_planet
from ztpipe.wire.armor import open_packet, seal
from ztpipe.wire.errors import WireError
from ztpipe.wire.protocol import Verb

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

FULL = os.environ.get("ZTPIPE_HOSTILE") == "full"
VICTIMS = (
    [(scenario, node.name) for scenario in SCENARIOS for node in nodes(scenario).values()]
    if FULL
    else [("c-frames", "A"), ("b-join-private", "C"), ("d-relayed", "R")]
)
MUTATIONS = 200_000 // len(VICTIMS) if FULL else 5_000
TRUNCATIONS = 10**9 if FULL else 10_000
_BURST = 400
ENDS = ("node_handled", "open_packets", "open_joined", "node_joined")


def _truncations(captured: list[Captured], rng: random.Random) -> list[bytes]:
    every = [c.packet[:length] for c in captured for length in range(1, len(c.packet))]
    return every if len(every) <= TRUNCATIONS else rng.sample(every, TRUNCATIONS)


def _mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four of: flip a bit, set a byte, cut, double a part, insert."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1) if data else 0
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif kind == 1 and at < len(data):
            data = data[:at] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data = data[:at] + data[at // 2 :]
        else:
            data = data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]
    return data[:9000] or b"\0"


def _inside(captured: Captured, rng: random.Random) -> bytes:
    """The packet with a mutated payload and perhaps another verb, sealed anew by its sender's key."""
    try:
        opened = open_packet(captured.keys, captured.packet)
    except WireError:  # trusted paths are not sealed at all
        return _mutate(captured.packet, rng)
    verb = opened.verb if rng.random() < 0.9 else rng.randrange(32)
    source, destination = captured.packet[13:18], captured.packet[8:13]
    return seal(
        captured.keys,
        destination=int.from_bytes(destination, "big"),
        source=int.from_bytes(source, "big"),
        verb=Verb(verb) if verb in Verb._value2member_map_ else Verb.NOP,
        payload=_mutate(opened.payload, rng),
        packet_id=rng.getrandbits(64),
        suite=rng.choice((0, 1, 3)),
        mtu=9500,
    )


def _attacks(victim: Node, captured: list[Captured]) -> Iterator[bytes]:
    rng = random.Random(victim.identity.address)
    yield from _truncations(captured, rng)
    for number in range(MUTATIONS):
        chosen = rng.choice(captured)
        yield _inside(chosen, rng) if number % 2 else _mutate(chosen.packet, rng)


def _know(gateway: Gateway, others: Iterable[Node]) -> None:
    """Put the senders into the peer cache, so that their packets are opened rather than wait for WHOIS."""
    (gateway.home / "peers.d").mkdir(exist_ok=True)
    for other in others:
        record = b"\x02" + other.identity.without_private().encode() + bytes.fromhex("000c0001000e0001") + b"\0\0"
        (gateway.home / "peers.d" / f"{other.identity.address:010x}.peer").write_bytes(record)


def _received(gateway: Gateway) -> int:
    return sum(w["counters"].get("udp_receive_datagrams", 0) for w in gateway.api("GET", "/ztpipe/workers"))


@pytest.mark.parametrize(("scenario", "name"), VICTIMS)
def test_hostile_datagrams(scenario: str, name: str) -> None:
    everyone = nodes(scenario).values()
    victim = next(node for node in everyone if node.name == name)
    address = f"{victim.identity.address:010x}"
    captured = [c for c in packets(scenario) if c.golden.get("dst") == address]
    if not captured:
        pytest.skip(f"{scenario}: nothing was sent to {name}")
    with Lab("zph") as lab:
        target, attacker = lab.namespace("target"), lab.namespace("attacker")
        lab.cable(target, "eth0", ["10.66.3.1/24"], attacker, plug="eth0", other_addresses=["10.66.3.2/24"])
        settings = {"allowSecondaryPort": False}
        gateway = Gateway(target, lab.directory, identity=victim.identity, settings=settings)
        gateway.use_world(private_planet(), [])
        _know(gateway, (node for node in everyone if node is not victim))
        gateway.start()
        before = {w["name"]: w for w in gateway.api("GET", "/ztpipe/workers")}
        sent = _flood(gateway, attacker.open_socket(socket.AF_INET, socket.SOCK_DGRAM), _attacks(victim, captured))
        _settle(gateway)
        after = {w["name"]: w for w in gateway.api("GET", "/ztpipe/workers")}
        log = gateway.log.read_text()
        assert "Traceback" not in log, log[-3000:]
        assert "error" not in log.lower(), log[-3000:]
        for worker in after:
            assert (after[worker]["pid"], after[worker]["restarts"]) == (before[worker]["pid"], 0), worker
        assert _received(gateway) == sent
        ends = _ends(after)
        assert sum(ends.values()) == sent, (sum(ends.values()) - sent, json.dumps(ends))
        assert sum(count for end, count in ends.items() if end.startswith("drop_")) > sent // 2, ends


def _flood(gateway: Gateway, sock: socket.socket, attacks: Iterator[bytes]) -> int:
    """Send everything in bursts, each after the one before has been received."""
    sent = 0
    with sock:
        for data in attacks:
            sock.sendto(data, ("10.66.3.1", 9993))
            sent += 1
            if sent % _BURST == 0:
                deadline = time.monotonic() + 10
                while _received(gateway) < sent and time.monotonic() < deadline:
                    time.sleep(0.002)
    return sent


def _settle(gateway: Gateway) -> None:
    """Wait until deferred packets have expired and nothing is counted any more."""
    time.sleep(6)
    last, now = -1, 0
    while last != now:
        last, now = now, sum(_ends({w["name"]: w for w in gateway.api("GET", "/ztpipe/workers")}).values())
        time.sleep(0.3)


def _ends(workers: dict[str, dict[str, dict[str, int]]]) -> dict[str, int]:
    """Where datagrams ended: delivered in C, handled by the slow path, or a named drop anywhere."""
    ends: dict[str, int] = {}
    for worker in workers.values():
        for name, count in worker["counters"].items():
            ours = name.startswith(("drop_tx_", "drop_send_", "drop_answer_"))  # packets of our own that were not sent
            if count and not ours and (name.startswith("drop_") or name in ENDS):
                ends[name] = ends.get(name, 0) + count
    return ends
