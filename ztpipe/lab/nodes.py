"""Nodes in the laboratory: our own gateway, or an unmodified zerotier-one, driven alike through home and API."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ztpipe.lab.namespaces import Namespace
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.world import Root, World, WorldType

Json = Any


class NodeFailed(RuntimeError):
    """A node did not start, or did not reach the state that was waited for; the message ends with its log."""


class LabNode:
    """One running node with a home directory of its own."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        *,
        identity: Identity | None = None,
        settings: Mapping[str, Json] | None = None,
        extra: Mapping[str, Json] | None = None,
    ) -> None:
        self.namespace = namespace
        self.home = directory / f"home-{namespace.label}"
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.identity = identity or Identity.generate(os.urandom)
        self.log = directory / f"{namespace.label}.log"
        self.process: subprocess.Popen[Any] | None = None
        _write(self.home / "identity.secret", self.identity.text(private=True), 0o600)
        _write(self.home / "identity.public", self.identity.text(), 0o644)
        local = {
            "settings": {"portMappingEnabled": False, "allowTcpFallbackRelay": False, **(settings or {})},
            **(extra or {}),
        }
        _write(self.home / "local.conf", json.dumps(local), 0o644)

    @property
    def address(self) -> str:
        return f"{self.identity.address:010x}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def use_world(self, planet: World, moons: Iterable[World]) -> None:
        """Give it a private planet (so that no public root exists for it) and moons."""
        _write(self.home / "planet", planet.encode(), 0o644)
        (self.home / "moons.d").mkdir(exist_ok=True)
        for moon in moons:
            _write(self.home / "moons.d" / f"{moon.id:016x}.moon", moon.encode(), 0o644)

    def start(self, *, wait: float = 20) -> None:
        """Start it and wait until its API answers."""
        with open(self.log, "ab") as log:
            self.process = self.namespace.popen(*self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wait_for("its API to answer", lambda: self.api("GET", "/status"), wait)

    def stop(self, *, timeout: float = 8) -> int | None:
        """SIGTERM; the exit status, or None if it had to be killed."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            os.kill(self.pid(process), signal.SIGTERM)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(2)
            return None

    def pid(self, process: subprocess.Popen[Any] | None = None) -> int:
        """The node's own process (`ip netns exec` replaces itself, so it is the one we started)."""
        process = process or self.process
        assert process is not None
        return process.pid

    def api(self, method: str, path: str, body: Json = None) -> Json:
        """One API call from inside the namespace; NodeFailed unless 2xx."""
        status, answer = self.api_raw(method, path, body)
        if not 200 <= status < 300:
            raise NodeFailed(f"{self.namespace.label}: {method} {path}: HTTP {status} {answer!r}")
        return answer

    def api_raw(self, method: str, path: str, body: Json = None) -> tuple[int, Json]:
        token = (self.home / "authtoken.secret").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", 9993, timeout=5)
        connection.sock = self.namespace.connect("127.0.0.1", 9993)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"X-ZT1-Auth": token, "Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def wait_for(self, what: str, probe: Callable[[], Json], timeout: float) -> Json:
        """Poll until `probe` returns something true; its errors count as "not yet"."""
        deadline = time.monotonic() + timeout
        reason: object = "no answer yet"
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise NodeFailed(f"{self.namespace.label} exited with {self.process.returncode}\n{self.log_tail()}")
            try:
                if answer := probe():
                    return answer
            except (OSError, http.client.HTTPException, NodeFailed, ValueError) as error:
                reason = error
            time.sleep(0.1)
        raise NodeFailed(f"{self.namespace.label}: waited {timeout:.0f} s for {what}: {reason}\n{self.log_tail()}")

    def log_tail(self, lines: int = 30) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def join(self, nwid: str, settings: Mapping[str, Json] | None = None) -> Json:
        return self.api("POST", f"/network/{nwid}", dict(settings or {}))

    def network(self, nwid: str) -> Json:
        return self.api("GET", f"/network/{nwid}")

    def wait_ok(self, nwid: str, *, addresses: int = 1, timeout: float = 45) -> Json:
        """Wait for status OK with at least `addresses` assigned; the network object."""

        def ready() -> Json:
            network = self.network(nwid)
            return network if network["status"] == "OK" and len(network["assignedAddresses"]) >= addresses else None

        return self.wait_for(f"network {nwid} to be OK", ready, timeout)

    def peer(self, address: str) -> Json:
        return self.api("GET", f"/peer/{address}")

    def wait_direct(self, address: str, timeout: float = 30) -> Json:
        """Wait for a direct path to a peer; the peer object. A peer nobody talks to is never met."""
        return self.wait_for(
            f"a direct path to {address}", lambda: (p := self.peer(address)).get("paths") and p, timeout
        )

    def create_network(self, **fields: Json) -> str:
        """Create a network on this node's controller; its id."""
        return str(self.api("POST", f"/controller/network/{self.address}______", fields)["id"])

    def authorise(self, nwid: str, address: str, **fields: Json) -> Json:
        return self.api("POST", f"/controller/network/{nwid}/member/{address}", {"authorized": True, **fields})


class Gateway(LabNode):
    """A ztpipe node. `flags` are added to its command line."""

    def __init__(self, namespace: Namespace, directory: Path, *, flags: Sequence[str] = (), **options: Any) -> None:
        super().__init__(namespace, directory, **options)
        self.flags = list(flags)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "ztpipe", "run", *self.flags, "-p", "9993", str(self.home)]


class Reference(LabNode):
    """An unmodified zerotier-one, the program named by ZT_REFERENCE."""

    def __init__(self, namespace: Namespace, directory: Path, *, program: str | None = None, **options: Any) -> None:
        super().__init__(namespace, directory, **options)
        self.program = program or os.environ["ZT_REFERENCE"]

    def command(self) -> list[str]:
        return [self.program, "-U", "-p9993", str(self.home)]


def private_planet() -> World:
    """A planet without roots: the node then knows no root but its moons, and nothing on the internet."""
    return _world(WorldType.PLANET, int.from_bytes(os.urandom(6), "big"), ())


def moon(root: Identity, endpoints: Iterable[str]) -> World:
    """A moon with one root."""
    stable = tuple(InetAddress.parse(endpoint) for endpoint in endpoints)
    return _world(WorldType.MOON, root.address, (Root(root.without_private(), stable),))


def _world(kind: WorldType, number: int, roots: tuple[Root, ...]) -> World:
    """Signed by a throw-away key, which nobody needs again."""
    key = Identity.generate(os.urandom)
    assert key.private is not None
    unsigned = World(kind, number, int(time.time() * 1000), key.public, b"", roots)
    return unsigned.sign(key.public, key.private)


def _write(path: Path, data: str | bytes, mode: int) -> None:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(mode)
