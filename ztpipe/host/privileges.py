"""From root to an unprivileged user with CAP_NET_ADMIN and no more (service §7.2).

Before anything runs: threads, workers and the descriptors of devices come after it, so that all of them belong to the
user. What the user could not do later (run this Python, enter the home directory, open the TUN device) is found out
first, while there still is a way back.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ztpipe.kernel import _kernel
from ztpipe.kernel._kernel import lib

__all__ = ["DEFAULT_USER", "PrivilegeError", "drop", "find_user"]

#: The user that the reference's packages make, and to which it drops if there is one.
DEFAULT_USER: Final = "zerotier-one"
_NET_BIND_SERVICE, _NET_ADMIN = 10, 12
_TUN: Final = Path("/dev/net/tun")


class PrivilegeError(OSError):
    """The change to another user is not possible; nothing has been changed but owners of files."""

    def __init__(self, what: str) -> None:
        super().__init__(0, what)


def find_user(name: str) -> pwd.struct_passwd | None:
    """The user called `name` (or with that number); None if there is none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    return None


def drop(user: pwd.struct_passwd, home: Path, *, directories: Sequence[Path], low_port: bool, tun: bool) -> None:
    """Become `user` for good. Raises `PrivilegeError` while this process is still root.

    `home` and all in it, and `directories` (made if missing), are given to the user. `low_port`: ports below 1024 are
    to be bound. `tun`: TAP devices are to be made.
    """
    problem = _home_problem(home)
    if problem:
        raise PrivilegeError(problem)
    try:
        for directory in directories:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (home, *directories):
            _give(path, user)
        if tun:
            _open_device(user)
    except OSError as error:
        raise PrivilegeError(f"cannot give {error.filename} to user {user.pw_name}: {error.strerror}") from error
    if closed := _closed_to(user, _needed(home, directories, tun=tun)):
        raise PrivilegeError(f"user {user.pw_name} cannot use {closed}")
    _become(user, 1 << _NET_ADMIN | (1 << _NET_BIND_SERVICE if low_port else 0))


def _home_problem(home: Path) -> str:
    """A directory such as /tmp is nobody's home: what others have in it stays theirs."""
    mode = home.stat().st_mode
    return f"{home} is shared by all users and cannot be given to one" if mode & stat.S_ISVTX else ""


def _give(top: Path, user: pwd.struct_passwd) -> None:
    """Make `user` and its group the owner of everything below `top`; links themselves, not what they point to."""
    for path in (top, *top.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if (status.st_uid, status.st_gid) != (user.pw_uid, user.pw_gid):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _open_device(user: pwd.struct_passwd) -> None:
    """Where no udev has opened the TUN device to everybody (in containers), open it to the user's group."""
    with contextlib.suppress(FileNotFoundError):
        if _TUN.stat().st_mode & 0o006 != 0o006 and _closed_to(user, [(_TUN, os.R_OK | os.W_OK)]):
            os.chown(_TUN, -1, user.pw_gid)
            _TUN.chmod(stat.S_IMODE(_TUN.stat().st_mode) | 0o060)


def _needed(home: Path, directories: Sequence[Path], *, tun: bool) -> Iterable[tuple[Path, int]]:
    """What control and the workers, which are started anew whenever one ends, must reach."""
    yield Path(sys.executable), os.X_OK
    main = getattr(sys.modules["__main__"], "__file__", None)
    for module_file in (os.__file__, _kernel.__file__, *([main] if main else [])):
        yield Path(module_file), os.R_OK
    for path in (home, *directories):
        yield path, os.R_OK | os.W_OK | os.X_OK
    if tun and _TUN.exists():
        yield _TUN, os.R_OK | os.W_OK


def _closed_to(user: pwd.struct_passwd, needed: Iterable[tuple[Path, int]]) -> str:
    """The first of `needed` that `user` has no such access to, as tried by a child that becomes that user; or ""."""
    wanted = list(needed)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        number = len(wanted) + 1
        try:
            _switch(user)
            number = next((at for at, (path, mode) in enumerate(wanted) if not os.access(path, mode)), len(wanted))
        finally:
            os.write(writer, number.to_bytes(4, "big"))
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        number = int.from_bytes(pipe.read(4), "big")
    os.waitpid(child, 0)
    if number > len(wanted):
        raise PrivilegeError(f"cannot become user {user.pw_name}: CAP_SETUID and CAP_SETGID are missing")
    return str(wanted[number][0]) if number < len(wanted) else ""


def _switch(user: pwd.struct_passwd) -> None:
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def _become(user: pwd.struct_passwd, keep: int) -> None:
    if code := lib.zt_capabilities_carry():
        raise PrivilegeError(f"capabilities cannot be kept: {os.strerror(-code)}")
    _switch(user)
    if code := lib.zt_capabilities_keep(keep):
        raise PrivilegeError(f"capabilities cannot be reduced: {os.strerror(-code)}")
    os.environ["HOME"] = user.pw_dir
