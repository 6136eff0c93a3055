"""The crypto worker: seals what tap workers bring, opens what peer workers bring. The only one that maps the keys."""

from __future__ import annotations

from ztpipe.kernel._kernel import lib
from ztpipe.worker import Worker

__all__ = ["loop"]


def loop(w: Worker) -> None:
    """Seal and open, until told to stop."""
    from_tap, to_peer = w.inputs("tap"), w.outputs("peer")
    from_peer, to_tap = w.inputs("peer"), w.outputs("tap")
    crypto = w.stage(lib.zt_crypto_new, lib.zt_crypto_free, from_tap, to_peer, from_peer, to_tap)
    w.watch(from_tap, to_peer)
    w.watch(from_peer, to_tap)

    while w.running:
        w.turns(crypto=crypto)
