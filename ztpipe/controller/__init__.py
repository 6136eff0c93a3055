"""The network controller: who belongs to a network, and what configuration a member gets.

Everything in here but `store_sqlite` is sans-IO: time, randomness and the store are arguments, and packets to
send leave as `ControllerAction` values.  Facts are cited from docs/protocol/controller.md as "controller §n".
"""

from ztpipe.controller.actions import ControllerAction, LocalConfig, LocalError, SendPacket
from ztpipe.controller.controller import Controller
from ztpipe.controller.errors import ControllerError
from ztpipe.controller.store import MemoryStore, Store, StoreError

__all__ = [
    "Controller",
    "ControllerAction",
    "ControllerError",
    "LocalConfig",
    "LocalError",
    "MemoryStore",
    "SendPacket",
    "Store",
    "StoreError",
]
