"""The running service against its own description: a client that knows nothing but /openapi.json tries everything."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.jsonschema import ANYTHING, Document
from tests.api.recorded import TOKEN, RecordedService, serving
from ztpipe.api.v1_routes import OPERATIONS
from ztpipe.store import Home

NAMES = [operation.name for operation in OPERATIONS]
NWID, MEMBER = "142b028c0f000001", "aaaaaaaaaa"


class Running:
    """A server, its description, and one connection after the other to it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.description = json.loads(self.call("GET", "/openapi.json")[1])
        self.document = Document(self.description)
        self.operations = {
            operation["operationId"]: (method.upper(), path, operation)
            for path, methods in self.description["paths"].items()
            for method, operation in methods.items()
        }

    def call(self, method: str, path: str, body: object = ..., headers: Any = ()) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            data = None if body is ... else json.dumps(body)
            connection.request(method, path, data, {"X-ZT1-Auth": TOKEN, **dict(headers)})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Any:
    service = RecordedService(Home.open(tmp_path_factory.mktemp("home")))
    with serving(service) as port:
        yield Running(port)


def test_the_document_describes_every_operation(running: Running) -> None:
    assert running.description["openapi"] == "3.1.0"
    assert sorted(running.operations) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_as_described(running: Running, name: str) -> None:
    method, path, operation = running.operations[name]
    seen: Counter[int] = Counter()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def try_it(data: st.DataObject) -> None:
        running.call("POST", f"/controller/network/{NWID}", {})
        running.call("POST", f"/controller/network/{NWID}/member/{MEMBER}", {})
        target, query, headers = path, {}, {}
        for parameter in operation["parameters"]:
            where, key = parameter["in"], parameter["name"]
            known = {"nwid": st.just(NWID), "address": st.just(MEMBER)}.get(key, st.nothing())
            value = data.draw(known | running.document.instances(parameter["schema"]), key)
            if where == "path":
                target = target.replace(f"{{{key}}}", quote(value))
            elif data.draw(st.booleans(), f"with {key}"):
                text = json.dumps(value) if isinstance(value, bool) else str(value)
                (query if where == "query" else headers)[key] = text
        body: Any = ...
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            body = data.draw(running.document.instances(schema) | ANYTHING, "body")
        suffix = "?" + urlencode(query) if query else ""
        status, answer = running.call(method, target + suffix, body, headers)
        seen[status] += 1
        assert str(status) in operation["responses"], answer
        content = operation["responses"][str(status)].get("content")
        if content is None:
            assert status == 204 and answer == b""
        else:
            running.document.check(json.loads(answer), content["application/json"]["schema"])

    try_it()
    assert seen.keys() & {200, 204}, "nothing succeeded: this test proves little"
