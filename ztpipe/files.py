"""Files that must be whole or not there: written beside, flushed, and renamed over the old one."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

SECRET = 0o600
#: A file system or a bind mount of a single file (containers do that) where no rename is possible.
_NO_RENAME = frozenset({errno.EBUSY, errno.EXDEV, errno.ETXTBSY})


def read(path: Path) -> bytes | None:
    """The content of `path`, or None when there is no such file. Other errors are raised."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(path: Path, data: bytes, *, mode: int | None = None, durable: bool = True) -> bool:
    """Make `data` the content of `path`; True if anything was written (equal content is left alone).

    A new file gets exactly `mode` whatever the umask, or 0666 and the umask without one; an existing file keeps mode
    and owner. A symbolic link is written through: Home Assistant links identity and networks.d files out of the home
    directory. `durable` False: not flushed to the disk, for what is written again every few seconds.
    """
    target = Path(os.path.realpath(path))
    if read(target) == data:
        return False
    try:
        _replace(target, data, mode, durable)
    except OSError as error:
        if error.errno not in _NO_RENAME:
            error.filename = str(target)  # a write does not say where
            raise
        with target.open("r+b") as file:
            file.write(data)
            file.truncate()
            if durable:
                os.fsync(file.fileno())
    return True


def _replace(target: Path, data: bytes, mode: int | None, durable: bool) -> None:
    """Write a file of a fixed name beside `target` (so that crashes leave at most one) and rename it."""
    temporary = target.with_name(f".{target.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    creation = 0o666 if mode is None else mode
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, creation)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _set_mode(file.fileno(), target, mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_directory(target.parent)


def _set_mode(descriptor: int, target: Path, mode: int | None) -> None:
    try:
        old = target.stat()
    except FileNotFoundError:
        if mode is not None:
            os.fchmod(descriptor, mode)
        return
    os.fchmod(descriptor, old.st_mode & 0o7777)
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file that may be missing."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def private_directory(path: Path) -> None:
    """Make `path` (and parents) a directory of mode 0700 whatever the umask; an existing one is left as it is."""
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
