"""UDP sockets of the underlay: one per local address, port and peer worker (vl1-behaviour §6.1, §6.2).

All sockets of one (address, port) share it by SO_REUSEPORT: the kernel spreads remote endpoints over them and keeps
each remote on one socket, so the order of a peer's datagrams survives several peer workers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from ztpipe.wire.inetaddress import InetAddress

_BUFFER = 16 * 1024 * 1024
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_PMTUDISC_DONT, _PMTUDISC_PROBE = 0, 3
_MTU_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_MTU = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
_UDP_SEGMENT, _UDP_GRO = 103, 104
_SOL_UDP = 17


@dataclass(slots=True)
class UdpBinding:
    """One local address and port. `id` is the binding's number in datagrams' records and in the node."""

    id: int
    local: InetAddress
    interface: str
    mtu: int = 0  # of the device; 0: not known
    mark: int = 0  # of packets, for policy routing; 0: none
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def family(self) -> int:
        return 4 if len(self.local.ip) == 4 else 6

    def filenos(self) -> list[int]:
        return [s.fileno() for s in self.sockets]

    def send(self, remote: InetAddress, data: bytes, ttl: int = 0, *, whole: bool = False) -> int:
        """Send one datagram from control itself (control traffic), `whole`: in one IP packet. Returns 0 or an errno."""
        sock = self.sockets[0]
        try:
            if whole:
                return _send_whole(sock, remote, data)
            if ttl and self.family == 4:
                return _send_with_ttl(sock, remote, data, ttl)
            sock.sendto(data, (socket.inet_ntop(sock.family, remote.ip), remote.port))
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def path_mtu(self, remote: InetAddress) -> int:
        """The largest IP packet that the kernel thinks reaches `remote`, by its device and ICMP. 0: it does not say.

        By a socket of the moment: ours are not connected, and what is reported to a connected one need not be read.
        """
        family = socket.AF_INET if self.family == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                _bind_to_device(sock, self.interface)
                set_mark(sock, self.mark)
                sock.bind((socket.inet_ntop(family, self.local.ip), 0))
                sock.connect((socket.inet_ntop(family, remote.ip), remote.port))
                return sock.getsockopt(*_MTU[family])
        except OSError:
            return 0

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()


def open_binding(
    number: int, local: InetAddress, interface: str, *, workers: int, gro: bool, mark: int = 0
) -> UdpBinding:
    """Bind `workers` sockets to `local`, on its device if there is one. Raises OSError (EADDRINUSE, ...)."""
    binding = UdpBinding(number, local, interface, mark=mark)
    try:
        add_sockets(binding, workers, gro=gro)
    except OSError:
        binding.close()
        raise
    return binding


def add_sockets(binding: UdpBinding, workers: int, *, gro: bool) -> None:
    """Open what a binding lacks to have a socket for each of `workers`. Raises OSError.

    The kernel spreads remotes over all of them from then on, also over those that nobody reads yet.
    """
    if workers > 1:
        for sock in binding.sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    while len(binding.sockets) < workers:
        sock = _open(binding.local, binding.interface, shared=workers > 1, gro=gro)
        binding.sockets.append(sock)
        set_mark(sock, binding.mark)


def set_mark(sock: socket.socket, mark: int) -> None:
    """Have policy routing send what leaves here past the managed routes; needs CAP_NET_ADMIN, as making a TAP does."""
    if mark:
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)


def _open(local: InetAddress, interface: str, *, shared: bool, gro: bool) -> socket.socket:
    family = socket.AF_INET if len(local.ip) == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _set_buffers(sock)
        # An underlay with a small MTU fragments our datagrams rather than losing them.
        level, option = _MTU_DISCOVER[family]
        sock.setsockopt(level, option, _PMTUDISC_DONT)
        _bind_to_device(sock, interface)
        if gro:
            with contextlib.suppress(OSError):
                sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        sock.bind((socket.inet_ntop(family, local.ip), local.port))
    except OSError:
        sock.close()
        raise
    return sock


def _bind_to_device(sock: socket.socket, interface: str) -> None:
    """Keeps managed default routes from capturing our own transport; may need CAP_NET_RAW, works without."""
    if interface:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")


def _set_buffers(sock: socket.socket) -> None:
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)


def _send_whole(sock: socket.socket, remote: InetAddress, data: bytes) -> int:
    """With "don't fragment", past any cached path MTU. The workers share the socket: a datagram that one of them sends
    in this very moment goes out whole too, which costs nothing unless it is too long, and then one datagram."""
    level, option = _MTU_DISCOVER[sock.family]
    sock.setsockopt(level, option, _PMTUDISC_PROBE)
    try:
        sock.sendto(data, (socket.inet_ntop(sock.family, remote.ip), remote.port))
    finally:
        sock.setsockopt(level, option, _PMTUDISC_DONT)
    return 0


def _send_with_ttl(sock: socket.socket, remote: InetAddress, data: bytes, ttl: int) -> int:
    """NAT-opening datagrams die after `ttl` hops; as ancillary data, so that the socket's own TTL is left alone."""
    address = (socket.inet_ntop(sock.family, remote.ip), remote.port)
    sock.sendmsg([data], [(socket.IPPROTO_IP, socket.IP_TTL, ttl.to_bytes(4, "little"))], 0, address)
    return 0


def udp_offloads() -> tuple[bool, bool]:
    """Whether this kernel knows UDP_SEGMENT and UDP_GRO (segmentation on send, coalescing on receive)."""
    answers = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for option, value in ((_UDP_SEGMENT, 1400), (_UDP_GRO, 1)):
            try:
                probe.setsockopt(_SOL_UDP, option, value)
                answers.append(True)
            except OSError:
                answers.append(False)
    return answers[0], answers[1]


def port_is_free(port: int, *, listening: bool = False) -> int:
    """0 if UDP and TCP `port` can be bound on the wildcards of both families, else the errno of the first refusal.

    A host without IPv6 (or IPv4) is judged by the other family alone. `listening`: the TCP port is ours already.
    """
    refusals = [_try_bind(family, port, udp_only=listening) for family in (socket.AF_INET, socket.AF_INET6)]
    judged = [refusal for refusal in refusals if refusal not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)]
    return next((refusal for refusal in judged or refusals if refusal != 0), 0)


def _try_bind(family: int, port: int, *, udp_only: bool) -> int:
    for kind in (socket.SOCK_DGRAM,) if udp_only else (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        try:
            probe = socket.socket(family, kind)
        except OSError as error:
            return error.errno or errno.EIO
        with probe:
            try:
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(("", port))
            except OSError as error:
                return error.errno or errno.EIO
    return 0


def random_port(random: Callable[[int], bytes] = os.urandom) -> int:
    """A free port from 20000 up, or 0 if none is found in 1000 tries (vl1-behaviour §6.1)."""
    port = 20_000 + int.from_bytes(random(4), "big") % 45_500
    for _ in range(1000):
        if port_is_free(port) == 0:
            return port
        port = port + 1 if port < 65_535 else 20_000
    return 0
