"""The image for arm64, built and run in emulation: a whole node, and the kernel's portable code against known answers.

Long: run with ZTPIPE_LONG=1. Building takes three to four minutes, most of it the C compiler in the emulator.
"""

from __future__ import annotations

import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.containers import NEEDED, ROOT, TUN, Container, eventually, podman

_EMULATOR = "qemu-aarch64-static"
pytestmark = [
    *NEEDED,
    pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine is one: tests/deploy/test_image.py"),
    pytest.mark.skipif(
        shutil.which(_EMULATOR) is None, reason="NOT TESTED: arm64; apt-get install qemu-user-static binfmt-support"
    ),
]
NWID = "8056c2e21c000001"
_TESTS = ("test_crypto_answers.py", "test_crypto_twins.py", "test_csum.py", "test_replay.py", "test_open_captures.py",
          "test_segment.py", "test_coalesce.py")  # fmt: skip
_PLATFORMS = [f"--platform=manylinux_{version}_aarch64" for version in ("2_28", "2_17")]


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    name = f"localhost/ztpipe-test:{secrets.token_hex(4)}"
    words = [ROOT / "deploy" / "build-image.sh", "-a", "arm64", "-t", name, "-C", ROOT]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    yield name
    podman("rmi", "--force", name, check=False)


@pytest.mark.timeout(1200)
def test_a_node_of_another_architecture(image: str) -> None:
    container = Container(image, TUN, [NWID])
    try:
        container.up()
        assert container.exec("uname", "-m").stdout == "aarch64\n"
        eventually(lambda: container.cli("get", NWID, "portDeviceName").startswith("zt"), container.logs)
        assert container.cli("get", NWID, "status") == "REQUESTING_CONFIGURATION\n"
        uid = container.exec("id", "-u", "zerotier-one").stdout.strip()
        assert f"Uid:\t{uid}\t" in container.exec("cat", "/proc/1/status").stdout
        assert container.stop() == 0
    finally:
        container.remove()


@pytest.mark.timeout(1200)
def test_known_answers_of_the_kernel(image: str, tmp_path: Path) -> None:
    """The ciphers that architecture has, checksums, windows, segmentation, and packets of real captures."""
    needed = ("pytest", "hypothesis", "pycryptodome", "pytest-asyncio", "pytest-timeout", "psutil")
    words = [sys.executable, "-m", "pip", "install", "-q", "--target", tmp_path, *_PLATFORMS, "--python-version=3.11"]
    done = subprocess.run(
        [*words, "--only-binary=:all:", *needed], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    mounts = ["-v", f"{tmp_path}:/needed:ro"]
    for name in ("tests", "docs", "pyproject.toml"):
        mounts += ["-v", f"{ROOT / name}:/src/{name}:ro"]
    done = podman(
        "run", "--rm", *TUN, "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", *mounts,
        "-e", "PYTHONPATH=/src:/needed", "-w", "/src", "--entrypoint", "/opt/ztpipe/bin/python", image,
        "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/kernel/{name}" for name in _TESTS),
        check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
