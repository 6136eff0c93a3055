"""What three controller interfaces really sent (tests/vectors/ui-calls), against the real server and controller.

What the answers contain is compared in tests/controller; here it is method, path, headers and body as they came over
the wire, and status and type of the answer.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.recorded import TOKEN, RecordedService, serving
from ztpipe.controller import Controller, MemoryStore
from ztpipe.store import Home
from ztpipe.wire.identity import Identity

CALLS = Path(__file__).parents[1] / "vectors" / "ui-calls"
CONTROLLER = 0x25C39374BB
MEMBER = 0xAF435370E4  # a real second node, which asked to join before it was looked at first


def recordings(interface: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((CALLS / interface).glob("*.json"))]


def recorded_ids(calls: list[dict[str, Any]]) -> Callable[[int], bytes]:
    """Randomness that makes the network ids of the recording, in their order."""
    ids = [call["response"]["body"]["nwid"] for call in calls if call["request"]["path"].endswith("______")]
    remaining = [bytes.fromhex(nwid[10:]) for nwid in ids]
    return lambda size: remaining.pop(0) if size == 3 else bytes(size)


def send(port: int, request: dict[str, Any]) -> tuple[int, str | None]:
    """Status and content type of the answer."""
    sent = {name: value for name, value in request["headers"].items() if name.lower() != "connection"}
    headers = {name: value.replace("<contents of authtoken.secret>", TOKEN) for name, value in sent.items()}
    body = json.dumps(request["body"]).encode() if "body" in request else None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(request["method"], request["path"], body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Type")


@pytest.mark.parametrize("interface", ["ztncui", "zero-ui", "ztnet"])
def test_interface(interface: str, tmp_path: Path) -> None:
    calls = recordings(interface)
    service = RecordedService(Home.open(tmp_path))
    service.recorded["address"] = f"{CONTROLLER:010x}"
    public = Identity.parse(service.recorded["publicIdentity"])
    identity = Identity(CONTROLLER, public.public, bytes(64))
    service.controller = Controller(identity, MemoryStore(), random=recorded_ids(calls))
    differences = []
    member_asked = False
    with serving(service) as port:
        for call in calls:
            request, expected = call["request"], call["response"]
            if not member_asked and request["path"].endswith(f"/member/{MEMBER:010x}"):
                service.controller.update_member(service.now(), int(request["path"].split("/")[3], 16), MEMBER, {})
                member_asked = True
            answer = send(port, request)
            if answer != (expected["status"], expected["headers"].get("Content-Type")):
                differences.append((request["method"], request["path"], answer))
    assert differences == []
