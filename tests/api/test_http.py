"""Properties of the server beyond single recorded answers (service §4.1-4.3, clients §1)."""

from __future__ import annotations

import http.client
import json
import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.api import recorded
from tests.api.recorded import RecordedService, serving
from tests.api.test_recordings import exchange
from ztpipe import localconf
from ztpipe.api import answers, connections, static
from ztpipe.api import http as server
from ztpipe.api.access import source_allowed
from ztpipe.store import Home

AUTH = b"X-ZT1-Auth: TOKEN\r\n"
MOON = "142b028c0f"


def get(port: int, path: str, extra: bytes = AUTH) -> tuple[int, str]:
    status_line, _, body = exchange(port, f"GET {path} HTTP/1.1\r\n".encode() + extra + b"\r\n")
    return int(status_line.split(" ")[1]), body


def send(port: int, method: str, path: str, body: object) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, json.dumps(body), {"x-zt1-auth": "TOKEN", "Content-Type": "text/plain"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data else None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_no_host_header_on_both_listeners(port: int, family: socket.AddressFamily, version: bytes) -> None:
    """The old zerotier-cli sends none."""
    status_line, _, body = exchange(port, b"GET /health " + version + b"\r\n\r\n", family=family)
    assert status_line.endswith("200 OK")
    assert json.loads(body)["version"] == "1.14.1"


def test_head_in_single_bytes_without_host(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /health HTTP/1.1\r\nAccept: a\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_post_without_host_carries_its_body(service: RecordedService, port: int) -> None:
    body = b'{"allowGlobal":true}'
    head = b"POST /network/142b028c0f90dc4a HTTP/1.1\r\nContent-Length: %d\r\n" % len(body) + AUTH
    answer = json.loads(exchange(port, head + b"\r\n" + body)[2])
    assert answer["allowGlobal"] is True


@pytest.mark.parametrize("host", ["zerotier:9993", "evil.example:9993", "", "[", "a b"])
def test_any_host_is_accepted_with_a_token(port: int, host: str) -> None:
    assert get(port, "/status", AUTH + f"Host: {host}\r\n".encode())[0] == 200
    assert get(port, "/status?auth=TOKEN", f"Host: {host}\r\n".encode())[0] == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/application"])
@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ("Host: zerotier:9993", True),
        ("Host: LOCALHOST", True),
        ("Host: 10.1.2.3:9993", True),
        ("Host: [fd00::5]:9993", True),
        ("Host: node.prod.internal", True),
        ("Host: rebound.example:9993", False),
        ("Host: rebound.example.", False),
        ("Host: 127.0.0.1.example", False),
        ("Host: [fd00::5", False),
        ("Host: localhost:9993\r\nOrigin: http://localhost:9993", True),
        ("Host: localhost:9993\r\nOrigin: http://localhost:3000", False),
        ("Host: localhost:9993\r\nOrigin: null", False),
        ("Host: 127.0.0.1\r\nOrigin: https://evil.example", False),
    ],
)
def test_pages_of_others_learn_nothing(port: int, path: str, headers: str, admitted: bool) -> None:
    """What is answered without a token is guarded against DNS rebinding and cross-site requests."""
    status = get(port, path, headers.encode() + b"\r\n")[0]
    assert (status != 403) is admitted
    assert get(port, path, AUTH + headers.encode() + b"\r\n")[0] != 403


@pytest.mark.parametrize(
    ("rubbish", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\xfc\x03\r\n\r\n", "400 Bad Request"),
        (b"\r\n\r\n\r\n", "400 Bad Request"),
        (b"GET\r\n\r\n", "400 Bad Request"),
        (b"GET /health\r\n\r\n", "400 Bad Request"),
        (b"GET /health HTTP/9\r\n\r\n", "400 Bad Request"),
        (b"GET /health HTTP/2.0\r\n\r\n", "400 Bad Request"),
        (b"BREW /health HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"TRACE /health HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET /health HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", "400 Bad Request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", "414 URI Too Long"),
        (b"GET /" + b"a" * 70_000, "414 URI Too Long"),
    ],
)
def test_what_is_not_http_is_refused_and_does_no_harm(port: int, rubbish: bytes, status: str) -> None:
    """As the reference does, whose answers these are but for `Connection`; without Server and Date."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(rubbish)
        answer = sock.recv(4096)
    status_line, *fields = answer.decode().split("\r\n")
    assert status_line == f"HTTP/1.1 {status}"
    assert sorted(fields) == ["", "", "Connection: close", "Content-Length: 0", "Keep-Alive: timeout=5, max=5"]
    assert get(port, "/health")[0] == 200


def test_five_requests_per_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    closing = []
    for _ in range(5):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        closing.append(answer.getheader("Connection"))
    assert closing == [None, None, None, None, "close"]
    connection.close()


def test_many_connections_at_once(port: int) -> None:
    """User interfaces ask for all members in parallel."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(60)]
    for connection in connections:
        connection.request("GET", "/peer/0123456789", headers={"X-ZT1-AUTH": "TOKEN"})
    assert {connection.getresponse().read() for connection in connections} == {b"{}"}
    for connection in connections:
        connection.close()


def test_form_encoded_body_limit(port: int) -> None:
    """Recorded in extra-behaviour-checks.txt: 413 for a form of 9 KB, 200 for the same as JSON."""
    body = b'{"pad":"%s"}' % (b"a" * 9000)
    for kind, expected in ((b"application/x-www-form-urlencoded", "413"), (b"application/json", "200")):
        head = b"POST /config/settings HTTP/1.1\r\nContent-Type: %s\r\nContent-Length: %d\r\n" % (kind, len(body))
        assert exchange(port, head + AUTH + b"\r\n" + body)[0].split(" ")[1] == expected


def test_port_is_free_for_another_node_at_once(service: RecordedService) -> None:
    """The reference sets SO_REUSEPORT only; connections that we closed are still in TIME_WAIT then."""
    with serving(service) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\n\r\n")  # without Host: the server closes first
            while sock.recv(4096):
                pass
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
            with pytest.raises(OSError, match="in use"):
                other.bind(("0.0.0.0", port))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
        other.bind(("0.0.0.0", port))


def test_body_that_is_declared_too_long_is_refused_before_it_comes(port: int) -> None:
    head = b"POST /controller/network HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n" + AUTH
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head + b"\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_long_body_is_read_at_the_rate_of_its_source(service: RecordedService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are not to wait for whoever sends as fast as the loopback interface goes."""

    class Slow(connections.Admission):
        def __init__(self) -> None:
            super().__init__()
            self.budgets[connections.Source.LOCAL].inflow = 1 << 20

    monkeypatch.setattr(connections, "Admission", Slow)
    with serving(service) as port:
        began = time.monotonic()
        assert send(port, "POST", "/config/settings", {"pad": "a" * (3 << 20)})[0] == 200
        assert time.monotonic() - began > 0.6, "a second, but for the last chunk: two seconds' worth are the burst"
        assert get(port, "/health", b"")[0] == 200


def test_bodies_that_arrive_together_have_a_limit(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes beyond it is refused; when that one is gone, the next is read."""
    monkeypatch.setattr(answers, "BODIES_LIMIT", 100_000)
    head = b"POST /config/settings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" + AUTH + b"\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as first,
        socket.create_connection(("127.0.0.1", port), timeout=10) as second,
    ):
        first.sendall(head % 90_000 + b"a" * 60_000)
        second.sendall(head % 90_000 + b"a" * 60_000)
        refused = next(sock for sock in select.select([first, second], [], [], 10)[0])
        assert refused.recv(4096).startswith(b"HTTP/1.1 503 ")
        other = second if refused is first else first
        refused.close()
        other.sendall(b"a" * 30_000)
        assert other.recv(4096).startswith(b"HTTP/1.1 500 "), "read to its end, and no JSON"
    assert send(port, "POST", "/config/settings", {"pad": "a" * 90_000})[0] == 200


def test_empty_results_in_jsonp(port: int) -> None:
    assert get(port, "/network/0000000000000000?jsonp=cb") == (404, "cb(null);")
    assert get(port, "/bond/show/fd90edba50?jsonp=cb") == (400, "cb(null);")
    assert get(port, "/status?jsonp=cb", b"") == (401, "cb({});")


def test_get_lists(service: RecordedService, port: int) -> None:
    service.moons.append(recorded.moon(recorded.load("get-moon-id.json")))
    for path, name in (
        ("/network", "get-network.json"),
        ("/network/142B028C0F90DC4A", "get-network-id.json"),
        ("/peer", "get-peer.json"),
        ("/peer/FD90EDBA50", "get-peer-id.json"),
        ("/moon", "get-moon.json"),
        (f"/moon/{MOON}", "get-moon-id.json"),
    ):
        status, body = get(port, path)
        assert (status, json.loads(body)) == (200, recorded.load(name)), path


def test_seed_as_a_number_is_its_decimal_text(service: RecordedService, port: int) -> None:
    """Strings are read as loosely as everywhere: 255 is "255", which is hexadecimal."""
    for seed in (255, "255"):
        assert send(port, "POST", "/moon/00000000fe", {"seed": seed})[1]["waiting"] is True
    assert send(port, "POST", "/moon/00000000fe", {"seed": [255]})[1] == {}


@pytest.mark.parametrize(
    ("body", "column", "read"), [("nope", 2, "no"), ("trxe", 3, "trx"), ("x", 1, "x"), ('{"a": falsy}', 11, "falsy")]
)
def test_the_place_of_a_wrong_literal(port: int, body: str, column: int, read: str) -> None:
    """Recorded from the reference: it says how far it read."""
    head = b"POST /config/settings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body) + AUTH
    said = exchange(port, head + b"\r\n" + body.encode())[2]
    assert f"line 1, column {column}:" in said
    assert said.endswith(f"invalid literal; last read: '{read}'\"}}")


def test_post_moon_that_is_present(service: RecordedService, port: int) -> None:
    service.moons.append(recorded.moon(recorded.load("get-moon-id.json")))
    assert send(port, "POST", f"/moon/{MOON}", {"seed": "0123456789"}) == (200, recorded.load("get-moon-id.json"))


def test_metrics_need_a_token_but_no_address(port: int, service: RecordedService) -> None:
    assert get(port, "/metrics", b"X-ZT1-Auth: METRICSTOKEN\r\n") == (200, service.metrics)
    assert get(port, "/metrics") == (200, service.metrics)
    assert get(port, "/metrics", b"X-ZT1-Auth: x\r\n") == (401, "{}")


def test_failure_in_a_handler_is_a_500_and_the_node_lives(service: RecordedService, port: int) -> None:
    def fail() -> str:
        raise OSError("disk is gone")

    service.metrics_text = fail  # type: ignore[method-assign]
    assert get(port, "/metrics") == (500, '{"error": 500, "description": "disk is gone"}')
    assert get(port, "/health")[0] == 200


# The controller on the same port


def test_controller_status_is_indented_by_tabs(service: RecordedService, port: int) -> None:
    body = json.dumps(recorded.load("get-controller.json") | {"clock": service.clock}, indent="\t") + "\n"
    assert get(port, "/controller") == (200, body)


def test_controller_life_of_a_network(service: RecordedService, port: int) -> None:
    status, created = send(port, "POST", "/controller/network/142b028c0f______", {"name": "spec-net"})
    nwid = created["nwid"]
    assert (status, nwid[:10], created["name"], created["objtype"]) == (200, "142b028c0f", "spec-net", "network")
    assert created.keys() == recorded.load("get-controller-network-id.json").keys()
    assert get(port, "/controller/network") == (200, json.dumps([nwid], separators=(",", ":")))
    member = f"/controller/network/{nwid}/member/{MOON}"
    status, authorized = send(port, "PUT", member, {"authorized": "true"})
    assert (status, authorized["authorized"], authorized["id"]) == (200, True, MOON)
    assert json.loads(get(port, f"/controller/network/{nwid}/member")[1]) == {MOON: authorized["revision"]}
    bulk = json.loads(get(port, f"/unstable/controller/network/{nwid}/member")[1])
    assert bulk == {"data": [authorized], "meta": {"authorizedCount": 1, "totalCount": 1}}
    networks = json.loads(get(port, "/unstable/controller/network")[1])
    assert networks["meta"] == {"networkCount": 1}
    assert networks["data"][0]["meta"] == {"authorizedMemberCount": 1, "totalMemberCount": 1}
    assert send(port, "DELETE", member, {})[1]["id"] == MOON
    assert send(port, "DELETE", f"/controller/network/{nwid}", {})[1]["nwid"] == nwid
    assert get(port, f"/controller/network/{nwid}")[0] == 404
    assert service.controller_changes == 4


# Who may ask


@pytest.mark.parametrize(
    ("remote", "entries", "allowed"),
    [
        ("127.0.0.1", (), True),
        ("127.9.9.9", (), True),
        ("::1", (), True),
        ("::ffff:127.0.0.1", (), True),
        ("10.77.0.2", (), False),
        ("10.77.0.2", ("10.77.0.2/32",), True),
        ("10.77.0.3", ("10.77.0.2/32",), False),
        ("10.77.0.2", ("10.77.0.2",), True),
        ("10.77.0.3", ("10.77.0.2",), False),  # the reference admits everybody here (service §1.5, DEFECT)
        ("10.77.0.3", ("0.0.0.0/0",), True),
        ("fd00::5", ("0.0.0.0/0",), False),
        ("fd00::5", ("fd00::1/64",), True),
        ("10.1.2.3", ("nonsense", "10.0.0.0/8"), True),
        ("", ("0.0.0.0/0",), False),
    ],
)
def test_source_addresses(remote: str, entries: tuple[str, ...], allowed: bool) -> None:
    assert source_allowed(remote, entries) is allowed


# Static files, recorded in http-app-and-management-from.txt


@pytest.fixture
def web_root(tmp_path: Path) -> Path:
    ui = tmp_path / "app" / "ui"
    ui.mkdir(parents=True)
    (ui / "index.html").write_text("<h1>idx</h1>\n")
    (ui / "about.html").write_text("<p>about</p>\n")
    (ui / "s.js").write_text("x\n")
    (tmp_path / "authtoken.secret").write_text("secret")
    return tmp_path / "app"


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("ui/index.html", 200, "text/html"),
        ("ui/s.js", 200, "text/javascript"),
        ("ui/", 200, "text/html"),
        ("ui/about", 200, "text/html"),
        ("ui", 301, None),
        ("ui/some/deep/", 200, "text/html"),
        ("ui/none.js", 404, None),
        ("none/", 500, None),
        ("", 404, None),
        ("../authtoken.secret", 404, None),
        ("ui/../../authtoken.secret", 404, None),
        ("/etc/hostname", 404, None),
        ("ui/\0", 404, None),
    ],
)
def test_static_files(web_root: Path, path: str, status: int, kind: str | None) -> None:
    answer = static.answer(web_root, path)
    assert answer.status == status
    assert answer.headers.get("Content-Type") == kind
    if status == 301:
        assert answer.headers["location"] == f"/app/{path}/"


def test_static_files_do_not_follow_links_outside(web_root: Path) -> None:
    (web_root / "link.html").symlink_to(web_root.parent / "authtoken.secret")
    assert static.answer(web_root, "link.html").status == 404


def test_app_is_mounted_only_when_asked_for(tmp_path: Path) -> None:
    service = RecordedService(Home.open(tmp_path / "home"))
    service.local = localconf.parse(b'{"settings":{"enableWebServer":true}}', tmp_path)
    object.__setattr__(service, "config", lambda: recorded_config(service))
    with serving(service) as port:
        (service.home.path / "app" / "a.html").write_text("hello")
        assert get(port, "/app/a.html", b"") == (200, "hello")
        assert get(port, "/application", b"") == (404, "")


def recorded_config(service: RecordedService) -> Any:
    from ztpipe.config import Config

    return Config(home=service.home.path, run_dir=service.home.path, local=service.local)


def test_bind_fails_only_if_both_families_fail() -> None:
    first = server.bind(0)
    try:
        with pytest.raises(server.ListenError, match="in use"):
            server.bind(first[0].getsockname()[1])
    finally:
        for sock in first:
            sock.close()
