"""Configurations and their chunks (vl2 §2.5, §2.6)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import Json, identities, kat
from tests.wire import golden
from tests.wire.samples import ISSUER, MEMBER, NWID, SAMPLES
from ztpipe.wire import dictionary
from ztpipe.wire.configchunk import ASSEMBLY_SLOTS, ConfigAssembler, ConfigChunk, chunk_config
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import verify_with
from ztpipe.wire.inetaddress import InetAddress, write_inet
from ztpipe.wire.netconf import ROLE_ANCHOR, ROLE_BRIDGE, ROLE_REPLICATOR, Dns, NetworkConfig, Route
from ztpipe.wire.rule import ACCEPT

VECTORS = (
    kat("network_configs")["configs"] if "configs" in kat("network_configs") else kat("network_configs")["vectors"]
)
CONFIG = NetworkConfig(
    network_id=NWID,
    timestamp=1000,
    issued_to=MEMBER.address,
    credential_time_max_delta=1_800_000,
    revision=3,
    trace_target=0x1122334455,
    trace_level=10,
    flags=0x16,
    multicast_limit=32,
    type=1,
    name="näme = \\ x",
    mtu=9000,
    com=SAMPLES[0],
    capabilities=(SAMPLES[5],),
    tags=(SAMPLES[2],),
    coos=(SAMPLES[3],),
    specialists=(5 | ROLE_BRIDGE, 6 | ROLE_ANCHOR | ROLE_REPLICATOR),
    routes=(Route(InetAddress.parse("10.0.0.0/8"), InetAddress.parse("10.1.1.1/0"), 1, 2),),
    static_ips=(InetAddress.parse("10.1.2.3/24"), InetAddress.parse("fd00::1/88")),
    rules=(ACCEPT,),
    dns=Dns("example.test", (InetAddress.parse("10.1.1.1/0"),)),
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['scenario']}-{v['member']}")
def test_known(vector: Json) -> None:
    raw = bytes.fromhex(vector["dictionary"])
    config = NetworkConfig.decode(raw)
    expected = {k: v for k, v in vector["config"].items() if k not in ("v", "id_text", "tt_text", "_keys")}
    assert golden.config(config, identities(vector["scenario"])) == expected
    assert config.encode() == raw
    assert list(dictionary.decode(raw)) == vector["config"]["_keys"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if "chunks" in v], ids=lambda v: v["scenario"])
def test_known_chunks(vector: Json) -> None:
    whole, public = bytes.fromhex(vector["dictionary"]), bytes.fromhex(vector["controller_public_key"])
    for entry in vector["chunks"]:
        piece = whole[entry["offset"] : entry["offset"] + entry["length"]]
        body = bytes.fromhex(entry["head"]) + piece + bytes.fromhex(entry["after_chunk"])
        if "chunk_body" in entry:
            assert body.hex() == entry["chunk_body"]
        chunk = ConfigChunk.decode(body)
        assert (chunk.data, chunk.offset, chunk.total_length) == (piece, entry["offset"], len(whole))
        assert verify_with(public, chunk.signed_bytes(), chunk.signature)
        assert chunk.encode() == body


SSO = replace(CONFIG, sso_enabled=True, authentication_url="https://x/?a=b", authentication_expiry=5)
OIDC = replace(
    CONFIG,
    sso_version=1,
    sso_enabled=True,
    issuer_url="i",
    central_auth_url="c",
    sso_nonce="n",
    sso_state="s",
    sso_client_id="d",
    sso_provider="p",
)


@pytest.mark.parametrize("config", [CONFIG, SSO, OIDC, NetworkConfig(NWID, 0, 1)], ids=["full", "sso", "oidc", "bare"])
def test_round_trip(config: NetworkConfig) -> None:
    assert NetworkConfig.decode(config.encode()) == config


def test_meaning() -> None:
    assert CONFIG.is_public
    assert not CONFIG.is_private
    assert CONFIG.broadcast
    assert CONFIG.ndp_emulation
    assert not CONFIG.unknown_matches
    assert not CONFIG.compress_frames
    assert (CONFIG.active_bridges, CONFIG.anchors, CONFIG.replicators) == ((5,), (6,), (6,))
    assert CONFIG.may_bridge(5)
    assert not CONFIG.may_bridge(6)
    assert replace(CONFIG, type=2).is_private


def entries(**changes: dictionary.Value | None) -> bytes:
    """The sample configuration with other values for some keys; None: without the key."""
    held: dict[str, Any] = dict(dictionary.decode(CONFIG.encode())) | changes
    return dictionary.encode({key: value for key, value in held.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 5}, "obsolete_config"),
        ({"v": None}, "obsolete_config"),
        ({"nwid": 0}, "bad_config"),
        ({"nwid": None}, "bad_config"),
        ({"id": 0}, "bad_config"),
        ({"id": None}, "bad_config"),
        ({"C": b"\x02"}, "bad_credential"),
        ({"C": b"\x01\x00\x01"}, "truncated_credential"),
        ({"COO": b"x"}, "truncated_config"),
        ({"RT": b"\x04"}, "truncated_inetaddress"),
        ({"I": b"\x09"}, "bad_inetaddress"),
        ({"R": b"\x01"}, "truncated_rule"),
        ({"DNS": b"x"}, "truncated_config"),
    ],
)
def test_rejected(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        NetworkConfig.decode(entries(**changes))


def test_what_is_cut_instead_of_rejected() -> None:
    tag, capability, coo = SAMPLES[2].encode(), SAMPLES[5].encode(), SAMPLES[3].encode()
    ip = write_inet(InetAddress.parse("10.0.0.1/8"))
    config = NetworkConfig.decode(
        entries(
            TAG=tag + b"rubbish",
            CAP=capability * 130,
            COO=coo * 6,
            S=bytes(8 * 300 + 5),
            RT=(ip + b"\0" + bytes(4)) * 130,
            I=ip * 40,
            R=b"\x01\x00" * 1030,
            n=b"x" * 200,
            mtu=1,
            ml=2**32 + 5,
        )
    )
    assert config.tags == (SAMPLES[2],)
    assert len(config.capabilities) == 128
    assert len(config.coos) == 4
    assert len(config.specialists) == 256
    assert len(config.routes) == 128
    assert len(config.static_ips) == 32
    assert len(config.rules) == 1024
    assert len(config.name) == 127
    assert (config.mtu, config.multicast_limit) == (1280, 5)
    assert NetworkConfig.decode(entries(mtu=20000)).mtu == 10000
    assert NetworkConfig.decode(entries(mtu=None)).mtu == 2800


def test_tags_and_capabilities_are_sorted() -> None:
    tags = [replace(SAMPLES[2], id=i) for i in (5, 1, 3)]
    config = NetworkConfig.decode(entries(TAG=b"".join(tag.encode() for tag in tags)))
    assert [tag.id for tag in config.tags] == [1, 3, 5]


@given(st.binary(max_size=300))
def test_decode_raises_nothing_else(raw: bytes) -> None:
    try:
        NetworkConfig.decode(raw)
    except WireError:
        pass


@given(
    st.sampled_from(["C", "CAP", "TAG", "COO", "S", "RT", "I", "R", "DNS", "n", "mtu", "ts", "ssov", "f"]),
    st.binary(max_size=300),
)
def test_strange_values_raise_nothing_else(key: str, value: bytes) -> None:
    try:
        NetworkConfig.decode(entries(**{key: value})).encode()
    except WireError:
        pass


# --- chunks -----------------------------------------------------------------------------------------------------------

DATA = random.Random(1).randbytes(25_000)


def chunks_of(data: bytes, update_id: int = 7, size: int = 9740) -> list[ConfigChunk]:
    return [ConfigChunk.decode(body) for body in chunk_config(data, NWID, update_id, ISSUER.sign, max_chunk=size)]


def add(assembler: ConfigAssembler, chunk: ConfigChunk, sender: int = MEMBER.address) -> Any:
    return assembler.add(chunk, ISSUER, sender=sender, packet_id=99)


def test_chunking() -> None:
    chunks = chunks_of(DATA)
    assert [(len(c.data), c.offset, c.total_length) for c in chunks] == [
        (9740, 0, 25000),
        (9740, 9740, 25000),
        (5520, 19480, 25000),
    ]
    assert all(chunk.verify(ISSUER) and not chunk.verify(MEMBER) for chunk in chunks)
    assert max(len(chunk.encode()) for chunk in chunks) + 28 + 9 <= 9928
    with pytest.raises(ValueError, match="too long"):
        chunk_config(bytes(484_520), NWID, 1, ISSUER.sign)
    with pytest.raises(ValueError, match="update ID"):
        chunk_config(b"x", NWID, 0, ISSUER.sign)


def test_assembly_in_any_order_with_duplicates() -> None:
    chunks = chunks_of(DATA, size=2000)
    random.Random(3).shuffle(chunks)
    assembler = ConfigAssembler(NWID)
    for chunk in chunks[:-1]:
        assert add(assembler, chunk).dictionary is None
        assert not add(assembler, chunk).new
    last = add(assembler, chunks[-1])
    assert (last.new, last.update_id, last.dictionary) == (True, 7, DATA)
    assert not add(assembler, chunks[0]).new, "remembered after completion"


def test_three_updates_at_once() -> None:
    updates = [chunks_of(DATA, update_id) for update_id in range(1, ASSEMBLY_SLOTS + 2)]
    assembler = ConfigAssembler(NWID)
    for first, *_ in updates[:ASSEMBLY_SLOTS]:
        add(assembler, first)
    for update in updates[:ASSEMBLY_SLOTS]:
        add(assembler, update[1])
        assert add(assembler, update[2]).dictionary == DATA
    assembler = ConfigAssembler(NWID)
    for first, *_ in updates:
        add(assembler, first)
    assert add(assembler, updates[0][1]).dictionary is None
    assert add(assembler, updates[0][2]).dictionary is None, "the oldest update gave way to the fourth"


def test_forgeries_change_nothing() -> None:
    chunks = chunks_of(DATA)
    assembler = ConfigAssembler(NWID)
    add(assembler, chunks[0])
    for forged in (
        replace(chunks[1], data=bytes(9740)),
        replace(chunks[1], offset=5),
        replace(chunks[1], total_length=9740 * 2),
        replace(chunks[1], update_id=8),
        replace(chunks[1], flags=1),
        replace(chunks[1], signature=bytes(96)),
    ):
        with pytest.raises(WireError, match="bad_config_signature"):
            add(assembler, forged)
    add(assembler, chunks[1])
    assert add(assembler, chunks[2]).dictionary == DATA


def test_refusals() -> None:
    assembler = ConfigAssembler(NWID)
    chunk = chunks_of(DATA)[0]
    with pytest.raises(WireError, match="unknown_controller"):
        assembler.add(chunk, None, sender=1, packet_id=1)
    with pytest.raises(WireError, match="wrong_network"):
        add(assembler, replace(chunk, nwid=NWID + 1))
    with pytest.raises(WireError, match="bad_config_signature"):
        assembler.add(chunk, MEMBER, sender=1, packet_id=1)


def test_legacy_form() -> None:
    body = NWID.to_bytes(8, "big") + b"\x00\x04data"
    chunk = ConfigChunk.decode(body)
    assert chunk.is_legacy
    assert chunk.encode() == body
    assembler = ConfigAssembler(NWID)
    with pytest.raises(WireError, match="unsigned_config"):
        add(assembler, chunk)
    got = add(assembler, chunk, sender=ISSUER.address)
    assert (got.update_id, got.dictionary) == (99, b"data")


def test_truncated_chunks() -> None:
    body = chunks_of(b"0123456789")[0].encode()
    for size in range(len(body)):
        if size == 20:
            assert ConfigChunk.decode(body[:size]).is_legacy
            continue
        with pytest.raises(WireError, match="truncated_verb"):
            ConfigChunk.decode(body[:size])
    assert ConfigChunk.decode(body + b"more") == ConfigChunk.decode(body)


@pytest.mark.parametrize(
    "change",
    [{"update_id": 0}, {"total_length": 9}, {"offset": 1}, {"total_length": 484_520}],
)
def test_bad_chunks(change: dict[str, int]) -> None:
    chunk = replace(chunks_of(b"0123456789")[0], **change)
    with pytest.raises(WireError, match="bad_config_chunk"):
        ConfigChunk.decode(chunk.encode())


def test_bad_signature_head() -> None:
    body = bytearray(chunks_of(b"0123456789")[0].encode())
    for at in (37, 38, 39):
        changed = bytearray(body)
        changed[at] ^= 2
        with pytest.raises(WireError, match="bad_config_chunk"):
            ConfigChunk.decode(bytes(changed))
