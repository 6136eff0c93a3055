"""What the probe says is what the kernel then does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ztpipe.config import load
from ztpipe.host.probe import Offloads, probe
from ztpipe.host.tap import TSO, USO, Tap
from ztpipe.runtime import startup


@pytest.mark.root
def test_a_tap_agrees_to_what_was_probed() -> None:
    found = probe()
    name = f"zt{os.getpid() % 10**8:08d}t"
    tap = Tap.create(iter([name]), 0x020000000001, 2800)
    try:
        assert bool(tap.offload & TSO == TSO) is found.tso
        assert bool(tap.offload & USO == USO) is found.uso
        assert name in {n: i for i, n in socket.if_nameindex()}
    finally:
        tap.close()
    assert name not in {n: i for i, n in socket.if_nameindex()}


@pytest.mark.root
def test_nothing_of_the_probe_stays() -> None:
    def of_this_process() -> list[str]:  # others come and go with what else the machine does
        return [name for _, name in socket.if_nameindex() if str(os.getpid() % 10**8) in name]

    before = of_this_process()
    probe()
    assert of_this_process() == before


def test_missing_offloads_are_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "probe", lambda: Offloads(tso=True, uso=False, gso=True, gro=False))
    config = load(tmp_path, flags={"gso_offload": "false"}, environment={})
    probed = startup.with_probed_offloads(config)
    assert (probed.tso_offload, probed.uso_offload, probed.gso_offload, probed.gro_offload) == (
        True,
        False,
        False,
        False,
    )
