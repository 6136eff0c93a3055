"""What a worker gives up is gone: tried in a process of its own, which cannot take it back either."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEFORE = """
import ctypes, errno, mmap, os, socket, threading
from ztpipe.kernel._kernel import lib

def outcome(work):
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno]
    except RuntimeError:
        return "RuntimeError"
    return "done"

def capabilities():
    with open("/proc/self/status") as status:
        return {line.split()[1] for line in status if line.startswith(("CapPrm", "CapEff", "CapInh", "CapAmb"))}

def executable_memory():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

def new_thread():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
"""

_ACTIONS = {
    # what a worker does
    "os.close(os.open('/dev/null', os.O_RDONLY))": "done",
    "new_thread()": "done",
    "mmap.mmap(-1, 1 << 20)": "done",
    "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).close()": "done",
    "os.eventfd_write(os.eventfd(0), 1)": "done",
    "os.getppid()": "done",
    # what it never does
    "os.fork()": "EPERM",
    "os.execv('/bin/true', ['true'])": "EPERM",
    "os.open('/tmp', os.O_TMPFILE | os.O_RDWR)": "EPERM",
    "os.open('/dev/null', os.O_WRONLY)": "EPERM",
    "os.unlink('/nonexistent')": "EPERM",
    "os.kill(os.getpid(), 0)": "EPERM",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)": "EPERM",
    "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)": "EPERM",
    "executable_memory()": "EPERM",
    "os.chdir('/')": "EPERM",
    "os.setuid(0)": "EPERM",
    "os.chroot('/')": "EPERM",
}


def child(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _BEFORE + text], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_system_calls() -> None:
    lines = "".join(f"print(outcome(lambda: {action}))\n" for action in _ACTIONS)
    found = child("assert lib.zt_capabilities_keep(0) == 0\nassert lib.zt_system_calls_of_a_worker() == 0\n" + lines)
    assert dict(zip(_ACTIONS, found.split(), strict=True)) == _ACTIONS


def test_the_same_is_possible_without() -> None:
    """Otherwise the test above would prove nothing."""
    possible = {
        action: "done" if "open" in action or "socket" in action or "memory" in action or "chdir" in action else None
        for action, expected in _ACTIONS.items()
        if expected == "EPERM"
    }
    chosen = [action for action, expected in possible.items() if expected]
    found = child("".join(f"print(outcome(lambda: {action}))\n" for action in chosen))
    assert found.split() == ["done"] * len(chosen)
    assert len(chosen) >= 5


def test_no_capability_is_left_nor_comes_back() -> None:
    text = """
assert lib.zt_capabilities_keep(0) == 0
print(capabilities() == {"0" * 16})
assert lib.zt_capabilities_keep(1 << 12) == 0
print(capabilities() == {"0" * 16})
print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))  # PR_GET_NO_NEW_PRIVS
"""
    assert child(text).split() == ["True", "True", "1"]


@pytest.mark.root
def test_one_capability_is_kept() -> None:
    text = "assert lib.zt_capabilities_keep(1 << 12) == 0\nprint(*sorted(capabilities()))\n"
    assert child(text).split() == ["0000000000000000", "0000000000001000"]
    # and a program of root's gets no others
    text += "print(__import__('subprocess').run(['grep', 'CapEff', '/proc/self/status'], capture_output=True).stdout)\n"
    assert "0000000000000000" in child(text).split("CapEff:")[1]
