"""Memory for policies in the region of the tables (kernel/guard.h): who has which piece of it.

Pieces have sizes that are powers of two, so that what one policy leaves another fits into. A policy that does not
change is not written again; a changed one is written to another piece before its entry refers to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from ztpipe.kernel._kernel import ffi, lib

__all__ = ["Policies"]

Key: TypeAlias = tuple[int, ...]
#: Makes the entry refer to what it is given (``struct zt_policy_ref *``).
Refer: TypeAlias = Callable[[Any], object]

_SMALLEST: Final = 64
_GENERATIONS: Final = 0xFFFF_FFFE  # 0 and ZT_POLICY_SLOW have meanings of their own


class _Piece(NamedTuple):
    at: int
    room: int
    policy: bytes | None
    generation: int


class Policies:
    """Allocates for one region; `tables` is its ``struct zt_tables *``."""

    def __init__(self, tables: Any) -> None:
        self._tables = tables
        self._end = 0
        self._free: defaultdict[int, list[int]] = defaultdict(list)  # by size
        self._pieces: dict[Key, _Piece] = {}
        self._generation = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def put(self, key: Key, policy: bytes | None, refer: Refer) -> bool:
        """Let the entry of `key` refer to `policy`: b"" = none, None = frames are not for C to decide.

        False when there is no room: the entry's frames take the slow path then.
        """
        held = self._pieces.get(key)
        if held is None and policy == b"":
            return True  # an entry refers to nothing from its beginning
        if held is not None and held.policy == policy:
            refer(_reference(held))
            return True
        piece = self._make(policy)
        refer(_reference(piece))
        self._give_back(self._pieces.pop(key, None))
        if policy != b"":
            self._pieces[key] = piece
        return piece.policy == policy

    def forget(self, key: Key) -> None:
        """The entry is gone, or refers to nothing any more."""
        self._give_back(self._pieces.pop(key, None))

    def _make(self, policy: bytes | None) -> _Piece:
        if not policy:
            return _Piece(0, 0, policy, lib.ZT_POLICY_SLOW if policy is None else 0)
        room = max(_SMALLEST, 1 << (len(policy) - 1).bit_length())
        at = self._take(room)
        if at is None:
            return _Piece(0, 0, None, lib.ZT_POLICY_SLOW)
        lib.zt_policy_put(self._tables, at, policy, len(policy))
        self._generation = self._generation % _GENERATIONS + 1
        return _Piece(at, room, policy, self._generation)

    def _take(self, room: int) -> int | None:
        if self._free[room]:
            return self._free[room].pop()
        if self._end + room > lib.ZT_POLICIES_SIZE:
            return None
        at = self._end
        self._end += room
        return at

    def _give_back(self, piece: _Piece | None) -> None:
        if piece is not None and piece.room:
            self._free[piece.room].append(piece.at)


def _reference(piece: _Piece) -> Any:
    fields = {"at": piece.at, "size": len(piece.policy or b""), "generation": piece.generation}
    return ffi.new("struct zt_policy_ref *", fields)
