"""One attempt to get a UDP port mapped by the router: `python -m ztpipe.host.portmap PORT DESCRIPTION` prints one line
of JSON, {"ip", "port", "by"} or {"error"}.

A process of its own, because libraries block, wait for routers that do not answer, and read what strangers on the LAN
send them: it can be ended from outside at any time, and nothing it does can harm the node (vl1-behaviour §6.3).
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Final

LIFETIME: Final = 600
ATTEMPTS: Final = 20
_NAT_PMP_RETRIES: Final = 4  # 0.25 + 0.5 + 1 + 2 s
_DISCOVERY_MS: Final = 3_000
_UDP_OPCODE_NAME: Final = "UDP"


class NoMapping(Exception):
    """This protocol gave none; says why."""


def gateways(table: str) -> list[str]:
    """Default gateways in `/proc/net/route`, in its order."""
    found: list[str] = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and fields[2] != "00000000":
            found.append(socket.inet_ntoa(bytes.fromhex(fields[2])[::-1]))
    return list(dict.fromkeys(found))


def by_nat_pmp(port: int) -> tuple[str, int]:
    """(external IP, external port) from the first default gateway that speaks NAT-PMP."""
    import natpmp

    with open("/proc/net/route", encoding="ascii") as table:
        candidates = gateways(table.read())
    for gateway in candidates[:2]:
        try:
            seen = natpmp.get_public_address(gateway_ip=gateway, retry=_NAT_PMP_RETRIES)
            answer = natpmp.map_udp_port(port, port, LIFETIME, gateway_ip=gateway, retry=_NAT_PMP_RETRIES)
        except Exception:  # the library raises its own and whatever a strange answer makes it
            continue
        if answer is not None and answer.public_port:
            return str(seen), int(answer.public_port)
    raise NoMapping("NAT-PMP: no gateway answers")


def by_upnp(port: int, description: str) -> tuple[str, int]:
    """(external IP, external port) from the first Internet Gateway Device that is found and connected."""
    import miniupnpc

    client = miniupnpc.UPnP()
    client.discoverdelay = _DISCOVERY_MS
    try:
        if not client.discover():
            raise NoMapping("UPnP: no device answers")
        client.selectigd()
        external = str(client.externalipaddress())
        mapped = _existing(client, description, port)
        if mapped is None:
            mapped = _add(client, port, description)
    except NoMapping:
        raise
    except Exception as error:
        raise NoMapping(f"UPnP: {error}") from error
    if mapped is None:
        raise NoMapping("UPnP: the gateway maps none of the ports")
    return external, mapped


def _existing(client: object, description: str, port: int) -> int | None:
    """A mapping of an earlier run or round."""
    for index in range(256):
        entry = client.getgenericportmapping(index)  # type: ignore[attr-defined]
        if entry is None:
            break
        external, protocol, (host, inner), text = entry[:4]
        if protocol == _UDP_OPCODE_NAME and (host, inner, text) == (client.lanaddr, port, description):  # type: ignore[attr-defined]
            return int(external)
    return None


def _add(client: object, port: int, description: str) -> int | None:
    """The same number outside if it is free, else one of the next; a lease if the router can, else for good."""
    for external in range(port, min(port + ATTEMPTS, 65_536)):
        for lease in (LIFETIME, 0):
            try:
                if client.addportmapping(external, "UDP", client.lanaddr, port, description, "", lease):  # type: ignore[attr-defined]
                    return external
            except Exception:  # refused: the port is taken, or there are no leases
                continue
    return None


def attempt(port: int, description: str) -> dict[str, object]:
    """NAT-PMP first, then UPnP; what the first that succeeds says."""
    try:
        ip, external = by_nat_pmp(port)
        by = "NAT-PMP"
    except (NoMapping, OSError) as first:
        try:
            ip, external = by_upnp(port, description)
            by = "UPnP"
        except (NoMapping, OSError) as second:
            return {"error": f"{first}; {second}"}
    return {"ip": ip, "port": external, "by": by}


if __name__ == "__main__":
    print(json.dumps(attempt(int(sys.argv[1]), sys.argv[2])))
