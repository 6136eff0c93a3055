"""What the commands of ``ztpipe controller`` share: how they reach the node, and how they print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final, NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ztpipe.api.tokens import TokenError
from ztpipe.cli.client import LookupFailure, find_home, find_port, find_token
from ztpipe.client import ApiError, Client, Unreachable
from ztpipe.config import ConfigError
from ztpipe.controller.store import StoreError
from ztpipe.store import HomeError

_WIDE: Final = 400  # columns where there is no terminal: a line for each object, whatever it holds


@dataclass(frozen=True, slots=True)
class Context:
    """The switches in front of the command."""

    home: str
    port: int
    token: str
    json: bool

    def client(self) -> Client:
        """The node's API; the command ends if it cannot be found."""
        try:
            return Client("127.0.0.1", find_port(self.port, self.home), find_token(self.token, self.home))
        except LookupFailure as error:
            fail(str(error))

    def show(self, value: Any, table: Callable[[], Table]) -> None:
        """Print a result: JSON if asked for, else a table."""
        if self.json:
            click.echo(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())
        else:
            Console(width=None if sys.stdout.isatty() else _WIDE).print(table())


def fail(message: str) -> NoReturn:
    """One line on stderr, and status 1."""
    click.echo(f"ztpipe controller: {message}", err=True)
    sys.exit(1)


def reported(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose refusals, by the service or of a file, become one line."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ApiError as error:
            hint = error.problem.hint
            place = error.problem.line
            where = f"line {place} column {error.problem.column}: " if isinstance(place, int) else ""
            fail(where + error.problem.error + (f" (hint: {hint})" if isinstance(hint, str) else ""))
        except (Unreachable, StoreError, TokenError, ConfigError, HomeError) as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))

    return wrapper


def table_of(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; nothing in the cells is taken for markup."""
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    return table


def fields_of(pairs: Iterable[tuple[str, object]]) -> Table:
    """One object, a line for each field."""
    return table_of(("field", "value"), pairs)


def cell(value: object) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value)) or "-"
    return "-" if value is None or value == "" else str(value)


def time_text(milliseconds: int | None) -> str:
    """A time in UTC; 0 and None are none."""
    if not milliseconds:
        return "-"
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(milliseconds)


def context_of(home: str, port: int, token: str, as_json: bool) -> Context:
    """The context of a command line."""
    return Context(find_home(home), port, token, as_json)
