"""What the rules of a network cost per frame: `python -m tests.bench.rules`."""

from __future__ import annotations

from tests.rules import strategies as make
from tests.rules.test_flat import Case, InKernel
from ztpipe.kernel._kernel import lib
from ztpipe.wire.rule import ACCEPT, Rule, decode_rules

_TIMES = 20_000
#: Eight sets of two rules whose conditions all have to be looked at: ports, addresses, tags, TCP flags.
_SETS = "280400010001 0000 1f050a00000220 0000 2c080000006400000001 0000 29080000000000000004 0000"
_DEFAULT = "a5020800 a5020806 a50286dd 0000 0100"


def measure(rules: tuple[Rule, ...]) -> float:
    """ns per TCP/IPv4 frame, the best of five."""
    tcp = bytes((0x45,)) + bytes(8) + b"\x06" + bytes(2) + make.IPS4[0] + make.IPS4[1] + bytes(40)
    kernel = InKernel(Case((make.IPV4, tcp), base=rules, own_tags={100: 1}, remote_tags={100: 9}))
    assert lib.zt_filter(kernel.situation) == lib.ZT_FILTER_PASS
    return min(int(lib.zt_filter_bench(kernel.situation, _TIMES)) for _ in range(5)) / _TIMES


def main() -> None:
    rules = decode_rules(bytes.fromhex(_SETS.replace(" ", "") * 8))
    usual = decode_rules(bytes.fromhex(_DEFAULT.replace(" ", "")))
    print(f"usual default rules: {measure(usual):.0f} ns per frame")
    print(f"{len(rules)} rules: {measure((*rules, ACCEPT)):.0f} ns per frame")


if __name__ == "__main__":
    main()
