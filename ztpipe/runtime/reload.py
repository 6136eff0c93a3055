"""local.conf while the node runs: noticed when it changes, taken when it is sound (service §1.5).

Unlike in the reference a damaged file does not end the node: it is reported, and what was in force stays in force.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ztpipe import config as configuration
from ztpipe.config import Config, ConfigError
from ztpipe.localconf import LocalConf
from ztpipe.log import get_logger

log = get_logger("control")

#: Of ``settings``: read at start only, as in the reference.
_START_ONLY: Final = (
    "primaryPort",
    "secondaryPort",
    "tertiaryPort",
    "allowSecondaryPort",
    "portMappingEnabled",
    "enableWebServer",
    "controllerDbPath",
)

Stamp = tuple[int, int, int]


class LocalConfWatch:
    """Looks at the file's time, size and inode; `take` gets the new configuration if the file is sound."""

    def __init__(self, current: Callable[[], Config], take: Callable[[Config], None]) -> None:
        self._current, self._take = current, take
        self._seen = _stamp(current().local_conf)

    def poll(self) -> None:
        """Reload if the file has changed, appeared or gone since the last look."""
        if _stamp(self._current().local_conf) != self._seen:
            self.reload()

    def reload(self) -> bool:
        """Read the file again, changed or not; whether it was sound. Never raises."""
        config = self._current()
        self._seen = _stamp(config.local_conf)
        try:
            changed = configuration.reload(config)
        except (ConfigError, OSError) as error:
            log.error("local.conf not taken; the settings in force stay", error=str(error))
            return False
        report(changed.local, known=config.local.warnings)
        if later := start_only(config.local, changed.local):
            log.warning("local.conf: takes effect at the next start", keys=later)
        self._take(changed)
        log.info("local.conf taken")
        return True


def report(local: LocalConf, known: tuple[str, ...] = ()) -> None:
    """One line for each value that is not as it should be, unless it was said before."""
    for problem in local.warnings:
        if problem not in known:
            log.warning("local.conf", problem=problem)


def start_only(before: LocalConf, after: LocalConf) -> list[str]:
    """What differs and is read at start only."""
    old, new = _object(before, "settings"), _object(after, "settings")
    found = [f"settings.{key}" for key in _START_ONLY if old.get(key) != new.get(key)]
    old, new = _object(before, "ztpipe"), _object(after, "ztpipe")
    return found + [f"ztpipe.{key}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]


def _object(local: LocalConf, section: str) -> dict[str, object]:
    found = local.raw.get(section)
    return found if isinstance(found, dict) else {}


def _stamp(path: Path) -> Stamp | None:
    """None when there is no file to read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
