"""The metrics text: every family of the reference, labels and values, and a parser's opinion of all of it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.recorded import text as recorded_text
from tests.runtime.snapshots import NWID, snapshot
from ztpipe.runtime.exposition import family, labels, number, single
from ztpipe.runtime.metrics import (
    MetricsFile,
    NetworkTraffic,
    WorkerMetrics,
    device_frames,
    render,
    with_filtered,
)
from ztpipe.shm.counters import INDEX
from ztpipe.wire.protocol import ErrorCode, Verb

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")


def samples(text: str) -> dict[tuple[str, str], float]:
    """(name, labels) -> value, of every sample line."""
    found: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.match(line)
            assert match, line
            key = (match[1], match[2] or "")
            assert key not in found, f"twice: {line}"
            found[key] = float(match[3])
    return found


def heads(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_families_of_the_reference_come_first_with_its_texts_and_in_its_order() -> None:
    expected = heads(recorded_text("get-metrics.txt"))
    assert heads(render(snapshot()))[: len(expected)] == expected


def test_samples_have_the_labels_of_the_reference() -> None:
    """Names of nodes and networks aside; the histogram has the same buckets."""

    def shapes(text: str) -> set[tuple[str, str]]:
        return {(name, re.sub(r'(node|network)_id="\w+"', r"\1_id", inner)) for name, inner in samples(text)}

    ours = {shape for shape in shapes(render(snapshot())) if not shape[0].startswith("ztpipe_")}
    assert ours == shapes(recorded_text("get-metrics.txt"))


def test_a_parser_accepts_all_of_it() -> None:
    families = {found.name: found for found in text_string_to_metric_families(render(snapshot()))}
    histogram = families["zt_peer_latency"]
    assert histogram.type == "histogram"
    buckets = [s for s in histogram.samples if s.name.endswith("_bucket") and s.labels["node_id"] == "1000000000"]
    assert [s.labels["le"] for s in buckets][-1] == "+Inf"
    assert [s.value for s in buckets] == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert all(found.documentation for found in families.values())


def test_values() -> None:
    taken = snapshot()
    taken.tally.received[Verb.HELLO] = 11
    taken.tally.received[Verb.FRAME] = 100
    taken.tally.errors_sent[ErrorCode.NETWORK_ACCESS_DENIED] = 5
    found = samples(render(taken))
    network = f'network_id="{NWID:016x}"'
    opened = 3 * (INDEX["open_packets"] + 1)  # each of three workers counted that much
    for name, inner, value in (
        ("zt_packet", 'direction="rx",packet_type="hello"', 11),
        ("zt_packet", 'direction="rx",packet_type="frame"', 100 + opened),
        ("zt_packet_error", 'direction="tx",error_type="network_access_denied"', 5),
        ("zt_data", 'direction="tx",protocol="udp"', 3 * (INDEX["udp_send_bytes"] + 1) + 600),
        ("zt_num_networks", "", 1),
        ("zt_network_packets", f'accepted="yes",direction="rx",{network}', 5),
        ("zt_network_packets", f'accepted="no",direction="rx",{network}', 2),
        ("zt_network_packets", f'accepted="yes",direction="tx",{network}', 9),
        ("zt_peer_packets", 'direction="rx",node_id="1000000001"', 3),
        ("zt_peer_packet_errors", 'node_id="1000000002"', 2),
        ("zt_peer_latency_sum", 'node_id="1000000000"', 5_013),
        ("zt_peer_path_count", 'node_id="1000000000",status="alive"', 1),
        ("controller_db_get_network", "", 7),
        ("controller_network_count", "", 1),
        ("ztpipe_peer_direct", 'node_id="1000000002"', 0),
        ("ztpipe_peer_path_info", 'node_id="1000000001",remote="10.0.0.1/9993"', 1),
        ("ztpipe_drops_total", 'reason="bad_mac",worker="control"', 1),
        ("ztpipe_worker_cpu_seconds_total", 'worker="tap-0"', 0.25),
        ("ztpipe_ring_used_slots", 'consumer="crypto-0",producer="tap-0"', 2),
        ("ztpipe_start_time_seconds", "", 1_795_456_400.5),
    ):
        assert found[name, inner] == value, (name, inner)
    assert ("ztpipe_peer_latency_milliseconds", 'node_id="1000000002"') not in found


def test_every_counter_of_a_worker_is_somewhere() -> None:
    """A counter added to the kernel appears without a change here."""
    everything = {value for (name, _), value in samples(render(snapshot())).items() if name.startswith("ztpipe_")}
    assert {index + 1 for index in INDEX.values()} <= everything


def test_a_node_with_nothing_is_well_formed() -> None:
    empty = replace(snapshot(peers=0, networks=0), workers=[], waiting={}, controller={})
    found = samples(render(empty))
    assert found["zt_num_networks", ""] == 0
    assert found["controller_network_config_request_queue", ""] == 0
    list(text_string_to_metric_families(render(empty)))


def test_labels_are_sorted_and_escaped() -> None:
    assert labels(b='x"\n\\', a=1) == 'a="1",b="x\\"\\n\\\\"'
    assert family("n", "gauge", "t", [('a="1"', 1), ("", 0.5)]).render() == (
        '# HELP n t\n# TYPE n gauge\nn{a="1"} 1\nn 0.5\n'
    )
    assert single("n", "counter", "t", True).body == "n 1\n"


@pytest.mark.parametrize("value", [0, 2**63, 0.1, 1_795_456_400.123, 1e-9, 12345678.9])
def test_numbers_lose_nothing(value: float) -> None:
    assert float(number(value)) == value


def test_device_frames() -> None:
    text = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n"
        "    lo: 1000 10 0 0 0 0 0 0 1000 10 0 0 0 0 0 0\n"
        "zttasjeucf:12345678 77 0 0 0 0 0 0 999 88 0 0 0 0 0 0\n"
    )
    assert device_frames(text) == {"lo": (10, 10), "zttasjeucf": (77, 88)}


def test_refusals_of_the_data_plane_belong_to_the_only_network() -> None:
    network = NetworkTraffic(NWID, "OK", 0, refused_received=1, refused_sent=2)
    counters = {"drop_inbound_filter": 10, "drop_outbound_filter": 20}
    workers = [WorkerMetrics("crypto-0", counters), WorkerMetrics("control", counters)]  # control's are counted already
    (found,) = with_filtered([network], workers)
    assert (found.refused_received, found.refused_sent) == (11, 22)
    assert with_filtered([network, network], workers) == [network, network]


def test_a_full_disk_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    full = True
    written: list[str] = []

    def write(text: str) -> None:
        if full:
            raise OSError(28, "No space left on device")
        written.append(text)

    file = MetricsFile(lambda: "x 1\n", write)
    file.refresh()
    file.refresh()
    assert capsys.readouterr().out.count("No space left on device") == 1
    full = False
    file.refresh()
    assert written == ["x 1\n"]
    full = True
    file.refresh()
    assert capsys.readouterr().out.count("No space left on device") == 1
