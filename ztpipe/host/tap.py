"""TAP devices: one per network, with one or more queues and the kernel's offloads probed (vl2 §1.4, §7.6).

The file descriptors are opened by control and handed to the workers, so a restarted worker finds its queue as it was.
The device is not persistent: it vanishes with the last descriptor, and its addresses and routes with it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntFlag

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x0002, 0x1000, 0x0100, 0x4000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU, _SIOCSIFHWADDR = 0x8913, 0x8914, 0x8922, 0x8924
_RTM_NEWQDISC, _TCA_KIND, _TC_ROOT = 36, 1, 0xFFFFFFFF
_NLM_REQUEST, _NLM_ACK, _NLM_REPLACE, _NLM_CREATE = 0x1, 0x4, 0x100, 0x400
_IFF_UP, _IFF_MULTICAST = 0x1, 0x1000
_ARPHRD_ETHER = 1
VNET_HEADER = 12  # bytes before every frame, kernel/abi.h ZT_VNET_HDR


class TunOffload(IntFlag):
    """What the kernel may leave to us (linux/if_tun.h)."""

    CSUM = 0x01
    TSO4 = 0x02
    TSO6 = 0x04
    TSO_ECN = 0x08
    USO4 = 0x20
    USO6 = 0x40


NOTHING = TunOffload(0)
TSO = TunOffload.CSUM | TunOffload.TSO4 | TunOffload.TSO6 | TunOffload.TSO_ECN
USO = TunOffload.USO4 | TunOffload.USO6


class TapError(OSError):
    """The device could not be made; `what` says what to do about it."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, f"{what} ({os.strerror(number)})")


@dataclass(slots=True)
class Tap:
    """An open TAP device. `offload` is what the kernel agreed to; `queues` are non-blocking descriptors."""

    name: str
    mac: int
    mtu: int
    queues: list[int] = field(default_factory=list)
    offload: TunOffload = NOTHING

    @classmethod
    def create(
        cls, names: Iterator[str], mac: int, mtu: int, *, queues: int = 1, tso: bool = True, uso: bool = True
    ) -> Tap:
        """Make a device under the first free name of `names`, set MAC and MTU, bring it up.

        Raises TapError when there is no /dev/net/tun, no CAP_NET_ADMIN, or no free name.
        """
        for name in names:
            if os.path.exists(f"/sys/class/net/{name}"):
                continue
            tap = cls(name, mac, mtu)
            try:
                tap.add_queues(queues)
                tap._set_hardware_address(mac)
                tap.set_mtu(mtu)
                tap._without_qdisc()
                tap._up()
                tap._negotiate(tso, uso)
            except TapError as error:
                tap.close()
                if error.errno == errno.EBUSY:
                    continue
                raise
            except OSError as error:
                tap.close()
                raise TapError(error.errno or errno.EIO, f"cannot set up TAP device {name}") from error
            return tap
        raise TapError(errno.EEXIST, "no free TAP device name")

    def add_queues(self, count: int) -> None:
        """Open what is missing to `count` queues; the kernel spreads flows over all at once. Raises TapError."""
        while len(self.queues) < count:
            self.queues.append(open_queue(self.name))

    def drop_queues(self, count: int) -> None:
        """Close ours beyond `count`; a queue goes when nobody has it open any more."""
        while len(self.queues) > count:
            os.close(self.queues.pop())

    def set_mtu(self, mtu: int) -> None:
        """Change the interface's MTU (bytes of Ethernet payload)."""
        self._ioctl(_SIOCSIFMTU, struct.pack("16si", self.name.encode(), mtu))
        self.mtu = mtu

    def close(self) -> None:
        """Close our descriptors; the device goes when the workers have closed theirs."""
        while self.queues:
            with contextlib.suppress(OSError):
                os.close(self.queues.pop())

    def _set_hardware_address(self, mac: int) -> None:
        self._ioctl(_SIOCSIFHWADDR, struct.pack("16sH6s8x", self.name.encode(), _ARPHRD_ETHER, mac.to_bytes(6, "big")))

    def _without_qdisc(self) -> None:
        """A TAP takes or drops a frame at once, so a queueing discipline never queues; but each possible queue of a
        device would get its own, 6 MB in all. A kernel that refuses wastes these, no more.

        Written by hand, because the netlink library's calls are asynchronous and this is not.
        """
        kind = struct.pack("=HH8s", 12, _TCA_KIND, b"noqueue")
        message = struct.pack("=B3xiIII", 0, socket.if_nametoindex(self.name), 0, _TC_ROOT, 0) + kind
        flags = _NLM_REQUEST | _NLM_ACK | _NLM_CREATE | _NLM_REPLACE
        header = struct.pack("=IHHII", 16 + len(message), _RTM_NEWQDISC, flags, 1, 0)
        with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
            netlink.settimeout(1)
            netlink.send(header + message)
            netlink.recv(4096)  # done by then, or refused

    def _up(self) -> None:
        flags = struct.unpack("16sH", self._ioctl(_SIOCGIFFLAGS, struct.pack("16sH", self.name.encode(), 0))[:18])[1]
        self._ioctl(_SIOCSIFFLAGS, struct.pack("16sH", self.name.encode(), flags | _IFF_UP | _IFF_MULTICAST))

    def _negotiate(self, tso: bool, uso: bool) -> None:
        """Ask for the most and settle for what the kernel knows; an old kernel refuses USO, a very old one all."""
        wishes = [TSO | USO] if tso and uso else []
        wishes += [TSO] if tso else []
        for wish in [*wishes, TunOffload.CSUM, TunOffload(0)]:
            try:
                for fd in self.queues:
                    fcntl.ioctl(fd, _TUNSETOFFLOAD, int(wish))
            except OSError:
                continue
            self.offload = wish
            return

    def _ioctl(self, request: int, argument: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            return fcntl.ioctl(probe, request, argument)


def open_queue(name: str) -> int:
    """A non-blocking queue of TAP device `name`, with vnet headers; the device is made if need be. Raises TapError.

    A device always may have several, because a device that may not cannot be changed.
    """
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise TapError(
            errno.ENOENT, "/dev/net/tun is missing: load the tun module or pass the device into the container"
        ) from error
    except OSError as error:
        raise TapError(
            error.errno or errno.EIO, "cannot open /dev/net/tun: run as root or with CAP_NET_ADMIN"
        ) from error
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_MULTI_QUEUE
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER))
    except OSError as error:
        os.close(fd)
        raise TapError(
            error.errno or errno.EIO, f"cannot create TAP device {name}: run as root or with CAP_NET_ADMIN"
        ) from error
    return fd
