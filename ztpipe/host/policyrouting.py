"""Policy routing, when asked (`ztpipe.routingTable`): managed routes in a table of their own, and rules for it.

    30000:  from all                 lookup main suppress_prefixlength 0     what the host itself knows better
    30001:  not from all fwmark N    lookup N                                managed routes, whole default routes too
    32766:  from all                 lookup main                             the host's own default route

Our own transport carries mark N and thus never takes a managed route, whatever it is bound to. Our rules are known by
their protocol number; what a killed process left is known by a file in the home directory.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from ztpipe import files
from ztpipe.host.netlink import Netlink
from ztpipe.log import get_logger

log = get_logger("network")

PROTOCOL: Final = 93
"""Marks rules as ours; unassigned in rtnetlink.h and rt_protos."""
PRIORITY: Final = 30_000
_FAMILIES: Final = (2, 10)
_MAIN, _INVERT = 254, 0x02
_WHOLE: Final = 0xFFFFFFFF


class Rule(NamedTuple):
    """One rule as far as it matters here; `suppress`: longest prefix whose routes do not count, -1: all count."""

    family: int
    priority: int
    table: int
    mark: int = 0
    inverted: bool = False
    suppress: int = -1

    def fields(self) -> dict[str, Any]:
        """As pyroute2 wants them."""
        found: dict[str, Any] = {"family": self.family, "priority": self.priority, "table": self.table}
        found["FRA_PROTOCOL"] = PROTOCOL
        if self.mark:
            found["fwmark"] = self.mark
        if self.inverted:
            found["flags"] = _INVERT
        if self.suppress >= 0:
            found["FRA_SUPPRESS_PREFIXLEN"] = self.suppress
        return found


def wanted(table: int) -> tuple[Rule, ...]:
    """The rules for a table."""
    found: list[Rule] = []
    for family in _FAMILIES:
        found.append(Rule(family, PRIORITY, _MAIN, suppress=0))
        found.append(Rule(family, PRIORITY + 1, table, table, inverted=True))
    return tuple(found)


def ours(messages: Iterable[Any]) -> list[Rule]:
    """Those of the kernel's rules that carry our protocol number."""
    found = []
    for message in messages:
        if message.get("FRA_PROTOCOL") == PROTOCOL and message["family"] in _FAMILIES:
            suppress = message.get("FRA_SUPPRESS_PREFIXLEN")
            found.append(
                Rule(
                    message["family"],
                    message.get("FRA_PRIORITY") or 0,
                    message.get("FRA_TABLE") or message["table"],
                    message.get("FRA_FWMARK") or 0,
                    bool(message["flags"] & _INVERT),
                    -1 if suppress in (None, _WHOLE) else int(suppress),
                )
            )
    return found


class PolicyRouting:
    """The rules of one node. `table` 0: none are wanted."""

    def __init__(self, netlink: Netlink, table: int, note: Path) -> None:
        """`note`: the file that says which table our rules lead to, while there are any."""
        self._netlink, self.table, self._note = netlink, table, note
        self._refused = False

    async def start(self) -> None:
        """Remove what a killed process left, then have the rules."""
        left = self._noted()
        if left and left != self.table:
            await self._clear(left)
        if self.table:
            try:
                files.write(self._note, f"{self.table}\n".encode(), mode=0o644)
            except OSError as error:
                log.warning("rules would outlive a crash", file=str(self._note), error=str(error))
            await self.ensure()

    async def ensure(self) -> None:
        """Put back what somebody removed. What the kernel refuses is told once, and tried again the next time."""
        if not self.table:
            return
        try:
            present = ours(await self._netlink.rules())
            for rule in wanted(self.table):
                if rule not in present and not await self._add(rule):
                    return
            self._refused = False
        except (OSError, NetlinkError) as error:
            self._tell(error)

    async def _add(self, rule: Rule) -> bool:
        """True if the rule is there now, or its family does not exist on this host."""
        try:
            await self._netlink.add_rule(rule.fields())
        except NetlinkError as error:
            if rule.family == _FAMILIES[1] and error.code in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                return True
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        if not self._refused:
            log.error("no policy routing: managed routes are without effect", table=self.table, error=str(error))
        self._refused = True

    async def stop(self) -> None:
        """Remove the rules."""
        if self.table:
            await self._clear(self.table)

    async def _clear(self, table: int) -> None:
        try:
            await self._remove(table)
            files.remove(self._note)
        except (OSError, NetlinkError) as error:
            log.warning("cannot remove rules", table=table, error=str(error))

    async def _remove(self, table: int) -> None:
        """Ours for that table; and the one for the main table unless another node's table needs it."""
        present = ours(await self._netlink.rules())
        others = {rule.family for rule in present if rule.table not in (table, _MAIN)}
        for rule in present:
            if rule.table == table or (rule.table == _MAIN and rule.family not in others):
                await self._netlink.remove_rule(rule.fields())

    def _noted(self) -> int:
        try:
            return int(self._note.read_text())
        except (OSError, ValueError):
            return 0
