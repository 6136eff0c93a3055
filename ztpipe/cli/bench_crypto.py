"""`ztpipe bench crypto`: nanoseconds per packet of every cipher implementation this machine can run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.kernel.crypto import implementations

SIZES = (64, 1410, 2810)
CIPHER_CASES = {
    "siv_seal": "AES-GMAC-SIV seal",
    "siv_open": "AES-GMAC-SIV open",
    "salsa_seal": "Salsa20/12 + Poly1305 seal",
    "salsa_open": "Salsa20/12 + Poly1305 open",
    "salsa12": "Salsa20/12 alone",
    "poly1305": "Poly1305 alone",
}
CHECKSUM_CASES = {"sum": "Internet checksum", "copy_sum": "copy and checksum"}
ROUNDS = 4000
REPEATS = 7

Timer = Callable[[Any, bytes, int, int], float]


def best(timer: Timer, impl: Any, what: str, size: int, rounds: int = ROUNDS) -> float:
    """The fastest of several means: what the code costs when nothing else runs."""
    return min(timer(impl, what.encode(), size, rounds) for _ in range(REPEATS))


def name_of(impl: Any) -> str:
    """`struct zt_*_impl *` -> its name."""
    name: bytes = ffi.string(impl.name)
    return name.decode()


def add_rows(table: Table, timer: Timer, cases: dict[str, str], impls: list[Any]) -> None:
    """One row per case and implementation; equal functions inherited by a later set are shown again."""
    for what, title in cases.items():
        for impl in impls:
            times = [best(timer, impl, what, size) for size in SIZES]
            speed = SIZES[-1] / times[-1]
            cells = [f"{time:.0f}" for time in times]
            table.add_row(title if impl == impls[0] else "", name_of(impl), *cells, f"{speed:.1f}")
        table.add_section()


def measure() -> Table:
    """Run everything; takes a few seconds."""
    table = Table(title="ns per packet, one core, hot cache")
    table.add_column("operation")
    table.add_column("implementation")
    for size in SIZES:
        table.add_column(f"{size} B", justify="right")
    table.add_column(f"GB/s @{SIZES[-1]}", justify="right")
    add_rows(table, lib.zt_bench_crypto, CIPHER_CASES, implementations())
    checksums = [lib.zt_csum_impl_get(i) for i in range(lib.zt_csum_impl_count())]
    add_rows(table, lib.zt_bench_csum, CHECKSUM_CASES, checksums)
    return table


def main() -> None:
    """Print the table; the last implementation of each operation is the one in use."""
    console = Console()
    console.print(measure())
    impl = implementations()[-1]
    packet_id = best(lib.zt_bench_crypto, impl, "random", SIZES[0])
    address = best(lib.zt_bench_crypto, impl, "address_hash", SIZES[0], rounds=1)
    console.print(f"packet ID {packet_id:.0f} ns, address hash {address / 1e6:.1f} ms")


if __name__ == "__main__":
    main()
