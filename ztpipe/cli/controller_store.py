"""The commands of ``ztpipe controller`` about its records as a whole: they work without the node."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import click

from ztpipe import config
from ztpipe.cli.client import LookupFailure, find_port, find_token
from ztpipe.cli.controller_base import Context, fail, reported
from ztpipe.client import ApiError, Client, Unreachable
from ztpipe.controller.store import Store, StoreError
from ztpipe.controller.store_files import (
    backup,
    backup_shared,
    export_files,
    import_files,
    restore,
    restore_shared,
)
from ztpipe.controller.store_sqlite import FILE_NAME, SqliteStore
from ztpipe.store import Home

_PATH = click.argument("path", type=click.Path(path_type=Path))
_DATABASE = click.option(
    "--database",
    envvar="ZTPIPE_CONTROLLER_DATABASE",
    metavar="WHERE",
    help="A directory, or the URI of a PostgreSQL database; by default what the node of HOME uses.",
)


def add_to(group: click.Group) -> None:
    """Add the commands."""
    for command in (backup_, restore_, export, import_):
        group.add_command(command)


def _command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command on a PATH and the records of the node, or of --database; it gets the context and both."""

    def made(function: Callable[..., None]) -> click.Command:
        @click.pass_obj
        @reported
        @wraps(function)
        def work(context: Context, path: Path, database: str | None) -> None:
            function(context, path, _where(context, database))

        return click.command(name)(_PATH(_DATABASE(work)))

    return made


def _where(context: Context, database: str | None) -> Path | str:
    """The directory of the SQLite file, or the connection string of a PostgreSQL database."""
    home = Path(context.home)
    flags = {"controller_database": database} if database and database.startswith("postgres") else {}
    settings = config.load(home, flags=flags, environment=os.environ)
    if settings.controller_database and (not database or flags):
        return settings.controller_database
    return Path(database) if database else settings.controller_db


@contextmanager
def _opened(context: Context, where: Path | str, *, existing: bool = False) -> Iterator[Store]:
    """The store, for commands that write whole records."""
    if isinstance(where, Path):
        if existing:
            _check_exists(where)
        with SqliteStore(where) as sqlite:
            yield sqlite
        return
    from ztpipe.controller.store_postgres import PostgresStore

    identity = Home(Path(context.home)).stored_identity()
    if identity is None:
        raise StoreError(f"{context.home}: no identity.secret: whose records they are is not known")
    postgres = PostgresStore(where, identity.address, secrets.token_hex(8), overwrite=True)
    try:
        yield postgres
    finally:
        postgres.close()


def _check_exists(directory: Path) -> None:
    if not (directory / FILE_NAME).is_file():
        raise StoreError(f"{directory / FILE_NAME}: there is no controller database")


def _tell_node(context: Context) -> None:
    """A node that is running must read its store again; one that is not will."""
    try:
        port, token = find_port(context.port, context.home), find_token(context.token, context.home)
        Client("127.0.0.1", port, token).reload()
        click.echo("the running node uses it now")
    except (LookupFailure, Unreachable):
        click.echo("no node is running; it is used from the next start on")
    except ApiError as error:
        fail(f"the store is changed, but the running node did not read it: {error}; restart the node")


@_command("backup")
def backup_(context: Context, path: Path, where: Path | str) -> None:
    """Copy all records to the new file PATH, also while the node runs."""
    if isinstance(where, Path):
        backup(where, path)
    else:
        with _opened(context, where) as store:
            backup_shared(store, path)


@click.confirmation_option("-y", "--yes", prompt="Replace all networks and members by those of the backup?")
@_command("restore")
def restore_(context: Context, path: Path, where: Path | str) -> None:
    """Replace all records by those of a backup, also while the node runs."""
    if isinstance(where, Path):
        restore(path, where)
    else:
        with _opened(context, where) as store:
            restore_shared(path, store)
    _tell_node(context)


@_command("export")
def export(context: Context, path: Path, where: Path | str) -> None:
    """Write all records to the directory PATH as the files of a reference controller.d."""
    with _opened(context, where, existing=True) as store:
        moved = export_files(store, path)
    click.echo(f"{moved.networks} networks, {moved.members} members")


@_command("import")
def import_(context: Context, path: Path, where: Path | str) -> None:
    """Take over the records of a reference controller.d; networks and members that it does not hold stay."""
    with _opened(context, where) as store:
        moved = import_files(store, path)
    skipped = f", {moved.skipped} files skipped that are no records" if moved.skipped else ""
    click.echo(f"{moved.networks} networks, {moved.members} members{skipped}")
    _tell_node(context)
