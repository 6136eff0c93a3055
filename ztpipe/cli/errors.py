"""Why a start failed: every foreseen failure becomes one line on stderr that says what, where and what to do."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from ztpipe.controller.store import StoreError
from ztpipe.localconf import ConfigError, LocalConfError
from ztpipe.store import HomeError

#: What to do about errors that carry no advice of their own.
_ADVICE = {
    errno.EADDRINUSE: "another node or program uses it; stop it, or choose another port",
    errno.EACCES: "run as the owner of the file or as root",
    errno.EPERM: "run as root, or grant CAP_NET_ADMIN",
    errno.ENOSPC: "make room on that file system",
    errno.EROFS: "the file system is mounted read-only",
}


def explain(error: Exception, program: str) -> str:
    """The line for stderr. It begins as the reference's does, because scripts and users know those (service §1.2)."""
    if isinstance(error, LocalConfError):
        return f"ERROR: {error.reference_text}: {error.where}: {error.expected}"
    if isinstance(error, HomeError) and str(error).startswith("FATAL: "):
        return f"{program}: {error}"
    if isinstance(error, OSError):
        return f"{program}: fatal error: {_explain_os_error(error)}"
    return f"{program}: fatal error: {error}"


def _explain_os_error(error: OSError) -> str:
    text = error.strerror or str(error)
    if error.filename:
        text = f"{error.filename}: {text}"
    advice = _ADVICE.get(error.errno or 0)
    plain = error.strerror in (None, "") or len(text.split()) < 8  # a text of our own already says what to do
    return f"{text} ({advice})" if advice and plain else text


def guarded(program: str, work: Callable[[], int]) -> int:
    """Run `work` and return its exit status; a foreseen failure is explained and gives 1, or its own `exit_status`."""
    try:
        return work()
    except (ConfigError, HomeError, StoreError, OSError) as error:
        print(explain(error, program), file=sys.stderr)
        return int(getattr(error, "exit_status", 1))
    except KeyboardInterrupt:
        return 130
