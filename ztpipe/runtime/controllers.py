"""The controller that lives beside the node: where its records are, and what goes between the two.

Requests go one way, packets and configurations the other.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ztpipe.config import Config
from ztpipe.controller.actions import ControllerAction, LocalConfig, LocalError, SendPacket
from ztpipe.controller.controller import Controller
from ztpipe.controller.leases import SharedLeases
from ztpipe.controller.store import Store, StoreError
from ztpipe.controller.store_sqlite import SqliteStore
from ztpipe.log import get_logger
from ztpipe.node.node import Node
from ztpipe.wire.identity import Identity

if TYPE_CHECKING:
    from ztpipe.controller.store_postgres import PostgresStore

log = get_logger("controller")


def open_controller(config: Config, identity: Identity) -> tuple[Controller, Store]:
    """The controller with its records: an SQLite file, or a PostgreSQL database that others share. StoreError."""
    if not config.controller_database:
        config.controller_db.mkdir(mode=0o700, parents=True, exist_ok=True)
        sqlite = SqliteStore(config.controller_db)
        if sqlite.read_only:
            log.error("the controller's records can only be read", file=str(sqlite.path), reason="no room beside it")
        return Controller(identity, sqlite, random=os.urandom), sqlite
    postgres = open_postgres(config.controller_database, identity.address)
    return Controller(identity, postgres, random=os.urandom, leases=SharedLeases(postgres)), postgres


def open_postgres(conninfo: str, controller: int) -> PostgresStore:
    """A store that tells this process from the others; StoreError without psycopg, too."""
    try:
        from ztpipe.controller.store_postgres import PostgresStore
    except ImportError as error:
        raise StoreError(f"a PostgreSQL database needs psycopg: pip install 'ztpipe[postgres]' ({error})") from None
    return PostgresStore(conninfo, controller, instance=secrets.token_hex(8))


def deliver(node: Node, now: int, actions: Iterable[ControllerAction]) -> None:
    """Hand the controller's answers to the node. Its own member never sees a packet: it is served in the process."""
    for action in actions:
        if isinstance(action, SendPacket):
            node.send_verb(now, action.destination, action.verb, action.payload, compress=action.compress)
        elif isinstance(action, LocalConfig):
            node.network_config_from_controller(now, action.nwid, action.dictionary)
        elif isinstance(action, LocalError):
            node.controller_error(now, action.nwid, action.code)
