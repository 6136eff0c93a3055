"""Starting a worker process: a fresh interpreter, with the descriptors that it is given and nothing else of ours.

Not by `multiprocessing`: that keeps a helper process of 7 MB beside its children, and imports the program's main module
with all its options into each of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

__all__ = ["Spawned"]

_MAIN: Final = "import sys; sys.path[:] = {path!r}; from {module} import main; main({fd})"


class Spawned:
    """A process that runs `module.main(fd)`, where `fd` is a file with `data`.

    `fds`: kept open in it, under the same numbers. `name`: behind the command in ps.
    """

    def __init__(self, module: str, data: bytes, fds: Iterable[int], *, name: str) -> None:
        self.sentinel, end = os.pipe()  # the other end is the child's, and closed when it ends
        what = os.memfd_create("ztpipe-start", os.MFD_CLOEXEC)
        try:
            os.write(what, data)
            os.lseek(what, 0, os.SEEK_SET)
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            main = _MAIN.format(path=sys.path, module=module, fd=what)
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-c", main, name],
                stdin=subprocess.DEVNULL,
                pass_fds=(*fds, what, end),
            )
        except BaseException:
            os.close(self.sentinel)
            raise
        finally:
            os.close(end)
            os.close(what)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def join(self) -> int:
        """Wait for its end (`sentinel` becomes readable then). Its exit status; if a signal ended it, minus that."""
        code = self._process.wait()
        if self.sentinel >= 0:
            os.close(self.sentinel)
            self.sentinel = -1
        return code
