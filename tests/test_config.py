"""Where settings come from, who wins, and what happens to bad ones (service §1.5)."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe import config, localconf
from ztpipe.localconf import to_bool, to_int, to_str
from ztpipe.runtime.settings import node_settings


def conf(home: Path, document: object) -> Path:
    (home / "local.conf").write_text(json.dumps(document))
    return home


def test_defaults_without_any_file(tmp_path: Path) -> None:
    loaded = config.load(tmp_path)
    assert loaded.port == 9993
    assert loaded.layout == "pipeline"
    assert loaded.protocol_version == 12
    assert loaded.local.settings.allow_secondary_port
    assert loaded.local.warnings == ()


def test_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "local.conf").write_bytes(b"")
    assert config.load(tmp_path).local == localconf.LocalConf()


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    conf(tmp_path, {"ztpipe": {"tapWorkers": 2, "cryptoWorkers": 2, "peerWorkers": 2}})
    loaded = config.load(
        tmp_path,
        flags={"tap_workers": 4, "layout": None},
        environment={"ZTPIPE_TAP_WORKERS": "3", "ZTPIPE_CRYPTO_WORKERS": "3"},
    )
    assert (loaded.tap_workers, loaded.crypto_workers, loaded.peer_workers) == (4, 3, 2)
    assert loaded.layout == "pipeline"


@pytest.mark.parametrize(
    ("settings", "flags", "environment", "expected"),
    [
        ({}, {}, {}, 9000),
        ({"primaryPort": 1}, {}, {}, 1),  # local.conf wins over -p, as in the reference
        ({"primaryPort": "2"}, {}, {}, 2),
        ({"primaryPort": 1}, {}, {"ZTPIPE_PORT": "3"}, 3),
        ({"primaryPort": 1}, {"port": 0}, {"ZTPIPE_PORT": "3"}, 0),
        ({"primaryPort": 70000}, {}, {}, 9000),
    ],
)
def test_port(
    tmp_path: Path, settings: object, flags: dict[str, object], environment: dict[str, str], expected: int
) -> None:
    conf(tmp_path, {"settings": settings})
    loaded = config.load(tmp_path, flags=flags, environment=environment, default_port=9000)
    assert loaded.port == expected


def test_every_knob_has_a_field_a_flag_and_a_variable() -> None:
    fields = set(config.Config.__struct_fields__)
    assert {knob.name for knob in config.KNOBS} == fields - {"home", "port", "local"}
    by_name = {knob.name: knob for knob in config.KNOBS}
    assert by_name["tap_workers"].flag == "--tap-workers"
    assert by_name["tap_workers"].variable == "ZTPIPE_TAP_WORKERS"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"tapWorkers": 0}, "ztpipe.tapWorkers"),
        ({"tapWorkers": 65}, "ztpipe.tapWorkers"),
        ({"tapWorkers": True}, "ztpipe.tapWorkers"),
        ({"tapWorkers": 1.5}, "ztpipe.tapWorkers"),
        ({"layout": "spiral"}, "ztpipe.layout"),
        ({"layout": []}, "ztpipe.layout"),
        ({"offload": {"gso": "maybe"}}, "ztpipe.offload.gso"),
        ({"offload": True}, "ztpipe.offload"),
        ({"ringSlots": 12}, "ztpipe.ringSlots"),
        ({"pinning": [0, "x"]}, "ztpipe.pinning"),
        ({"pinning": 3}, "ztpipe.pinning"),
        ({"protocolVersion": 13}, "ztpipe.protocolVersion"),
        ({"runDir": 7}, "ztpipe.runDir"),
        ({"colour": "red"}, "ztpipe.colour"),
    ],
)
def test_own_section_is_strict_and_says_where(tmp_path: Path, section: object, key: str) -> None:
    conf(tmp_path, {"ztpipe": section})
    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path)
    assert caught.value.where == str(tmp_path / "local.conf")
    assert caught.value.key == key


def test_error_names_flag_or_variable(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="environment: ZTPIPE_SCHED: expected"):
        config.load(tmp_path, environment={"ZTPIPE_SCHED": "fifo"})
    with pytest.raises(config.ConfigError, match="command line: --ring-slots: expected"):
        config.load(tmp_path, flags={"ring_slots": "3"})


def test_run_dir_must_fit_a_socket_address(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="runDir"):
        config.load(tmp_path, flags={"run_dir": "/" + "x" * 100})


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (b"{", "unable to parse local.conf (invalid JSON)"),
        (b"\xff", "unable to parse local.conf (invalid JSON)"),
        (b"[" * 100_000, "unable to parse local.conf (invalid JSON)"),
        (b"[1]", "unable to parse local.conf (root element is not a JSON object)"),
        (b"null", "unable to parse local.conf (root element is not a JSON object)"),
    ],
)
def test_file_that_is_not_an_object(tmp_path: Path, text: bytes, reference: str) -> None:
    (tmp_path / "local.conf").write_bytes(text)
    with pytest.raises(localconf.LocalConfError) as caught:
        config.load(tmp_path)
    assert caught.value.reference_text == reference


def test_reference_sections_are_lenient(tmp_path: Path) -> None:
    conf(
        tmp_path,
        {
            "settings": {
                "allowSecondaryPort": "no",
                "portMappingEnabled": 0,
                "forceTcpRelay": "True",
                "concurrency": "8",
                "bind": ["10.0.0.1", 7],
                "allowManagementFrom": None,
                "lowBandwidthMode": {"a": 1},
                "shiny": 1,
            },
            "physical": {"10.0.0.0/8": {"blacklist": 1, "trustedPathId": "99", "mtu": 1300}, "everything": {}},
            "virtual": {"feedbeef12": {"try": ["1.2.3.4/9993", "nonsense"], "blacklist": ["10.0.0.0/8"]}, "abc": {}},
            "other": {},
        },
    )
    local = config.load(tmp_path).local
    assert not local.settings.allow_secondary_port
    assert not local.settings.port_mapping_enabled
    assert local.settings.force_tcp_relay
    assert local.settings.concurrency == 8
    assert local.settings.bind == ("10.0.0.1",)
    assert local.settings.allow_management_from == ()
    assert local.physical == (localconf.PhysicalNetwork("10.0.0.0/8", True, 99, 1300),)
    assert local.virtual == (localconf.VirtualPeer(0xFEEDBEEF12, ("1.2.3.4/9993",), ("10.0.0.0/8",)),)
    assert [warning.partition(":")[0] for warning in local.warnings] == [
        "other",
        "settings.lowBandwidthMode",
        "settings.shiny",
        'physical."everything"',
        'virtual."abc"',
    ]


def test_every_setting_of_the_specification_is_known() -> None:
    """The keys of the table in service §1.5 leave no warning."""
    keys = """
        primaryPort secondaryPort tertiaryPort allowSecondaryPort portMappingEnabled bind interfacePrefixBlacklist
        allowManagementFrom allowTcpFallbackRelay forceTcpRelay tcpFallbackRelay lowBandwidthMode multicoreEnabled
        concurrency cpuPinningEnabled enableWebServer controllerDbPath ssoRedirectURL softwareUpdate
        softwareUpdateChannel softwareUpdateDist defaultBondingPolicy policies peerSpecificBonds redis vault
    """
    document = json.dumps({"settings": dict.fromkeys(keys.split(), "1")}).encode()
    warnings = localconf.parse(document, Path("local.conf")).warnings
    assert not [warning for warning in warnings if "unknown key" in warning]


def test_coercions() -> None:
    assert [to_bool(entry, True) for entry in ("1", "t", "Tx", "yes", "", 0, 2, -1, 0.5)] == [
        True, True, True, False, False, False, True, False, True,
    ]  # fmt: skip
    assert (to_bool(None, True), to_bool([], False)) == (True, False)
    assert [to_int(entry, 7) for entry in (3, True, "12", "-1", "x", "", None, "9" * 99, "²", 1e300, 2.9)] == [
        3, 1, 12, -1, 7, 7, 7, 7, 7, 7, 2,
    ]  # fmt: skip
    assert [to_str(entry, "d") for entry in ("a", 3, True, False, None, {})] == ["a", "3", "1", "0", "d", "d"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
setting_names = st.sampled_from(["primaryPort", "bind", "concurrency", "forceTcpRelay", "tcpFallbackRelay", "policies"])


@given(st.dictionaries(setting_names, json_values), json_values, json_values)
def test_no_document_breaks_the_lenient_reading(settings: object, physical: object, virtual: object) -> None:
    document = {"settings": settings, "physical": physical, "virtual": virtual}
    localconf.parse(json.dumps(document).encode(), Path("local.conf"))


def test_worker_slice_is_small_and_picklable(tmp_path: Path) -> None:
    flags = {"pinning": "0,1", "tap_workers": 1, "crypto_workers": 2, "gso_offload": "off", "sched": "batch"}
    loaded = config.load(tmp_path, flags=flags)
    workers = [loaded.worker(*slot) for slot in (("tap", 0), ("crypto", 0), ("crypto", 1), ("peer", 0))]
    assert [worker.cpu for worker in workers] == [0, 1, 0, 1]
    assert not workers[0].gso
    assert len(pickle.dumps(workers[0])) < 1000
    assert pickle.loads(pickle.dumps(workers[3])) == workers[3]


def test_trusted_paths_of_the_old_file_count_unless_local_conf_names_the_network(tmp_path: Path) -> None:
    (tmp_path / "local.conf").write_text('{"physical": {"10.0.0.0/8": {"trustedPathId": 5, "mtu": 1400}}}')
    settings = node_settings(config.load(tmp_path), {"10.0.0.0/8": 9, "fd00::/8": 7, "nonsense": 3})
    found = {entry.network.text(): (entry.trusted_path_id, entry.mtu) for entry in settings.physical}
    assert found == {"10.0.0.0/8": (5, 1400), "fd00::/8": (7, 0)}
