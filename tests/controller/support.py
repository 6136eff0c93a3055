"""Helpers of the controller's tests: recorded vectors, identities, a clock that is told the time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ztpipe.controller import Controller, ControllerAction, MemoryStore, SendPacket, Store
from ztpipe.wire import dictionary
from ztpipe.wire.identity import Identity

VECTORS = Path(__file__).parents[1] / "vectors"
START = 1_800_000_000_000  # ms

#: What a member of version 1.14.1 says of itself (vl2 §2.3), as far as a controller looks at it.
METADATA = dictionary.encode([("v", 7), ("vend", 1), ("pv", 12), ("majv", 1), ("minv", 14), ("revv", 1), ("revr", 1)])


def load(path: str) -> Any:
    """A JSON vector."""
    return json.loads((VECTORS / path).read_text())


def numbered_random(seed: int = 1) -> Callable[[int], bytes]:
    """Bytes that differ from call to call and are the same in every run."""
    state = seed

    def random(size: int) -> bytes:
        nonlocal state
        result = b""
        while len(result) < size:
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            result += (state >> 32).to_bytes(4, "big")
        return result[:size]

    return random


def captured_identity(scenario: str, address: int) -> Identity:
    """A node of a captured scenario, with its private key."""
    for node in load(f"captures/{scenario}/nodes.json")["nodes"]:
        if int(node["address"], 16) == address:
            return Identity.parse(node["identity_secret"])
    raise LookupError(f"{address:010x} is not in {scenario}")


def identity_with_address(address: int) -> Identity:
    """A working key pair under an address of choice; it would not pass `validate`."""
    key = captured_identity("b-join-private", 0x3BFB63739C)
    return Identity(address, key.public, key.private)


class Bench:
    """A controller, and a clock."""

    def __init__(
        self, identity: Identity, store: Store | None = None, random: Callable[[int], bytes] | None = None
    ) -> None:
        self.now = START
        self.store = store if store is not None else MemoryStore()
        self.controller = Controller(identity, self.store, random=random or numbered_random())
        self.identity = identity

    def pass_time(self, milliseconds: int) -> list[ControllerAction]:
        """Let time pass; what is due is done."""
        self.now += milliseconds
        self.controller.tick(self.now)
        return self.controller.take_actions()

    def request(self, nwid: int, member: Identity, metadata: bytes = METADATA, packet_id: int = 77) -> list[SendPacket]:
        """A request, far enough from the one before; only packets may come of it."""
        self.now += 1_001
        actions = self.controller.request(self.now, nwid, member, metadata, packet_id, None)
        packets = [action for action in actions if isinstance(action, SendPacket)]
        assert len(packets) == len(actions)
        return packets
