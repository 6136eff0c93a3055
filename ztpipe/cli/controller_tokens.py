"""The commands of ``ztpipe controller token``: they work on the file of the home directory."""

from __future__ import annotations

from pathlib import Path

import click

from ztpipe.api.tokens import TOKEN_FILE, Role, TokenFile
from ztpipe.cli.controller_base import Context, reported, table_of


@click.group()
def token() -> None:
    """Tokens for others, each with a name and a role: read, members (read, and change members) or all."""


def _file(context: Context) -> TokenFile:
    return TokenFile(Path(context.home) / TOKEN_FILE)


@token.command("add")
@click.argument("name")
@click.argument("role", type=click.Choice([role.value for role in Role]))
@click.pass_obj
@reported
def token_add(context: Context, name: str, role: str) -> None:
    """Make a token and print it; it cannot be shown again."""
    click.echo(_file(context).add(name, Role(role)))


@token.command("list")
@click.pass_obj
@reported
def token_list(context: Context) -> None:
    """List names and roles."""
    found = [{"name": grant.name, "role": grant.role.value} for grant in _file(context).grants()]
    context.show(found, lambda: table_of(("name", "role"), ((grant["name"], grant["role"]) for grant in found)))


@token.command("remove")
@click.argument("name")
@click.pass_obj
@reported
def token_remove(context: Context, name: str) -> None:
    """Make a token useless at once."""
    _file(context).remove(name)
