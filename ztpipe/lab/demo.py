"""`ztpipe demo`: two sites joined by two gateways, shown working, measured, and removed again.

      host A ── LAN A ── gateway A ══╗              ╔══ gateway B ── LAN B ── host B
      10.91.1.2                  198.51.100.0/24 (the "internet")          10.91.2.2
                                     ╚═ root+controller ═╝

Everything runs in network namespaces of its own. Exit status 0 only if every step held.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ztpipe.lab.namespaces import Lab, LabError, Namespace
from ztpipe.lab.nodes import Gateway, NodeFailed, moon, private_planet
from ztpipe.lab.traffic import CpuMeter, Ping, Throughput, Transfer, iperf, ping, transfer

TRANSFER_BYTES = 200_000_000
_OVERLAY = "10.147.17"
_WAN = "198.51.100"
_LANS = {"a": "10.91.1", "b": "10.91.2"}


@dataclass(slots=True)
class Site:
    """A LAN with one host and a gateway to the overlay."""

    letter: str
    host: Namespace
    gateway: Gateway
    overlay: str
    lan: str


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the final table."""

    what: str
    value: str
    held: bool


class Demo:
    """The whole run. `run()` returns the exit status; the laboratory is gone afterwards in every case."""

    def __init__(self, lab: Lab, console: Console, *, layout: str, seconds: float) -> None:
        self.lab, self.console = lab, console
        self.seconds = seconds
        self.flags = ["--layout", layout]
        self.results: list[Result] = []
        self.cost: dict[str, dict[str, float]] = {}

    def run(self, step: Callable[[str], None]) -> None:
        """Build, join, measure. `step` is told what happens now."""
        step("building two sites and a root")
        root, sites = self._build()
        step("starting three nodes")
        for node in (root, *(site.gateway for site in sites)):
            node.start()
        step("creating the network")
        nwid = self._create_network(root, sites)
        step("joining both gateways")
        self._join(root, sites, nwid)
        step("first contact, by way of the root")
        self._meet(sites)
        step("waiting for a direct path")
        sites[0].gateway.wait_direct(sites[1].gateway.address)
        step("ping, LAN to LAN")
        self._ping(sites)
        step(f"transferring {TRANSFER_BYTES // 1_000_000} MB with checksums")
        self._transfer(sites)
        step("measuring throughput")
        self._throughput(sites)
        self.reports = {site.letter: self._report(site) for site in sites}

    def _build(self) -> tuple[Gateway, list[Site]]:
        wan = self.lab.switch("wan")
        planet = private_planet()
        root_host = self.lab.namespace("root")
        self.lab.cable(root_host, "eth0", [f"{_WAN}.1/24"], wan)
        root = Gateway(root_host, self.lab.directory, flags=self.flags)
        moons = [moon(root.identity, [f"{_WAN}.1/9993"])]
        sites = [self._site(letter, number, wan) for number, letter in enumerate(_LANS, start=1)]
        for node in (root, *(site.gateway for site in sites)):
            node.use_world(planet, moons)
        return root, sites

    def _site(self, letter: str, number: int, wan: Namespace) -> Site:
        gateway, host = self.lab.namespace(f"gw-{letter}"), self.lab.namespace(f"host-{letter}")
        lan = _LANS[letter]
        self.lab.cable(gateway, "eth0", [f"{_WAN}.{10 + number}/24"], wan)
        self.lab.cable(host, "eth0", [f"{lan}.2/24"], gateway, plug="lan0", other_addresses=[f"{lan}.1/24"])
        host.run("ip", "route", "add", "default", "via", f"{lan}.1")
        gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        # our own LAN must not be taken for a path of the underlay
        settings = {"interfacePrefixBlacklist": ["lan"]}
        return Site(
            letter,
            host,
            Gateway(gateway, self.lab.directory, flags=self.flags, settings=settings),
            f"{_OVERLAY}.{number}",
            lan,
        )

    def _create_network(self, root: Gateway, sites: list[Site]) -> str:
        routes: list[dict[str, Any]] = [{"target": f"{_OVERLAY}.0/24", "via": None}]
        routes += [{"target": f"{site.lan}.0/24", "via": site.overlay} for site in sites]
        return root.create_network(name="demo", private=True, routes=routes, v4AssignMode={"zt": False})

    def _join(self, root: Gateway, sites: list[Site], nwid: str) -> None:
        for site in sites:
            root.authorise(nwid, site.gateway.address, name=f"site {site.letter}", ipAssignments=[site.overlay])
            site.gateway.join(nwid)
        for site in sites:
            site.gateway.wait_ok(nwid)
            other = next(s for s in sites if s is not site)
            site.gateway.wait_for(f"the route to {other.lan}.0/24", partial(self._has_route, site, other), 10)

    @staticmethod
    def _has_route(site: Site, other: Site) -> bool:
        return other.lan in site.gateway.namespace.run("ip", "route").stdout

    @staticmethod
    def _meet(sites: list[Site]) -> None:
        """The first packets resolve addresses on three links, and travel by the root until the gateways have met."""
        target = f"{sites[1].lan}.2"
        sites[0].gateway.wait_for("a ping from LAN to LAN", lambda: ping(sites[0].host, target, count=1).times, 20)

    def _ping(self, sites: list[Site]) -> None:
        found: Ping = ping(sites[0].host, f"{sites[1].lan}.2", count=10, interval=0.1)
        self._result(
            "ping host A → host B", f"{found.median:.2f} ms median, {found.lost} of {found.sent} lost", found.lost == 0
        )

    def _transfer(self, sites: list[Site]) -> None:
        found: Transfer = transfer(sites[0].host, sites[1].host, f"{sites[1].lan}.2", TRANSFER_BYTES)
        digest = found.received.split()[-1][:16] if found.received else "nothing arrived"
        self._result(
            f"{TRANSFER_BYTES // 1_000_000} MB over TCP",
            f"SHA-256 {digest}… at both ends"
            if found.intact
            else f"differs: sent {found.sent}, received {found.received}",
            found.intact,
        )

    def _throughput(self, sites: list[Site]) -> None:
        meters = {site.letter: CpuMeter([site.gateway.pid()]).start() for site in sites}
        moved = 0.0
        for source, sink in ((sites[0], sites[1]), (sites[1], sites[0])):
            both = CpuMeter([site.gateway.pid() for site in sites]).start()
            found: Throughput = iperf(source.host, sink.host, f"{sink.lan}.2", seconds=self.seconds)
            gigabytes = found.bytes / 1e9
            moved += gigabytes
            cost = both.total() / gigabytes if gigabytes else float("inf")
            value = f"{found.gbit:.2f} Gbit/s, {cost:.2f} CPU s/GB (both gateways)"
            self._result(f"iperf3 TCP {source.letter.upper()} → {sink.letter.upper()}", value, found.bytes > 0)
        self.cost = {
            letter: {name: seconds / moved for name, seconds in meter.read().items()} if moved else {}
            for letter, meter in meters.items()
        }

    def _report(self, site: Site) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = site.gateway.api("GET", "/ztpipe/workers")
        return workers

    def _result(self, what: str, value: str, held: bool) -> None:
        self.results.append(Result(what, value, held))

    def show(self) -> bool:
        """Print the tables; whether all of it held."""
        self._show_stages()
        table = Table(title="ztpipe demo", title_justify="left")
        for heading in ("", "result", "held"):
            table.add_column(heading)
        for result in self.results:
            table.add_row(result.what, result.value, "[green]yes[/]" if result.held else "[red]NO[/]")
        self.console.print(table)
        return bool(self.results) and all(result.held for result in self.results)

    def _show_stages(self) -> None:
        table = Table(title="what each worker did", title_justify="left")
        table.add_column("gateway")
        table.add_column("worker")
        for heading in ("in", "out", "punted", "CPU s/GB"):
            table.add_column(heading, justify="right")
        table.add_column("drops")
        for letter, workers in self.reports.items():
            for worker in workers:
                counters: dict[str, int] = worker["counters"]
                columns = _COLUMNS[str(worker["role"])]
                cells = [f"{sum(counters.get(name, 0) for name in names):,}" for names in columns]
                cost = self.cost[letter].get(f"zt {worker['name']}", self.cost[letter].get("python", 0.0))
                drops = ", ".join(f"{n[5:]} {c:,}" for n, c in counters.items() if c and n.startswith("drop_"))
                table.add_row(letter.upper(), str(worker["name"]), *cells, f"{cost:.2f}", drops or "none")
        self.console.print(table)


#: Role -> the counters behind "in", "out" and "punted".
_COLUMNS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "control": (("punts",), ("sent_datagrams", "written_frames"), ()),
    "tap": (("tap_read_frames",), ("tap_write_frames",), ("tap_punted",)),
    "crypto": (("seal_frames", "open_datagrams"), ("seal_packets", "open_frames"), ("open_punted",)),
    "peer": (("udp_receive_datagrams",), ("udp_send_datagrams",), ("udp_punted",)),
    "fused": (
        ("tap_read_frames", "udp_receive_datagrams"),
        ("tap_write_frames", "udp_send_datagrams"),
        ("tap_punted", "open_punted", "udp_punted"),
    ),
}


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(*, layout: str = "pipeline", seconds: float = 4) -> int:
    """Run the demo on this terminal; the exit status."""
    console = Console()
    signal.signal(signal.SIGTERM, _interrupted)
    started = time.monotonic()
    try:
        with Lab("zpd") as lab:
            demo = Demo(lab, console, layout=layout, seconds=seconds)
            with Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
            ) as progress:
                task = progress.add_task("starting", total=10)

                def step(what: str) -> None:
                    progress.update(task, description=what, advance=1)

                demo.run(step)
                progress.update(task, description="done", completed=10)
            held = demo.show()
    except KeyboardInterrupt:
        console.print("[yellow]interrupted; everything was removed again[/]")
        return 130
    except (LabError, NodeFailed) as error:
        print(f"ztpipe demo: {error}", file=sys.stderr)
        return 1
    console.print(f"{time.monotonic() - started:.0f} s, everything removed again")
    return 0 if held else 1
