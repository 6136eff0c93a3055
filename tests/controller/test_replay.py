"""The recorded calls of the reference's API, replayed in order: equal answers, times aside.

Answers that differ on purpose are in DIFFERENCES, with the reason; nothing else may differ, and nothing that is listed
there may be equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.controller.router import call
from tests.controller.support import VECTORS, Bench, identity_with_address, load, numbered_random
from ztpipe.wire.identity import Identity


class Difference(NamedTuple):
    """An intended one: why, and which fields of the answer may differ."""

    reason: str
    fields: frozenset[str]


def _difference(reason: str, *fields: str) -> Difference:
    return Difference(reason, frozenset(fields))


# A kept level also means one change less, where keeping it leaves the record as it was.
TRACE_LEVEL = _difference("remoteTraceLevel is kept (controller §12 no. 2)", "remoteTraceLevel", "revision")
CAPABILITIES = _difference("default capabilities also for members authorised later (§12 no. 3)", "capabilities")
REFUSED = _difference("a 400 that names the field, not a 500", "")
LETTER_CASE = _difference("member IDs are always lowercase (§12 no. 11)", "id", "address")
RANGE_RULES = _difference(
    "MATCH_INTEGER_RANGE is a rule like the others (§12 no. 7); remoteTraceLevel as above", "rules", "remoteTraceLevel"
)
PUSHED = _difference(
    "a member that is online gets its configuration when it is authorised, not at its next request (§12 no. 4)",
    *("ipAssignments", "tags", "revision", "vMajor", "vMinor", "vProto", "vRev"),
)

DIFFERENCES: dict[str, Difference] = {
    "controller-api/40-update-network-trace-level-resets": TRACE_LEVEL,
    "controller-api/41-update-network-trace-bad": TRACE_LEVEL,
    "controller-api/42-update-network-tags": TRACE_LEVEL,
    "controller-api/43-update-network-capabilities": TRACE_LEVEL,
    "controller-api/44-update-network-rules-every-type": RANGE_RULES,
    "controller-api/45-update-network-rules-empty": TRACE_LEVEL,
    "controller-api/46-update-network-rules-not-array": TRACE_LEVEL,
    "controller-api/47-update-network-rules-characteristics-bad-type": REFUSED,
    "controller-api/53-member-after-authorised-request": CAPABILITIES,
    "controller-api/54-member-authorise-again-no-change": CAPABILITIES,
    "controller-api/55-member-list-unstable": CAPABILITIES,
    "controller-api/59-member-update-read-only-ignored": TRACE_LEVEL,
    "controller-api/60-member-ipassignments-non-string": REFUSED,
    "controller-api/61-member-deauthorise": TRACE_LEVEL,
    "controller-api/62-member-deauthorise-again": TRACE_LEVEL,
    "controller-api/63-member-delete": TRACE_LEVEL,
    "controller-api/66-member-preauthorise-uppercase": LETTER_CASE,
    "controller-api/67-member-get-lowercase": LETTER_CASE,
    "zero-ui/30-member-authorise--get-member": PUSHED,
}

#: Answered by the HTTP server before the controller is asked: authentication, syntax, size, unknown paths.
SERVER = ("02-", "03-", "04-", "07-", "08-", "11-", "12-", "48-", "73-", "74-", "75-")

#: What the live member did, by the call that it came before.
MEMBER_ASKED_BEFORE = {
    "controller-api/50-",
    "controller-api/53-",
    "ztncui/23-",
    "ztncui/26-",
    "ztnet/24-",
    "ztnet/27-",
    "zero-ui/26-",
    "zero-ui/31-",
}

#: Between 48 and 49 the network was deleted; that call was not recorded.
DELETED_BEFORE = "controller-api/49-"

TIMES = re.compile(r'"(clock|creationTime|lastAuthorizedTime|lastDeauthorizedTime)": [1-9][0-9]*')
#: From the pool of the recording, which is too small for addresses made from the member's (controller §8.7).
RANDOM_ADDRESS = re.compile(r'"fd00:1::[0-9a-f]{4}"')

#: The reference ignores the field; here it is taken (controller §12 no. 8, test_administration), and would make all
#: later answers differ.
NEW_FIELD = {"controller-api/24-update-network-read-only-fields-ignored": "rulesSource"}

Call = tuple[str, dict[str, Any], dict[str, Any]]


def recorded_pairs() -> Iterator[Call]:
    """Name, request and response of controller-api."""
    for path in sorted((VECTORS / "controller-api").glob("*.request.json")):
        name = path.name.removesuffix(".request.json")
        if not name.startswith(SERVER):
            base = f"controller-api/{name}"
            yield base, load(f"{base}.request.json"), load(f"{base}.response.json")


def recorded_interface(folder: str) -> Iterator[Call]:
    """Name, request and response of the controller's calls of one interface."""
    for path in sorted((VECTORS / "ui-calls" / folder).glob("*.json")):
        recorded = load(f"ui-calls/{folder}/{path.name}")
        if "/controller" in recorded["request"]["path"]:
            yield f"{folder}/{path.stem}", recorded["request"], recorded["response"]


def comparable(value: Any) -> Any:
    """`value` with every time that is not 0 replaced by 1, and random addresses by one and the same."""
    return json.loads(RANDOM_ADDRESS.sub('"random"', TIMES.sub(r'"\1": 1', json.dumps(value))))


def generated_ids(calls: list[Call]) -> list[bytes]:
    """The random parts of the network IDs that the recorded controller chose, in order."""
    return [
        bytes.fromhex(response["body"]["nwid"][10:])
        for _, request, response in calls
        if request["method"] == "POST" and re.fullmatch(r"/controller/network(/.{10}______)?", request["path"])
    ]


def random_with_ids(ids: list[bytes]) -> Callable[[int], bytes]:
    """Randomness that makes the recorded IDs: they are the only use of three bytes at once."""
    fallback = numbered_random()
    remaining = list(ids)
    return lambda size: remaining.pop(0) if size == 3 else fallback(size)


def member_identity(calls: list[Call]) -> Identity:
    """The live member of the recording."""
    for _, _, response in calls:
        body = response.get("body")
        if isinstance(body, dict) and "identity" in body:
            return Identity.parse(body["identity"])
    raise LookupError("no identity recorded")


def replay(calls: list[Call], controller_address: int, member_network: int) -> dict[str, tuple[Any, Any]]:
    """Recorded and actual answer by call."""
    bench = Bench(identity_with_address(controller_address), random=random_with_ids(generated_ids(calls)))
    member = member_identity(calls)
    answers: dict[str, tuple[Any, Any]] = {}
    for name, request, response in calls:
        if name.startswith(DELETED_BEFORE):
            bench.controller.delete_network(bench.now, member_network)
        if any(name.startswith(before) for before in MEMBER_ASKED_BEFORE):
            bench.request(member_network, member)
        bench.pass_time(10)
        sent = request.get("body")
        if name in NEW_FIELD:
            sent = {field: value for field, value in sent.items() if field != NEW_FIELD[name]}
        status, body = call(bench.controller, bench.now, request["method"], request["path"], sent)
        bench.controller.take_actions()
        expected = (response["status"], response.get("body") if response.get("body_raw") is None else None)
        answers[name] = (comparable(expected), comparable((status, body)))
    return answers


def differing_fields(expected: Any, actual: Any, field: str = "") -> set[str]:
    """The keys, on any level, whose values differ; the empty name for the whole."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = expected.keys() | actual.keys()
        return set().union(*(differing_fields(expected.get(key, ...), actual.get(key, ...), key) for key in keys))
    # "rules" is compared as a whole: what may differ there is checked in test_rules_json.
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual) and field != "rules":
        return set().union(*(differing_fields(e, a, field) for e, a in zip(expected, actual, strict=True)))
    return set() if expected == actual else {field}


def check(answers: dict[str, tuple[Any, Any]]) -> None:
    differing = {name: differing_fields(*answer) for name, answer in answers.items() if answer[0] != answer[1]}
    unintended = {
        name: fields
        for name, fields in differing.items()
        if name not in DIFFERENCES or fields - DIFFERENCES[name].fields
    }
    assert unintended == {}
    assert [name for name in DIFFERENCES if name in answers and name not in differing] == []


def test_recorded_pairs() -> None:
    check(replay(list(recorded_pairs()), 0xF10632353C, 0xF10632353C000001))


@pytest.mark.parametrize("folder", ["ztncui", "zero-ui", "ztnet"])
def test_recorded_interfaces(folder: str) -> None:
    calls = list(recorded_interface(folder))
    nwid = 0x25C39374BB << 24 | int.from_bytes(generated_ids(calls)[0], "big")
    check(replay(calls, 0x25C39374BB, nwid))


def test_keys_are_in_byte_order() -> None:
    """Also where the reference's order is that of its JSON library (controller §3)."""
    calls = [c for c in recorded_pairs() if c[0].startswith("controller-api/49-")]
    bench = Bench(identity_with_address(0xF10632353C))
    for _, request, _ in calls:
        _, body = call(bench.controller, bench.now, "POST", request["path"], request["body"])
        assert json.dumps(body) == json.dumps(body, sort_keys=True)
