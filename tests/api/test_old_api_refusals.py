"""What the old API refuses: every field with what it cannot mean is a 400 that names it, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.recorded import RecordedService, serving
from tests.api.test_v1 import Api
from tests.controller.test_rules_json import FIELDS as RULE_FIELDS
from tests.controller.test_rules_json import JSON, NAMES, RULES, VALUES
from ztpipe.api.legacy_checks import FIELDS
from ztpipe.controller.rules_json import normalise_rules
from ztpipe.store import Home

NWID = "142b028c0f000001"
NETWORK = f"/controller/network/{NWID}"
MEMBER = f"{NETWORK}/member/aaaaaaaaaa"
VECTORS = Path(__file__).parents[1] / "vectors"

HUGE = [2**64, 10**400, 1e300]
NUMBER = ["x", "-1", -1, -0.5, True, [], {}, [1], *HUGE]
SIGNED = [value for value in NUMBER if value != -1]  # compilers write 32 bits with a sign
BOOLEAN = ["yes", "2", None, -1, [], {}, [True], 2**64]
TEXT = [True, [], {}, ["x"], "x" * 1_000_000]
NODE = [7, "short", "x" * 10, "aabbccddee0", [], {}, True]
LIST = [None, 7, "x", True, {}]
ADDRESS = ["x", 7, None, "10.0.0.256", "fe80::1%eth0", "1.2.3", [], {}, "1" * 1_000_000]

WRONG: dict[tuple[str, str], list[Any]] = {
    ("network", "name"): TEXT,
    ("network", "private"): BOOLEAN,
    ("network", "enableBroadcast"): BOOLEAN,
    ("network", "multicastLimit"): NUMBER,
    ("network", "mtu"): NUMBER,
    ("network", "remoteTraceTarget"): NODE,
    ("network", "remoteTraceLevel"): NUMBER,
    ("network", "v4AssignMode"): [None, 5, True, [], *({"zt": value} for value in BOOLEAN)],
    ("network", "v6AssignMode"): [None, 5, True, [], *({"6plane": value} for value in BOOLEAN)],
    ("network", "routes"): [
        *LIST,
        *([{"target": value}] for value in [*ADDRESS, "10.0.0.0", "10.0.0.0/33", "10.0.0.0/x", "::/129", "x/8"]),
        *([{"target": "10.0.0.0/8", "via": value}] for value in ["x", 7, "fd00::1", [], "10.0.0.256"]),
        [None],
        ["10.0.0.0/8"],
        [{}],
        [{"target": f"10.{number}.0.0/16"} for number in range(129)],
    ],
    ("network", "ipAssignmentPools"): [
        *LIST,
        *([{"ipRangeStart": value, "ipRangeEnd": "10.0.0.1"}] for value in ADDRESS),
        *([{"ipRangeStart": "10.0.0.1", "ipRangeEnd": value}] for value in [*ADDRESS, "10.0.0.0", "fd00::1"]),
        ["x"],
        [{}],
        [{"ipRangeStart": f"10.0.0.{n}", "ipRangeEnd": f"10.0.0.{n + 1}"} for n in (1, 2)],
        [{"ipRangeStart": "fd00::1", "ipRangeEnd": "fd00::5"}] * 2,
        [{"ipRangeStart": f"fd00::{n:x}", "ipRangeEnd": f"fd00::{n:x}"} for n in range(1025)],
    ],
    ("network", "rules"): [
        *LIST,
        [{"type": "ACTION_ACCEPT"}] * 10_000,
        [None],
        ["x"],
        [{}],
        [{"type": "action_drop"}],
        [{"type": "ACTION_PRIORITY"}],
        [{"type": 7}],
        [{"type": "ACTION_DROP", "not": "x"}],
        *([{"type": "MATCH_ETHERTYPE", "etherType": value}] for value in [70000, None, *NUMBER]),
        *([{"type": "MATCH_ICMP", "icmpType": 8, "icmpCode": value}] for value in [256, *NUMBER]),
        *([{"type": "MATCH_IPV4_SOURCE", "ip": value}] for value in [*ADDRESS, "10.0.0.1", "10.0.0.1/33", "::/0"]),
        *([{"type": "MATCH_IPV6_DEST", "ip": value}] for value in [*ADDRESS, "::1", "::/300", "10.0.0.0/8"]),
        *([{"type": "MATCH_MAC_DEST", "mac": value}] for value in ["aa-bb-cc-dd-ee", "x", 7, None, [], {}, "a" * 14]),
        *([{"type": "MATCH_CHARACTERISTICS", "mask": value}] for value in [None, True, [], {}, "x", -1, "1" * 17]),
        *([{"type": "MATCH_DEST_ZEROTIER_ADDRESS", "zt": value}] for value in ["x", 7, None, [], "1aabbccddee"]),
        *([{"type": "ACTION_TEE", "address": "aabbccddee", "length": value}] for value in [65536, -2, *SIGNED]),
    ],
    ("network", "rulesSource"): [7, True, [], {}, "dorp;", "accept " * 200_000],
    ("network", "tags"): [
        *LIST,
        [7],
        [{}],
        [{"id": 1}, {"id": "1"}],
        *([{"id": value}] for value in [*NUMBER, None, "0x10"]),
        *([{"id": 1, "default": value}] for value in [-(2**31) - 1, *SIGNED]),
        [{"id": number} for number in range(129)],
    ],
    ("network", "capabilities"): [
        *LIST,
        [7],
        [{}],
        [{"id": 1}, {"id": 1}],
        *([{"id": value}] for value in [*NUMBER, None]),
        *([{"id": 1, "default": value}] for value in BOOLEAN),
        *([{"id": 1, "rules": value}] for value in [*LIST, [{"type": "x"}], [{"type": "ACTION_DROP"}] * 65]),
        [{"id": number} for number in range(129)],
    ],
    ("network", "dns"): [
        7,
        "x",
        True,
        [1],
        *({"domain": value} for value in TEXT),
        *({"servers": value} for value in [*LIST, ["x"], [7], [None], ["10.0.0.256"]]),
    ],
    ("network", "authTokens"): [7, "x", True, [7], *({"t": value} for value in [None, "0", -1, True, *HUGE])],
    ("member", "name"): TEXT,
    ("member", "notes"): TEXT,
    ("member", "authorized"): BOOLEAN,
    ("member", "activeBridge"): BOOLEAN,
    ("member", "noAutoAssignIps"): BOOLEAN,
    ("member", "expiresAt"): NUMBER,
    ("member", "authenticationExpiryTime"): NUMBER,
    ("member", "remoteTraceTarget"): NODE,
    ("member", "remoteTraceLevel"): NUMBER,
    ("member", "ipAssignments"): [*LIST, *([value] for value in ADDRESS), [f"10.0.0.{n}" for n in range(33)]],
    ("member", "tags"): [
        *LIST,
        *([value] for value in [7, "x", [], [1], [1, 2, 3], {}]),
        *([[value, 1]] for value in [*NUMBER, None]),
        *([[1, value]] for value in [*NUMBER, None]),
        [[number, 1] for number in range(129)],
    ],
    ("member", "capabilities"): [*LIST, *([value] for value in [*NUMBER, None]), list(range(129))],
}


@pytest.fixture
def api(port: int) -> Api:
    api = Api(port)
    body = {"name": "kept", "routes": [{"target": "10.9.0.0/16"}], "tags": [{"id": 1, "default": 2}]}
    assert api("POST", NETWORK, body).status == 200
    assert api("POST", MEMBER, {"authorized": True, "ipAssignments": ["10.9.0.1"], "tags": [[1, 5]]}).status == 200
    return api


def test_every_field_is_tried() -> None:
    assert set(WRONG) == set(FIELDS)


@pytest.mark.parametrize("place", WRONG, ids=".".join)
def test_what_cannot_be_meant_is_refused_by_name(api: Api, place: tuple[str, str]) -> None:
    kind, field = place
    path, other = (NETWORK, {"name": "half"}) if kind == "network" else (MEMBER, {"notes": "half"})
    if field in other:
        other = {"remoteTraceLevel": 3}
    before = api("GET", path).body
    for value in WRONG[place]:
        for body in ({**other, field: value}, {field: value, **other}):
            answer = api("POST", path, body)
            assert answer.status == 400, (field, repr(value)[:200], answer.body)
            assert answer.body["field"].startswith(field), (repr(value)[:200], answer.body)
            assert answer.body["error"]
    assert api("GET", path).body == before


@pytest.mark.parametrize("body", ["", " ", "null", "{}"])
def test_nothing_is_an_empty_object(api: Api, body: str) -> None:
    made = api("POST", "/controller/network", body)
    assert made.status == 200 and made.body["mtu"] == 2800
    assert api("POST", NETWORK, body).body["name"] == "kept"
    assert api("POST", MEMBER, body).body["authorized"] is True


@pytest.mark.parametrize(
    "body", ["{bad", "[]", '"x"', "7", "true", '{"name": NaN}', '{"name": "\\uD800"}', "[" * 100_000, "\ud800"]
)
def test_what_is_no_object_is_refused(api: Api, body: str) -> None:
    data = body.encode("utf-8", "surrogatepass").decode("latin-1") if body == "\ud800" else body
    for path in ("/controller/network", NETWORK, MEMBER):
        answer = api("POST", path, data)
        assert (answer.status, answer.body["field"]) == (400, "body")


def test_networks_of_other_controllers(api: Api) -> None:
    """They could never be joined. The own address is taken in capitals too."""
    for path in ("/controller/network/aabbccddee000001", "/controller/network/aabbccddee______"):
        answer = api("POST", path, {})
        assert (answer.status, answer.body["field"]) == (400, "nwid")
    assert api("GET", "/controller/network").body == [NWID]
    assert api("POST", "/controller/network/142B028C0F______", {}).status == 200


def test_what_is_shown_can_be_sent_back(api: Api) -> None:
    """Interfaces read, change one thing, and send all of it."""
    for path in (NETWORK, MEMBER, "/controller/network/" + api("POST", "/controller/network", {}).body["id"]):
        shown = api("GET", path).body
        sent_back = api("POST", path, shown)
        assert sent_back.status == 200, sent_back.body
        assert {**sent_back.body, "revision": 0, "rules": 0} == {**shown, "revision": 0, "rules": 0}


def test_stored_oddities_do_not_stand_in_the_way(service: RecordedService, api: Api) -> None:
    """From a reference's files, say: ranges that overlap, tags without ID, nonsense in DNS."""
    nwid = int(NWID, 16)
    pools = [{"ipRangeStart": f"10.0.0.{first}", "ipRangeEnd": f"10.0.0.{last}"} for first, last in ((1, 9), (5, 7))]
    odd = {"ipAssignmentPools": pools, "dns": {"domain": 7, "servers": ["x"]}, "routes": [{"target": "10.1.0.0"}]}
    service.controller.update_network(service.now(), nwid, odd)
    shown = api("GET", NETWORK).body
    assert api("POST", NETWORK, {**shown, "name": "new"}).status == 200
    more = {"ipRangeStart": "10.0.1.1", "ipRangeEnd": "10.0.1.9"}
    assert api("POST", NETWORK, {"ipAssignmentPools": [*pools, more]}).status == 200
    worse = {"ipRangeStart": "10.0.0.9", "ipRangeEnd": "10.0.0.20"}
    refused = api("POST", NETWORK, {"ipAssignmentPools": [worse, *pools]})
    assert (refused.status, refused.body["field"]) == (400, "ipAssignmentPools[0]")


#: The recorded requests in which the reference found something of its own making, and the field that is named now.
RECORDED = {
    "22-update-network-mtu-negative": "mtu",
    "29-update-network-assign-modes-wrong-type": "v4AssignMode",
    "30-update-network-routes": "routes[2].target",
    "31-update-network-routes-not-array": "routes",
    "32-update-network-pools": "ipAssignmentPools[1].ipRangeEnd",
    "34-update-network-dns-partial": "dns.servers",
    "36-update-network-authtokens": "authTokens.negative",
    "38-update-network-authtokens-not-object": "authTokens",
    "41-update-network-trace-bad": "remoteTraceTarget",
    "42-update-network-tags": "tags[3].id",
    "43-update-network-capabilities": "capabilities[1].rules",
    "44-update-network-rules-every-type": "rules[6].type",
    "46-update-network-rules-not-array": "rules",
    "47-update-network-rules-characteristics-bad-type": "rules[0].mask",
    "58-member-update-fields": "ipAssignments[2]",
    "60-member-ipassignments-non-string": "ipAssignments[0]",
}


def test_recorded_requests_that_are_refused(api: Api) -> None:
    """These, and no others of those that the reference answered with 200 or 500."""
    refused = {}
    for path in sorted((VECTORS / "controller-api").glob("*.request.json")):
        request = load_recorded(path)
        number = int(path.name[:2])
        if request["method"] == "POST" and "body" in request and number not in (11, 15, 68):
            target = MEMBER if "/member/" in request["path"] else NETWORK
            answer = api("POST", target, request["body"])
            if answer.status != 200:
                refused[path.name.removesuffix(".request.json")] = answer.body["field"]
    assert refused == RECORDED


def load_recorded(path: Path) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(path.read_text())
    return recorded


#: What the reference's compiler makes of values that no rule can hold; the first such rule, or the tag.
MEANINGLESS = {
    "012-ip-matches-lenient": "rules[0].ip",
    "013-vlan-matches": "rules[6].vlanId",
    "021-tee-target-not-validated": "rules[1].address",
    "026-tag-duplicate-ids-allowed": "tags[1]",
}


def test_compiled_rules_are_taken(api: Api) -> None:
    """All known answers of the reference's rule compiler, as interfaces send them; and their sources, alike."""
    refused = {}
    empty: dict[str, Any] = {"rules": [{"type": "ACTION_ACCEPT"}], "capabilities": [], "tags": []}
    paths = sorted((VECTORS / "rules").glob("*.json"))
    assert len(paths) > 40
    for path in paths:
        config = load_recorded(path)["config"]
        taken = api("POST", NETWORK, config)
        if taken.status == 200:
            assert taken.body["rules"] == normalise_rules(config["rules"], 1024)
        else:
            refused[path.stem] = taken.body["field"]
        source = {"rulesSource": path.with_suffix(".ztrules").read_bytes().decode()}
        for method, place in (("POST", NETWORK), ("PATCH", f"/v1/networks/{NWID}")):
            answer = api(method, place, source)
            assert answer.status == taken.status, (path.stem, answer.body)
            assert answer.status == 200 or answer.body["field"] == "rulesSource"
        assert api("POST", NETWORK, empty).status == 200
    assert refused == MEANINGLESS


KEYS = st.sampled_from([field for _, field in FIELDS])
RULE_KEYS = st.sampled_from(RULE_FIELDS)
ANY_RULE = st.builds(
    lambda kind, fields: {**fields, "type": kind}, st.sampled_from(NAMES), st.dictionaries(RULE_KEYS, VALUES)
)
BODIES = st.dictionaries(KEYS, VALUES | RULES | st.lists(ANY_RULE, max_size=3) | JSON, max_size=4)


def test_any_body_is_taken_whole_or_refused_by_name(tmp_path: Path) -> None:
    service = RecordedService(Home.open(tmp_path / "home"))
    seen = set()
    with serving(service) as port:
        api = Api(port)

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(BODIES | JSON, st.sampled_from([NETWORK, MEMBER]))
        def try_it(body: Any, path: str) -> None:
            api("POST", NETWORK, {})
            api("POST", MEMBER, {})
            before = api("GET", path).body
            answer = api("POST", path, json.dumps(body))
            seen.add(answer.status)
            assert answer.status in (200, 400), answer.body
            if answer.status == 400:
                assert answer.body["field"].split(".")[0].split("[")[0] in (*(f for _, f in FIELDS), "body")
                assert api("GET", path).body == before

        try_it()
    assert seen == {200, 400}
