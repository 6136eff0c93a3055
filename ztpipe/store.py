"""The home directory: its files with the names, formats and modes of service §1.4.

Everything a node must find again lies here, readable by the reference as well: a home directory can move between the
two in both directions. Writes are atomic (`ztpipe.files`); what is damaged is reported as `HomeError`, never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ztpipe import files

if TYPE_CHECKING:
    from ztpipe.wire.identity import Identity

_TOKEN_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_TOKEN_LENGTH: Final = 24
_TOKEN_BLANKS: Final = " \t\r\n\0"
_PEER_LIFE: Final = 30 * 86400  # seconds


class HomeError(Exception):
    """The home directory cannot be used as it is. The text says what is wrong, where, and what to do."""


class NetworkSettings(msgspec.Struct, frozen=True):
    """``networks.d/<id>.local.conf`` (service §1.6): what the user of this node allows the controller to do.

    `managed_only` is a list of ``IP/bits``; if not empty, only addresses and routes inside one of them are applied.
    """

    allow_managed: bool = True
    allow_global: bool = False
    allow_default: bool = False
    allow_dns: bool = False
    managed_only: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> NetworkSettings:
        """Read the file's lines; unknown keys are ignored, missing ones have their default."""
        pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        managed = pairs.get("allowManaged", "1")
        listed = len(managed) > 5
        return cls(
            allow_managed=listed or _is_true(managed),
            allow_global=_is_true(pairs.get("allowGlobal", "")),
            allow_default=_is_true(pairs.get("allowDefault", "")),
            allow_dns=_is_true(pairs.get("allowDNS", "")),
            managed_only=tuple(filter(None, managed.replace(" ", "").split(","))) if listed else (),
        )

    def text(self) -> str:
        """The four lines, in the reference's order. Unlike there, a list of networks survives."""
        managed = ",".join(self.managed_only) if self.allow_managed else "0"
        return (
            f"allowManaged={managed or 1}\nallowGlobal={self.allow_global:d}\n"
            f"allowDefault={self.allow_default:d}\nallowDNS={self.allow_dns:d}\n"
        )


class Home:
    """One home directory. Ids are integers; `None` as data means "delete"."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Home:
        """The directory at `path`, made if missing, with secrets closed to others; raises `HomeError`."""
        home = cls(path)
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            home._check_writable()
            home._close_identity()
            files.private_directory(path / "controller.d")
        except OSError as error:
            raise home._unusable(error) from error
        if (path / "controller.db").is_file():
            raise HomeError(
                f"FATAL: an old controller.db exists in {path} -- it is the database of a very old version: move it"
                " elsewhere, and import its networks through the controller API"
            )
        shutil.rmtree(path / "iddb.d", ignore_errors=True)
        return home

    def _check_writable(self) -> None:
        probe = self.path / ".writable"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, files.SECRET))
        probe.unlink()

    def _close_identity(self) -> None:
        """An identity that others can read is closed; a wider mode of authtoken.secret is its administrator's wish."""
        secret = self.path / "identity.secret"
        with contextlib.suppress(FileNotFoundError):
            if secret.stat().st_mode & 0o077:
                secret.chmod(files.SECRET)

    def _unusable(self, error: OSError) -> HomeError:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return HomeError(
                f"home directory {self.path} is not writable ({error.strerror}): run as its owner or as root,"
                " or name another home directory"
            )
        if isinstance(error, FileExistsError | NotADirectoryError):
            return HomeError(f"home directory {self.path} cannot be used: a file is in the way of a directory")
        return HomeError(f"home path {self.path} does not exist, and could not create: {error.strerror}")

    # Identity

    def identity(self, random: Callable[[int], bytes] = os.urandom) -> Identity:
        """The identity of this node; generated and stored when there is none.

        A damaged file, a secret key that is not the one of the public key, or an address without proof is a
        `HomeError`; the file stays as it is. ``identity.public`` is corrected if it differs, but not made
        (vl1-behaviour §1.1).
        """
        from ztpipe.wire.identity import Identity

        public = self.path / "identity.public"
        identity = self.stored_identity()
        if identity is None:
            identity = Identity.generate(random)
            files.write(self.path / "identity.secret", identity.text(private=True).encode(), mode=files.SECRET)
            files.write(public, identity.text().encode())
        elif files.read(public):
            files.write(public, identity.text().encode())
        return identity

    def stored_identity(self) -> Identity | None:
        """The identity that lies here, None if there is none yet; raises `HomeError` as `identity`. Writes nothing."""
        data = files.read(self.path / "identity.secret")
        return None if data is None else self._parse_identity(data)

    def _parse_identity(self, data: bytes) -> Identity:
        from ztpipe.wire.errors import WireError
        from ztpipe.wire.identity import Identity

        try:
            identity = Identity.parse(data.decode("ascii").strip(_TOKEN_BLANKS))
        except (WireError, UnicodeDecodeError) as error:
            raise self._bad_identity(f"identity.secret is damaged: {error}") from None
        if identity.private is None:
            raise self._bad_identity("identity.secret holds no secret key")
        if not _keys_match(identity):
            raise self._bad_identity("the secret key in identity.secret does not belong to its public key")
        if not identity.validate():
            raise self._bad_identity("the address in identity.secret does not follow from its key")
        return identity

    def _bad_identity(self, why: str) -> HomeError:
        return HomeError(
            "invalid identity loaded from disk. Please remove identity.public and identity.secret from"
            f" {self.path} and try again ({why}; with a new identity the node gets a new address)"
        )

    def retire_identity(self) -> None:
        """After the network reported a collision: keep the old secret aside, so that the next start makes a new one."""
        secret = self.path / "identity.secret"
        data = files.read(secret)
        if data is not None:
            files.write(self.path / "identity.secret.saved_after_collision", data, mode=files.SECRET)
        files.remove(secret)
        files.remove(self.path / "identity.public")

    # Tokens

    def auth_token(self) -> str:
        """The token of the HTTP API; made when there is none, blanks around it are stripped."""
        return self._token("authtoken.secret")

    def metrics_token(self) -> str:
        """The token that opens /metrics and nothing else."""
        return self._token("metricstoken.secret")

    def _token(self, name: str) -> str:
        data = files.read(self.path / name) or b""
        token = data.decode("utf-8", "replace").strip(_TOKEN_BLANKS)
        if not token:
            token = "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(_TOKEN_LENGTH))
            files.write(self.path / name, token.encode(), mode=files.SECRET)
        return token

    # State objects

    def planet(self) -> bytes | None:
        """The cached root definition, if any."""
        return files.read(self.path / "planet")

    def save_planet(self, data: bytes | None) -> None:
        """Store the root definition."""
        self._save(self.path / "planet", data)

    def moons(self) -> dict[int, bytes]:
        """World id -> binary world, of every moon stored."""
        return dict(_read_all(self.path / "moons.d", 16, ".moon"))

    def moon(self, world_id: int) -> bytes | None:
        """One of `moons`."""
        return files.read(self.path / "moons.d" / f"{world_id:016x}.moon")

    def save_moon(self, world_id: int, data: bytes | None) -> None:
        """Store or forget a moon."""
        self._save(self.path / "moons.d" / f"{world_id:016x}.moon", data)

    def networks(self) -> dict[int, bytes]:
        """Network id -> cached configuration dictionary; empty for a network joined without one yet."""
        found = _read_all(self.path / "networks.d", 16, ".conf")
        return {nwid: b"" if data.strip() == b"" else data for nwid, data in found}

    def save_network(self, nwid: int, data: bytes | None) -> None:
        """Store a configuration (empty: joined, none yet); None forgets the network and its local settings."""
        directory = self.path / "networks.d"
        self._save(directory / f"{nwid:016x}.conf", b"\n" if data == b"" else data)
        if data is None:
            files.remove(directory / f"{nwid:016x}.local.conf")

    def network_settings(self, nwid: int) -> NetworkSettings:
        """What the user allows on a network; defaults when nothing is stored."""
        data = files.read(self.path / "networks.d" / f"{nwid:016x}.local.conf") or b""
        return NetworkSettings.parse(data.decode("utf-8", "replace"))

    def save_network_settings(self, nwid: int, settings: NetworkSettings) -> None:
        """Store what the user allows on a network."""
        self._save(self.path / "networks.d" / f"{nwid:016x}.local.conf", settings.text().encode())

    def peers(self) -> dict[int, bytes]:
        """Address -> cached peer."""
        return dict(_read_all(self.path / "peers.d", 10, ".peer"))

    def save_peer(self, address: int, data: bytes | None) -> None:
        """Store or forget a peer."""
        self._save(self.path / "peers.d" / f"{address:010x}.peer", data)

    def expire_peers(self, now: float | None = None) -> int:
        """Remove peers not written for 30 days (`now`: seconds since the epoch); returns how many."""
        limit = (time.time() if now is None else now) - _PEER_LIFE
        removed = 0
        for path in _listing(self.path / "peers.d", 10, ".peer"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < limit:
                    path.unlink()
                    removed += 1
        return removed

    def save(self, kind: str, object_id: int, data: bytes | None) -> None:
        """Carry out a ``SaveState`` action of the node."""
        if kind == "planet":
            self.save_planet(data)
        else:
            {"moon": self.save_moon, "network": self.save_network, "peer": self.save_peer}[kind](object_id, data)

    def _save(self, path: Path, data: bytes | None) -> None:
        if data is None:
            files.remove(path)
            return
        path.parent.mkdir(exist_ok=True)
        files.write(path, data)

    # Service files

    def write_port(self, port: int) -> None:
        """Tell local clients the port; stays after a stop."""
        files.write(self.path / "zerotier-one.port", str(port).encode())

    def write_pid(self, pid: int) -> None:
        """Tell scripts the process."""
        files.write(self.path / "zerotier-one.pid", str(pid).encode())

    def remove_pid(self) -> None:
        """At a normal stop."""
        files.remove(self.path / "zerotier-one.pid")

    def write_metrics(self, text: str) -> None:
        """Refresh ``metrics.prom``; by rename, so no reader ever sees half of it."""
        files.write(self.path / "metrics.prom", text.encode(), durable=False)

    def write_local_conf(self, document: dict[str, object]) -> None:
        """Store local.conf as the reference does: 4 blanks, keys in order, no final newline (service §4.9)."""
        text = json.dumps(document, indent=4, sort_keys=True, ensure_ascii=False)
        files.write(self.path / "local.conf", text.encode("utf-8", "replace"))

    def device_map(self) -> dict[int, str]:
        """The legacy file ``devicemap``: network id -> interface name."""
        lines = (files.read(self.path / "devicemap") or b"").decode("utf-8", "replace").splitlines()
        pairs = (line.strip().partition("=") for line in lines)
        return {int(nwid, 16): name for nwid, _, name in pairs if name and _is_hex(nwid, 16)}

    def trusted_paths(self) -> dict[str, int]:
        """The legacy file ``trustedpaths``: underlay network (``IP/bits``) -> trusted path ID, not 0."""
        lines = (files.read(self.path / "trustedpaths") or b"").decode("utf-8", "replace").splitlines()
        pairs = (line.strip().partition("=") for line in lines)
        return {net.strip(): int(number, 16) for number, _, net in pairs if _is_path_id(number.strip()) and "/" in net}


def _is_true(value: str) -> bool:
    return value.startswith(("1", "t", "T"))


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdefABCDEF")


def _is_path_id(text: str) -> bool:
    return 0 < len(text) <= 16 and _is_hex(text, len(text)) and int(text, 16) != 0


def _listing(directory: Path, digits: int, suffix: str) -> Iterator[Path]:
    """Files named by exactly `digits` hex digits and `suffix`, in order."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(suffix) and _is_hex(name.removesuffix(suffix), digits):
            yield directory / name


def _read_all(directory: Path, digits: int, suffix: str) -> Iterator[tuple[int, bytes]]:
    for path in _listing(directory, digits, suffix):
        data = files.read(path)
        if data is not None:  # removed in the meantime
            yield int(path.name[:digits], 16), data


def _keys_match(identity: Identity) -> bool:
    """Whether both secret keys are those of the public keys (X25519 first, then Ed25519: vl1-wire §2.1)."""
    from nacl.bindings import crypto_scalarmult_base, crypto_sign_seed_keypair

    assert identity.private is not None
    exchange, signing = identity.private[:32], identity.private[32:]
    return crypto_scalarmult_base(exchange) + crypto_sign_seed_keypair(signing)[0] == identity.public
