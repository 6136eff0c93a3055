"""A real node among the interfaces of a container host: what it binds, what it says, what it counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ztpipe.lab import Gateway, Lab, Namespace
from ztpipe.lab.nodes import private_planet

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture
def host() -> Iterator[tuple[Lab, Namespace]]:
    """eth0 (a veth), docker0 (a bridge) and a tunnel with a harmless name."""
    with Lab("zpu") as lab:
        other, host = lab.namespace("other"), lab.namespace("host")
        lab.cable(host, "eth0", ["10.66.13.1/24"], other, plug="eth0")
        host.run("ip", "link", "add", "docker0", "type", "bridge")
        host.run("ip", "link", "add", "office", "type", "vxlan", "id", "7", "dstport", "4789", "local", "10.66.13.1")
        for device, address in (("docker0", "172.17.0.1/16"), ("office", "10.99.0.1/24")):
            host.run("ip", "addr", "add", address, "dev", device)
            host.run("ip", "link", "set", device, "up")
        yield lab, host


def _started(lab: Lab, host: Namespace, **options: Any) -> Gateway:
    node = Gateway(host, lab.directory, **options)
    node.use_world(private_planet(), [])
    node.start()
    return node


def _listening(node: Gateway) -> set[str]:
    """Local UDP addresses of port 9993, as the kernel sees them."""
    lines = node.namespace.run("ss", "-Hluna").stdout.splitlines()
    return {line.split()[3].rpartition(":")[0] for line in lines if line.split()[3].endswith(":9993")}


def test_only_the_way_out_is_used_and_the_rest_is_said_and_counted(host: tuple[Lab, Namespace]) -> None:
    node = _started(*host)
    assert _listening(node) == {"10.66.13.1%eth0"}
    log = [line for line in node.log_tail(100).splitlines() if "left out" in line]
    assert len(log) == 2
    assert any("docker0" in line for line in log) and any("office" in line for line in log)
    (control,) = [worker for worker in node.api("GET", "/ztpipe/workers") if worker["name"] == "control"]
    assert control["counters"]["underlay_excluded_interfaces"] == 2


def test_allowed_interfaces_are_used_whatever_they_are(host: tuple[Lab, Namespace]) -> None:
    node = _started(*host, flags=["--underlay-interfaces", "docker*,office"])
    assert _listening(node) == {"172.17.0.1%docker0", "10.99.0.1%office"}


def test_bind_is_final(host: tuple[Lab, Namespace]) -> None:
    node = _started(*host, settings={"bind": ["172.17.0.1", "192.0.2.1"]})
    assert _listening(node) == {"172.17.0.1"}


def test_what_is_reached_through_the_overlay_is_found_by_its_route(host: tuple[Lab, Namespace]) -> None:
    """The route to the far end of a tunnel leads into a device of an overlay."""
    _, namespace = host
    namespace.run("ip", "link", "add", "ztlab0", "type", "bridge")
    namespace.run("ip", "addr", "add", "10.71.0.1/24", "dev", "ztlab0")
    namespace.run("ip", "link", "set", "ztlab0", "up")
    tunnel = ("type", "vxlan", "id", "9", "dstport", "4790", "local", "10.71.0.1", "remote", "10.71.0.9")
    namespace.run("ip", "link", "add", "inside", *tunnel)
    namespace.run("ip", "addr", "add", "10.72.0.1/24", "dev", "inside")
    namespace.run("ip", "link", "set", "inside", "up")
    node = _started(*host)
    assert _listening(node) == {"10.66.13.1%eth0"}
    (line,) = [line for line in node.log_tail(100).splitlines() if "left out" in line and "inside" in line]
    assert "runs over ztlab0" in line
