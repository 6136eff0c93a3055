"""Rings, the sleep protocol and the sequence locks under stress, in C (tests/kernel/ring_stress.c).

As two threads under ThreadSanitizer, as two processes, and as two processes that are killed at random; mutants prove
that the stress notices.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel import __file__ as kernel_tests
from ztpipe.kernel import __file__ as kernel

_STRESS = Path(kernel_tests).parent / "ring_stress.c"
_KERNEL = Path(kernel).parent
_COMPILER = shutil.which("gcc") or shutil.which("clang")

pytestmark = pytest.mark.skipif(_COMPILER is None, reason="NOT TESTED: needs a C compiler")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory):
    """Compile a variant of the stress program, each once."""
    made: dict[tuple[str, ...], Path] = {}
    place = tmp_path_factory.mktemp("stress")

    def variant(*flags: str) -> Path:
        if flags not in made:
            program = place / f"stress{len(made)}"
            fixed = ["-std=c11", "-D_GNU_SOURCE", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", f"-I{_KERNEL}"]
            sources = [_STRESS, _KERNEL / "context.c", _KERNEL / "table.c"]
            subprocess.run([_COMPILER, *fixed, *flags, *sources, "-o", program], check=True)
            made[flags] = program
        return made[flags]

    return variant


def _run(program: Path, mode: str, slots: int, seed: int) -> subprocess.CompletedProcess[str]:
    command = [str(program), mode, str(slots), str(seed)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("mode", "slots"), [("threads", 60_000), ("processes", 60_000), ("kills", 60_000), ("tables", 400_000)]
)
def test_nothing_lost_torn_or_asleep(build, mode: str, slots: int, seed: int) -> None:
    """Every slot arrives once verified and in order; no sleep is a lost wake-up; no copy of an entry is torn."""
    result = _run(build("-O2"), mode, slots, seed)
    assert result.returncode == 0, result.stderr
    assert f"slots {slots}" in result.stdout


@pytest.mark.parametrize(("mode", "slots"), [("threads", 20_000), ("tables", 60_000)])
def test_no_data_race(build, mode: str, slots: int) -> None:
    """ThreadSanitizer sees no access without a happens-before edge. (Fences it cannot model; every word of an entry is
    an atomic, and slots are ordered by head and tail, so none is needed for its verdict.)"""
    try:
        program = build("-O1", "-fsanitize=thread", "-Wno-tsan")
    except subprocess.CalledProcessError:
        pytest.skip("NOT TESTED: no ThreadSanitizer runtime")
    result = _run(program, mode, slots, 3)
    assert "data race" not in result.stderr, result.stderr[:2000]
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("mutant", "mode", "slots"),
    [
        pytest.param(1, "threads", 100_000, id="sleeps without looking again"),
        pytest.param(2, "threads", 100_000, id="releases before reading"),
        pytest.param(3, "tables", 2_000_000, id="reads without the sequence lock"),
    ],
)
def test_the_stress_notices(build, mutant: int, mode: str, slots: int) -> None:
    """The stress can fail: each of these mistakes is caught, though on a busy machine perhaps not at the first try."""
    program = build("-O2", f"-DMUTANT={mutant}")
    until = time.monotonic() + 60
    while _run(program, mode, slots, 4).returncode != 1:
        assert time.monotonic() < until
