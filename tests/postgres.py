"""A real PostgreSQL server for tests: from Debian's package, in a directory of its own, on a Unix socket only."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
MISSING = "" if _BINARIES else "NOT TESTED: no PostgreSQL server; apt-get install postgresql"


class Server:
    """One cluster, which can be stopped, killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        directory.chmod(0o755)
        self._as: list[str] = []
        if os.geteuid() == 0:  # which the server refuses to run as
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self._run("initdb", "-D", self.data, "-U", "ztpipe", "-A", "trust", "--no-sync", "-E", "UTF8")
        settings = (
            f"unix_socket_directories = '{directory}'\nlisten_addresses = ''\nfsync = off\nshared_buffers = 16MB\n"
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(settings)

    def _run(self, program: str, *words: object) -> None:
        argv = [*self._as, str(_BINARIES[-1] / program), *map(str, words)]
        subprocess.run(argv, check=True, capture_output=True, timeout=60, cwd=self.directory)

    def start(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-l", self.directory / "log", "-w", "start")

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """kill -9 of the server; its children follow."""
        pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def hang(self, hangs: bool = True) -> None:
        """Stop all of its processes where they are, so that nothing is answered and nothing is closed; or go on."""
        pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            os.kill(each, signal.SIGSTOP if hangs else signal.SIGCONT)

    def database(self, name: str) -> str:
        """A new empty database; its URI."""
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        return self.uri(name)

    def uri(self, name: str) -> str:
        return f"postgresql://ztpipe@/{name}?host={self.directory}"


@contextlib.contextmanager
def server(directory: Path) -> Iterator[Server]:
    """Started, and gone afterwards."""
    found = Server(directory)
    found.start()
    try:
        yield found
    finally:
        found.stop()
        shutil.rmtree(found.data, ignore_errors=True)
