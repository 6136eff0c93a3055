"""Nodes whose kernel refuses things, at the start or in mid-run (refusals.c)."""

from __future__ import annotations

import contextlib
import mmap
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.pairs import Make
from ztpipe.lab import Gateway, Lab, Namespace

#: In the order of the enum in refusals.c.
KINDS = (
    "UDP_SEGMENT unknown",
    "UDP_GRO unknown",
    "USO unknown",
    "EIO from GSO",
    "ENOBUFS",
    "EIO from TAP",
    "ENOBUFS from TAP",
    "segmented",  # no refusal: counts batches that the kernel did segment
)
COMPILER = shutil.which("gcc") or shutil.which("clang")
_KINDS_MAX = 16


class _Preloaded(Gateway):
    environment: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return ["env", *self.environment, *super().command()]


class Refusals:
    """What the kernel of the nodes made here refuses; `directory` is for the library and the switches."""

    def __init__(self, directory: Path) -> None:
        assert COMPILER is not None
        library, switches = directory / "refusals.so", directory / "refusals"
        source = Path(__file__).with_suffix(".c")
        warnings = ("-Wall", "-Wextra", "-Werror")
        subprocess.run([COMPILER, "-O1", "-fPIC", "-shared", *warnings, source, "-o", library, "-ldl"], check=True)
        switches.write_bytes(bytes(_KINDS_MAX * 5))
        switches.chmod(0o666)
        with open(switches, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), _KINDS_MAX * 5)
        self._environment = (f"LD_PRELOAD={library}", f"ZTPIPE_REFUSALS={switches}")

    def make(self, *flags: str) -> Make:
        """A node with this kernel."""

        def made(host: Namespace, lab: Lab) -> Gateway:
            node = _Preloaded(host, lab.directory, flags=flags)
            node.environment = self._environment
            return node

        return made

    def count(self, kind: str) -> int:
        """How often it was refused, or done."""
        return int(struct.unpack_from("=I", self._map, _KINDS_MAX + 4 * KINDS.index(kind))[0])

    @contextlib.contextmanager
    def refusing(self, *kinds: str) -> Iterator[None]:
        """These, meanwhile."""
        for kind in kinds:
            self._map[KINDS.index(kind)] = 1
        try:
            yield
        finally:
            for kind in kinds:
                self._map[KINDS.index(kind)] = 0
