"""``ztpipe tcp-relay``: carries datagrams between TCP and UDP for nodes whose network blocks UDP (docs/nat.md)."""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from ztpipe.cli.errors import guarded
from ztpipe.log import configure as configure_log
from ztpipe.tcprelay import Limits, TcpRelay
from ztpipe.wire.errors import WireError
from ztpipe.wire.inetaddress import InetAddress


@click.command(name="tcp-relay")
@click.option("--listen", default="0.0.0.0/443", show_default=True, metavar="IP/PORT", help="TCP address of clients.")
@click.option("--udp", default="0.0.0.0", show_default=True, metavar="IP", help="Address that datagrams are sent from.")
@click.option("--max-clients", default=1_000, show_default=True, type=click.IntRange(1, 60_000))
@click.option("--max-per-address", default=32, show_default=True, type=click.IntRange(1), help="Clients of one IP.")
@click.option("--idle", default=300, show_default=True, type=click.IntRange(10), help="Seconds of silence allowed.")
@click.option("--rate", default=0, type=click.IntRange(0), metavar="KBIT", help="Of each client and direction; 0: any.")
@click.option("--allow-private", is_flag=True, help="Carry datagrams to addresses that are not global, too.")
def command(
    listen: str, udp: str, max_clients: int, max_per_address: int, idle: int, rate: int, allow_private: bool
) -> None:
    """Run a TCP relay until SIGTERM, for our nodes and for unmodified ones.

    A node uses it if its local.conf says "settings": {"tcpFallbackRelay": "IP/PORT"}. The relay sees sealed packets
    only; it knows no identities and keeps no keys. It sends to global IPv4 addresses and ports above 1024 only.
    """
    try:
        where, source = InetAddress.parse(listen), InetAddress.parse(udp)
    except WireError as error:
        raise click.UsageError("--listen expects IP/PORT, --udp an IP") from error
    if not where.port or not where.is_ipv4 or not source.is_ipv4:
        raise click.UsageError("--listen expects an IPv4 address and a port, --udp an IPv4 address")
    limits = Limits(max_clients, max_per_address, idle, rate * 125, allow_private)
    configure_log("info", "auto")
    sys.exit(guarded("ztpipe tcp-relay", lambda: asyncio.run(_serve(TcpRelay(where, source.host, limits)))))


async def _serve(relay: TcpRelay) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await relay.start()
    try:
        await stop.wait()
    finally:
        await relay.stop()
    return 0
