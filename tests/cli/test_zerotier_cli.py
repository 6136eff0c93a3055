"""Every recorded call of zerotier-cli, against the real server."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import recorded
from tests.api.recorded import TOKEN, RecordedService, serving
from tests.cli.recordings import Call, calls
from ztpipe.cli import bond, tables, zerotier_cli
from ztpipe.cli.client import MAX_ANSWER, Client
from ztpipe.store import Home

_USAGE = "[usage text of zerotier-cli]\n"
#: Recordings that show the node of `RecordedService`; the others are read by tests of their own.
_REPLAYED = """
    errors get help info join leave listmoons listnetworks orbit raw-path set bond
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RecordedService, int]]:
    service = RecordedService(Home.open(tmp_path_factory.mktemp("home")))
    shown = json.loads(calls("cli-listnetworks-json.txt")[0].out)
    service.joined = {int(item["nwid"], 16): recorded.network(item) for item in shown}
    with serving(service) as port:
        yield service, port


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of the recordings, with the directories they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "fakehome").mkdir()
    (tmp_path / "fakehome" / ".zeroTierOneAuthToken").write_text(TOKEN + "\n")
    return tmp_path


def run(call: Call, home: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Type the recorded words, with our home directory and port in place of the recorded ones."""
    monkeypatch.setenv("ZEROTIER_HOME", str(home))
    monkeypatch.setenv("HOME", "/nonexistent")
    for name, value in call.environment.items():
        monkeypatch.setenv(name, value.replace("/var/lib/zerotier-one", str(home)))
    words = [word.replace("/var/lib/zerotier-one", str(home)).replace("-p9993", f"-p{port}") for word in call.words]
    return zerotier_cli.run(words, "zerotier-one")


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    "call", [call for name in _REPLAYED.split() for call in calls(f"cli-{name}.txt")], ids=lambda call: call.typed
)
def test_recorded_call(
    call: Call,
    running: tuple[RecordedService, int],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service, port = running
    if "-D./empty" in call.words:  # what was in that directory changed from call to call
        if "missing port" not in call.err:
            (directory / "empty" / "zerotier-one.port").write_text(str(port))
        if call.out.startswith("401"):
            (directory / "empty" / "authtoken.secret").write_text("wrong")
    assert run(call, service.home.path, port, monkeypatch) == call.status
    out, err = capsys.readouterr()
    usage = zerotier_cli.USAGE.format(program="zerotier-one", version="1.14.1")
    assert out.replace(usage, _USAGE) == expected_output(call, service)
    assert _recorded(err).replace(usage, _USAGE) == call.err


def _recorded(err: str) -> str:
    """stderr without the explanations that are ours."""
    ours = ("zerotier-cli: the service refused", "zerotier-cli: network ")
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(ours) and "is not a network id: 16" not in line)


def expected_output(call: Call, service: RecordedService) -> str:
    if call.words == ["/status"]:  # taken at another time than the recorded node
        return call.out.replace('"clock":1795456415459', f'"clock":{service.clock}')
    return call.out


@pytest.mark.parametrize("call", calls("cli-info-json.txt"), ids=lambda call: call.typed)
def test_info_as_json(
    call: Call,
    running: tuple[RecordedService, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service, port = running
    monkeypatch.setattr(service, "clock", json.loads(call.out)["clock"])
    assert run(call, service.home.path, port, monkeypatch) == 0
    assert capsys.readouterr().out == call.out


def test_listnetworks_as_json(
    running: tuple[RecordedService, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service, port = running
    (call,) = calls("cli-listnetworks-json.txt")
    assert run(call, service.home.path, port, monkeypatch) == 0
    assert capsys.readouterr().out == call.out


def test_dump(
    running: tuple[RecordedService, int],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service, port = running
    (call,) = calls("cli-dump.txt")
    assert run(call, service.home.path, port, monkeypatch) == 0
    assert capsys.readouterr().out == call.out.replace("<cwd>", str(directory))
    written = (directory / "zerotier_dump.txt").read_text().splitlines()
    expected = recorded.text("cli-dump.txt").split("zerotier_dump.txt\n")[-1].splitlines()
    titles = [line for line in expected[: expected.index("Interface 0")] if not line.startswith(("{", "["))]
    assert [line for line in written[: written.index("Interface 0")] if not line.startswith(("{", "["))] == titles
    status = json.loads(written[written.index("status") + 2])
    assert status["address"] == "142b028c0f"


# Tables: the recorded lines from a document of that moment

NOW = 1_795_456_400_000
PLANETS = ("62f865ae71", "778cde7190", "cafe04eba9", "cafe9efeb9")


def peers_with(leaf: dict[str, object], age: int) -> list[tables.Json]:
    paths = [{"address": leaf["path"], "lastSend": NOW - age, "lastReceive": NOW - age, "preferred": True}]
    unknown = {"paths": [], "latency": -1, "version": "-1.-1.-1", "role": "PLANET", "tunneled": False}
    found = [{"address": address, **unknown} for address in PLANETS]
    found.append({**leaf, "version": "1.14.1", "paths": paths, "tunneled": False})
    return sorted(found, key=lambda peer: str(peer["address"]))


LEAF: dict[str, object] = {"address": "fd90edba50", "role": "LEAF", "latency": 0, "path": "10.77.0.2/43016"}
ONLINE_MOON: dict[str, object] = {"address": "142b028c0f", "role": "MOON", "latency": 18, "path": "10.77.0.1/9993"}


def test_peers_tables() -> None:
    online = {call.words[0]: call.out for call in calls("cli-online-node.txt")}
    for form, peer, age, expected in (
        (tables.listpeers, LEAF, 10, calls("cli-listpeers.txt")[0].out),
        (tables.peers, LEAF, 31, calls("cli-peers.txt")[0].out),
        (tables.listpeers, ONLINE_MOON, 523, online["listpeers"]),
        (tables.peers, ONLINE_MOON, 505, online["peers"]),
    ):
        assert "\n".join(form(peers_with(peer, age), NOW)) + "\n" == expected


def test_networks_table_with_a_name_not_known_yet() -> None:
    expected = next(call.out for call in calls("cli-online-node.txt") if call.words == ["listnetworks"])
    networks = recorded.load("get-network-not-found.json")
    assert "\n".join(tables.listnetworks(networks, NOW)) + "\n" == expected


def test_unused_direction_is_minus_one_and_ages_are_never_negative() -> None:
    path = {"address": "1.2.3.4/5", "lastSend": 0, "lastReceive": NOW + 9, "preferred": True}
    peer = {"address": "fd90edba50", "role": "LEAF", "latency": 3, "version": "1.2.3", "paths": [path]}
    assert list(tables.listpeers([peer], NOW))[1] == "200 listpeers fd90edba50 1.2.3.4/5;-1;0 3 1.2.3 LEAF"


def test_tunneled_peers_have_a_note() -> None:
    lines = list(tables.peers([{**peers_with(LEAF, 5)[-1], "tunneled": True}], NOW))
    assert lines[-2].split()[4] == "RELAY"
    assert lines[-1] == "NOTE: Currently tunneling through a TCP relay. Ensure that UDP is not blocked."


def test_single_sign_on_lines() -> None:
    network = {**recorded.load("get-network-id.json"), "ssoEnabled": True, "authenticationURL": "https://x"}
    waiting = {**network, "status": "AUTHENTICATION_REQUIRED"}
    valid = {**network, "authenticationExpiryTime": NOW + 61_999}
    assert list(tables.listnetworks([waiting], NOW))[2] == "    AUTH EXPIRED, URL: https://x"
    assert list(tables.listnetworks([valid], NOW))[2] == "    AUTH OK, expires in: 61 seconds"


@pytest.mark.parametrize(
    ("addresses", "name", "expected"),
    [
        ([], "ip", ""),
        (["10.0.0.1/8"], "ip6", ""),
        (["fc00::1/40", "fd00::1/88"], "ip6plane", "fc00::1\n"),
        (["fd00::1/88", "fc00::1/40"], "ip6plane", "fc00::1"),
    ],
)
def test_properties_without_recording(addresses: list[str], name: str, expected: str) -> None:
    assert tables.property_text({"assignedAddresses": addresses}, name) == expected


@pytest.mark.parametrize("value", [None, [], {}, "-"])
def test_properties_that_are_not_shown(value: object) -> None:
    assert tables.property_text({"x": value}, "x") == "error, unknown property name"


def test_bond_tables() -> None:
    (show,) = (call for call in calls("cli-bond-active.txt") if call.words == ["bond", "fd90edba50", "show"])
    peer = recorded.load("get-bond-show.json")
    lines, expected = "\n".join(bond._tables(peer)).splitlines(), show.out.splitlines()
    assert lines[:12] == expected[:12]  # the same labels and headings; the links are of another moment
    assert [len(line) for line in lines[12:]] == [len(line) for line in expected[12:]]


# The program itself


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """What pip installs."""
    path = tmp_path / "zerotier-cli"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nfrom ztpipe.cli.zerotier_cli import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    path.chmod(0o755)
    return path


def environment(home: Path) -> dict[str, str]:
    root = str(Path(zerotier_cli.__file__).parents[2])
    return {**os.environ, "ZEROTIER_HOME": str(home), "HOME": "/nonexistent", "PYTHONPATH": root}


def test_installed_program(running: tuple[RecordedService, int], program: Path) -> None:
    service, _ = running
    started = time.perf_counter()
    done = subprocess.run(
        [program, "info"], env=environment(service.home.path), capture_output=True, text=True, timeout=30, check=False
    )
    print(f"zerotier-cli info took {1000 * (time.perf_counter() - started):.0f} ms")
    assert (done.stdout, done.stderr, done.returncode) == ("200 info 142b028c0f 1.14.1 OFFLINE\n", "", 0)


def test_installed_program_names_itself(program: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [program, "info"], env=environment(tmp_path), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == f"zerotier-cli: missing port and zerotier-one.port not found in {tmp_path}\n"
    assert done.returncode == 2


def test_reader_that_leaves_early(running: tuple[RecordedService, int], program: Path) -> None:
    """`zerotier-cli ... | head -1` ends without a traceback."""
    service, _ = running
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            [program, "-j", "info"],
            env=environment(service.home.path),
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert (done.stderr, done.returncode) == (b"", 0)


def test_only_light_modules_are_imported() -> None:
    """Health checks start this every second."""
    listing = "import sys; import ztpipe.cli.zerotier_cli; print(*sys.modules)"
    root = str(Path(zerotier_cli.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {root!r}); {listing}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    loaded = set(done.stdout.split())
    heavy = {"http", "email", "ssl", "urllib", "json", "re", "typing", "dataclasses", "inspect", "pathlib", "asyncio"}
    assert not loaded & heavy
    installed = {"aiohttp", "click", "msgspec", "structlog", "nacl", "cffi", "zmq", "rich"}
    assert not {name.partition(".")[0] for name in loaded} & installed


# Answers that are not as they should be


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", (200, "{}")),
        (b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\n{}trailing", (200, "{}")),
        (b"HTTP/1.0 200\r\n\r\nuntil the end", (200, "until the end")),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", (404, "")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", (0, "connection failed")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", (0, "connection failed")),
        (b"SSH-2.0-OpenSSH\r\n", (0, "connection failed")),
        (b"HTTP/1.1\r\n\r\n", (0, "connection failed")),
        (b"", (0, "connection failed")),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * MAX_ANSWER, (0, "request too large")),
    ],
)
def test_answers(answer: bytes, expected: tuple[int, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        requests: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                requests.append(connection.recv(65536))
                with contextlib.suppress(OSError):  # a client that has read enough
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        reply = Client("127.0.0.1", server.getsockname()[1], "secret").request("GET", "/a b\u00e4?x=1")
        thread.join()
    assert (reply.status, reply.body) == expected
    assert requests[0].startswith(b"GET /a%20b%C3%A4?x=1 HTTP/1.0\r\n")
    assert b"\r\nX-ZT1-Auth: secret\r\n" in requests[0]


def test_token_cannot_add_headers() -> None:
    assert Client("127.0.0.1", closed_port(), "a\r\nX: b").request("GET", "/").status == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        assert Client("127.0.0.1", server.getsockname()[1], "a\r\nX: b").request("GET", "/").status == 0
        connection, _ = server.accept()
        with connection:
            assert connection.recv(65536) == b""
