"""The fused worker: all stages in one process, over rings of its own, with its own TAP queues and sockets.

On one or two cores this is faster than separate processes: a frame crosses without waking anybody.
"""

from __future__ import annotations

from ztpipe.kernel._kernel import lib
from ztpipe.worker import Worker

__all__ = ["loop"]


def loop(w: Worker) -> None:
    """Both ways of a frame in one turn, until told to stop."""
    to_seal, from_tap = w.private("tap-crypto")
    to_udp, from_seal = w.private("crypto-peer")
    to_open, from_udp = w.private("peer-crypto")
    to_tap, from_open = w.private("crypto-tap")
    tap = w.stage(lib.zt_tap_new, lib.zt_tap_free, to_seal, from_open)
    crypto = w.stage(lib.zt_crypto_new, lib.zt_crypto_free, from_tap, to_udp, from_udp, to_tap)
    udp = w.stage(lib.zt_udp_new, lib.zt_udp_free, from_seal, to_open)
    w.taps(tap, out=to_seal)
    w.sockets(udp, out=to_open)
    w.watch(from_tap, to_udp)
    w.watch(from_seal)
    w.watch(from_udp, to_tap)
    w.watch(from_open)

    while w.running:
        w.turns(tap=tap, crypto=crypto, udp=udp)
