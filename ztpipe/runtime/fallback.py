"""When datagrams go through a TCP relay: what UDP brings, or does not, decides (vl1-behaviour §6.6). No I/O."""

from __future__ import annotations

from typing import Final

from ztpipe.wire.inetaddress import InetAddress, IpScope
from ztpipe.wire.tcprelay import MIN_DATAGRAM

ENGAGE_MS: Final = 60_000
CLOSE_MS: Final = 30_000
CONNECT_AFTER_MS: Final = 2_500
"""The datagram before must be that old: a burst does not start a connection, the next round of keep-alives does."""

GRAIN_MS: Final = 1_000


class Fallback:
    """`allowed` and `forced` are settings and may change at any time. Times: node ms."""

    __slots__ = ("allowed", "forced", "last_received", "last_sent", "since")

    def __init__(self, now: int, *, allowed: bool, forced: bool) -> None:
        self.allowed, self.forced = allowed, forced
        self.since = now
        self.last_received = -ENGAGE_MS
        self.last_sent = -ENGAGE_MS

    def restarted(self, now: int) -> None:
        """The machine was asleep: UDP gets its time again."""
        self.since = now

    def received(self, now: int, remote: InetAddress) -> None:
        """A UDP datagram came in, authentic or not."""
        if now - self.last_received >= GRAIN_MS and remote.scope is IpScope.GLOBAL:
            self.last_received = now

    def engaged(self, now: int) -> bool:
        """Datagrams to global IPv4 addresses go through the relay, if there is a connection to it."""
        if not self.allowed:
            return False
        return self.forced or (now - self.last_received > ENGAGE_MS and now - self.since > ENGAGE_MS)

    def only_tcp(self) -> bool:
        """Unless forced, UDP is tried with everything: that is how its return is noticed."""
        return self.allowed and self.forced

    def sent(self, now: int, remote: InetAddress, size: int) -> bool:
        """A datagram is sent. True if that is a reason to connect to the relay now."""
        if not carries(remote, size):
            return False
        pause, self.last_sent = now - self.last_sent, now
        return self.engaged(now) and (self.forced or CONNECT_AFTER_MS < pause < ENGAGE_MS)

    def over(self, now: int) -> bool:
        """A connection that exists is to be closed: UDP works again, or the settings forbid it."""
        return not self.allowed or (not self.forced and now - self.last_received < CLOSE_MS)


def carries(remote: InetAddress, size: int) -> bool:
    """Whether the relay takes such a datagram at all."""
    return len(remote.ip) == 4 and size >= MIN_DATAGRAM and remote.scope is IpScope.GLOBAL
