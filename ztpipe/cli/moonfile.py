"""The JSON that ``zerotier-idtool initmoon`` prints and ``genmoon`` signs (service §3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from nacl import bindings

from ztpipe.wire.errors import WireError
from ztpipe.wire.identity import Identity, clamp
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.world import MAX_ENDPOINTS, MAX_ROOTS, Root, World, WorldType

_TYPES: Final = {"moon": WorldType.MOON, "planet": WorldType.PLANET}


class MoonError(Exception):
    """The file does not describe a world; the text is for the user."""


def template(root: Identity, secret: bytes) -> str:
    """The description of a moon with one root. `secret`: 64 random bytes, the new signing key."""
    return _template("moon", root.address, [(root, [])], secret)


def planet_template(roots: Sequence[tuple[Identity, Sequence[str]]], *, world_id: int, secret: bytes) -> str:
    """The description of a planet: each root's identity and its endpoints ("IP/port")."""
    return _template("planet", world_id, roots, secret)


def _template(kind: str, world_id: int, roots: Sequence[tuple[Identity, Sequence[str]]], secret: bytes) -> str:
    public = bindings.crypto_scalarmult_base(clamp(secret[:32])) + bindings.crypto_sign_seed_keypair(secret[32:])[0]
    description = {
        "id": f"{world_id:010x}",
        "objtype": "world",
        "roots": [{"identity": root.text(), "stableEndpoints": list(endpoints)} for root, endpoints in roots],
        "signingKey": public.hex(),
        "signingKey_SECRET": secret.hex(),
        "updatesMustBeSignedBy": public.hex(),
        "worldType": kind,
    }
    return json.dumps(description, indent=1, sort_keys=True)


def world(text: str, name: str, timestamp: int) -> World:
    """The signed world that `text` (the content of file `name`) describes; raises `MoonError`."""
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MoonError(f"{name} is not valid JSON: {error}") from None
    if not isinstance(description, dict):
        raise MoonError(f"{name} does not hold a JSON object")
    world_id = _world_id(description.get("id"), name)
    kind = _TYPES.get(str(description.get("worldType")))
    if kind is None:
        raise MoonError("invalid worldType")
    update_key = _key(description, "updatesMustBeSignedBy", name)
    roots = _roots(description.get("roots", []), name)
    unsigned = World(kind, world_id, timestamp, update_key, b"", roots)
    return unsigned.sign(_key(description, "signingKey", name), _key(description, "signingKey_SECRET", name))


def _world_id(value: object, name: str) -> int:
    try:
        world_id = int(value, 16) if isinstance(value, str) else 0
    except ValueError:
        world_id = 0
    if not 0 < world_id < 2**64:
        raise MoonError(f"ID in {name} is invalid")
    return world_id


def _key(description: dict[str, object], field: str, name: str) -> bytes:
    value = description.get(field)
    try:
        key = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        key = b""
    if len(key) != 64:
        raise MoonError(f"{field} in {name} is invalid: expected 128 hex digits")
    return key


def _roots(value: object, name: str) -> tuple[Root, ...]:
    """Roots and their endpoints in the reference's order, which is cosmetic (vl1-wire §11.4)."""
    if not isinstance(value, list) or len(value) > MAX_ROOTS:
        raise MoonError(f"roots in {name} are invalid: expected an array of at most {MAX_ROOTS}")
    roots = [_root(entry, name) for entry in value]
    return tuple(sorted(roots, key=lambda root: (root.identity.address, root.identity.public)))


def _root(entry: object, name: str) -> Root:
    fields = entry if isinstance(entry, dict) else {}
    try:
        identity = Identity.parse(str(fields.get("identity"))).without_private()
    except WireError:
        raise MoonError(f"a root's identity in {name} is invalid: {fields.get('identity')}") from None
    endpoints = fields.get("stableEndpoints", [])
    if not isinstance(endpoints, list) or len(endpoints) > MAX_ENDPOINTS:
        raise MoonError(f"stableEndpoints in {name} are invalid: expected an array of at most {MAX_ENDPOINTS}")
    parsed = [_endpoint(endpoint, name) for endpoint in endpoints]
    return Root(identity, tuple(sorted(parsed, key=lambda found: (len(found.ip), found.port, found.ip))))


def _endpoint(value: object, name: str) -> InetAddress:
    """An endpoint nobody can reach would make a useless moon, so it is an error here."""
    try:
        endpoint = InetAddress.parse(str(value))
    except (WireError, ValueError):
        endpoint = None
    if endpoint is None or not endpoint.port:
        raise MoonError(f'endpoint {value} in {name} is invalid: expected "IP/port"')
    return endpoint
