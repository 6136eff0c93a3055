"""Both halves of the node together, over the simulated Internet: an ad-hoc network needs no controller."""

from __future__ import annotations

import pytest

from tests.node.sim import Sim
from ztpipe.node.actions import InstallMember, InstallNetwork
from ztpipe.node.vl2 import Vl2Engine
from ztpipe.wire.address import mac_of, sixplane

IPV6 = 0x86DD


@pytest.fixture
def members():
    """Root, A and B; A and B have joined the same ad-hoc network."""
    nwid = 0xFF0000FFFF000000
    sim = Sim()
    sim.root("R", vl2=Vl2Engine)
    a, b = sim.leaf("A", vl2=Vl2Engine), sim.leaf("B", vl2=Vl2Engine)
    sim.run(5_000)
    for host in (a, b):
        host.node.join(sim.now, nwid)
        host.after_event()
    sim.run(5_000)
    return sim, nwid, a, b


def packet(source, destination, nwid, data):
    """A UDP datagram in IPv6, from port 1 to port 2."""
    udp = b"\x00\x01\x00\x02" + (8 + len(data)).to_bytes(2, "big") + b"\0\0" + data
    addresses = sixplane(nwid, source.address).ip + sixplane(nwid, destination.address).ip
    return b"\x60\0\0\0" + len(udp).to_bytes(2, "big") + b"\x11\x40" + addresses + udp


def send(sim, nwid, source, destination, data):
    frame = packet(source, destination, nwid, data)
    macs = mac_of(destination.address, nwid), mac_of(source.address, nwid)
    source.node.frame_received(sim.now, nwid, *macs, IPV6, frame)
    source.after_event()
    return frame


def test_first_frame_arrives_and_installs_the_fast_path(members):
    sim, nwid, a, b = members
    frame = send(sim, nwid, a, b, b"hello")
    sim.run(200)
    assert [(f.nwid, f.source, f.destination, f.payload) for f in b.frames] == [
        (nwid, mac_of(a.address, nwid), mac_of(b.address, nwid), frame)
    ]
    send(sim, nwid, b, a, b"answer")
    sim.run(1_000)
    assert len(a.frames) == 1
    for one, other in ((a, b), (b, a)):
        assert one.plane.peers[other.address].direct
        assert any(n.nwid == nwid for n in one.actions[InstallNetwork])
        assert any(m.address == other.address and m.receive for m in one.actions[InstallMember])


def test_steady_talk_loses_nothing_and_becomes_direct(members):
    sim, nwid, a, b = members
    for number in range(60):
        send(sim, nwid, a, b, bytes((number,)))
        send(sim, nwid, b, a, bytes((number,)))
        sim.run(1_000)
    assert [len(host.frames) for host in (a, b)] == [60, 60]
    assert a.paths_to(b) and b.paths_to(a)


def test_frames_flow_through_the_root_where_nothing_else_does(members):
    sim, nwid, a, b = members
    sim.wall(a, b)
    for number in range(20):
        send(sim, nwid, a, b, bytes((number,)))
        sim.run(500)
        send(sim, nwid, b, a, bytes((number,)))
        sim.run(500)
    assert [len(host.frames) for host in (a, b)] == [20, 20]
    assert not a.plane.peers[b.address].direct


def test_active_members_stay_connected_for_hours_with_little_talk(members):
    sim, nwid, a, b = members
    send(sim, nwid, a, b, b"x")
    sim.run(1_000)
    for _ in range(36):
        send(sim, nwid, b, a, b"x")
        send(sim, nwid, a, b, b"x")
        sim.run(300_000)
    assert a.paths_to(b) and b.paths_to(a)
    assert len(a.frames) == 36
    changes = a.plane.changes
    sim.run(300_000)
    assert a.plane.changes == changes
