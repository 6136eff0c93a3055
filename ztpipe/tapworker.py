"""The tap worker: TAP queues <-> the rings of the crypto workers. Maps no keys."""

from __future__ import annotations

from ztpipe.kernel._kernel import lib
from ztpipe.worker import Worker

__all__ = ["loop"]


def loop(w: Worker) -> None:
    """Pull super-frames from the TAPs and push those that come back, until told to stop."""
    to_crypto, from_crypto = w.outputs("crypto"), w.inputs("crypto")
    tap = w.stage(lib.zt_tap_new, lib.zt_tap_free, to_crypto, from_crypto)
    w.taps(tap, out=to_crypto)
    w.watch(from_crypto)

    while w.running:
        w.turns(tap=tap)
