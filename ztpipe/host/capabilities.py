"""What this process may do."""

from __future__ import annotations

from typing import Final

_CAP_NET_ADMIN: Final = 12


def has_net_admin() -> bool:
    """Whether CAP_NET_ADMIN is in force: without it there are no TAP devices, addresses or routes to be made."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return False
