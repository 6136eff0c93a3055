"""Hypothesis strategies for Ethernet frames."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.twins.frames import ACK, CWR, DF, ECE, FIN, PSH, TCP, UDP, Frame


def body(length: int, seed: int = 0) -> bytes:
    """Bytes that look random; hypothesis need not shrink them."""
    return random.Random(seed).randbytes(length)


def addresses(ipv6: bool) -> st.SearchStrategy[bytes]:
    """IP addresses of one family."""
    size = 16 if ipv6 else 4
    return st.binary(min_size=size, max_size=size)


@st.composite
def frames(
    draw: st.DrawFn, *, payload: st.SearchStrategy[int], proto: int | None = None, extensions: bool = False
) -> Frame:
    """A TCP or UDP packet over IPv4 or IPv6."""
    ipv6 = draw(st.booleans())
    words = st.integers(0, 10).map(lambda n: body(4 * n, n))
    return Frame(
        source=draw(addresses(ipv6)),
        destination=draw(addresses(ipv6)),
        proto=draw(st.sampled_from((TCP, UDP))) if proto is None else proto,
        ports=draw(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))),
        payload=body(draw(payload), draw(st.integers(0, 3))),
        macs=draw(st.binary(min_size=12, max_size=12)),
        vlan=draw(st.none() | st.integers(0, 0xFFFF)) if extensions else None,
        outer=draw(st.none() | st.integers(0, 0xFFFF)) if extensions else None,
        tos=draw(st.integers(0, 255)),
        ttl=draw(st.integers(0, 255)),
        ip_id=draw(st.integers(0, 0xFFFF)),
        ip_flags=draw(st.sampled_from((0, DF))),
        ip_options=draw(words) if extensions and not ipv6 else b"",
        flow_label=draw(st.integers(0, 0xFFFFF)),
        seq=draw(st.integers(0, 0xFFFFFFFF)),
        ack=draw(st.integers(0, 0xFFFFFFFF)),
        flags=ACK | draw(st.sampled_from((0, PSH, FIN, PSH | FIN, ECE, CWR, CWR | ECE | PSH))),
        window=draw(st.integers(0, 0xFFFF)),
        options=draw(words),
        urgent=0,
    )
