"""Become another command, after making this Python, this checkout and /dev/net/tun usable for every user.

    ip netns exec NAME python reveal.py COMMAND ...

An interpreter under /root, say, can be run by root alone. Here the closed directory is covered by an empty one that
holds nothing but what was named; and a TUN device without udev's mode is covered by one that has it. That needs a mount
namespace of its own, which `ip netns exec` gives.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_MS_BIND = 0x1000
CHECKOUT = Path(__file__).resolve().parents[2]


def closed_above(path: Path) -> Path | None:
    """The topmost directory above `path` that others cannot pass through."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & stat.S_IXOTH), None)


def reveal(paths: list[Path]) -> None:
    """Cover each closed directory, with `paths` mounted again where they were."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        if (above := closed_above(path)) is not None:
            closed.setdefault(above, []).append(path)
    for above, inner in closed.items():
        held = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in inner]
        mount("tmpfs", above, "tmpfs", 0, "mode=0755")
        for path, descriptor in zip(inner, held, strict=True):
            path.mkdir(parents=True, exist_ok=True)
            mount(f"/proc/self/fd/{descriptor}", path, "", _MS_BIND, "")


def open_tun() -> None:
    """Give /dev/net/tun the mode that udev gives it, 0666."""
    tun = Path("/dev/net/tun")
    if tun.exists() and tun.stat().st_mode & 0o006 != 0o006:
        device = tun.stat().st_rdev
        mount("tmpfs", tun.parent, "tmpfs", 0, "mode=0755")
        os.mknod(tun, stat.S_IFCHR | 0o666, device)


def mount(source: str, target: Path, kind: str, flags: int, data: str) -> None:
    """mount(2): the program `mount` would resolve the name of a descriptor to the path that is covered by now."""
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, data.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {source} {target}")


if __name__ == "__main__":
    mask = os.umask(0)
    reveal([*{Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), CHECKOUT}])
    open_tun()
    os.umask(mask)
    os.execv(sys.argv[1], sys.argv[1:])
