"""A port mapped at a router by NAT-PMP and by UPnP, against Debian's miniupnpd; what comes to it reaches the node."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pairs import counted
from ztpipe.lab import Gateway, Lab, Namespace
from ztpipe.lab.nat import behind, load, router, site
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping

DAEMON = shutil.which("miniupnpd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(DAEMON is None, reason="NOT TESTED: needs miniupnpd, as scripts/setup.sh installs it"),
]

EXTERNAL = "44.128.20.1"
CHAINS = """
table inet filter {
  chain forward { type filter hook forward priority 0; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain postrouting { type nat hook postrouting priority 99; jump postrouting_miniupnpd; }
  chain postrouting_miniupnpd { }
}
"""


def start_daemon(home: Namespace, lab: Lab, *, nat_pmp: bool, upnp: bool) -> None:
    """The router's service, on its inner interface."""
    load(home, CHAINS)
    settings = {
        "ext_ifname": "outside",
        "listening_ip": "inside",
        "enable_natpmp": "yes" if nat_pmp else "no",
        "enable_upnp": "yes" if upnp else "no",
        "secure_mode": "yes",
        "http_port": 5000,
        "uuid": "3f0c0b5e-6f3f-4c55-9d1b-000000000001",
        "lease_file": lab.directory / "leases",
    }
    configuration = Path(lab.directory / "miniupnpd.conf")
    rules = "allow 1024-65535 192.168.20.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    configuration.write_text("".join(f"{key}={value}\n" for key, value in settings.items()) + rules)
    assert DAEMON is not None
    with open(lab.directory / "miniupnpd.log", "ab") as log:
        pid = str(lab.directory / "miniupnpd.pid")
        home.popen(DAEMON, "-d", "-f", str(configuration), "-P", pid, stdout=log, stderr=subprocess.STDOUT)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("zpm") as made:
        yield made


@pytest.mark.parametrize("way", ["NAT-PMP", "UPnP"])
def test_a_mapping_is_made_and_leads_to_the_node(lab: Lab, way: str) -> None:
    wan = lab.switch("wan")
    stranger = lab.namespace("stranger")
    lab.cable(stranger, "eth0", ["44.128.0.9/16"], wan)
    home = router(lab, "router", "port", wan, f"{EXTERNAL}/16")
    inside = lab.namespace("inside")
    behind(lab, inside, home, "192.168.20")
    start_daemon(home, lab, nat_pmp=way == "NAT-PMP", upnp=way == "UPnP")
    node = Gateway(inside, lab.directory, settings={"portMappingEnabled": True})
    root = Gateway(stranger, lab.directory)  # only its identity is needed: it makes the planet a private one
    node.use_world(private_planet(), [moon(root.identity, ["44.128.0.8/9993"])])
    node.start()

    def mapped() -> Any:
        return next((line for line in node.log.read_text().splitlines() if "port mapped" in line), None)

    line = node.wait_for("a mapping", mapped, 60)
    assert way in line
    assert f"{EXTERNAL}/" in line
    external = int(line.split(f"{EXTERNAL}/")[1].split()[0].strip('",'))
    assert node.api("GET", "/status")["config"]["settings"]["tertiaryPort"] > 0
    _reaches(node, stranger, external)


@pytest.mark.long
def test_behind_two_symmetric_nats_a_mapping_makes_the_path_direct(lab: Lab) -> None:
    """Such a pair is relayed otherwise (tests/interop/test_nat.py)."""
    wan = lab.switch("wan")
    hosts = [lab.namespace("root"), lab.namespace("inside")]
    lab.cable(hosts[0], "eth0", ["44.128.0.9/16"], wan)
    home = router(lab, "router", "symmetric", wan, f"{EXTERNAL}/16")
    behind(lab, hosts[1], home, "192.168.20")
    start_daemon(home, lab, nat_pmp=True, upnp=False)
    hosts.append(site(lab, wan, "other", "symmetric", "44.128.30.1", lan="192.168.30").host)
    root, a, b = (Gateway(host, lab.directory, settings={"portMappingEnabled": host is hosts[1]}) for host in hosts)
    planet, moons = private_planet(), [moon(root.identity, ["44.128.0.9/9993"])]
    for node in (root, a, b):
        node.use_world(planet, moons)
        node.start()
    a.wait_for("a mapping", lambda: "port mapped" in a.log.read_text(), 60)
    nwid = root.create_network(private=False, routes=[{"target": "10.67.20.0/24"}], v4AssignMode={"zt": False})
    for number, node in enumerate((a, b), start=1):
        root.authorise(nwid, node.address, ipAssignments=[f"10.67.20.{number}"])
        node.join(nwid)
    for node in (a, b):
        node.wait_ok(nwid)
    b.wait_for("a ping", lambda: ping(b.namespace, "10.67.20.1", count=1).times, 60)
    path = b.wait_direct(a.address, 60)["paths"][0]
    assert path["address"].startswith(f"{EXTERNAL}/")
    assert ping(b.namespace, "10.67.20.1", count=5).times


def _reaches(node: Gateway, stranger: Namespace, port: int) -> None:
    """A datagram from somebody the node never spoke to: counted by the node as a short one."""
    before = counted(node, "drop_short_datagram")
    with stranger.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        deadline = time.monotonic() + 10
        while counted(node, "drop_short_datagram") == before and time.monotonic() < deadline:
            sock.sendto(b"0123456789", (EXTERNAL, port))
            time.sleep(0.2)
    assert counted(node, "drop_short_datagram") > before
