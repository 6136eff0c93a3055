"""/livez, /readyz, and POST /network/{id}?wait=OK."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.api.recorded import RecordedService
from tests.api.test_http import get, send
from ztpipe.api import probe_routes
from ztpipe.api.service import JoinedNetwork
from ztpipe.node.status import NetworkStatus

NWID = 0x142B028C0F90DC4A
ID = f"{NWID:016x}"


def change(service: RecordedService, edit: Callable[[JoinedNetwork], JoinedNetwork]) -> None:
    service.joined[NWID] = edit(service.joined[NWID])


def with_record(**fields: object) -> Callable[[JoinedNetwork], JoinedNetwork]:
    return lambda joined: replace(joined, record=replace(joined.record, **fields))  # type: ignore[arg-type]


def test_live_without_token(port: int) -> None:
    assert get(port, "/livez", b"") == (200, '{"live":true}')


def test_ready_without_token(service: RecordedService, port: int) -> None:
    assert get(port, "/readyz", b"") == (200, '{"problems":[],"ready":true}')
    service.ready = False
    assert get(port, "/readyz", b"") == (503, '{"problems":["worker tap-0: not running yet"],"ready":false}')


def test_the_source_address_decides(service: RecordedService, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ztpipe.api.access.source_allowed", lambda remote, networks: False)
    for path in ("/livez", "/readyz"):
        assert get(port, path, b"")[0] == 401


def test_ready_network(service: RecordedService, port: int) -> None:
    change(service, with_record(controller_reached=True))
    assert get(port, f"/readyz?network={ID}", b"")[0] == 200
    assert get(port, f"/readyz?network={ID.upper()}&network={ID},{ID}", b"")[0] == 200


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (with_record(status=NetworkStatus.ACCESS_DENIED), "status ACCESS_DENIED"),
        (with_record(controller_reached=False), "controller not reached since the start"),
        (with_record(config=None), "no address assigned"),
        (lambda joined: replace(joined, port_error=-999), "no TAP device"),
    ],
)
def test_network_that_is_not_ready(
    service: RecordedService, port: int, edit: Callable[[JoinedNetwork], JoinedNetwork], problem: str
) -> None:
    change(service, with_record(controller_reached=True))
    change(service, edit)
    expected = f'{{"problems":["network {ID}: {problem}"],"ready":false}}'
    assert get(port, f"/readyz?network={ID}", b"") == (503, expected)


def test_network_that_is_not_joined(port: int) -> None:
    expected = '{"problems":["network ffffffffff000001: not joined"],"ready":false}'
    assert get(port, "/readyz?network=ffffffffff000001", b"") == (503, expected)


@pytest.mark.parametrize("text", ["x", "142b028c0f90dc4", "142b028c0f90dc4a0", "142b028c0f90dc4g"])
def test_what_is_no_network_id(port: int, text: str) -> None:
    status, body = get(port, f"/readyz?network={text}", b"")
    assert status == 400
    assert text in body


def test_wait_answers_at_once_when_it_is_ok(port: int) -> None:
    status, answer = send(port, "POST", f"/network/{ID}?wait=OK&timeout=60", {})
    assert (status, answer["status"]) == (200, "OK")


def test_wait_ends_when_the_network_comes_up(service: RecordedService, port: int) -> None:
    change(service, with_record(status=NetworkStatus.REQUESTING_CONFIGURATION))
    timer = threading.Timer(0.3, lambda: change(service, with_record(status=NetworkStatus.OK)))
    timer.start()
    status, answer = send(port, "POST", f"/network/{ID}?wait=OK&timeout=8", {"allowGlobal": True})
    timer.join()
    assert (status, answer["status"], answer["allowGlobal"]) == (200, "OK", True)


def test_wait_that_is_over_shows_what_is(service: RecordedService, port: int) -> None:
    status, answer = send(port, "POST", "/network/ffffffffff000001?wait=OK&timeout=0.2", {})
    assert (status, answer["status"]) == (504, "REQUESTING_CONFIGURATION")


def test_wait_for_a_network_that_is_left_meanwhile(service: RecordedService, port: int) -> None:
    change(service, with_record(status=NetworkStatus.ACCESS_DENIED))
    timer = threading.Timer(0.2, lambda: service.joined.pop(NWID))
    timer.start()
    started = time.monotonic()
    status, _ = send(port, "POST", f"/network/{ID}?wait=OK&timeout=9", {})
    timer.join()
    assert status == 404
    assert time.monotonic() - started < 9


@pytest.mark.parametrize(
    "query", ["wait=ok", "wait=", "wait=OK&timeout=x", "wait=OK&timeout=-1", "wait=OK&timeout=nan"]
)
def test_waits_that_make_no_sense_change_nothing(service: RecordedService, port: int, query: str) -> None:
    status, answer = send(port, "POST", f"/network/ffffffffff000001?{query}", {})
    assert status == 400
    assert "expected" in answer["error"]
    assert 0xFFFFFFFFFF000001 not in service.joined


def test_others_are_served_while_one_waits(service: RecordedService, port: int) -> None:
    change(service, with_record(status=NetworkStatus.REQUESTING_CONFIGURATION))
    done: list[int] = []
    waiting = threading.Thread(
        target=lambda: done.append(send(port, "POST", f"/network/{ID}?wait=OK&timeout=5", {})[0])
    )
    waiting.start()
    time.sleep(0.1)
    assert get(port, "/livez", b"")[0] == 200
    assert not done
    change(service, with_record(status=NetworkStatus.OK))
    waiting.join(10)
    assert done == [200]


def test_a_wait_has_a_bound() -> None:
    assert probe_routes.read_wait({}) is None
    assert probe_routes.read_wait({"wait": "OK"}) == 30
    with pytest.raises(probe_routes.BadWait):
        probe_routes.read_wait({"wait": "OK", "timeout": "301"})
