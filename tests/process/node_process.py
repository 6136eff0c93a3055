"""Half of the walking skeleton: a data plane with hand-installed tables, and no protocol at all.

    python -m tests.process.node_process '{"me": ..., "other": ..., ...}'      (see `Skeleton`)

Run inside a network namespace. Answers each line on stdin with one JSON line: "status", "activity"; ends with stdin.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path

from ztpipe.config import Config
from ztpipe.host.sockets import open_binding
from ztpipe.host.tap import Tap
from ztpipe.ipc import iter_punts
from ztpipe.log import configure
from ztpipe.mesh import Plan
from ztpipe.shm.tables import Tables
from ztpipe.supervisor import Supervisor
from ztpipe.wire.address import mac_of
from ztpipe.wire.armor import SessionKeys
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress

NWID = 0x8056C2E21C000001
PORT = 9993
BINDING = 3


@dataclass
class Skeleton:
    """Everything one node is told."""

    me: str  # secret identity
    other: str  # public identity
    local: str  # underlay address
    remote: str
    plan: tuple[int, int, int, int]
    home: str
    device: str
    suite: int = 3
    ring_slots: int = 8
    spin_us: int = 0
    offload: bool = True

    def text(self) -> str:
        return json.dumps(asdict(self))


class Node:
    """Tables, one TAP, one binding, and the workers."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.s = skeleton
        self.punts: Counter[str] = Counter()
        self.events: list[tuple[str, str]] = []
        me, other = Identity.parse(skeleton.me), Identity.parse(skeleton.other)
        self.tables = Tables.create(me.address)
        config = Config(
            home=Path(skeleton.home), run_dir=Path(skeleton.home), ring_slots=skeleton.ring_slots, log_level="error",
            tso_offload=skeleton.offload, uso_offload=skeleton.offload,
            gso_offload=skeleton.offload, gro_offload=skeleton.offload,
        )  # fmt: skip
        plan = Plan(*skeleton.plan)
        self.supervisor = Supervisor(
            config, self.tables, on_punts=self._punted, on_event=self._event, shape=plan, spin_us=skeleton.spin_us
        )
        mac = mac_of(me.address, NWID)
        self.tap = Tap.create(
            repeat(skeleton.device, 1), mac, 2800, queues=plan.taps, tso=skeleton.offload, uso=skeleton.offload
        )
        local = InetAddress(socket.inet_aton(skeleton.local), PORT)
        self.binding = open_binding(BINDING, local, "veth0", workers=plan.sockets, gro=skeleton.offload)
        self._install(me, other)

    def _install(self, me: Identity, other: Identity) -> None:
        """What node/ would have decided."""
        keys = SessionKeys(me.agree(other))
        remote = InetAddress(socket.inet_aton(self.s.remote), PORT)
        self.tables.install_member(NWID, other.address, True, 2**62)
        index = self.tables.install_network(NWID, self.tap.mac, self.tap.mtu, accept_all=True, bridge=False)
        self.tables.install_peer(
            other.address, keys.key[:32], keys.k0, keys.k1, self.s.suite, BINDING, remote, 1432, True
        )
        self.tables.install_path(other.address, BINDING, remote)
        assert index is not None
        self.network = index

    async def run(self) -> None:
        started = time.monotonic()
        self.supervisor.start()
        self.supervisor.add_tap(self.network, self.tap.queues)
        self.supervisor.add_binding(BINDING, 4, self.binding.filenos())
        await self.supervisor.ready()
        await self.supervisor.settled()
        _say(self.status() | {"started_in": time.monotonic() - started})
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().strip():
            _say(getattr(self, line)())
        before = time.monotonic()
        await self.supervisor.stop()
        _say({"stopped_in": time.monotonic() - before})

    def status(self) -> dict[str, object]:
        return {
            "workers": {s.name: s._asdict() for s in self.supervisor.status()},
            "counters": self.supervisor.counters.snapshot(),
            "waiting": self.supervisor.waiting(),
            "punts": self.punts,
            "events": self.events,
        }

    def activity(self) -> dict[str, object]:
        now = self.tables.now()
        paths = [(address, now - got, now - sent) for address, _, _, got, sent in self.tables.activity()]
        return {"paths": paths, "frames": [(a, n, now - at) for a, n, at in self.tables.frame_activity()]}

    def _punted(self, blob: bytes) -> None:
        self.punts.update(punt.kind.name for punt in iter_punts(blob))

    def _event(self, worker: str, name: str, _: dict[str, object]) -> None:
        self.events.append((worker, name))


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    configure("error", "text")
    asyncio.run(Node(Skeleton(**json.loads(sys.argv[1]))).run())
