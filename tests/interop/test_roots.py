"""Roots of one's own: a planet by `ztpipe planet` with our root, and an unmodified one, for unmodified leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from tests.interop.test_interop import pytestmark  # noqa: F401  (pytest reads it)
from ztpipe.cli import planet
from ztpipe.lab import Gateway, Lab, LabNode, Namespace, Reference
from ztpipe.lab.traffic import ping

WAN, OVERLAY = "10.66.8", "10.67.8"


@dataclass(slots=True)
class World:
    """Two roots (ours with two endpoints, and an unmodified one), two unmodified leaves in a network of ours."""

    roots: list[LabNode]
    leaves: list[LabNode]
    nwid: str


def _make_planet(lab: Lab, roots: list[LabNode], hosts: list[LabNode]) -> None:
    """By the command line, as the documentation says."""
    description, binary = str(lab.directory / "planet.json"), str(lab.directory / "planet")
    endpoints = [f"{WAN}.1/9993,fd66:8::1/9993", f"{WAN}.2/9993"]
    words = ["create", "-o", description]
    for root, reached in zip(roots, endpoints, strict=True):
        words += ["--root", str(root.home / "identity.public"), reached]
    steps = [words, ["sign", description, "-o", binary], *(["install", str(n.home), binary] for n in hosts)]
    for step in steps:
        result = CliRunner().invoke(planet.command, step)
        assert result.exit_code == 0, result.output


def _forbid(leaf: LabNode, other: LabNode, number: int) -> None:
    """Nothing of the other leaf comes in: they can only meet by a root."""
    leaf.namespace.run("nft", "add table inet lab")
    leaf.namespace.run("nft", "add chain inet lab in { type filter hook input priority 0 ; }")
    leaf.namespace.run("nft", f"add rule inet lab in ip saddr {WAN}.{number} udp dport 1-65535 drop")
    leaf.namespace.run("nft", f"add rule inet lab in ip6 saddr fd66:8::{number} udp dport 1-65535 drop")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Lab("zpr") as lab:
        wan = lab.switch("wan")
        hosts: list[Namespace] = []
        for number, label in enumerate(("root", "root2", "leaf-a", "leaf-b"), start=1):
            host = lab.namespace(label)
            lab.cable(host, "eth0", [f"{WAN}.{number}/24", f"fd66:8::{number}/64"], wan)
            hosts.append(host)
        program = os.environ["ZT_REFERENCE"]
        roots = [Gateway(hosts[0], lab.directory), Reference(hosts[1], lab.directory, program=program)]
        leaves: list[LabNode] = [Reference(host, lab.directory, program=program) for host in hosts[2:]]
        nodes = [*roots, *leaves]
        _make_planet(lab, roots, nodes)
        _forbid(leaves[0], leaves[1], 4)
        _forbid(leaves[1], leaves[0], 3)
        for node in nodes:
            node.start()
        nwid = roots[0].create_network(
            name="roots", private=True, routes=[{"target": f"{OVERLAY}.0/24"}], v4AssignMode={"zt": False}
        )
        for number, leaf in enumerate(leaves, start=1):
            roots[0].authorise(nwid, leaf.address, ipAssignments=[f"{OVERLAY}.{number}"])
            leaf.join(nwid)
        for leaf in leaves:
            leaf.wait_ok(nwid)
        yield World(roots, leaves, nwid)


def test_every_node_knows_both_roots_as_planet(world: World) -> None:
    for node in (*world.roots, *world.leaves):
        for root in world.roots:
            if root is not node:
                node.wait_direct(root.address)
                assert node.peer(root.address)["role"] == "PLANET"
        assert node.api("GET", "/status")["online"] is True


def test_leaves_talk_by_the_roots_then_directly(world: World) -> None:
    a, b = world.leaves
    a.wait_for("a ping by way of a root", lambda: ping(a.namespace, f"{OVERLAY}.2", count=1, timeout=2).times, 30)
    assert a.peer(b.address)["paths"] == []
    for leaf in world.leaves:
        leaf.namespace.run("nft", "delete table inet lab")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not a.peer(b.address)["paths"]:
        ping(a.namespace, f"{OVERLAY}.2", count=3, interval=0.3)
    assert a.peer(b.address)["paths"], "no direct path after the block was lifted"
    assert ping(a.namespace, f"{OVERLAY}.2", count=10, interval=0.1).lost == 0
