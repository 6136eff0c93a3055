"""The gateways that are asked for a mapping, and what an attempt says when there is none."""

from __future__ import annotations

import pytest

from ztpipe.host import portmap

TABLE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth1\t00000000\tFE01000A\t0003\t0\t0\t200\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t300\t00000000\t0\t0\t0
"""


def test_gateways_in_the_order_of_the_table() -> None:
    assert portmap.gateways(TABLE) == ["192.168.0.1", "10.0.1.254"]
    assert portmap.gateways("Iface\n") == []


def test_no_router_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> tuple[str, int]:
        raise portmap.NoMapping("nobody")

    monkeypatch.setattr(portmap, "by_nat_pmp", none)
    monkeypatch.setattr(portmap, "by_upnp", none)
    assert portmap.attempt(9993, "x") == {"error": "nobody; nobody"}
    monkeypatch.setattr(portmap, "by_upnp", lambda port, _: ("44.128.0.1", port + 1))
    assert portmap.attempt(9993, "x") == {"ip": "44.128.0.1", "port": 9994, "by": "UPnP"}
