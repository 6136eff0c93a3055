"""What is checked and loaded before anything runs."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Container
from dataclasses import asdict

import msgspec

from ztpipe.config import Config
from ztpipe.host import privileges
from ztpipe.host.capabilities import has_net_admin
from ztpipe.host.probe import probe
from ztpipe.host.sockets import port_is_free, random_port
from ztpipe.host.tap import TapError
from ztpipe.log import get_logger
from ztpipe.store import Home
from ztpipe.wire.errors import WireError
from ztpipe.wire.world import EARTH, World, verify_update

log = get_logger("control")


def with_probed_offloads(config: Config) -> Config:
    """The configuration without the offloads that this kernel does not have."""
    found = asdict(probe())
    wanted = {name: getattr(config, f"{name}_offload") for name in found}
    missing = [name for name in found if wanted[name] and not found[name]]
    if missing:
        log.warning("this kernel lacks offloads; slower, but it works", missing=missing)
    return msgspec.structs.replace(config, **{f"{name}_offload": wanted[name] and found[name] for name in found})


class PortInUse(OSError):
    """The primary port is taken."""


def check_host(config: Config) -> None:
    """Refuse to start where no TAP could ever be made; raises TapError. Off for controllers and roots by requireTap."""
    if not config.require_tap:
        return
    if not os.path.exists("/dev/net/tun"):
        raise TapError(
            errno.ENOENT,
            "/dev/net/tun is missing: load the tun module or pass the device into the container,"
            " or set ztpipe.requireTap to false for a node without networks",
        )
    if not has_net_admin():
        raise TapError(
            errno.EPERM,
            "no CAP_NET_ADMIN, so no TAP device can be made: run as root or grant it,"
            " or set ztpipe.requireTap to false for a node without networks",
        )


def raise_file_limit() -> None:
    """Each network costs a file for each TAP worker: use all that the host allows us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def leave_root(config: Config) -> None:
    """As root, become the user that is configured, else zerotier-one where there is one (service §7.2).

    Raises `PrivilegeError` when the configured one is impossible; without one the node goes on as root.
    """
    if config.user == "root" or (config.user is None and os.geteuid() != 0):
        return
    user = privileges.find_user(config.user or privileges.DEFAULT_USER)
    if user is None and config.user is None:
        return
    if user is None:
        raise privileges.PrivilegeError(f"there is no user {config.user}")
    if os.geteuid() == user.pw_uid:
        return
    if os.geteuid() != 0:
        raise privileges.PrivilegeError(f"only root can become user {config.user}")
    settings = config.local.settings
    ports = (config.port, settings.secondary_port or 0)
    directories = [path for path in (config.run_dir, config.controller_db) if not path.is_relative_to(config.home)]
    try:
        privileges.drop(
            user,
            config.home,
            directories=directories,
            low_port=any(0 < port < 1024 for port in ports),
            tun=config.require_tap,
        )
    except privileges.PrivilegeError as error:
        if config.user is not None:
            raise
        log.warning("going on as root", reason=error.strerror, hint="set ztpipe.user to root to be rid of this line")
        return
    log.info("privileges dropped", user=user.pw_name)


def choose_ports(config: Config, listening: Container[int] = ()) -> list[int]:
    """[primary, secondary, tertiary] (vl1-behaviour §6.1), 0: none. PortInUse if the primary one is not free.

    The tertiary one is for the port mapper, since a mapping disturbs ordinary traversal on some routers. `listening`:
    TCP ports that this process listens on already.
    """
    settings = config.local.settings
    primary = config.port or random_port()
    if (number := port_is_free(primary, listening=primary in listening)) != 0:
        raise PortInUse(
            number,
            f"cannot bind to local control interface port {primary}: another node or program uses it;"
            " stop it or choose another port with -p",
        )
    ports = [primary]
    for wanted, fixed in (
        (settings.allow_secondary_port, settings.secondary_port),
        (settings.port_mapping_enabled, settings.tertiary_port),
    ):
        port = fixed or random_port() if wanted else 0
        ports.append(port if port not in ports else 0)
    return ports


def load_worlds(home: Home) -> tuple[World, list[World]]:
    """The planet in force and all stored moons (vl1-wire §11.3): a cached planet wins unless ours is newer."""
    planet = _decode(home.planet(), "planet")
    if planet is None or verify_update(planet, EARTH):
        planet = EARTH
        home.save_planet(EARTH.encode())
    moons = [
        moon for number, data in home.moons().items() if (moon := _decode(data, f"moon {number:016x}")) is not None
    ]
    return planet, moons


def load_peers(home: Home) -> dict[int, bytes]:
    """The records of peers.d; those not written for 30 days are removed first (vl1-behaviour §1.2)."""
    home.expire_peers()
    return home.peers()


def stored_moon(home: Home, world_id: int) -> World | None:
    """What lies in moons.d under that ID, if it can be read."""
    return _decode(home.moon(world_id), f"moon {world_id:016x}")


def _decode(data: bytes | None, what: str) -> World | None:
    if not data:
        return None
    try:
        return World.decode(data)
    except WireError as error:
        log.warning("stored world unreadable", world=what, error=str(error))
        return None
