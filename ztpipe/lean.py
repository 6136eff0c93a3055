"""Libraries without the parts that we do not use: what a package imports by itself stays in memory for good."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator

__all__ = ["absent", "without_init"]


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """What is imported inside finds these modules not installed, and does without, as it can. Nested imports too."""
    kept = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None: "not installed", by the import system
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(kept)


def without_init(package: str) -> None:
    """Let modules of `package` be imported one by one: what its ``__init__`` would import is not, nor what it defines.

    Nothing happens if it is imported already, or not installed.
    """
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is not None:
        sys.modules[package] = importlib.util.module_from_spec(spec)
