"""``ztpipe controller``: networks and members without a web interface."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import click
import msgspec

from ztpipe.cli import controller_members, controller_store, controller_tokens
from ztpipe.cli.controller_base import Context, context_of, fail, fields_of, reported, table_of, time_text
from ztpipe.client import AuditLine, Network, NetworkPatch
from ztpipe.rules.decompile import decompile

_NWID = click.argument("nwid")


@click.group(name="controller")
@click.option("-D", "--home", default="", metavar="DIR", help="Home directory of the node.")
@click.option("-p", "--port", default=0, metavar="PORT", help="Port of its API; by default that in the home directory.")
@click.option("-T", "--token", default="", envvar="ZTPIPE_TOKEN", metavar="TOKEN", help="Token; ZTPIPE_TOKEN.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON for scripts.")
@click.pass_context
def command(ctx: click.Context, home: str, port: int, token: str, as_json: bool) -> None:
    """Manage the networks that this node controls."""
    ctx.obj = context_of(home, port, token, as_json)


controller_members.add_to(command)
controller_store.add_to(command)
command.add_command(controller_tokens.token)


@command.command()
@click.pass_obj
@reported
def status(context: Context) -> None:
    """The controller's address and size."""
    found = context.client().status()
    context.show(found, lambda: fields_of((name, getattr(found, name)) for name in found.__struct_fields__))


@command.command()
@click.option("-q", "text", default="", help="Only with this text in ID or name.")
@click.pass_obj
@reported
def networks(context: Context, text: str) -> None:
    """List networks."""
    found = list(context.client().networks(q=text))
    headings = ("network", "name", "access", "members", "authorised", "routes")
    context.show(
        found,
        lambda: table_of(
            headings,
            (
                (
                    network.id,
                    network.name,
                    "private" if network.private else "public",
                    network.meta.totalMemberCount if network.meta else "",
                    network.meta.authorizedMemberCount if network.meta else "",
                    [route.target for route in network.routes],
                )
                for network in found
            ),
        ),
    )


def _show(context: Context, network: Network) -> None:
    context.show(
        network,
        lambda: fields_of(
            [
                ("network", network.id),
                ("name", network.name),
                ("access", "private" if network.private else "public"),
                ("revision", network.revision),
                ("created", time_text(network.creationTime)),
                ("mtu", network.mtu),
                ("broadcast", network.enableBroadcast),
                ("multicast limit", network.multicastLimit),
                ("routes", [route.target + (f" via {route.via}" if route.via else "") for route in network.routes]),
                ("pools", [f"{pool.ipRangeStart} to {pool.ipRangeEnd}" for pool in network.ipAssignmentPools]),
                ("ipv4 from pools", network.v4AssignMode.zt),
                ("ipv6 from pools", network.v6AssignMode.zt),
                ("ipv6 rfc4193", network.v6AssignMode.rfc4193),
                ("ipv6 6plane", network.v6AssignMode.sixplane),
                ("dns", [network.dns.domain, *network.dns.servers] if network.dns else None),
                ("rules", f"{len(network.rules)}, {'with' if network.rulesSource else 'without'} source"),
            ]
        ),
    )


@command.command()
@_NWID
@click.pass_obj
@reported
def show(context: Context, nwid: str) -> None:
    """Show a network."""
    _show(context, context.client().network(nwid))


@command.command()
@click.option("--name", default="", help="Its name.")
@click.option("--public", is_flag=True, help="Everybody may join.")
@click.option("--subnet", metavar="IP/BITS", help="Route this IPv4 network, and give members addresses of it.")
@click.pass_obj
@reported
def create(context: Context, name: str, public: bool, subnet: str | None) -> None:
    """Create a network."""
    fields: dict[str, object] = {"name": name, "private": not public}
    if subnet is not None:
        fields |= _subnet(subnet)
    _show(context, context.client().create_network(_patch(fields)))


def _subnet(text: str) -> dict[str, object]:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        fail(f"--subnet {text}: expected an IPv4 network as IP/bits: {error}")
    if network.prefixlen > 30:
        fail(f"--subnet {text}: has no room for members")
    pool = {"ipRangeStart": str(network[1]), "ipRangeEnd": str(network[-2])}
    return {"routes": [{"target": str(network)}], "ipAssignmentPools": [pool], "v4AssignMode": {"zt": True}}


@command.command("set")
@_NWID
@click.argument("settings", nargs=-1, required=True, metavar="FIELD=VALUE...")
@click.pass_obj
@reported
def set_(context: Context, nwid: str, settings: tuple[str, ...]) -> None:
    """Change fields of a network, e.g. mtu=1400 private=false 'routes=[{"target":"10.1.0.0/16"}]'.

    A value is JSON, or else text.
    """
    fields: dict[str, object] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            fail(f"{setting}: expected FIELD=VALUE")
        fields[field] = value if field in ("name", "rulesSource") else _value(value)
    _show(context, context.client().update_network(nwid, _patch(fields)))


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _patch(fields: dict[str, object]) -> NetworkPatch:
    try:
        return msgspec.convert(fields, NetworkPatch)
    except msgspec.ValidationError as error:
        fail(str(error))


@command.command()
@_NWID
@click.confirmation_option("-y", "--yes", prompt="Delete the network and all of its members?")
@click.pass_obj
@reported
def delete(context: Context, nwid: str) -> None:
    """Delete a network."""
    context.client().delete_network(nwid)


@command.group()
def rules() -> None:
    """Show, set and edit the rules of a network in the rule language."""


def _source(network: Network) -> str:
    """The source kept with a network, or one made of its rules."""
    return network.rulesSource or decompile(msgspec.to_builtins(network))


@rules.command("show")
@_NWID
@click.pass_obj
@reported
def rules_show(context: Context, nwid: str) -> None:
    """Print the source."""
    click.echo(_source(context.client().network(nwid)), nl=False)


@rules.command("set")
@_NWID
@click.argument("source", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.pass_obj
@reported
def rules_set(context: Context, nwid: str, source: Path) -> None:
    """Compile SOURCE ("-" = standard input) and use it."""
    try:
        with click.open_file(str(source), encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{source}: cannot be read: {error}")
    network = context.client().update_network(nwid, NetworkPatch(rulesSource=text))
    click.echo(f"{len(network.rules)} rules in use")


@rules.command("edit")
@_NWID
@click.pass_obj
@reported
def rules_edit(context: Context, nwid: str) -> None:
    """Edit the source in $EDITOR; mistakes are shown, and the editor opened again."""
    from ztpipe.cli.rules import describe
    from ztpipe.rules.compiler import RulesError, compile_rules

    client = context.client()
    network = client.network(nwid)
    text = _source(network)
    while True:
        edited = click.edit(text, extension=".ztrules")
        if edited is None or edited == _source(network):
            click.echo("nothing changed")
            return
        text = edited
        try:
            compile_rules(text)
            break
        except RulesError as error:
            click.echo(describe("rules", text, error), err=True)
            click.confirm("Edit again?", default=True, abort=True)
    network = client.update_network(nwid, NetworkPatch(rulesSource=text), network.revision)
    click.echo(f"{len(network.rules)} rules in use")


def _changed(line: AuditLine) -> list[str]:
    """The fields that differ; of what was created those that say something, of what was deleted none."""
    if line.action.endswith(".create"):
        empty: tuple[object, ...] = (None, False, 0, -1, "", [], {}, [None])
        return sorted(name for name, (_, new) in line.changes.items() if new not in empty and name != "creationTime")
    return [] if line.action.endswith(".delete") else sorted(line.changes)


@command.command()
@click.option("-n", "limit", default=50, type=click.IntRange(1, 1000), help="How many.")
@click.option("--network", "nwid", help="Only of this network.")
@click.option("--member", help="Only of this member.")
@click.pass_obj
@reported
def audit(context: Context, limit: int, nwid: str | None, member: str | None) -> None:
    """Who changed what, newest first."""
    lines = context.client().audit(limit, nwid=nwid, member=member)
    context.show(
        lines,
        lambda: table_of(
            ("time", "who", "what", "network", "member", "changes"),
            ((time_text(line.time), line.actor, line.action, line.nwid, line.member, _changed(line)) for line in lines),
        ),
    )
