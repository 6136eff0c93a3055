"""Which part may import which: the layout shows the architecture, and this keeps it true."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ztpipe"
_IO = {"socket", "asyncio", "time", "os", "threading", "logging", "structlog", "zmq", "random", "secrets", "datetime"}
_OWN = {"shm", "kernel", "ipc", "worker", "supervisor", "control", "host", "api", "cli", "runtime", "store", "config"}
FORBIDDEN: dict[str, set[str]] = {
    "wire": _IO | (_OWN - {"kernel"}) | {"node", "controller", "rules"},
    "node": _IO | _OWN | {"controller"},
    "controller": (_IO - {"os"}) | _OWN | {"node"},
    "rules": _IO | _OWN | {"node", "controller"},
    "tapworker.py": {"wire", "node", "controller", "api"},
    "cryptoworker.py": {"wire", "node", "controller", "api"},
    "peerworker.py": {"wire", "node", "controller", "api"},
    "fusedworker.py": {"wire", "node", "controller", "api"},
    "worker.py": {"node", "controller", "api"},
    "shm": {"controller", "api"},
    "api": {"shm", "supervisor", "control"},
    "host": {"node", "controller", "api", "shm"},
}
# The stores of the controller are the files in it that touch the disk or the network.
_EXEMPT = {"controller/store_sqlite.py", "controller/store_files.py", "controller/store_postgres.py"}


def _imports(source: Path) -> set[str]:
    """Top names imported at run time; of ours the name behind `ztpipe.`. TYPE_CHECKING blocks do not count."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            names.update(_name(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(
                _name(f"{node.module}.{alias.name}" if node.module == "ztpipe" else node.module) for alias in node.names
            )
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source.read_text()))
    return names


def _name(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "ztpipe" and len(parts) > 1 else parts[0]


@pytest.mark.parametrize("part", FORBIDDEN)
def test_layer(part: str) -> None:
    place = PACKAGE / part
    files = [place] if place.suffix == ".py" else sorted(place.rglob("*.py"))
    assert files, f"{part} is gone: correct this test"
    for source in files:
        relative = str(source.relative_to(PACKAGE))
        if relative in _EXEMPT:
            continue
        assert not _imports(source) & FORBIDDEN[part], relative


def test_wire_uses_only_the_crypto_of_the_kernel() -> None:
    for source in sorted((PACKAGE / "wire").rglob("*.py")):
        for line in source.read_text().splitlines():
            if "ztpipe.kernel" in line and "import" in line:
                assert "ztpipe.kernel.crypto" in line or "ztpipe.kernel import crypto" in line, f"{source.name}: {line}"
