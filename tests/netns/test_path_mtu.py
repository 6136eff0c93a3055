"""Underlays of unusual MTU between two real nodes: nothing is configured, and no IP fragment is needed."""

from __future__ import annotations

import json
import os

import pytest

from tests.pairs import Make, joined, reference, ztpipe
from ztpipe.lab import Lab, LabNode, Namespace
from ztpipe.lab.traffic import iperf, ping

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

#: Off, so that what is counted and dropped are datagrams as a wire would carry them.
NO_BATCHES = ("tx-udp-segmentation", "gro")


def _shape(host: Namespace, link: int, router: int) -> None:
    """The device has MTU `link`; longer IP packets than `router`, and all fragments, get lost on the way."""
    host.run("ip", "link", "set", "eth0", "mtu", str(link))
    rules = (
        "add table ip lab",
        "add chain ip lab in { type filter hook prerouting priority -400 ; }",
        "add rule ip lab in iifname eth0 ip frag-off & 0x3fff != 0 counter drop",
        f"add rule ip lab in iifname eth0 ip length > {router} drop",
    )
    host.run("nft", "; ".join(rules))


def _mtus(node: LabNode) -> list[int]:
    """UDP payloads that the node found on its paths, in order."""
    lines = [json.loads(line) for line in node.log_tail(200).splitlines() if line.startswith("{")]
    return [line["mtu"] for line in lines if line["event"] == "path MTU"]


def _full_frames_pass(source: Namespace, target: str) -> bool:
    return "5 received" in source.run("ping", "-nc5", "-i0.1", "-W2", "-s2772", target, check=False).stdout


@pytest.mark.parametrize(
    ("link", "router", "found"),
    [(1_280, 1_280, 1_252), (1_500, 1_400, 1_372), (9_000, 9_000, 8_972), (9_001, 4_000, 3_972)],
)
def test_mtu_is_found_and_full_frames_pass(link: int, router: int, found: int) -> None:
    with Lab("zpm") as lab:
        pair = joined(lab, "m", "10.66.11", "10.67.11", ztpipe(), ztpipe(), mtu=9_001, without=NO_BATCHES)
        for host in (pair.a, pair.b):
            _shape(host, link, router)
        source = pair.a.popen("ping", "-n", "-i", "0.2", pair.target, stdout=-3)
        for node in pair.nodes:
            node.wait_for(f"a path MTU of {found}", lambda n=node: _mtus(n)[-1:] == [found], 60)
        source.kill()
        source.wait()
        pair.nodes[0].wait_for("full frames to pass", lambda: _full_frames_pass(pair.a, pair.target), 60)
        assert iperf(pair.a, pair.b, pair.target, seconds=1).bytes > 1_000_000


@pytest.mark.interop
@pytest.mark.skipif("ZT_REFERENCE" not in os.environ, reason="NOT TESTED AGAINST zerotier-one: set ZT_REFERENCE")
@pytest.mark.parametrize("make", [ztpipe, reference], ids=["ours-is-root", "it-is-root"])
def test_an_unmodified_node_gets_at_most_1500_bytes(make: Make) -> None:
    """On a jumbo link, counted where it receives."""
    with Lab("zpm") as lab:
        ours_first = make is ztpipe
        makes = (ztpipe(), reference()) if ours_first else (reference(), ztpipe())
        pair = joined(lab, "m", "10.66.12", "10.67.12", *makes, mtu=9_001, without=NO_BATCHES)
        theirs = pair.b if ours_first else pair.a
        rules = (
            "add table ip lab",
            "add chain ip lab in { type filter hook prerouting priority -400 ; }",
            "add rule ip lab in iifname eth0 ip protocol udp udp length > 1508 counter",
        )
        theirs.run("nft", "; ".join(rules))
        source, target = (pair.a, pair.target) if ours_first else (pair.b, f"{pair.overlay}.1")
        assert ping(source, target, count=30, interval=0.2).lost == 0
        assert iperf(source, theirs, target, seconds=1).bytes > 1_000_000
        assert "packets 0 bytes 0" in theirs.run("nft", "list table ip lab").stdout
