"""Raw requests to our node and to an unmodified one: same status, same headers, same body.

In order, as they build on each other. Masked is what belongs to the node: address, MAC, ports, times, and the multicast
groups of its devices, which the two look for at different moments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.interop.marks import BESIDE_REFERENCE
from tests.pairs import reference, ztpipe
from ztpipe.lab import Lab, LabNode

pytestmark = [*BESIDE_REFERENCE, pytest.mark.timeout(120)]

TOKEN = "X-ZT1-Auth: TOKEN\r\n"
NETWORK = "/network/8056c2e21c000001"


def ask(line: str, fields: str = TOKEN, body: str | None = None, version: str = "HTTP/1.1") -> str:
    length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
    return f"{line} {version}\r\nHost: localhost\r\n{fields}{length}\r\n{body or ''}"


REQUESTS = [
    # who may ask
    *(ask(f"GET {path}", fields) for path in ("/status", "/health", "/nothing", "/network") for fields in (
        "", TOKEN, "X-ZT1-Auth: bad\r\n", "X-ZT1-Auth: bad\r\nAuthorization: Bearer TOKEN\r\n", "x-zt1-auth:TOKEN\r\n",
        "X-ZT1-Auth:   TOKEN  \r\n", "Authorization: Bearer TOKEN\r\n", "Authorization: BEARER  TOKEN\r\n",
        "Authorization: Bearer TOKEN x\r\n", "Authorization: Basic TOKEN\r\n", "X-ZT1-Auth: METRICS\r\n",
    )),
    *(ask(f"GET /status?auth={given}", fields) for given in ("TOKEN", "bad", "") for fields in (
        "", "X-ZT1-Auth: bad\r\n", "Authorization: Bearer TOKEN\r\n",
    )),
    # networks
    ask("GET /network"), ask("HEAD /network"), ask("PUT " + NETWORK, body="{}"), ask("GET " + NETWORK),
    ask("GET " + NETWORK.upper().replace("NETWORK", "network")), ask(f"GET {NETWORK}0"), ask(f"GET {NETWORK}/"),
    *(ask("POST " + NETWORK, body=body) for body in (
        '{"allowDNS":1,"allowGlobal":true,"allowDefault":"true"}', '{"allowDNS":false}', "{bad", "[1]", '"x"', "",
    )),
    f"POST {NETWORK} HTTP/1.1\r\nHost: x\r\n{TOKEN}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
    ask(f"GET {NETWORK}?jsonp=cb"), ask(f"GET {NETWORK}?x=%ff%fe"),
    ask("GET /network", TOKEN + "Connection: close\r\n"),
    ask("DELETE " + NETWORK), ask("DELETE " + NETWORK), ask("GET " + NETWORK), ask(f"GET {NETWORK}?jsonp=a.b(c)"),
    *(ask(f"{method} /network", body=body) for method, body in (
        ("POST", "{}"), ("DELETE", None), ("OPTIONS", None), ("PATCH", None), ("BREW", None), ("TRACE", None),
    )),
    ask("OPTIONS /network", ""),
    # peers, moons, bonds
    *(ask(f"GET /peer{rest}") for rest in ("", "/", "/0123456789", "/012345678", "/012345678g")),
    ask("DELETE /peer/0123456789"), ask("GET /moon"), ask("GET /moon/0123456789"),
    *(ask("POST /moon/00000000fe", body=body) for body in ("{}", "{", '{"seed":"0"}', '{"seed":[1]}', '{"seed":255}')),
    ask("GET /moon"), ask("GET /moon/00000000fe"), ask("DELETE /moon/00000000fe"), ask("DELETE /moon/00000000fe"),
    ask("GET /moon/000000deadbeef00"), ask("GET /bond"), ask("GET /bond/show"), ask("GET /bond/show/0123456789"),
    ask("GET /bond/show/0123456789?jsonp=cb"), ask("POST /bond/rotate/0123456789", body="{}"),
    ask("POST /bond/setmtu/1400/eth0/1.2.3.4", body="{}"), ask("POST /bond/setmtu/14/eth-0/1.2.3.4", body="{}"),
    # settings
    ask("GET /config"), ask("GET /config/settings"),
    *(ask("POST /config/settings", body=body) for body in (
        '{"x":1,"y":null,"portMappingEnabled":false}', "[1]", "nope", '"text"', '{"a":}', "{\"a\": fals}",
    )),
    ask("GET /config"),
    # the rest
    *(ask(f"GET {path}", fields) for fields in (TOKEN, "") for path in (
        "/", "/status/", "/status%20", "/sta%74us", "//status", "/./status", "/../status", "/status#x", "/controller/",
        "/controller/network", "/controller" + NETWORK, "/controller/nothing", "/unstable/controller/network", "/sso",
        "/app", "/app/", "/application", "/app/x", "/metrics/", "/health?jsonp=", "/status?jsonp=cb",
    )),
    *(ask("GET /metrics", fields) for fields in ("", "X-ZT1-Auth: bad\r\n", "X-ZT1-Auth: METRICS\r\n", TOKEN)),
    ask("GET /metrics?auth=METRICS", ""), ask("HEAD /health", ""),
    # what is not a request
    ask("GET /" + "a" * 9000), ask("GET /status", "X-Long: " + "a" * 9000 + "\r\n" + TOKEN),
    ask("GET /health", "", version="HTTP/2.0"), "GET /health\r\n\r\n",
    "\r\nGET /health HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n",
]  # fmt: skip
_MASKS = (
    (r'"(clock|timestamp|secondaryPort|tertiaryPort|creationTime)": ?\d+', r'"\1":N'),
    (r'"mac":"..:..:..:..:..:.."', '"mac":"M"'),
    (r'"multicastSubscriptions":\[[^]]*\]', '"multicastSubscriptions":[]'),
    (r'"listeningOn":\[[^]]*\]', '"listeningOn":[]'),
    (r"(column \d+): syntax error .*(?=\"})", r"\1"),  # wording of the parser's library
    (r"(?s)^# HELP.*", "metrics"),
)


@pytest.fixture
def nodes() -> Iterator[tuple[LabNode, LabNode]]:
    with Lab("zph") as lab:
        ours, theirs = ztpipe()(lab.namespace("ours"), lab), reference()(lab.namespace("theirs"), lab)
        for node in (ours, theirs):
            node.start()
        yield ours, theirs


def answer(node: LabNode, request: str) -> tuple[str, list[str], str]:
    """Status line, sorted headers and masked body."""
    for name, file in (("TOKEN", "authtoken"), ("METRICS", "metricstoken")):
        request = request.replace(name, (node.home / f"{file}.secret").read_text().strip())
    received, length = b"", -1
    with node.namespace.connect("127.0.0.1", 9993, 10) as sock:
        sock.sendall(request.encode())
        while length < 0 or len(received.partition(b"\r\n\r\n")[2]) < length:
            data = sock.recv(65536)
            if not data:
                break
            received += data
            if b"\r\n\r\n" in received:
                found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", received)
                length = int(found[1]) if found and not request.startswith("HEAD") else 0
    head, _, body = received.decode().partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    body = body.replace((node.home / "identity.public").read_text(), "ID").replace(node.address, "A")
    body = body.replace(str(node.home), "HOME")
    for pattern, mask in _MASKS:
        body = re.sub(pattern, mask, body)
    # The length of bodies in which something is masked differs; that it is right shows by reading them.
    kept = sorted(field for field in fields if not field.lower().startswith("content-length"))
    return status, [field for field in kept if (status.split()[1][:1], field) != ("4", "Connection: close")], body


def test_both_nodes_answer_the_same(nodes: tuple[LabNode, LabNode]) -> None:
    """But for one header: whoever sends what is not a request is told that the connection ends."""
    ours, theirs = nodes
    different = []
    for request in REQUESTS:
        pair = answer(theirs, request), answer(ours, request)
        if pair[0] != pair[1]:
            different.append((request[:90], *pair))
    assert not different, "\n\n".join("\n".join(map(str, one)) for one in different)
