"""Builds the C kernel, `ztpipe.kernel._kernel` (cffi, API mode).

Two ways in: setuptools (`pip install`) takes `ffibuilder` from here, and `python -m ztpipe.kernel.build` compiles in
place, in parallel and only what changed. Sources are every *.c in this directory; the declarations Python sees are
every *.cdef.h; headers are every other *.h (`*_impl.h` are private to the .c files that include them).

Needs (apt): gcc or clang, libsodium-dev, libssl-dev.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODULE = "ztpipe.kernel._kernel"
LIBRARIES = ["sodium", "crypto"]
# No -march: one binary runs on every machine. Functions for newer CPUs carry target attributes and are chosen at run
# time (cpu.c).
CFLAGS = [
    *("-O3", "-g", "-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-fno-strict-aliasing", "-fno-math-errno"),
    *("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-Wno-unknown-warning-option"),
]
# Warnings that the code written by cffi gives and ours must not.
GENERATED_CODE_IS_EXCUSED = """
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
"""

# A function that is declared and nowhere defined shows only when the module is loaded.
TRY_TO_LOAD = """
import ctypes, os, sys
try:
    ctypes.CDLL(sys.argv[1], os.RTLD_NOW)
except OSError as error:
    sys.exit(f"kernel: {error}")
"""


def sources() -> list[Path]:
    """Every C file of the kernel."""
    return sorted(path for path in HERE.glob("*.c") if path.name != "_kernel.c")


def headers() -> list[Path]:
    """Every header the generated file includes."""
    return sorted(p for p in HERE.glob("*.h") if not p.name.endswith((".cdef.h", "_impl.h")))


def declarations() -> str:
    """The cdef: every *.cdef.h, in order of name."""
    return "\n".join(path.read_text() for path in sorted(HERE.glob("*.cdef.h")))


def preamble() -> str:
    """What the generated file includes first."""
    return GENERATED_CODE_IS_EXCUSED + "\n".join(f'#include "{path.name}"' for path in headers())


def make_ffi() -> FFI:
    """The cffi builder; paths are relative to the project, which is where setuptools runs."""
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        MODULE,
        preamble(),
        sources=[os.path.relpath(path, ROOT) for path in sources()],
        depends=[os.path.relpath(path, ROOT) for path in sorted(HERE.glob("*.h"))],
        include_dirs=[os.path.relpath(HERE, ROOT)],
        libraries=LIBRARIES,
        extra_compile_args=CFLAGS,
    )
    return ffi


class InPlaceBuild:
    """A small incremental build: an object is named after the hash of all it was made from."""

    def __init__(self, cache: Path, extra_flags: list[str]) -> None:
        self.cache = cache
        self.compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
        self.flags = [*CFLAGS, *extra_flags, "-fPIC", f"-I{HERE}", f"-I{sysconfig.get_paths()['include']}"]
        self.extra_flags = extra_flags
        self.headers_hash = self._hash(*(p.read_bytes() for p in sorted(HERE.glob("*.h")) if ".cdef." not in p.name))
        cache.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def _hash(*parts: bytes) -> str:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()[:24]

    def generate(self) -> Path:
        """Write cffi's C file, and touch it only when it changes."""
        path = self.cache / "_kernel.c"
        make_ffi().emit_c_code(str(path))
        return path

    def compile(self, source: Path) -> Path:
        """Compile one file unless an object of exactly this input is there."""
        command = [*self.compiler, *self.flags]
        key = self._hash(source.read_bytes(), self.headers_hash.encode(), " ".join(command).encode())
        target = self.cache / f"{source.stem}-{key}.o"
        if not target.exists():
            temporary = target.with_suffix(f".{os.getpid()}.tmp")
            subprocess.run([*command, "-c", str(source), "-o", str(temporary)], check=True)
            for stale in self.cache.glob(f"{source.stem}-{'?' * 24}.o"):
                stale.unlink(missing_ok=True)
            temporary.rename(target)
        return target

    def link(self, objects: list[Path], target: Path) -> None:
        """Link, and replace the module in one step, if it loads: processes that have it open keep the old one."""
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        libraries = [f"-l{name}" for name in LIBRARIES]
        command = [*self.compiler, "-shared", "-pthread", *self.extra_flags, *map(str, objects), *libraries]
        try:
            subprocess.run([*command, "-o", str(temporary)], check=True)
            if not self.extra_flags:  # a sanitizer's run-time library is not in this process
                subprocess.run([sys.executable, "-c", TRY_TO_LOAD, str(temporary)], check=True)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)

    def run(self, target: Path) -> None:
        """Everything."""
        with open(self.cache / "lock", "w") as lock, ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
            fcntl.flock(lock, fcntl.LOCK_EX)
            objects = list(pool.map(self.compile, [self.generate(), *sources()]))
            self.link(objects, target)


def main() -> None:
    """`python -m ztpipe.kernel.build [extra compiler flags]`: compile in place."""
    target = HERE / "_kernel.abi3.so"
    try:
        InPlaceBuild(ROOT / "build" / "kernel", sys.argv[1:]).run(target)
    except subprocess.CalledProcessError as error:
        sys.exit(f"kernel: {error.cmd[0]} failed ({error.returncode})")
    print(f"kernel: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
else:
    ffibuilder = make_ffi()
