"""What the log says of events: the identifiers as everywhere else, the right level, no packet's bytes as they are."""

from __future__ import annotations

import pytest
import structlog

from ztpipe.controller.actions import MemberChanged
from ztpipe.node.actions import Event
from ztpipe.runtime import eventlog
from ztpipe.wire.inetaddress import InetAddress

PATH = InetAddress.parse("10.0.0.7/9993")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Event("peer_direct", {"peer": 0xA, "path": PATH}),
            {"event": "peer reached directly", "peer": "000000000a", "path": "10.0.0.7/9993", "log_level": "info"},
        ),
        (
            Event("network_status", {"network": 0xBB00000001, "status": "OK"}),
            {"event": "network status", "network": "000000bb00000001", "status": "OK", "log_level": "info"},
        ),
        (Event("offline", {}), {"event": "offline: no root answers", "log_level": "warning"}),
        (
            Event("user_message", {"source": 0xA, "type": 5, "data": b"\n\x1b"}),
            {"event": "user message", "source": "000000000a", "type": 5, "data": "0a1b", "log_level": "debug"},
        ),
        (
            Event("path_doubted", {"peer": 0xA, "binding": 3, "remote": PATH}),
            {"event": "path does not answer", "peer": "000000000a", "remote": "10.0.0.7/9993", "log_level": "info"},
        ),
    ],
)
def test_events(event: Event, line: dict[str, object]) -> None:
    with structlog.testing.capture_logs() as lines:
        eventlog.tell(event)
    assert lines == [line]


def test_members() -> None:
    with structlog.testing.capture_logs() as lines:
        eventlog.tell_changes([MemberChanged(1, 2, authorized=True), MemberChanged(1, 2, authorized=False)])
    assert [line["event"] for line in lines] == ["member authorised", "member no longer authorised"]
    assert lines[0]["member"] == "0000000002"
