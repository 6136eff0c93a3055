"""kernel/open.c on traffic of the reference: FRAMEs come out as recorded, and every datagram is accounted for."""

from __future__ import annotations

import pytest

from tests.captures import Captured, datagrams, packets, session_keys
from tests.kernel.stages_lab import Lab, Record
from tests.twins.frames import unfold
from ztpipe.shm.tables import Endpoint


def came(data: bytes, remote: Endpoint = (bytes(4), 9993)) -> Record:
    return Record(data, remote=remote, seg=len(data), peer=0xFFFFFFFF)


def direct_frames(scenario: str) -> list[Captured]:
    """Uncompressed FRAMEs as the receiver got them."""
    return [
        c
        for c in packets(scenario)
        if c.golden["verb"] == "FRAME" and c.golden["verb_byte"] == "06" and c.golden["cipher"] in (1, 3)
    ]


@pytest.mark.parametrize(("scenario", "least"), [("c-frames", 40), ("e-old-peer", 1), ("d-relayed", 1)])
def test_frames_of_the_reference(scenario: str, least: int) -> None:
    captured = direct_frames(scenario)
    assert len(captured) >= least
    for receiver in {c.golden["dst"] for c in captured}:
        address = int(receiver, 16)
        with Lab(address) as lab:
            mine = [c for c in captured if c.golden["dst"] == receiver]
            for c in mine:
                nwid, source = int(c.golden["fields"]["nwid"], 16), int(c.golden["src"], 16)
                lab.join(nwid, mtu=9000)
                lab.meet(source, c.datagrams[0].source, keys=session_keys(scenario, source, address), nwid=nwid)
            for c in mine:
                arrived = [came(d.data, (d.source.ip, d.source.port)) for d in c.datagrams]
                (frame,) = [f for record in lab.open(arrived) for f in unfold(record.data)]
                assert frame[12:] == c.payload[8:], c
                assert frame[:6].hex(":") == c.golden["fields"]["dest_mac"], c
                assert frame[6:12].hex(":") == c.golden["fields"]["source_mac"], c


def test_whole_captures_end_in_exactly_one_place_each() -> None:
    """Every datagram of a scenario that reached B: delivered, punted or kept for its other pieces."""
    nodes = {c.golden["dst"] for c in direct_frames("c-frames")}
    for receiver in nodes:
        with Lab(int(receiver, 16)) as lab:
            every = [d.data for d in datagrams("c-frames")]
            for start in range(0, len(every), 60):
                lab.open([came(data) for data in every[start : start + 60]])
                lab.punts()
            counts = lab.counts()
            assert counts["open_datagrams"] == len(every)
            kept = len(every) - sum(counts.get(n, 0) for n in ("open_punted", "drop_short_datagram", "drop_bad_mac"))
            assert 0 <= kept <= 80
