"""Records become exactly the recorded JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.api import recorded
from ztpipe import localconf
from ztpipe.api import answers, render
from ztpipe.api.service import JoinedNetwork
from ztpipe.config import Config
from ztpipe.node.status import MoonStatus
from ztpipe.store import NetworkSettings


@pytest.mark.parametrize("name", ["get-status.json", "get-status-online.json"])
def test_status(name: str) -> None:
    expected = recorded.load(name)
    config = Config(home=recorded.RECORDED_HOME, run_dir=recorded.RECORDED_HOME)
    assert render.status(recorded.node_status(expected), recorded.underlay(expected), config) == expected


def test_wire_form_of_status() -> None:
    expected = recorded.text("get-status.raw.txt")
    document = json.loads(expected)
    config = Config(home=recorded.RECORDED_HOME, run_dir=recorded.RECORDED_HOME)
    rendered = render.status(recorded.node_status(document), recorded.underlay(document), config)
    assert answers.compact(rendered).decode() == expected


def test_status_shows_local_conf_as_read_and_lets_it_win() -> None:
    document = {"settings": {"primaryPort": 1234, "shiny": [1], "portMappingEnabled": "no"}, "physical": {}, "mine": 1}
    local = localconf.parse(json.dumps(document).encode(), recorded.RECORDED_HOME)
    config = Config(home=recorded.RECORDED_HOME, run_dir=recorded.RECORDED_HOME, local=local)
    status = recorded.load("get-status.json")
    shown = json.loads(
        answers.compact(render.status(recorded.node_status(status), recorded.underlay(status), config)["config"])
    )
    assert (shown["mine"], shown["physical"], shown["settings"]["shiny"]) == (1, {}, [1])
    assert shown["settings"]["primaryPort"] == 1234
    assert shown["settings"]["portMappingEnabled"] is False  # a boolean for clients, whatever the file says


def test_health() -> None:
    expected = recorded.load("get-health.json")
    status = {**recorded.load("get-status.json"), "clock": expected["clock"]}
    assert render.health(recorded.node_status(status)) == expected


@pytest.mark.parametrize("name", ["get-network.json", "get-network-access-denied.json", "get-network-not-found.json"])
def test_networks(name: str) -> None:
    for expected in recorded.load(name):
        assert render.network(recorded.network(expected)) == expected


def test_network_whose_tap_failed() -> None:
    joined = recorded.network(recorded.load("get-network-id.json"))
    shown = render.network(JoinedNetwork(joined.record, NetworkSettings(), "", -999))
    assert (shown["status"], shown["portError"]) == ("PORT_ERROR", -999)


def test_single_sign_on_fields_only_with_sso() -> None:
    joined = recorded.network(recorded.load("get-network-id.json"))
    assert joined.record.config is not None
    config = dataclasses.replace(joined.record.config, sso_enabled=True)
    record = dataclasses.replace(joined.record, config=config, authentication_url="https://x", authentication_expiry=7)
    shown = render.network(JoinedNetwork(record, NetworkSettings()))
    expected = {"ssoEnabled": True, "authenticationURL": "https://x", "authenticationExpiryTime": 7}
    assert expected.items() <= shown.items()
    assert not {"ssoEnabled", "authenticationURL"} & render.network(joined).keys()


@pytest.mark.parametrize("name", ["get-peer.json", "get-peer-moon-and-planet.json"])
def test_peers(name: str) -> None:
    for expected in recorded.load(name):
        assert render.peer(recorded.peer_status(expected)) == expected


def test_moons() -> None:
    expected = recorded.load("get-moon-id.json")
    assert render.moon(recorded.moon(expected)) == expected


def test_moon_waited_for() -> None:
    assert render.moon(MoonStatus(0xFD90EDBA50, None, 1)) == {
        "id": "000000fd90edba50",
        "roots": [],
        "signature": None,
        "timestamp": 0,
        "updatesMustBeSignedBy": None,
        "waiting": True,
    }
