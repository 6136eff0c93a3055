"""The service around a running node: metrics, readiness, reload of local.conf."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.pairs import Pair, joined, ztpipe
from tests.runtime.test_metrics import samples
from ztpipe.lab import Lab, LabNode, Namespace
from ztpipe.lab.traffic import ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab("zps") as lab:
        yield joined(lab, "s", "10.66.40", "10.67.40", ztpipe(), ztpipe())


def ask(source: Namespace, host: str, path: str, token: str = "") -> tuple[int, str]:
    """One GET from a namespace, to an address as seen from there."""
    connection = http.client.HTTPConnection(host, 9993, timeout=5)
    connection.sock = source.connect(host, 9993)
    try:
        connection.request("GET", path, headers={"X-ZT1-Auth": token} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def token_of(node: LabNode, name: str = "authtoken.secret") -> str:
    return (node.home / name).read_text()


def scraped(pair: Pair) -> dict[tuple[str, str], float]:
    """GET /metrics of node A with its metrics token."""
    status, text = ask(pair.a, "127.0.0.1", "/metrics", token_of(pair.nodes[0], "metricstoken.secret"))
    assert status == 200
    return samples(text)


def test_metrics_follow_the_traffic(pair: Pair) -> None:
    node, other = pair.nodes
    network = f'network_id="{pair.nwid}"'
    watched = (
        ("zt_packet", 'direction="rx",packet_type="frame"'),
        ("zt_packet", 'direction="tx",packet_type="frame"'),
        ("zt_data", 'direction="rx",protocol="udp"'),
        ("zt_data", 'direction="tx",protocol="udp"'),
        ("zt_network_packets", f'accepted="yes",direction="rx",{network}'),
        ("zt_network_packets", f'accepted="yes",direction="tx",{network}'),
    )
    before = scraped(pair)
    assert ping(pair.a, pair.target, count=20, interval=0.02).lost == 0
    after = scraped(pair)
    for key in watched:
        assert after[key] - before[key] >= 20, key
    assert after["zt_num_networks", ""] == 1
    assert after["controller_network_count", ""] == 1
    assert after["controller_network_config_request", ""] > 0
    assert after["ztpipe_peer_direct", f'node_id="{other.address}"'] == 1
    assert after["zt_peer_path_count", f'node_id="{other.address}",status="alive"'] >= 1
    assert after["zt_peer_packets", f'direction="rx",node_id="{other.address}"'] > 0
    on_disk = samples((node.home / "metrics.prom").read_text())
    assert {name for name, _ in on_disk} <= {name for name, _ in after}


def test_the_metrics_token_opens_metrics_only(pair: Pair) -> None:
    token = token_of(pair.nodes[0], "metricstoken.secret")
    assert ask(pair.a, "127.0.0.1", "/metrics")[0] == 401
    assert ask(pair.a, "127.0.0.1", "/status", token)[0] == 401
    assert ask(pair.b, "10.66.40.1", "/metrics", token)[0] == 200, "metrics have no address rule"


def test_readiness(pair: Pair) -> None:
    assert ask(pair.a, "127.0.0.1", "/livez") == (200, '{"live":true}')
    for node, host in zip(pair.nodes, (pair.a, pair.b), strict=True):
        assert ask(host, "127.0.0.1", f"/readyz?network={pair.nwid}") == (200, '{"problems":[],"ready":true}'), node
    assert ask(pair.a, "127.0.0.1", "/readyz?network=ffffffffff000001")[0] == 503
    assert ask(pair.b, "10.66.40.1", "/livez")[0] == 401


def test_join_that_waits(pair: Pair) -> None:
    node = pair.nodes[1]
    node.api("DELETE", f"/network/{pair.nwid}")
    answer = node.wait_for("the join", lambda: node.api_raw("POST", f"/network/{pair.nwid}?wait=OK&timeout=15", {}), 30)
    assert (answer[0], answer[1]["status"]) == (200, "OK")
    assert len(answer[1]["assignedAddresses"]) == 2


def test_cli_as_installed(pair: Pair) -> None:
    program = [sys.executable, "-m", "ztpipe.cli.zerotier_cli", f"-D{pair.nodes[0].home}"]
    process = pair.a.popen(*program, "get", pair.nwid, "status", stdout=subprocess.PIPE, text=True)
    assert process.communicate(timeout=20)[0] == "OK\n"


def test_doctor_finds_nothing_bad(pair: Pair) -> None:
    node = pair.nodes[0]
    process = pair.a.popen(sys.executable, "-m", "ztpipe", "doctor", str(node.home), "--json", stdout=subprocess.PIPE)
    found = {row["what"]: row for row in json.loads(process.communicate(timeout=30)[0])}
    assert process.returncode == 0, found
    assert found["node"]["found"].startswith(node.address)
    assert found["reachability"]["found"].startswith("1 of 1 peers directly")
    assert pair.nwid in found["network"]["found"]
    assert found["workers"]["verdict"] == "ok"


def test_local_conf_is_taken_on_sighup_and_a_damaged_one_is_not(pair: Pair) -> None:
    node = pair.nodes[0]
    token = token_of(node)
    path = node.home / "local.conf"
    document = json.loads(path.read_text())
    assert ask(pair.b, "10.66.40.1", "/status", token)[0] == 401

    document["settings"]["allowManagementFrom"] = ["10.66.40.2/32"]
    path.write_text(json.dumps(document))
    os.kill(node.pid(), signal.SIGHUP)
    node.wait_for("management from B", lambda: ask(pair.b, "10.66.40.1", "/status", token)[0] == 200, 5)

    path.write_text('{"settings": {"allowManagementFrom": [')
    os.kill(node.pid(), signal.SIGHUP)
    node.wait_for("a line in the log", lambda: "local.conf not taken" in node.log_tail(), 5)
    assert ask(pair.b, "10.66.40.1", "/status", token)[0] == 200
    assert node.process is not None
    assert node.process.poll() is None

    document["settings"]["allowManagementFrom"] = []
    path.write_text(json.dumps(document))
    os.kill(node.pid(), signal.SIGHUP)
    node.wait_for("no management from B", lambda: ask(pair.b, "10.66.40.1", "/status", token)[0] == 401, 5)
    assert ping(pair.a, pair.target, count=3, interval=0.05).lost == 0


def test_signals_of_the_specification(pair: Pair) -> None:
    """Signals, service §7.6: some do nothing; ALRM ends it at once, as if nothing was wrong, its workers too."""
    node = pair.nodes[1]
    workers = [int(worker["pid"]) for worker in node.api("GET", "/ztpipe/workers")]
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGIO):
        os.kill(node.pid(), number)
    assert node.api("GET", "/status")["address"] == node.address
    assert node.process is not None
    os.kill(node.pid(), signal.SIGALRM)
    assert node.process.wait(20) == 0
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}/exe")]
