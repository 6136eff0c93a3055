"""The UDP sockets of the underlay, following the host's addresses (vl1-behaviour §6.1, §6.2)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ztpipe.host.netlink import UnderlayAddress
from ztpipe.host.sockets import UdpBinding, add_sockets, open_binding
from ztpipe.log import get_logger
from ztpipe.node.actions import SendDatagram
from ztpipe.node.settings import TUNNEL, Binding
from ztpipe.wire.inetaddress import InetAddress

log = get_logger("underlay")
MAX_BINDINGS = TUNNEL  # the ids below it


class SocketCarrier(Protocol):
    """Who receives and sends on the sockets: the supervisor of the workers."""

    def add_binding(self, binding: int, family: int, fds: list[int]) -> None: ...
    def remove_binding(self, binding: int) -> None: ...


class TcpTunnel(Protocol):
    """The connection to a TCP relay (`runtime.tunnel`)."""

    @property
    def open(self) -> bool: ...
    def send(self, remote: InetAddress, datagram: bytes, *, only: bool) -> int | None: ...


_TUNNEL_BINDING = Binding(TUNNEL, InetAddress(bytes(4), 0), "", 1_460)


class Bindings:
    """One binding per usable local address and port."""

    def __init__(
        self,
        carrier: SocketCarrier,
        ports: Sequence[int],
        *,
        workers: int,
        gro: bool,
        changed: Callable[[list[Binding]], None],
        mark: int = 0,
    ) -> None:
        self._carrier, self._workers, self._gro, self._changed = carrier, workers, gro, changed
        self._mark = mark
        self.ports = list(ports)
        self.by_id: dict[int, UdpBinding] = {}
        self.tunnel: TcpTunnel | None = None
        self._next = 0

    def sync(self, addresses: Sequence[UnderlayAddress]) -> None:
        """Bind what is missing, close what is gone, keep the rest; then tell the node if anything changed."""
        wanted = {(InetAddress(a.address.ip, port), a.interface) for a in addresses for port in self.ports if port}
        present = {(b.local, b.interface): number for number, b in self.by_id.items()}
        before = set(present)
        for key in before - wanted:
            self._close(present[key])
        for local, interface in sorted(wanted - before, key=lambda k: (k[1], len(k[0].ip), k[0])):
            if len(self.by_id) < MAX_BINDINGS:
                self._open(local, interface)
        resized = self._take_mtus({(a.address.ip, a.interface): a.mtu for a in addresses})
        if resized or before != {(b.local, b.interface) for b in self.by_id.values()}:
            self.announce()

    def announce(self) -> None:
        """Tell the node what there is: the sockets, and the tunnel if it is open."""
        found = [Binding(n, b.local, b.interface, b.mtu) for n, b in sorted(self.by_id.items())]
        if self.tunnel is not None and self.tunnel.open:
            found.append(_TUNNEL_BINDING)
        self._changed(found)

    def _take_mtus(self, mtus: Mapping[tuple[bytes, str], int]) -> bool:
        """Note the MTU of each device; True if one has changed."""
        changed = False
        for binding in self.by_id.values():
            mtu = mtus.get((binding.local.ip, binding.interface), 0)
            changed |= mtu != binding.mtu
            binding.mtu = mtu
        return changed

    def _open(self, local: InetAddress, interface: str) -> None:
        number = self._free_id()
        try:
            binding = open_binding(number, local, interface, workers=self._workers, gro=self._gro, mark=self._mark)
        except OSError as error:
            level = log.debug if error.errno == errno.EADDRNOTAVAIL else log.warning
            level("cannot bind", address=local.text(), error=str(error))
            return
        self.by_id[number] = binding
        self._hand_over(binding)
        log.info("listening", address=local.text(), interface=interface)

    def _free_id(self) -> int:
        """The next id round robin, so that a datagram still in a ring does not leave by a newer socket."""
        while self._next in self.by_id:
            self._next = (self._next + 1) % MAX_BINDINGS
        number, self._next = self._next, (self._next + 1) % MAX_BINDINGS
        return number

    def _close(self, number: int) -> None:
        self._carrier.remove_binding(number)
        self.by_id.pop(number).close()

    def widen(self, workers: int) -> None:
        """Have at least one socket for each of so many workers; surplus ones stay until `trim`."""
        self._workers = workers
        for binding in self.by_id.values():
            try:
                add_sockets(binding, workers, gro=self._gro)
            except OSError as error:
                log.warning("no socket for another worker", address=binding.local.text(), error=str(error))

    def hand_out(self) -> None:
        """Give all sockets to the workers, who have none; a binding that lacks some is closed, to be bound anew."""
        for number, binding in list(self.by_id.items()):
            if len(binding.sockets) < self._workers:
                self._close(number)
            else:
                self._hand_over(binding)

    def trim(self) -> None:
        """Close what has become surplus; what waits in there is lost, so let the workers read it first."""
        for binding in self.by_id.values():
            if len(binding.sockets) > self._workers:
                surplus = binding.sockets[self._workers :]
                del binding.sockets[self._workers :]
                self._hand_over(binding)
                for sock in surplus:
                    sock.close()

    def _hand_over(self, binding: UdpBinding) -> None:
        self._carrier.add_binding(binding.id, binding.family, binding.filenos())

    def path_mtu(self, number: int, remote: InetAddress) -> int:
        """The largest IP packet that the host thinks reaches `remote` from this binding; 0: it does not say."""
        binding = self.by_id.get(number)
        return binding.path_mtu(remote) if binding is not None else 0

    def close(self) -> None:
        for number in list(self.by_id):
            self._close(number)

    def send(self, action: SendDatagram) -> tuple[int, int]:
        """Send a datagram of the node's own, through the tunnel too if UDP does not work; (sent, failed) counts."""
        if self.tunnel is not None:
            sent = self.tunnel.send(action.remote, action.data, only=action.binding == TUNNEL)
            if sent is not None:
                return sent, 0
        if action.binding is not None:
            chosen = [b] if (b := self.by_id.get(action.binding)) else []
        else:
            family = 4 if len(action.remote.ip) == 4 else 6
            chosen = [b for b in self.by_id.values() if b.family == family]
        failed = sum(1 for b in chosen if b.send(action.remote, action.data, action.ttl, whole=action.whole) != 0)
        return len(chosen) - failed, failed + (0 if chosen else 1)
