"""Reading the JSON files in which the reference keeps a controller's records (controller §10.1, §10.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ztpipe.controller.coerce import JsonObject, storable

_NETWORK_FILE: Final = re.compile(r"[0-9a-f]{16}\.json")
_MEMBER_FILE: Final = re.compile(r"[0-9a-f]{10}\.json")
_NETWORK_ID: Final = re.compile(r"[0-9a-fA-F]{16}")
_MEMBER_ID: Final = re.compile(r"[0-9a-fA-F]{10}")


def network_files(directory: Path) -> Iterator[JsonObject]:
    """The network records below `directory`; as in the reference, files that do not parse are left out."""
    for path in _named(directory / "network", _NETWORK_FILE):
        record = _object(path)
        if record is not None and _fixed(record, "id", _NETWORK_ID):
            record["nwid"] = record["id"]
            yield record


def member_files(directory: Path, nwid: str) -> Iterator[JsonObject]:
    """The member records of a network."""
    for path in _named(directory / "network" / nwid / "member", _MEMBER_FILE):
        record = _object(path)
        if record is not None and _fixed(record, "id", _MEMBER_ID):
            record["nwid"] = nwid
            record["address"] = record["id"]
            yield record


def _named(directory: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The files in `directory` whose names match, in order; none if there is no such directory."""
    try:
        return sorted(path for path in directory.iterdir() if pattern.fullmatch(path.name) and path.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _object(path: Path) -> JsonObject | None:
    try:
        value = storable(json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _fixed(record: JsonObject, field: str, pattern: re.Pattern[str]) -> bool:
    """Whether the field is an identifier; it is put into lowercase."""
    value = record.get(field)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        return False
    record[field] = value.lower()
    return True
