"""The peer worker: UDP sockets <-> the rings of the crypto workers. Maps no keys."""

from __future__ import annotations

from ztpipe.kernel._kernel import lib
from ztpipe.worker import Worker

__all__ = ["loop"]


def loop(w: Worker) -> None:
    """Push datagrams out and pull those that arrive, until told to stop."""
    from_crypto, to_crypto = w.inputs("crypto"), w.outputs("crypto")
    udp = w.stage(lib.zt_udp_new, lib.zt_udp_free, from_crypto, to_crypto)
    w.sockets(udp, out=to_crypto)
    w.watch(from_crypto)

    while w.running:
        w.turns(udp=udp)
