"""Packet IDs must never repeat: not between calls, threads or a parent and its child."""

from __future__ import annotations

import os
import threading

import pytest

from ztpipe.kernel import crypto


@pytest.mark.parametrize("size", [1, 7, 8, 16, 100, 511, 512, 513, 4096, 10000])
def test_size(size: int) -> None:
    assert len(crypto.random_bytes(size)) == size
    assert len(crypto.random_bytes(0)) == 0


def test_no_repetition() -> None:
    """Across many refills; 20000 random 64-bit numbers collide with probability 1e-11."""
    seen = {crypto.random_bytes(8) for _ in range(20000)}
    assert len(seen) == 20000
    assert bytes(8) not in seen


def test_all_byte_values_and_positions() -> None:
    data = b"".join(crypto.random_bytes(7) for _ in range(3000))
    assert {*data} == {*range(256)}
    for position in range(7):
        assert len({*data[position::7]}) == 256


def test_threads_do_not_share() -> None:
    results: list[list[bytes]] = []

    def run() -> None:
        results.append([crypto.random_bytes(8) for _ in range(3000)])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [value for values in results for value in values]
    assert len({*everything}) == len(everything) == 12000


def test_a_child_gets_others() -> None:
    """What is in stock at fork is not handed out twice."""
    crypto.random_bytes(8)  # the stock is full now
    end, child_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(child_end, b"".join(crypto.random_bytes(8) for _ in range(100)))
        finally:
            os._exit(0)
    os.close(child_end)
    mine = [crypto.random_bytes(8) for _ in range(100)]
    with os.fdopen(end, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    theirs = [data[at : at + 8] for at in range(0, len(data), 8)]
    assert len(theirs) == 100
    assert not {*mine} & {*theirs}
