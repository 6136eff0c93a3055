"""Hypothesis strategies for rules and for frames that rules have something to say about.

Values come from small pools, so that rules and frames meet.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from ztpipe.wire.rule import Rule, RuleType, value_length

OWN, PEER, OBSERVER = 0x1111111111, 0x2222222222, 0x3333333333
IPV4, ARP, IPV6, LLDP = 0x0800, 0x0806, 0x86DD, 0x88CC
IPS4 = [b"\x0a\0\0\1", b"\x0a\0\0\2", b"\xc0\xa8\1\1"]
IPS6 = [b"\xfd" + bytes(14) + b"\1", b"\xfd" + bytes(15), bytes.fromhex("fc0102030405060708090000000000ff")]
MACS = [0x020000000001, 0x020000000002, 0x01005E000001, 0xFFFFFFFFFFFF]
TAGS = [1, 2, 100, 0xFFFFFFFF]
VALUES = [0, 1, 7, 0x80000000, 0xFFFFFFFF]
PROTOCOLS = [0, 1, 6, 17, 43, 44, 0x3A, 60, 132, 135, 136]
L4 = [1, 6, 6, 17, 17, 0x3A, 0x3A, 44, 132, 136]
PORTS = [0, 1, 80]


def numbers(pool: list[int], size: int) -> st.SearchStrategy[bytes]:
    known = st.sampled_from(pool)
    return st.one_of(known, known, known, known, st.integers(0, 256**size - 1)).map(lambda n: n.to_bytes(size, "big"))


def ranges(pool: list[int], size: int) -> st.SearchStrategy[bytes]:
    one = numbers(pool, size)
    return st.tuples(one, one).map(lambda pair: b"".join(sorted(pair)))


def _joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def _integer_ranges() -> st.SearchStrategy[bytes]:
    number = numbers([0, 1, 0x45, 0x1234, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF], 8)
    return _joined(
        ranges([0, 1, 0x45, 0x1234], 8) | _joined(number, number),
        numbers([0, 1, 6, 9, 60], 2),
        st.binary(min_size=1, max_size=1),
    )


_VALUES: dict[int, st.SearchStrategy[bytes]] = {
    **dict.fromkeys(
        (RuleType.ACTION_TEE, RuleType.ACTION_WATCH, RuleType.ACTION_REDIRECT),
        _joined(numbers([OWN, PEER, OBSERVER], 8).filter(any), st.just(bytes(4)), numbers([0, 1, 40], 2)),
    ),
    **dict.fromkeys(
        (RuleType.SOURCE_ZEROTIER_ADDRESS, RuleType.DEST_ZEROTIER_ADDRESS), numbers([OWN, PEER, OBSERVER], 5)
    ),
    **dict.fromkeys((RuleType.MAC_SOURCE, RuleType.MAC_DEST), numbers(MACS, 6)),
    **dict.fromkeys(
        (RuleType.IPV4_SOURCE, RuleType.IPV4_DEST), _joined(st.sampled_from(IPS4), numbers([0, 8, 31, 32, 33], 1))
    ),
    **dict.fromkeys(
        (RuleType.IPV6_SOURCE, RuleType.IPV6_DEST),
        _joined(st.sampled_from([*IPS6, bytes(16)]), numbers([0, 8, 63, 64, 65, 127, 128, 129], 1)),
    ),
    RuleType.IP_TOS: _joined(numbers([0xFF, 0x0F], 1), ranges([0, 0x10, 0xFF], 1)),
    RuleType.IP_PROTOCOL: numbers(PROTOCOLS, 1),
    RuleType.ETHERTYPE: numbers([IPV4, ARP, IPV6, LLDP], 2),
    RuleType.ICMP: _joined(numbers([0, 8, 128], 1), numbers([0, 3], 1), numbers([0, 1, 2], 1)),
    **dict.fromkeys((RuleType.IP_SOURCE_PORT_RANGE, RuleType.IP_DEST_PORT_RANGE), ranges(PORTS, 2)),
    RuleType.CHARACTERISTICS: st.sampled_from([*(1 << n for n in (*range(12), *range(59, 64))), 0x12, 3 << 60]).map(
        lambda bits: bits.to_bytes(8, "big")
    ),
    RuleType.FRAME_SIZE_RANGE: ranges([0, 20, 64, 0xFFFF], 2),
    RuleType.RANDOM: st.sampled_from([bytes(4), b"\xff" * 4]),
    **dict.fromkeys(
        (
            RuleType.TAGS_DIFFERENCE,
            RuleType.TAGS_BITWISE_AND,
            RuleType.TAGS_BITWISE_OR,
            RuleType.TAGS_BITWISE_XOR,
            RuleType.TAGS_EQUAL,
            RuleType.TAG_SENDER,
            RuleType.TAG_RECEIVER,
        ),
        _joined(numbers(TAGS, 4), numbers(VALUES, 4)),
    ),
    RuleType.INTEGER_RANGE: _integer_ranges(),
}


def values(kind: int) -> st.SearchStrategy[bytes]:
    """A value of an assigned type, or anything for the others."""
    length = value_length(kind)
    if length is None:
        return st.binary(max_size=4)
    return _VALUES.get(kind, st.binary(min_size=length, max_size=length))


MATCHES = [17, *range(24, 52), 60]


def rules_of(kind: int) -> st.SearchStrategy[Rule]:
    """A rule of one type."""
    name = RuleType(kind) if kind in set(RuleType) else kind
    return st.builds(Rule, st.just(name), st.booleans(), st.booleans(), values(kind))


def rules() -> st.SearchStrategy[Rule]:
    """One rule: actions are as frequent as matches, so that sets are short."""
    return (st.sampled_from([0, 1, 2, 3, 4, 5, 6, 9]) | st.sampled_from(MATCHES)).flatmap(rules_of)


def rule_lists(longest: int = 12) -> st.SearchStrategy[tuple[Rule, ...]]:
    return st.lists(rules(), max_size=longest).map(tuple)


def tag_sets() -> st.SearchStrategy[dict[int, int]]:
    return st.dictionaries(st.sampled_from(TAGS), st.sampled_from(VALUES), max_size=4)


# --- frames -------------------------------------------------------------------------------------------------


@st.composite
def _l4(draw: st.DrawFn) -> bytes:
    ports = draw(numbers(PORTS, 2)) + draw(numbers(PORTS, 2)) + bytes(8)
    segment = st.integers(0, 0xFFFF).map(lambda flags: ports + flags.to_bytes(2, "big") + bytes(6))
    solicitation, advertisement = b"\x87" + bytes(23), b"\x88" + bytes(7) + IPS6[0]
    icmp = st.sampled_from([b"\x08\x00", b"\x00\x03", bytes((128, 0)), solicitation, advertisement])
    return draw(st.one_of(segment, segment, icmp, icmp, st.binary(max_size=24)))


@st.composite
def _ipv4(draw: st.DrawFn) -> bytes:
    first = draw(st.sampled_from([0x45, 0x46, 0x40, 0x4F]))
    head = bytes((first, draw(st.sampled_from([0, 0x10, 0xFF])))) + bytes(7) + bytes((draw(st.sampled_from(L4)),))
    options = bytes(draw(st.sampled_from([0, 0, 4])))
    return head + bytes(2) + draw(st.sampled_from(IPS4)) + draw(st.sampled_from(IPS4)) + options + draw(_l4())


@st.composite
def _ipv6(draw: st.DrawFn) -> bytes:
    """With up to two extension headers, whose lengths are wrong now and then."""
    last = draw(st.sampled_from(L4))
    chain = draw(st.lists(st.sampled_from([0, 43, 60, 135]), max_size=2))
    length = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 1, 32]))
    extensions = b"".join(bytes((following, length)) + bytes(6 + 8 * (length & 1)) for following in [*chain, last][1:])
    head = bytes((0x60 | draw(st.integers(0, 15)), draw(st.integers(0, 255)))) + bytes(4)
    addresses = draw(st.sampled_from(IPS6)) + draw(st.sampled_from(IPS6))
    return head + bytes(([*chain, last][0], 64)) + addresses + extensions + draw(_l4())


def _arp() -> st.SearchStrategy[bytes]:
    return st.sampled_from(IPS4).map(lambda ip: bytes(14) + ip + bytes(10))


@st.composite
def frames(draw: st.DrawFn) -> tuple[int, bytes]:
    """(EtherType, payload); some are cut short, some are garbage."""
    makers: dict[int, Callable[[], st.SearchStrategy[bytes]]] = {IPV4: _ipv4, IPV6: _ipv6, ARP: _arp}
    ethertype = draw(st.sampled_from([IPV4, IPV4, IPV4, IPV6, IPV6, IPV6, ARP, LLDP]))
    data = draw(makers[ethertype]()) if ethertype in makers else draw(st.binary(max_size=80))
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return ethertype, data
