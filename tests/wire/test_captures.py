"""Every captured packet opens, decodes to its golden fields, encodes to the same payload and seals to the same."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.captures import SCENARIOS, Captured, Json, datagrams, golden, identities, packets
from tests.twins import crypto as twin
from tests.wire import golden as describing
from ztpipe.wire.armor import open_packet, seal_envelope
from ztpipe.wire.netconf import ConfigAssembler, NetworkConfig
from ztpipe.wire.packet import hops_of, is_fragment, parse_fragment, parse_header, split
from ztpipe.wire.protocol import Suite, Verb
from ztpipe.wire.verbs import ConfigChunk, Ok

# What the golden decoding adds from other packets, or from a deeper look into frames.
_CONTEXT = {"in_re_n", "in_re_actual_verb", "inner", "tail", "worlds_length", "complete", "dictionary_sha512", "config"}


def _trusted_path(captured: Captured) -> int:
    return int(captured.golden.get("trusted_path_id", 0))


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _expected_fields(captured: Captured) -> Json:
    fields: Json = {key: value for key, value in captured.golden["fields"].items() if key not in _CONTEXT}
    verb = captured.golden["verb"]
    if verb == "FRAME":  # the MACs are those of the header's addresses
        fields = {key: value for key, value in fields.items() if not key.endswith("_mac")}
    if verb == "PUSH_DIRECT_PATHS":
        fields = _without(fields, {"extended", "type", "length"})
    return fields


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_packets_open(scenario: str) -> None:
    """Header, authentication, decryption, decompression."""
    for captured in packets(scenario):
        expected = captured.golden
        header = parse_header(captured.packet)
        opened = open_packet(captured.keys, captured.packet, trusted_path_id=_trusted_path(captured))
        assert f"{header.packet_id:016x}" == f"{opened.packet_id:016x}" == expected["id"], captured
        assert (f"{header.source:010x}", f"{header.destination:010x}") == (expected["src"], expected["dst"]), captured
        assert (opened.source, opened.destination) == (header.source, header.destination), captured
        assert f"{header.flags:02x}" == expected["flags"], captured
        assert header.hops == opened.hops == expected["hops"], captured
        assert header.suite == opened.suite == expected["cipher"], captured
        assert header.fragmented == expected.get("fragmented", False), captured
        assert len(captured.packet) == expected["length"], captured
        assert opened.verb.name == expected["verb"], captured
        assert opened.compressed == expected.get("compressed", False), captured
        assert opened.payload == captured.payload, captured


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_payloads_decode_and_encode(scenario: str) -> None:
    """Golden fields, every signature good, and the same bytes again."""
    known = identities(scenario)
    for captured in packets(scenario):
        verb = Verb[captured.golden["verb"]]
        fields = captured.golden["fields"]
        packet_id = int(captured.golden["id"], 16)
        encoded, described = describing.describe(verb, captured.payload, packet_id, captured.keys, known, fields)
        assert described == _expected_fields(captured), captured
        assert encoded == captured.payload, captured


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_packets_seal_to_the_same_bytes(scenario: str) -> None:
    """With the recorded IV; compressed payloads are taken from the wire, because LZ4 encoders may differ."""
    for captured in packets(scenario):
        keys, packet, expected = captured.keys, captured.packet, captured.golden
        iv = int(expected.get("iv", expected["id"]), 16)
        sealed = seal_envelope(
            keys,
            destination=int(expected["dst"], 16),
            source=int(expected["src"], 16),
            envelope=_envelope(captured),
            packet_id=iv,
            suite=expected["cipher"],
            mtu=len(packet) - 1 if expected.get("fragmented") else len(packet),
            trusted_path_id=_trusted_path(captured),
        )
        hops = bytes((sealed[18] | expected["hops"],))
        assert sealed[:18] + hops + sealed[19:] == packet, captured


def _envelope(captured: Captured) -> bytes:
    """Verb byte and payload as they were sealed, opened by the twin."""
    buffer = bytearray(captured.packet)
    suite = captured.golden["cipher"]
    if suite == Suite.GMAC_SIV:
        assert twin.siv_open(captured.keys.k0, captured.keys.k1, buffer)
    elif suite != Suite.TRUSTED:
        assert twin.salsa_open(captured.keys.salsa32, buffer)
    return bytes(buffer[27:])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_fragments_split_the_same(scenario: str) -> None:
    """Cutting a fragmented packet gives the captured datagrams, but for their hop counts and order."""
    for captured in packets(scenario):
        if not captured.golden.get("fragmented"):
            assert split(captured.packet, 1432) == [captured.packet]
            continue
        ordered = sorted(captured.datagrams, key=lambda d: parse_fragment(d.data).number if is_fragment(d.data) else 0)
        mtu = len(ordered[0].data)
        whole = captured.packet
        pieces = split(whole, mtu)
        hops = hops_of(whole)
        assert [p[:15] + bytes((p[15] | hops,)) + p[16:] if is_fragment(p) else p for p in pieces] == [
            d.data for d in ordered
        ], captured


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_datagram_belongs_to_a_golden_packet(scenario: str) -> None:
    """Nothing of the capture is left out by the tests above, other than the 4-byte datagrams that open NATs."""
    of_packets = {frame for entry in golden(scenario) for frame in entry["pcap_frames"]}
    assert [d.frame for d in datagrams(scenario) if d.frame not in of_packets] == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_configurations(scenario: str) -> None:
    """Chunks are put together, and what comes out is the golden configuration, and encodes to the same dictionary."""
    known = identities(scenario)
    assemblers: dict[tuple[str, int], ConfigAssembler] = {}
    for captured in packets(scenario):
        chunk = _chunk_of(captured)
        if chunk is None or captured.golden["hops"]:
            continue
        member = captured.golden["dst"]
        assembler = assemblers.setdefault((member, chunk.nwid), ConfigAssembler(chunk.nwid))
        sender, packet_id = int(captured.golden["src"], 16), int(captured.golden["id"], 16)
        assembly = assembler.add(chunk, known[chunk.nwid >> 24], sender=sender, packet_id=packet_id)
        fields = captured.golden["fields"]
        assert assembly.new, captured
        assert (assembly.dictionary is not None) == fields["complete"], captured
        if assembly.dictionary is not None:
            _check_config(assembly.dictionary, fields, known)


def _chunk_of(captured: Captured) -> ConfigChunk | None:
    verb, fields = captured.golden["verb"], captured.golden["fields"]
    if verb == "NETWORK_CONFIG":
        return ConfigChunk.decode(captured.payload)
    if verb == "OK" and fields["in_re_verb"] == "NETWORK_CONFIG_REQUEST":
        return ConfigChunk.decode(Ok.decode(captured.payload).body)
    return None


def _check_config(data: bytes, fields: Json, known: dict[int, Any]) -> None:
    assert hashlib.sha512(data).hexdigest() == fields["dictionary_sha512"]
    config = NetworkConfig.decode(data)
    expected = {
        key: value for key, value in fields["config"].items() if key not in ("v", "id_text", "tt_text", "_keys")
    }
    assert describing.config(config, known) == expected
    assert config.encode() == data
