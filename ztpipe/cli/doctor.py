"""``ztpipe doctor``: looks at the host, the home directory and the node that runs there, and says what to do."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ztpipe import config
from ztpipe.cli.client import Client, LookupFailure, find_port, find_token
from ztpipe.host import checkup
from ztpipe.host.checkup import Finding, Verdict
from ztpipe.host.sockets import port_is_free

_WIDE: Final = 200
_NETWORK_ADVICE: Final = {
    "OK": "",
    "ACCESS_DENIED": "have this node authorised by the network's administrator",
    "NOT_FOUND": "check the network ID",
    "REQUESTING_CONFIGURATION": "its controller does not answer; check that it runs",
    "PORT_ERROR": "no TAP device could be made; see above and the log",
    "AUTHENTICATION_REQUIRED": "sign on at the URL that `zerotier-cli listnetworks` shows",
}
_STYLES: Final = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "bold red"}


@click.command(name="doctor")
@click.argument("home", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(home: Path | None, as_json: bool) -> None:
    """Check this host, the home directory HOME and the node that runs there.

    Nothing is changed. Exit status 1 if something will not work, else 0.
    """
    chosen = home or Path(os.environ.get("ZEROTIER_HOME") or config.DEFAULT_HOME)
    findings = list(_examine(chosen))
    if as_json:
        keys = ("what", "verdict", "found", "advice")
        rows = [dict(zip(keys, (f.what, f.verdict.value, f.found, f.advice), strict=True)) for f in findings]
        click.echo(json.dumps(rows, indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else _WIDE).print(_table(findings))
    sys.exit(any(finding.verdict is Verdict.BAD for finding in findings))


def _table(findings: Iterable[Finding]) -> Table:
    """Without lines, and nothing cut off: commands and paths are there to be copied."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for number in range(3):
        table.add_column(overflow="fold", no_wrap=number < 2)
    for what, verdict, found, advice in findings:
        table.add_row(Text(verdict.value, _STYLES[verdict]), Text(what, "bold"), Text(found))
        if advice:
            table.add_row("", "", Text(f"-> {advice}", _STYLES[verdict] if verdict is Verdict.BAD else ""))
    return table


def _examine(home: Path) -> Iterator[Finding]:
    for question in checkup.QUESTIONS:
        yield from _answers(question)
    settings, finding = _home(home)
    yield finding
    status = _ask(home, "/status")
    own = _own_pid(home) if status is not None else None
    yield checkup.daemons(own)
    if status is None:
        if settings is not None:
            yield _port(settings.port)
        yield Finding("node", Verdict.NOTE, f"none answers for {home}", "start it and ask again for what only it knows")
    else:
        yield from _node(home, status)


def _answers(question: Callable[[], Finding | Iterator[Finding]]) -> Iterator[Finding]:
    """A question that this host cannot even be asked is a finding, not the end of the examination."""
    try:
        found = question()
        yield from [found] if isinstance(found, Finding) else found
    except OSError as error:
        yield Finding(question.__name__.replace("_", " "), Verdict.NOTE, f"cannot be told: {error}")


def _home(home: Path) -> tuple[config.Config | None, Finding]:
    """Whether a node could start with what lies there; nothing is made or changed."""
    from ztpipe.store import Home, HomeError

    what = "home directory"
    if not home.is_dir():
        advice = "the first start makes it, with a new identity"
        return None, Finding(what, Verdict.NOTE, f"{home} does not exist", advice)
    if not os.access(home, os.W_OK | os.X_OK):
        return None, Finding(what, Verdict.BAD, f"{home} is not writable", "run as its owner or as root")
    try:
        settings = config.load(home, environment=os.environ)
        identity = Home(home).stored_identity()
    except (config.ConfigError, HomeError, OSError) as error:
        return None, Finding(what, Verdict.BAD, str(error), "mend the file; it is never replaced")
    warnings = settings.local.warnings
    if warnings:
        return settings, Finding(what, Verdict.NOTE, f"{home}: local.conf: {warnings[0]}", "mend or remove the key")
    name = f"node {identity.address:010x}" if identity is not None else "no identity yet"
    return settings, Finding(what, Verdict.GOOD, f"{home}, {name}")


def _port(port: int) -> Finding:
    number = port_is_free(port) if port else 0
    if number:
        advice = "stop the program that has it, or set settings.primaryPort"
        return Finding("port", Verdict.BAD, f"{port}: {os.strerror(number)}", advice)
    return Finding("port", Verdict.GOOD, f"{port or 'a random one'} is free, UDP and TCP")


def _node(home: Path, status: dict[str, Any]) -> Iterator[Finding]:
    """What the running node says of itself and of how others reach it."""
    name = f"{status['address']} {status['version']}"
    if status["online"]:
        yield Finding("node", Verdict.GOOD, f"{name}, online")
    else:
        advice = "no root answers: check the route out and that UDP is let through, or `zerotier-cli listpeers`"
        yield Finding("node", Verdict.BAD, f"{name}, offline", advice)
    yield from _reachability(status, _ask(home, "/peer") or [])
    for network in _ask(home, "/network") or []:
        advice = _NETWORK_ADVICE.get(network["status"], "see the log")
        verdict = Verdict.NOTE if advice else Verdict.GOOD
        yield Finding("network", verdict, f"{network['id']} {network['name']}: {network['status']}", advice)
    workers = _ask(home, "/ztpipe/workers")
    if not workers:  # a node of another make
        return
    restarts = sum(int(worker.get("restarts", 0)) for worker in workers)
    verdict, advice = (Verdict.NOTE, "see the log for the reason") if restarts else (Verdict.GOOD, "")
    yield Finding("workers", verdict, f"{len(workers)} processes, {restarts} restarts", advice)


def _reachability(status: dict[str, Any], peers: list[dict[str, Any]]) -> Iterator[Finding]:
    seen = status["config"]["settings"].get("surfaceAddresses") or []
    leaves = [peer for peer in peers if peer["role"] == "LEAF"]
    relayed = [peer["address"] for peer in leaves if not any(path["active"] for path in peer["paths"])]
    direct = f"{len(leaves) - len(relayed)} of {len(leaves)} peers directly"
    found = f"{direct}; seen from outside as {', '.join(seen)}" if seen else direct
    if status["tcpFallbackActive"]:
        yield Finding("reachability", Verdict.NOTE, "through a TCP relay", "let UDP out, which is much faster")
    elif relayed:
        port = status["config"]["settings"]["primaryPort"]
        advice = f"let UDP port {port} in and out, at both ends; relayed: {' '.join(relayed[:5])}"
        yield Finding("reachability", Verdict.NOTE, found, advice)
    else:
        yield Finding("reachability", Verdict.GOOD, found)


def _ask(home: Path, path: str) -> Any:
    """The answer of the node that runs in `home`; None without one."""
    try:
        client = Client("127.0.0.1", find_port(0, str(home)), find_token("", str(home)))
    except LookupFailure:
        return None
    reply = client.request("GET", path)
    with contextlib.suppress(ValueError):
        return json.loads(reply.body) if reply.status == 200 else None
    return None


def _own_pid(home: Path) -> int | None:
    try:
        return int((home / "zerotier-one.pid").read_text())
    except (OSError, ValueError):
        return None
