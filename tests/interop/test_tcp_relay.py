"""An unmodified node whose UDP is blocked uses our TCP relay, and reaches a node of ours through it."""

from __future__ import annotations

from tests.interop.test_interop import pytestmark  # noqa: F401  (pytest reads it)
from tests.netns.test_tcp_relay import OVERLAY, WAN, answers, block_udp, run, scene
from ztpipe.lab import Lab, Reference
from ztpipe.lab.traffic import transfer


def test_an_unmodified_node_uses_our_relay() -> None:
    with Lab("zpt") as lab:
        found = scene(lab, Reference, forceTcpRelay=True)
        block_udp(found.walled.namespace)
        run(found)
        assert found.walled.api("GET", "/status")["tcpFallbackActive"] is True
        answers(found.walled, f"{OVERLAY}.2")
        assert transfer(found.walled.namespace, found.free.namespace, f"{OVERLAY}.2", 200_000).intact
        peer = found.free.wait_direct(found.walled.address)
        assert {path["address"].split("/")[0] for path in peer["paths"]} == {f"{WAN}.4"}
