"""The commands of ``ztpipe controller`` about members."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from ztpipe.cli.controller_base import Context, fail, fields_of, reported, table_of, time_text
from ztpipe.client import Member, MemberPatch

_NWID = click.argument("nwid")
_MEMBER = click.argument("member")


def add_to(group: click.Group) -> None:
    """Add the commands."""
    for command in (members, member, authorise, deauthorise, remove, addresses, tags, capabilities):
        group.add_command(command)
    group.add_command(authorise, "authorize")
    group.add_command(deauthorise, "deauthorize")


@click.command()
@_NWID
@click.option("-q", "text", default="", help="Only with this text in ID, name, notes or addresses.")
@click.option("--authorised/--waiting", "authorized", default=None, help="Only authorised ones, or only the others.")
@click.option(
    "--online/--offline", "online", default=None, help="Only those that asked within 2 minutes, or the others."
)
@click.pass_obj
@reported
def members(context: Context, nwid: str, text: str, authorized: bool | None, online: bool | None) -> None:
    """List members of a network."""
    found = list(context.client().members(nwid, q=text, authorized=authorized, online=online))
    headings = ("member", "name", "authorised", "online", "last seen", "addresses", "version", "expires")
    context.show(found, lambda: table_of(headings, map(_row, found)))


def _row(found: Member) -> tuple[object, ...]:
    online, seen = (found.meta.online, found.meta.lastSeen) if found.meta else (None, None)
    end = time_text(found.expiresAt)
    return found.id, found.name, found.authorized, online, time_text(seen), found.ipAssignments, _version(found), end


def _version(found: Member) -> str:
    return "-" if found.vMajor < 0 else f"{found.vMajor}.{found.vMinor}.{found.vRev}"


def _show(context: Context, found: Member) -> None:
    context.show(
        found,
        lambda: fields_of(
            [
                ("member", found.id),
                ("network", found.nwid),
                ("name", found.name),
                ("notes", found.notes),
                ("authorised", found.authorized),
                ("expires", time_text(found.expiresAt)),
                ("addresses", found.ipAssignments),
                ("addresses from pools", not found.noAutoAssignIps),
                ("bridge", found.activeBridge),
                ("tags", [f"{ident}={value}" for ident, value in found.tags]),
                ("capabilities", found.capabilities),
                ("version", _version(found)),
                ("revision", found.revision),
            ]
        ),
    )


@click.command()
@_NWID
@_MEMBER
@click.option("--name", help="Set its name.")
@click.option("--notes", help="Set its notes.")
@click.option("--expires", metavar="WHEN", help="Deauthorise it then: 2030-01-31, 2030-01-31T12:00 (UTC), or never.")
@click.option("--bridge/--no-bridge", default=None, help="Whether it may bridge other devices in.")
@click.option("--pools/--no-pools", default=None, help="Whether it is given addresses from the pools.")
@click.pass_obj
@reported
def member(
    context: Context,
    nwid: str,
    member: str,
    name: str | None,
    notes: str | None,
    expires: str | None,
    bridge: bool | None,
    pools: bool | None,
) -> None:
    """Show a member, or change it by options; one that never asked is added."""
    patch = MemberPatch()
    if name is not None:
        patch.name = name
    if notes is not None:
        patch.notes = notes
    if expires is not None:
        patch.expiresAt = _time(expires)
    if bridge is not None:
        patch.activeBridge = bridge
    if pools is not None:
        patch.noAutoAssignIps = not pools
    client = context.client()
    _show(context, client.member(nwid, member) if patch == MemberPatch() else client.update_member(nwid, member, patch))


def _time(text: str) -> int:
    """A time in ms; 0 = never."""
    if text == "never":
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--expires {text}: expected a date as 2030-01-31, a time as 2030-01-31T12:00, or never")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(int(moment.timestamp() * 1000), 1)


def _authorise(context: Context, nwid: str, addresses: tuple[str, ...], authorized: bool) -> None:
    patches = {address: MemberPatch(authorized=authorized) for address in addresses}
    changed = context.client().update_members(nwid, patches)
    context.show(
        changed, lambda: table_of(("member", "name", "authorised"), ((m.id, m.name, m.authorized) for m in changed))
    )


@click.command()
@_NWID
@click.argument("members", nargs=-1, required=True)
@click.pass_obj
@reported
def authorise(context: Context, nwid: str, members: tuple[str, ...]) -> None:
    """Let members in, also before they ask: all of those named, or none."""
    _authorise(context, nwid, members, True)


@click.command()
@_NWID
@click.argument("members", nargs=-1, required=True)
@click.pass_obj
@reported
def deauthorise(context: Context, nwid: str, members: tuple[str, ...]) -> None:
    """Shut members out at once."""
    _authorise(context, nwid, members, False)


@click.command()
@_NWID
@_MEMBER
@click.option("--forget", is_flag=True, help="It may come back by asking, and is then shown as waiting.")
@click.pass_obj
@reported
def remove(context: Context, nwid: str, member: str, forget: bool) -> None:
    """Delete a member; it stays deleted until it is added again."""
    context.client().delete_member(nwid, member, forget=forget)


@click.command()
@_NWID
@_MEMBER
@click.option("--add", multiple=True, metavar="IP", help="Give it this address.")
@click.option("--remove", multiple=True, metavar="IP", help="Take this address from it.")
@click.pass_obj
@reported
def addresses(context: Context, nwid: str, member: str, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Show or change the addresses assigned to a member."""
    found = context.client().member(nwid, member)
    if add or remove:
        wanted = [address for address in [*found.ipAssignments, *add] if address not in remove]
        patch = MemberPatch(ipAssignments=list(dict.fromkeys(wanted)))
        found = context.client().update_member(nwid, member, patch, found.revision)
    context.show(found.ipAssignments, lambda: table_of(("address",), ((ip,) for ip in found.ipAssignments)))


@click.command()
@_NWID
@_MEMBER
@click.option("--set", "values", multiple=True, metavar="ID=VALUE", help="Set a tag.")
@click.option("--remove", multiple=True, type=int, metavar="ID", help="Remove a tag.")
@click.pass_obj
@reported
def tags(context: Context, nwid: str, member: str, values: tuple[str, ...], remove: tuple[int, ...]) -> None:
    """Show or change the tags of a member."""
    given = dict(map(_tag, values))
    found = context.client().member(nwid, member)
    if given or remove:
        wanted = {ident: value for ident, value in found.tags if ident not in remove} | given
        patch = MemberPatch(tags=list(wanted.items()))
        found = context.client().update_member(nwid, member, patch, found.revision)
    context.show(found.tags, lambda: table_of(("tag", "value"), found.tags))


def _tag(text: str) -> tuple[int, int]:
    ident, _, value = text.partition("=")
    try:
        return int(ident), int(value)
    except ValueError:
        fail(f"--set {text}: expected two numbers as ID=VALUE")


@click.command()
@_NWID
@_MEMBER
@click.option("--add", multiple=True, type=int, metavar="ID", help="Give it this capability.")
@click.option("--remove", multiple=True, type=int, metavar="ID", help="Take this capability from it.")
@click.pass_obj
@reported
def capabilities(context: Context, nwid: str, member: str, add: tuple[int, ...], remove: tuple[int, ...]) -> None:
    """Show or change the capabilities of a member."""
    found = context.client().member(nwid, member)
    if add or remove:
        patch = MemberPatch(capabilities=sorted({*found.capabilities, *add} - {*remove}))
        found = context.client().update_member(nwid, member, patch, found.revision)
    context.show(found.capabilities, lambda: table_of(("capability",), ((ident,) for ident in found.capabilities)))
