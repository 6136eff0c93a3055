"""``ztpipe planet``: roots of one's own, for our nodes and for unmodified ones (docs/roots.md).

A planet is described by the same JSON as a moon (service §3), signed into a binary file, and put into the home
directory of every node as ``planet``, where it takes the place of the built-in one (vl1-behaviour §3.2).
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from ztpipe import files
from ztpipe.cli import moonfile
from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity
from ztpipe.wire.world import EARTH, MAX_ENDPOINTS, MAX_ROOTS, Root, World, WorldType, verify_update

_DESCRIPTION: Final = "planet.json"
_BINARY: Final = "planet"


@click.group(name="planet")
def command() -> None:
    """Make and install a planet: the list of root servers that nodes start from."""


@command.command(name="create")
@click.option(
    "--root", "roots", nargs=2, multiple=True, required=True, metavar="IDENTITY ENDPOINT[,ENDPOINT...]",
    help=f"A root: its identity (text or file), and IP/port where it is reached. Up to {MAX_ROOTS} times.",
)  # fmt: skip
@click.option("-o", "--output", default=_DESCRIPTION, show_default=True, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite OUTPUT, and with it the only copy of its signing key.")
def create(roots: tuple[tuple[str, str], ...], output: Path, force: bool) -> None:
    """Describe a new planet in OUTPUT, with a new id and a new signing key. The file is a secret."""
    if output.exists() and not force:
        raise click.ClickException(f"{output} exists and holds a signing key; --force overwrites it")
    text = moonfile.planet_template(
        [(_identity(identity), endpoints.split(",")) for identity, endpoints in roots],
        world_id=_new_id(),
        secret=os.urandom(64),
    )
    _world(text, str(output))  # what `sign` would refuse is refused now
    _write(output, text.encode(), files.SECRET)
    click.echo(f"wrote {output}. Keep it: only its key can sign a newer version of this planet.")


@command.command(name="sign")
@click.argument("description", default=_DESCRIPTION, type=click.Path(path_type=Path))
@click.option("-o", "--output", default=_BINARY, show_default=True, type=click.Path(path_type=Path))
def sign(description: Path, output: Path) -> None:
    """Sign DESCRIPTION into the binary file OUTPUT. An older version in OUTPUT must be one that this may replace."""
    try:
        text = description.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{description}: cannot be read: {error}") from None
    world = _world(text, str(description))
    if not world.roots:
        raise click.ClickException(f"{description}: roots: expected at least one")
    old = files.read(output)
    if old is not None:
        _check_update(_decode(old, output), world, output)
    _write(output, world.encode(), None)
    click.echo(f"wrote {output} (planet {world.id:016x}, timestamp {world.timestamp}, {len(world.roots)} roots)")


@command.command(name="show")
@click.argument("file", default=_BINARY, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(file: Path, as_json: bool) -> None:
    """What FILE (a binary planet or moon) holds. FILE "builtin" is the planet compiled into every node."""
    world = EARTH if str(file) == "builtin" else _load(file)
    described = _describe(world)
    click.echo(json.dumps(described, indent=1) if as_json else "\n".join(_lines(world)))


@command.command(name="install")
@click.argument("home", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("file", default=_BINARY, type=click.Path(path_type=Path))
def install(home: Path, file: Path) -> None:
    """Put the planet FILE into the home directory HOME of a node, ours or unmodified; it counts from its next start."""
    world = _load(file)
    if world.type is not WorldType.PLANET:
        raise click.ClickException(f"{file}: a moon, expected a planet; moons go into {home / 'moons.d'}")
    target = home / "planet"
    existing = files.read(target)
    if existing == world.encode():
        click.echo(f"{target} is this planet already")
        return
    if existing is not None:
        before = _decode(existing, target)
        if before.id == world.id:
            _check_update(before, world, target)
    if world.id == EARTH.id and verify_update(world, EARTH):
        raise click.ClickException(f"{file}: the built-in planet is a newer version of it and would replace it")
    _write(target, world.encode(), 0o644)
    click.echo(f"installed in {target}; restart the node to use it")


def _new_id() -> int:
    """48 random bits, never zero nor the id of the built-in planet."""
    while True:
        number = int.from_bytes(os.urandom(6), "big")
        if number not in (0, EARTH.id):
            return number


def _check_update(old: World, new: World, where: Path) -> None:
    if verify_update(old, new):
        return
    if old.id != new.id or old.type is not new.type:
        raise click.ClickException(f"{where}: holds another world ({old.id:016x}); remove it first")
    if new.timestamp <= old.timestamp:
        raise click.ClickException(f"{where}: holds the same or a newer version (timestamp {old.timestamp})")
    raise click.ClickException(
        f"{where}: nodes that hold it would refuse the new version: it is not signed by the key that the old one names"
    )


def _identity(text: str) -> Identity:
    """From a text or a file; secrets are left out."""
    try:
        content = text if len(text) > 32 and text[10] == ":" else Path(text).read_text("ascii")
        identity = Identity.parse(content.strip(" \t\r\n\0")).without_private()
    except (OSError, ValueError, WireError):
        raise click.ClickException(f"{text}: expected an identity, or a file that holds one") from None
    if not identity.validate():
        raise click.ClickException(f"{identity.address:010x}: not a valid identity: every node would refuse this root")
    return identity


def _world(text: str, name: str) -> World:
    try:
        world = moonfile.world(text, name, time.time_ns() // 1_000_000)
    except moonfile.MoonError as error:
        raise click.ClickException(str(error)) from None
    if world.type is not WorldType.PLANET:
        raise click.ClickException(f'{name}: worldType: expected "planet"; moons are signed by zerotier-idtool genmoon')
    addresses = [root.identity.address for root in world.roots]
    if len(set(addresses)) != len(addresses):
        raise click.ClickException(f"{name}: roots: the same address twice")
    for root in world.roots:
        if not root.endpoints:
            raise click.ClickException(
                f"{name}: root {root.identity.address:010x}: stableEndpoints: expected 1 to {MAX_ENDPOINTS}"
            )
    return world


def _load(file: Path) -> World:
    try:
        return _decode(file.read_bytes(), file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None


def _decode(data: bytes, where: Path) -> World:
    try:
        return World.decode(data)
    except WireError:
        raise click.ClickException(f"{where}: not a binary planet or moon") from None


def _write(path: Path, data: bytes, mode: int | None) -> None:
    try:
        files.write(path, data, mode=mode)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def _describe(world: World) -> dict[str, object]:
    return {
        "type": world.type.name.lower(),
        "id": f"{world.id:016x}",
        "timestamp": world.timestamp,
        "updatesMustBeSignedBy": world.update_key.hex(),
        "signedByThatKey": world.verify(world.update_key),
        "roots": [_describe_root(root) for root in world.roots],
    }


def _describe_root(root: Root) -> dict[str, object]:
    return {"identity": root.identity.text(), "stableEndpoints": [endpoint.text() for endpoint in root.endpoints]}


def _lines(world: World) -> Iterator[str]:
    made = datetime.datetime.fromtimestamp(world.timestamp / 1000, datetime.UTC)
    yield f"{world.type.name.lower()} {world.id:016x}"
    yield f"timestamp {world.timestamp} ({made:%Y-%m-%d %H:%M:%S} UTC)"
    yield f"updates must be signed by {world.update_key.hex()}"
    yield f"signed by that key: {'yes' if world.verify(world.update_key) else 'no'}"
    for root in world.roots:
        yield f"root {root.identity.address:010x}"
        yield from (f"  {endpoint.text()}" for endpoint in root.endpoints)
