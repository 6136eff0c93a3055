"""The configuration of a node: one typed, frozen `Config`, made once at start from

    flags  >  environment  >  the section ``ztpipe`` of local.conf  >  defaults

and validated there, so that nothing later has to. The sections of the reference (``settings``, ``physical``,
``virtual``; service §1.5) are in `Config.local`, read by `ztpipe.localconf` with the reference's leniency; our own
section is strict, and a bad value is a `ConfigError` that names its source, its key and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from ztpipe import localconf
from ztpipe.localconf import ConfigError, LocalConf, LocalConfError

__all__ = ["DEFAULT_HOME", "KNOBS", "Config", "ConfigError", "Knob", "LocalConfError", "WorkerConfig", "load"]

DEFAULT_HOME: Final = "/var/lib/zerotier-one"
DEFAULT_PORT: Final = 9993
MAX_WORKERS: Final = 64
#: sockaddr_un holds 108 bytes; "control.sock" and a terminator must fit behind the directory.
_MAX_RUN_DIR: Final = 108 - len("/control.sock\0")

Layout = Literal["pipeline", "fused", "auto"]
Role = Literal["tap", "crypto", "peer"]


class Knob(msgspec.Struct, frozen=True):
    """One setting of our own: where it may come from, and how its text becomes a value."""

    name: str  # field of Config
    key: str  # inside the section "ztpipe" of local.conf; dots go into objects
    expected: str  # for the error message and the help text
    help: str
    parse: Callable[[object], object]  # raises ValueError or TypeError
    secret: bool = False  # the value is never shown

    @property
    def flag(self) -> str:
        """The command line switch, e.g. ``--tap-workers``."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable, e.g. ``ZTPIPE_TAP_WORKERS``."""
        return "ZTPIPE_" + self.name.upper()

    def read(self, value: object, where: str, key: str) -> object:
        """The checked value; a bad one is a `ConfigError` naming `where` and `key`."""
        try:
            return self.parse(value)
        except (ValueError, TypeError):
            found = "something else" if self.secret else repr(value)
            raise ConfigError(where, key, f"expected {self.expected}, found {found}") from None


def _choice(*choices: str) -> Callable[[object], object]:
    def parse(value: object) -> object:
        if value not in choices:
            raise ValueError
        return value

    return parse


def _integer(low: int, high: int, *, power_of_two: bool = False) -> Callable[[object], object]:
    def parse(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError
        number = int(value)
        if not low <= number <= high or (power_of_two and number & (number - 1)):
            raise ValueError
        return number

    return parse


_WORDS: Final = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


def _boolean(value: object) -> object:
    if isinstance(value, str):
        value = _WORDS.get(value.lower())
    if not isinstance(value, bool):
        raise TypeError
    return value


def _cpus(value: object) -> object:
    """``[0, 2]`` or ``"0,2"``; null, ``""`` or ``"none"`` for no pinning."""
    if value is None or value in ("", "none"):
        return None
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise TypeError
    cpu = _integer(0, 1023)
    return tuple(cpu(item) for item in items) or None


def _routing_table(value: object) -> object:
    number = _integer(0, 0xFFFFFFFF)(value)
    if number in (253, 254, 255):  # default, main, local: the kernel's own
        raise ValueError
    return number


def _directory(value: object) -> object:
    if not isinstance(value, str | Path) or not str(value):
        raise TypeError
    return Path(value)


def _name(value: object) -> object:
    if not isinstance(value, str) or not value or any(c in value for c in ":/ \0"):
        raise TypeError
    return value


def _patterns(value: object) -> object:
    """``["eth*", "wlan0"]`` or ``"eth*,wlan0"``; an empty one for no restriction."""
    items = [item for item in value.split(",") if item] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and 0 < len(item) < 16 for item in items):
        raise TypeError
    return tuple(items)


def _conninfo(value: object) -> object:
    """``postgresql://user@host/name``, or ``postgres:`` and ``host=... dbname=...``; empty for none."""
    if not isinstance(value, str) or (value and not value.startswith(("postgresql://", "postgres:"))):
        raise TypeError
    return value if "://" in value else value.removeprefix("postgres:")


_COUNT: Final = f"a whole number from 1 to {MAX_WORKERS}"
_ON_OFF: Final = "true or false"

KNOBS: Final[tuple[Knob, ...]] = (
    Knob("layout", "layout", '"pipeline", "fused" or "auto"', "Processes of the data plane.",
         _choice("pipeline", "fused", "auto")),
    Knob("tap_workers", "tapWorkers", _COUNT, "TAP workers.", _integer(1, MAX_WORKERS)),
    Knob("crypto_workers", "cryptoWorkers", _COUNT, "Crypto workers.", _integer(1, MAX_WORKERS)),
    Knob("peer_workers", "peerWorkers", _COUNT, "UDP workers.", _integer(1, MAX_WORKERS)),
    Knob("gso_offload", "offload.gso", _ON_OFF, "UDP segmentation offload when sending.", _boolean),
    Knob("gro_offload", "offload.gro", _ON_OFF, "UDP receive offload.", _boolean),
    Knob("tso_offload", "offload.tso", _ON_OFF, "TCP super-frames on the TAP.", _boolean),
    Knob("uso_offload", "offload.uso", _ON_OFF, "UDP super-frames on the TAP.", _boolean),
    Knob("ring_slots", "ringSlots", "a power of two from 4 to 1024", "Slots of each ring between workers.",
         _integer(4, 1024, power_of_two=True)),
    Knob("log_level", "logLevel", '"debug", "info", "warning" or "error"', "Least severe lines to log.",
         _choice("debug", "info", "warning", "error")),
    Knob("log_format", "logFormat", '"auto", "text" or "json"', "Form of log lines; auto: text on a terminal.",
         _choice("auto", "text", "json")),
    Knob("sched", "sched", '"other" or "batch"', "Scheduling class of the workers.", _choice("other", "batch")),
    Knob("pinning", "pinning", "a list of CPU numbers or null", "CPUs for the workers, dealt in turn.", _cpus),
    Knob("busy_poll", "busyPoll", "microseconds from 0 to 10000",
         "How long an idle worker looks around before it sleeps.", _integer(0, 10_000)),
    Knob("protocol_version", "protocolVersion", "a whole number from 5 to 12",
         "Protocol version to announce; below 12 turns AES off.", _integer(5, 12)),
    Knob("require_tap", "requireTap", _ON_OFF, "Refuse to start where no TAP can be made.", _boolean),
    Knob("underlay_interfaces", "underlayInterfaces", "a list of interface names or patterns such as eth*",
         "Use these interfaces only for the underlay, whatever they are.", _patterns),
    Knob("user", "user", "the name of a user", "When started as root, become this user; root: stay.", _name),
    Knob("sandbox", "sandbox", _ON_OFF, "Refuse the workers all system calls that they do not need.", _boolean),
    Knob("strict_filtering", "strictFiltering", _ON_OFF, "Drop inbound frames that hide their contents from rules.",
         _boolean),
    Knob("routing_table", "routingTable", "a number from 0 to 4294967295, but not 253 to 255",
         "Routing table for managed routes, and mark of our own packets; 0: main table, no rules.", _routing_table),
    Knob("controller_database", "controllerDatabase", "a PostgreSQL URI or connection string",
         "Database that several controllers with one identity share, instead of a file.", _conninfo, secret=True),
    Knob("run_dir", "runDir", "the path of a directory", "Directory for sockets between our processes.", _directory),
)  # fmt: skip


#: What can change while the node runs, through the API.
WORKER_KEYS: Final = (
    "layout", "tapWorkers", "cryptoWorkers", "peerWorkers", "ringSlots", "sched", "pinning", "busyPoll",
)  # fmt: skip


class WorkerConfig(msgspec.Struct, frozen=True):
    """What one worker process is started with."""

    role: Role
    index: int
    layout: Layout
    gso: bool
    gro: bool
    tso: bool
    uso: bool
    sched: Literal["other", "batch"]
    cpu: int | None
    run_dir: str
    sandbox: bool = True


class Config(msgspec.Struct, frozen=True):
    """Everything a node was told, checked. `local` is what can change while it runs (see `with_local`)."""

    home: Path
    run_dir: Path
    port: int = DEFAULT_PORT  # 0: pick a random one
    local: LocalConf = LocalConf()
    layout: Layout = "pipeline"
    tap_workers: int = 1
    crypto_workers: int = 1
    peer_workers: int = 1
    gso_offload: bool = True
    gro_offload: bool = True
    tso_offload: bool = True
    uso_offload: bool = True
    ring_slots: int = 32
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    sched: Literal["other", "batch"] = "batch"
    pinning: tuple[int, ...] | None = None
    busy_poll: int = 0  # microseconds
    protocol_version: int = 12
    require_tap: bool = True
    underlay_interfaces: tuple[str, ...] = ()
    user: str | None = None  # None: zerotier-one, if there is such a user
    sandbox: bool = True
    strict_filtering: bool = False
    routing_table: int = 0
    controller_database: str = ""

    @property
    def local_conf(self) -> Path:
        """Path of ``local.conf``."""
        return self.home / "local.conf"

    @property
    def controller_db(self) -> Path:
        """Where the controller keeps its records: ``controllerDbPath`` or ``<home>/controller.d``."""
        return Path(self.local.settings.controller_db_path or self.home / "controller.d")

    def with_local(self, local: LocalConf) -> Config:
        """The same node after a reload of local.conf; start-only settings keep their values."""
        return msgspec.structs.replace(self, local=local)

    def with_workers(self, values: Mapping[str, object], where: str) -> Config:
        """The same node with other workers: `values` by keys of the section ``ztpipe``, of those in `WORKER_KEYS`.

        Raises `ConfigError`, which calls the source `where`.
        """
        knobs = {knob.key: knob for knob in KNOBS if knob.key in WORKER_KEYS}
        if unknown := sorted(values.keys() - knobs.keys()):
            raise ConfigError(where, unknown[0], f"cannot be changed while running; {', '.join(WORKER_KEYS)} can")
        read = {knobs[key].name: knobs[key].read(value, where, key) for key, value in values.items()}
        return msgspec.structs.replace(self, **read)

    def worker(self, role: Role, index: int) -> WorkerConfig:
        """The slice for worker `index` of `role`; `pinning` is dealt to tap, crypto, peer workers in this order."""
        before = {"tap": 0, "crypto": self.tap_workers, "peer": self.tap_workers + self.crypto_workers}[role]
        return WorkerConfig(
            role=role,
            index=index,
            layout=self.layout,
            gso=self.gso_offload,
            gro=self.gro_offload,
            tso=self.tso_offload,
            uso=self.uso_offload,
            sched=self.sched,
            cpu=self.pinning[(before + index) % len(self.pinning)] if self.pinning else None,
            run_dir=str(self.run_dir),
            sandbox=self.sandbox,
        )


def load(
    home: Path,
    *,
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    default_port: int = DEFAULT_PORT,
) -> Config:
    """Read ``<home>/local.conf`` and combine it with `flags` (field name -> value; None means "not given").

    `flags["port"]` and ZTPIPE_PORT win over ``settings.primaryPort``, which wins over `default_port` (``-p`` of
    zerotier-one, as in the reference). Raises `ConfigError`; `OSError` when local.conf cannot be read.
    """
    flags, environment = flags or {}, environment or {}
    local = localconf.load(home / "local.conf")
    values: dict[str, object] = {"run_dir": home / "run"}
    values.update(_from_local_conf(local, str(home / "local.conf")))
    for knob in KNOBS:
        if environment.get(knob.variable):
            values[knob.name] = knob.read(environment[knob.variable], "environment", knob.variable)
        if flags.get(knob.name) is not None:
            values[knob.name] = knob.read(flags[knob.name], "command line", knob.flag)
    port = _port(flags, environment, local, default_port)
    config = Config(home=home, port=port, local=local, **values)  # type: ignore[arg-type]  # each knob checked its own
    if len(str(config.run_dir).encode()) > _MAX_RUN_DIR:
        raise ConfigError("configuration", "runDir", f"a path of at most {_MAX_RUN_DIR} bytes, found {config.run_dir}")
    return config


def reload(config: Config) -> Config:
    """`config` with local.conf as it is now, checked as strictly as at start.

    The section ``ztpipe`` and the start-only settings keep the values they have. Raises as `load`.
    """
    local = localconf.load(config.local_conf)
    _from_local_conf(local, str(config.local_conf))
    return config.with_local(local)


def _port(flags: Mapping[str, object], environment: Mapping[str, str], local: LocalConf, default: int) -> int:
    knob = Knob("port", "", "a port from 0 to 65535", "", _integer(0, 65535))
    found: object = local.settings.primary_port if local.settings.primary_port is not None else default
    if environment.get(knob.variable):
        found = knob.read(environment[knob.variable], "environment", knob.variable)
    if flags.get("port") is not None:
        found = knob.read(flags["port"], "command line", knob.flag)
    assert isinstance(found, int)
    return found


def _from_local_conf(local: LocalConf, path: str) -> dict[str, object]:
    """The values of the section ``ztpipe``; strict about types and about unknown keys."""
    section = local.raw.get("ztpipe", {})
    if not isinstance(section, dict):
        raise ConfigError(path, "ztpipe", "expected an object")
    knobs = {knob.key: knob for knob in KNOBS}
    values: dict[str, object] = {}
    for key, value in _flatten(section, path):
        if key not in knobs:
            raise ConfigError(path, f"ztpipe.{key}", f"no such setting; known are {', '.join(sorted(knobs))}")
        values[knobs[key].name] = knobs[key].read(value, path, f"ztpipe.{key}")
    return values


def _flatten(section: Mapping[str, object], path: str) -> list[tuple[str, object]]:
    """Key and value pairs, with the object ``offload`` opened into ``offload.gso`` and so on."""
    pairs: list[tuple[str, object]] = []
    for key, value in section.items():
        if key != "offload":
            pairs.append((key, value))
        elif isinstance(value, dict):
            pairs += [(f"offload.{name}", inner) for name, inner in value.items()]
        else:
            raise ConfigError(path, "ztpipe.offload", "expected an object")
    return pairs
