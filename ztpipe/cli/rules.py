"""``ztpipe rules``: the rule language on the command line (rules-language §1)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, TextIO

import click

from ztpipe.rules.compiler import Compiled, RulesError, compile_rules
from ztpipe.rules.decompile import decompile
from ztpipe.rules.explain import explain
from ztpipe.rules.hints import hint

_SOURCE = click.argument("source", type=click.File(encoding="utf-8"), default="-")
_CONFIG = click.argument("config", type=click.File(encoding="utf-8"), default="-")


@click.group(name="rules")
def command() -> None:
    """Compile, check, explain and decompile network rules. A file of "-", or none, is standard input."""


@command.command("compile")
@_SOURCE
@click.option("--reference", is_flag=True, help="Also the wrong masks that the reference's compiler makes.")
def compile_(source: TextIO, reference: bool) -> None:
    """Print the JSON that a network takes, with the names of tags and capabilities."""
    click.echo(_compiled(source, reference).text(), nl=False)


@command.command()
@_SOURCE
def check(source: TextIO) -> None:
    """Say whether a controller takes a source; the first error is shown with its place and what to do."""
    from ztpipe.controller.errors import ControllerError
    from ztpipe.controller.rules_source import compiled_fields

    text = _read(source)
    compiled = _compile(source.name, text)
    try:
        compiled_fields(text)
    except ControllerError as error:
        _fail(f"{source.name}: {error.message.removeprefix('rulesSource: ')}")
    counts = (
        (len(compiled.rules), "rule"),
        (len(compiled.capabilities), "capability"),
        (len(compiled.tags), "tag"),
    )
    click.echo(f"{source.name}: correct: " + ", ".join(f"{count} {_plural(what, count)}" for count, what in counts))


@command.command("explain")
@_SOURCE
def explain_(source: TextIO) -> None:
    """Say in English what rules do; SOURCE is in the rule language, or JSON of a network."""
    text = _read(source)
    if text.lstrip()[:1] in ("{", "["):
        config, names = _config(source.name, text)
    else:
        compiled = _compile(source.name, text)
        config, names = compiled.config(), compiled.tags_by_name
    for line in explain(config, names):
        click.echo(line)


@command.command("decompile")
@_CONFIG
def decompile_(config: TextIO) -> None:
    """Print the source of compiled rules; CONFIG is a network's JSON, or what compile printed."""
    click.echo(decompile(*_config(config.name, _read(config))), nl=False)


def _plural(what: str, count: int) -> str:
    if count == 1:
        return what
    return what.removesuffix("y") + "ies" if what.endswith("y") else what + "s"


def _read(file: TextIO) -> str:
    try:
        return str(file.read())
    except UnicodeDecodeError as error:
        _fail(f"{file.name}: is not UTF-8 text ({error.reason} at byte {error.start})")


def _compiled(file: TextIO, defects: bool = False) -> Compiled:
    return _compile(file.name, _read(file), defects)


def _compile(name: str, text: str, defects: bool = False) -> Compiled:
    try:
        return compile_rules(text, defects=defects)
    except RulesError as error:
        _fail(describe(name, text, error))


def describe(name: str, source: str, error: RulesError) -> str:
    """An error in the form of compilers: place and message, the line with a mark under the place, and the hint."""
    line, column = error.position
    lines = source.split("\n")
    text = lines[line - 1].rstrip("\r") if line <= len(lines) else ""
    mark = "".join("\t" if char == "\t" else " " for char in text[: column - 1]) + "^"
    advice = hint(error, source)
    return f"{name}:{line}:{column}: error: {error.message}\n    {text}\n    {mark}\nhint: {advice}"


def _config(name: str, text: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The object with rules, capabilities and tags in a JSON text, and the tags by name if it knows them."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        _fail(f"{name}: expected JSON of a network or of `ztpipe rules compile`: {error}")
    if isinstance(value, list):
        return {"rules": value}, {}
    if not isinstance(value, dict):
        _fail(f"{name}: expected a JSON object, or an array of rules")
    config = value.get("config", value)
    tags = value.get("tagsByName")
    return (config if isinstance(config, dict) else {}), (tags if isinstance(tags, dict) else {})


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(1)
