"""Changes by administrators: who makes one, which revision it is meant for, and what the audit log keeps of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ztpipe.controller import coerce
from ztpipe.controller.coerce import JsonObject
from ztpipe.controller.errors import ControllerError

#: Values whose JSON is longer are named by their size only.
MAX_VALUE: Final = 1024
_SECRET: Final = frozenset({"authTokens", "lastAuthorizedCredential"})
_UNINTERESTING: Final = frozenset({"revision", "id", "address", "nwid", "objtype"})


@dataclass(frozen=True, slots=True)
class Change:
    """Who asks for a change, and (if they said so) the revision of the object that they have seen."""

    actor: str = ""
    revision: int | None = None  # -1 = any, but the object must exist

    def check(self, record: JsonObject | None) -> None:
        """Raise the 412 if `record` is not what the change is meant for."""
        if self.revision is None:
            return
        current = None if record is None else coerce.integer(record.get("revision"), 0)
        if current is None or self.revision not in (-1, current):
            found = "does not exist" if current is None else f"has revision {current}"
            message = f"the object {found}, the change is for revision {'*' if self.revision < 0 else self.revision}"
            raise ControllerError(412, message, {"error": message, "revision": current})


ANYONE: Final = Change()


def entry(now: int, change: Change, action: str, before: JsonObject | None, after: JsonObject | None) -> JsonObject:
    """A line of the audit log.  `before` and `after` are the record's states, None = it does not exist."""
    record = after or before or {}
    return {
        "time": now,
        "actor": change.actor,
        "action": action,
        "nwid": record.get("nwid"),
        "member": record.get("id") if record.get("objtype") == "member" else None,
        "revision": None if after is None else after.get("revision"),
        "changes": _changes(before or {}, after or {}),
    }


def _changes(before: JsonObject, after: JsonObject) -> JsonObject:
    """Field to [old, new] of all that differ; secrets without their values."""
    return {
        field: ["(secret)", "(secret)"] if field in _SECRET else [_short(before.get(field)), _short(after.get(field))]
        for field in sorted(before.keys() | after.keys())
        if field not in _UNINTERESTING and not field.startswith("_") and before.get(field) != after.get(field)
    }


def _short(value: Any) -> Any:
    size = len(json.dumps(value))
    return value if size <= MAX_VALUE else f"({size} bytes)"
