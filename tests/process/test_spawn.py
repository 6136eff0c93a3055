"""What a worker process gets from its parent, and what the parent hears of its end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ztpipe.spawn import Spawned
from ztpipe.worker import Boot, End


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


def _write(directory: Path, body: str) -> str:
    """A module whose `main(fd)` is `body`."""
    lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    (directory / "child_of_test.py").write_text(f"import os, signal, sys\n\ndef main(fd):\n{lines}\n")
    return "child_of_test"


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


def _ended(child: Spawned, patience: float) -> bool:
    """By its sentinel, within so many seconds. Not by select(), which knows no descriptor above 1023."""
    waiting = select.poll()
    waiting.register(child.sentinel, select.POLLIN)
    return bool(waiting.poll(patience * 1000))


def test_a_child_gets_its_data_the_descriptors_passed_and_no_other(tmp_path: Path) -> None:
    module = _write(
        tmp_path,
        """
        pipe = int(os.read(fd, 100))
        os.close(fd)
        for number in os.listdir("/proc/self/fd/"):
            if os.path.lexists("/proc/self/fd/" + number):
                os.write(pipe, os.readlink("/proc/self/fd/" + number).encode() + b"\\n")
        """,
    )
    secret = os.open(tmp_path / "secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    with _pipe() as (read_end, write_end):
        child = Spawned(module, str(write_end).encode(), {write_end}, name="tap-0")
        assert child.join() == 0
        there = os.read(read_end, 100_000).decode().split("\n")
        assert os.readlink(f"/proc/self/fd/{write_end}") in there
        assert not [name for name in there if name.endswith("/secret")]
    os.close(secret)


@pytest.mark.parametrize(
    ("body", "status"),
    [("sys.exit(3)", 3), ("raise SystemExit", 0), ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV)],
)
def test_the_sentinel_tells_of_the_end_and_join_of_its_kind(tmp_path: Path, body: str, status: int) -> None:
    child = Spawned(_write(tmp_path, body), b"", (), name="tap-0")
    assert _ended(child, 20)
    assert child.join() == status


def test_a_child_that_is_killed(tmp_path: Path) -> None:
    child = Spawned(_write(tmp_path, "signal.pause()"), b"", (), name="tap-0")
    assert not _ended(child, 0.2)
    child.kill()
    assert _ended(child, 20)
    assert child.join() == -signal.SIGKILL


def test_no_helper_process_and_nothing_of_the_programs_main_module(tmp_path: Path) -> None:
    module = _write(tmp_path, "os.write(int(os.read(fd, 9)), str(sorted(sys.modules)).encode())")
    (tmp_path / "program.py").write_text(
        textwrap.dedent(f"""
        import os, sys
        from ztpipe.spawn import Spawned
        assert __name__ == "__main__"
        read_end, write_end = os.pipe()
        child = Spawned("{module}", str(write_end).encode(), (write_end,), name="tap-0")
        child.join()
        children = open("/proc/self/task/%d/children" % os.getpid()).read().split()
        print(children, "multiprocessing" in sys.modules, "'ztpipe'" in os.read(read_end, 100_000).decode())
        """)
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        check=False,
    )
    assert done.stdout.split() == ["[]", "False", "False"], done.stderr


def test_what_a_worker_is_started_with_arrives_as_it_was() -> None:
    ends = {"tap": [End(3, 0, 4), End(5, 1, 6)]}
    boot = Boot(
        "crypto-0", "crypto", 2, 7, 1, True, None, True, 5, 0, "ipc://x", ("tap-0", "crypto-0"), 8, None, 9, 10, 11, 12,
        ends, {},
    )  # fmt: skip
    again = Boot.unpack(boot.pack())
    assert again == boot
    assert again.inputs["tap"][1].other_bell_fd == 6
    assert again.passed() == {3, 4, 5, 6, 8, 9, 10, 11, 12}
