"""What the node counts for its metrics: packets by verb, errors by code, and the same for each peer (service §5).

An increment of a list element for each packet, and nothing else: names and text are the business of who reads it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from ztpipe.wire.protocol import MASK_VERB, ErrorCode, Verb

#: Upper bounds in ms of the buckets of `Traffic.latencies`; the last bucket has none.
LATENCY_BOUNDS: Final = (1, 3, 6, 10, 30, 60, 100, 300, 600, 1_000)
_ERROR_CODE_AT: Final = 9  # in the payload of ERROR: verb and packet ID it is about, then the code (vl1-wire §8.1)
_CODES: Final = max(ErrorCode) + 1


class Traffic:
    """One peer: packets to and from it in the slow path, those of it that were refused, and its measured latency."""

    __slots__ = ("latencies", "latency_sum", "received", "refused", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.refused = 0
        self.latencies = [0] * (len(LATENCY_BOUNDS) + 1)
        self.latency_sum = 0

    def observe(self, latency: int) -> None:
        """Note the latency in ms of a keep-alive round; -1, not measured, is not noted."""
        if latency >= 0:
            self.latencies[bisect_left(LATENCY_BOUNDS, latency)] += 1
            self.latency_sum += latency


class Tally:
    """The node as a whole. Lists by verb and by error code; packets are counted once, whatever their fragments."""

    __slots__ = ("errors_received", "errors_sent", "received", "sent")

    def __init__(self) -> None:
        self.received = [0] * (MASK_VERB + 1)
        self.sent = [0] * (MASK_VERB + 1)
        self.errors_received = [0] * _CODES
        self.errors_sent = [0] * _CODES

    def packet_received(self, verb: Verb, payload: bytes) -> None:
        """An authentic packet arrived."""
        self.received[verb] += 1
        if verb is Verb.ERROR:
            _count_error(self.errors_received, payload)

    def packet_sent(self, verb: Verb, payload: bytes) -> None:
        """A packet was sealed."""
        self.sent[verb] += 1
        if verb is Verb.ERROR:
            _count_error(self.errors_sent, payload)


def _count_error(errors: list[int], payload: bytes) -> None:
    """An unknown code, or a payload without one, is counted by verb only."""
    code = payload[_ERROR_CODE_AT] if len(payload) > _ERROR_CODE_AT else 0
    if 0 < code < _CODES:
        errors[code] += 1
