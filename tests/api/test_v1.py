"""The versioned API, and named tokens, over HTTP."""

from __future__ import annotations

import http.client
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.recorded import TOKEN, RecordedService
from ztpipe.api.tokens import TOKEN_FILE, Role, TokenError, TokenFile

CONTROLLER = "142b028c0f"
A, B = "aaaaaaaaaa", "bbbbbbbbbb"


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers = response.status, response.headers
        data = response.read()
        self.body: Any = json.loads(data) if data else None


class Api:
    def __init__(self, port: int, token: str = TOKEN) -> None:
        self.port, self.token = port, token

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            text = body if isinstance(body, str) else None if body is None else json.dumps(body)
            connection.request(method, path, text, {"X-ZT1-Auth": self.token, **headers})
            return Answer(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture
def api(port: int) -> Api:
    return Api(port)


@pytest.fixture
def network(api: Api) -> str:
    return "/v1/networks/" + str(api("POST", "/v1/networks", {"name": "office"}).body["id"])


def test_a_network_from_creation_to_deletion(api: Api, service: RecordedService) -> None:
    made = api("POST", "/v1/networks", {"name": "office", "v6AssignMode": {"6plane": True}})
    assert made.status == 200 and made.headers["ETag"] == '"1"'
    assert made.body["v6AssignMode"] == {"zt": False, "rfc4193": False, "6plane": True}
    assert (made.body["authTokens"], made.body["dns"]) == ({}, None)
    path = f"/v1/networks/{made.body['id']}"
    changed = api("PATCH", path, {"mtu": 1500, "routes": [{"target": "10.1.0.0/16"}]}, **{"If-Match": '"1"'})
    assert changed.body["routes"] == [{"target": "10.1.0.0/16", "via": None}]
    assert api("PATCH", path, {"mtu": 1400}, **{"If-Match": '"1"'}).status == 412
    assert api("GET", path).body["mtu"] == 1500
    listed = api("GET", "/v1/networks?q=OFF").body
    assert listed["meta"] == {"total": 1, "next": None}
    assert listed["data"][0]["meta"] == {"authorizedMemberCount": 0, "totalMemberCount": 0}
    assert api("DELETE", path).status == 204
    assert api("GET", path).status == 404 and api("PATCH", path, {}).status == 404
    assert service.controller_changes == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mtu": "1500"}, "mtu"),
        ({"mtu": 100}, "mtu"),
        ({"mtu": 10**400}, "mtu"),
        ({"unknown": 1}, None),
        ({"routes": [{"target": "10.0.0.1/8"}]}, "routes[0].target"),
        ({"routes": [{"target": "10.0.0.0/8", "via": "fd00::1"}]}, "routes[0].via"),
        ({"routes": [{"target": "10.0.0.0/33"}]}, "routes[0].target"),
        (
            {"ipAssignmentPools": [{"ipRangeStart": "10.0.0.9", "ipRangeEnd": "10.0.0.1"}]},
            "ipAssignmentPools[0].ipRangeEnd",
        ),
        (
            {
                "ipAssignmentPools": [
                    {"ipRangeStart": "10.0.0.1", "ipRangeEnd": "10.0.0.9"},
                    {"ipRangeStart": "10.0.0.9", "ipRangeEnd": "10.0.0.20"},
                ]
            },
            "ipAssignmentPools[1]",
        ),
        ({"rules": [{"type": "ACTION_NOTHING"}]}, "rules[0].type"),
        ({"rules": [{"type": "ACTION_ACCEPT"}] * 10_000}, "rules"),
        ({"tags": [{"id": 1}, {"id": 1}]}, "tags[1]"),
        ({"dns": {"servers": ["one"]}}, "dns.servers[0]"),
        ({"rulesSource": "drop ethertpye ipv4;"}, "rulesSource"),
        ({"name": "x" * 1_000_000}, "name"),
        ([], None),
        ("", None),
        ('{"name": NaN}', None),
        ('{"name": "\\ud800"}', None),
        ("[" * 100_000, None),
    ],
)
def test_bad_values_are_named_and_change_nothing(api: Api, network: str, body: Any, field: str | None) -> None:
    before = api("GET", network).body
    answer = api("PATCH", network, {**body, "private": False} if isinstance(body, dict) else body)
    assert answer.status == 400
    assert answer.body["error"] and answer.body.get("field") == field
    assert api("GET", network).body == before


def test_every_refusal_is_json(api: Api, network: str) -> None:
    for path in ("/v1/networks/x", f"{network}/members/x", "/v1/nothing"):
        assert (api("GET", path).status, api("GET", path).body) == (404, {"error": "no such path"})
    answer = api("POST", network, {})
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE,GET,PATCH")
    assert api("PATCH", network, '{"mtu": 1400.0}').body["mtu"] == 1400
    for query in ("limit=1&limit=2", "private=null", "limit=null"):
        assert api("GET", f"/v1/networks?{query}").body["field"] == query.partition("=")[0]
    assert api("GET", "/v1/networks?q=null").body["meta"]["total"] == 0


def test_a_body_beyond_all_measure(api: Api, network: str) -> None:
    for method, path in (("PATCH", network), ("POST", "/controller/network")):
        answer = api(method, path, {"name": "x" * (17 << 20)})
        assert (answer.status, answer.body) == (413, {"error": "the body: expected at most 16 MiB"})


def test_members_that_no_node_can_be(api: Api, network: str) -> None:
    nwid = network.rpartition("/")[2]
    for address in ("0000000000", "ffaabbccdd"):
        for method, path in (
            ("PATCH", f"{network}/members/{address}"),
            ("POST", f"/controller/network/{nwid}/member/{address}"),
        ):
            answer = api(method, path, {"authorized": True})
            assert (answer.status, answer.body["field"]) == (400, "id")
        answer = api("PATCH", f"{network}/members", {"members": {"aabbccddee": {}, address: {}}})
        assert (answer.status, answer.body["field"]) == (400, f"members.{address}")
    assert api("GET", f"{network}/members").body["data"] == []


def test_concurrent_writers_do_not_overwrite_each_other(api: Api, network: str) -> None:
    """Each adds a route of its own to those that it has read, and tries again if it came too late."""

    def add(number: int) -> int:
        for attempt in range(100):
            read = api("GET", network)
            routes = [*read.body["routes"], {"target": f"10.{number}.0.0/16"}]
            answer = api("PATCH", network, {"routes": routes}, **{"If-Match": read.headers["ETag"]})
            if answer.status == 200:
                return attempt
            assert answer.status == 412
        raise AssertionError("never came through")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(1, 17)))
    found = api("GET", network).body
    assert len(found["routes"]) == 16 and found["revision"] == 17


def test_a_wrong_source_has_place_and_hint_in_both_apis(api: Api, network: str) -> None:
    source = {"rulesSource": "accept and;\ndorp and;"}
    expected = {
        "error": "Unrecognized action or directive in rule set.",
        "field": "rulesSource",
        "line": 2,
        "column": 1,
        "hint": "did you mean drop?",
    }
    for method, path in (("PATCH", network), ("POST", network.replace("/v1/networks", "/controller/network"))):
        answer = api(method, path, source)
        assert (answer.status, answer.body) == (400, expected)


def test_members(api: Api, network: str) -> None:
    members = f"{network}/members"
    answer = api("PATCH", members, {"members": {A: {"authorized": True, "name": "alice"}, B: {"tags": [[1, 2]]}}})
    assert [member["id"] for member in answer.body["data"]] == [A, B]
    assert api("PATCH", members, {"members": {A: {"name": "x"}, B: {"ipAssignments": ["no"]}}}).status == 400
    page = api("GET", f"{members}?limit=1").body
    assert page["data"][0]["name"] == "alice" and page["meta"] == {"total": 2, "next": A}
    assert page["data"][0]["meta"] == {"online": False, "lastSeen": None}
    assert [m["id"] for m in api("GET", f"{members}?after={A}").body["data"]] == [B]
    assert [m["id"] for m in api("GET", f"{members}?tag=1&authorized=false").body["data"]] == [B]
    assert api("GET", f"{members}?limit=0").body["field"] == "limit"
    assert api("GET", f"{members}?nothing=0").status == 400
    assert api("PATCH", f"{members}/{A}", {"notes": "desk"}, **{"If-Match": "*"}).headers["ETag"] == '"2"'
    assert api("DELETE", f"{members}/{A}").status == 204
    assert api("GET", f"{members}/{A}").status == 404


def test_if_match_in_the_old_api(api: Api, network: str) -> None:
    old = network.replace("/v1/networks", "/controller/network")
    assert api("POST", old, {"name": "x"}, **{"If-Match": '"7"'}).status == 412
    assert api("POST", old, {"name": "x"}, **{"If-Match": "W/x"}).status == 400
    assert api("POST", old, {"name": "x"}, **{"If-Match": '"1"'}).body["revision"] == 2


# --- tokens --------------------------------------------------------------------------------------------------------


def test_roles(service: RecordedService, port: int, network: str) -> None:
    file = TokenFile(service.home.path / TOKEN_FILE)
    reader, helper, admin = (Api(port, file.add(role.value, role)) for role in Role)
    old = network.replace("/v1/networks", "/controller/network")
    for token in (reader, helper, admin):
        assert token("GET", network).status == token("GET", old).status == token("GET", "/status").status == 200
        assert token("GET", "/peer").status == token("POST", "/network/8056c2e21c000001", {}).status == 401
    patch = {"authorized": True}
    assert [token("PATCH", f"{network}/members/{A}", patch).status for token in (reader, helper, admin)] == [
        403,
        200,
        200,
    ]
    assert [token("POST", f"{old}/member/{B}", patch).status for token in (reader, helper, admin)] == [403, 200, 200]
    assert [token("PATCH", network, {"name": "n"}).status for token in (reader, helper, admin)] == [403, 403, 200]
    assert [token("POST", "/controller/network", {}).status for token in (reader, helper)] == [403, 403]
    lines = admin("GET", "/v1/audit").body["data"]
    assert [(line["actor"], line["action"]) for line in lines] == [
        ("all", "network.update"),
        ("members", "member.create"),
        ("members", "member.create"),
        ("authtoken.secret", "network.create"),
    ]
    assert admin("GET", f"/v1/audit?before={lines[0]['id']}&limit=1").body["data"] == [lines[1]]
    file.remove("all")
    assert admin("GET", network).status == 401


def test_the_token_file_is_secret_and_a_damaged_one_opens_nothing(service: RecordedService, port: int) -> None:
    path = service.home.path / TOKEN_FILE
    token = TokenFile(path).add("ui", Role.ALL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()
    path.chmod(0o644)
    assert Api(port, token)("GET", "/v1/networks").status == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text('{"tokens": [{"name": "ui"}]}')
    assert Api(port, token)("GET", "/v1/networks").status == 401
    with pytest.raises(TokenError, match="expected"):
        TokenFile(path).add("other", Role.READ)


def test_token_names(service: RecordedService) -> None:
    file = TokenFile(service.home.path / TOKEN_FILE)
    file.add("ui", Role.READ)
    for name in ("ui", "", "a b", "../x", "x" * 64):
        with pytest.raises(TokenError):
            file.add(name, Role.READ)
    with pytest.raises(TokenError):
        file.remove("nobody")
