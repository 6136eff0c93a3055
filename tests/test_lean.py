"""What a node does not load, and that it works without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ztpipe import lean


def _modules(statement: str) -> set[str]:
    """All that is loaded by `statement` in a process of its own."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_a_node_does_without_what_it_does_not_use() -> None:
    there = _modules("import ztpipe.control")
    assert {"structlog", "aiohttp.web", "pyroute2.iproute", "ssl"} <= there
    assert not {"rich", "pygments", "pyroute2.ndb", "pyroute2.nftables", "psutil", "click"} & there


def test_a_worker_needs_little() -> None:
    there = _modules(
        "import ztpipe.worker, ztpipe.fusedworker, ztpipe.tapworker, ztpipe.cryptoworker, ztpipe.peerworker"
    )
    assert not {"asyncio", "dataclasses", "msgspec", "multiprocessing", "structlog", "click", "ztpipe.config"} & there


def test_the_api_has_a_library_without_certificates() -> None:
    script = "import ztpipe.api.http, aiohttp.connector\nassert aiohttp.connector._SSL_CONTEXT_VERIFIED is None"
    others = "\nimport http.client, urllib.request\nassert urllib.request.HTTPSHandler and http.client.HTTPSConnection"
    assert "ssl" in _modules(script + others)


def test_what_is_absent_is_there_again() -> None:
    import json

    with lean.absent("json", "no_such_module"):
        with pytest.raises(ImportError):
            __import__("json")
        assert sys.modules["json"] is None  # type: ignore[comparison-overlap]
    assert sys.modules["json"] is json
    assert "no_such_module" not in sys.modules


def test_a_package_that_is_there_is_left_alone() -> None:
    import email

    lean.without_init("email")
    lean.without_init("no_such_module")
    assert sys.modules["email"] is email
    assert "no_such_module" not in sys.modules
