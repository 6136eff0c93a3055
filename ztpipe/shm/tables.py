"""The shared tables: what control decided, where the workers' C stages look it up (kernel/table.h).

The methods mirror the actions of `ztpipe.node.actions` one to one. The tables are a cache of decisions: when one is
full, the entry is refused and counted in `refused`, and its traffic keeps going through the slow path.

A path or membership may be installed before its peer or network has an entry: it is remembered here and written as soon
as that appears. Removing a peer drops its paths; its memberships come back with it until they are removed themselves.
"""

from __future__ import annotations

import errno
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.bridged import Bridged
from ztpipe.shm.groups import Groups
from ztpipe.shm.policies import Policies
from ztpipe.shm.region import Region, RegionError

__all__ = ["Endpoint", "Sizes", "Tables"]

#: (ip: 4 or 16 bytes, UDP port); an InetAddress is one.
Endpoint: TypeAlias = tuple[bytes, int]

_REASONS: Final = {
    errno.EPROTO: "it holds no tables",
    errno.EPROTONOSUPPORT: f"they were made for another ABI version than {lib.ZT_ABI_VERSION}",
    errno.EINVAL: "their sizes do not fit the region",
}
_K = TypeVar("_K")
_MANY_PATHS: Final = 256
_OVERLAP: Final = 2_000
"""Stamps are of the beginning of a batch: look again at what was stamped in the last ms before the last look."""


class Sizes(NamedTuple):
    """Entries of each table; powers of two.

    replay_sets: of eight packets each that copies are known by (kernel/replay.h); 0: copies are not looked for.
    """

    networks: int = 256
    peers: int = 32_768
    paths: int = 65_536
    members: int = 65_536
    replay_sets: int = 32_768


class _Path(NamedTuple):
    address: int
    binding: int
    remote: Endpoint


class _Member(NamedTuple):
    receive: bool
    send_until: int
    credentials: bytes | None = b""


class Tables:
    """The region of the tables and, where this process may see them, the region of the keys."""

    def __init__(self, region: Region, keys: Region | None) -> None:
        self.region = region
        self.keys = keys
        self._t: Any = ffi.cast("struct zt_tables *", region.pointer)
        self._k: Any = ffi.NULL if keys is None else ffi.cast("struct zt_key_entry *", keys.pointer)
        #: table name -> how often it was full.
        self.refused: Counter[str] = Counter()
        self._networks: dict[int, int] = {}  # nwid -> index
        self._peers: dict[int, int] = {}  # address -> index
        self._remotes: dict[int, _Path] = {}  # address -> where frames for it are sent, when that is its own path
        self._paths: dict[_Path, int] = {}  # -> index, or -1 while the peer has no entry
        self._paths_of: defaultdict[int, set[_Path]] = defaultdict(set)  # by address
        self._members: dict[tuple[int, int], _Member] = {}  # (nwid, address), wanted
        self._members_of: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)  # by address
        self._member_index: dict[tuple[int, int], int] = {}  # those written
        self._seen: dict[object, tuple[int, int]] = {}  # stamps as last reported
        self._path_at: dict[int, _Path] = {}  # index -> path
        self._address_at: dict[int, int] = {}  # index -> address
        self._looked = 0
        self._policies = Policies(self._t)
        #: who gets multicast frames
        self.groups = Groups(self._t, self._policies)
        #: MACs behind bridges
        self.bridged = Bridged(self._t)

    # ---- making ------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, address: int, sizes: Sizes = Sizes(), clock_offset: int = 0) -> Tables:  # noqa: B008
        """Empty tables for the node `address`; node time in ms = CLOCK_MONOTONIC in ms + `clock_offset`."""
        size = lib.zt_tables_size(*sizes)
        if size == 0:
            raise RegionError(f"tables: {sizes} are not powers of two of a possible size")
        region = Region.create("ztpipe-tables", size)
        keys = Region.create("ztpipe-keys", lib.zt_keys_size(sizes.peers))
        _check(lib.zt_tables_init(region.pointer, size, *sizes, address, clock_offset), region.fd)
        return cls(region, keys)

    @classmethod
    def attach(cls, fd: int, keys_fd: int | None, *, writable: bool) -> Tables:
        """Map the tables for reading; `writable` for workers that write stamps. Keys are only ever read.

        Raises `RegionError` with the reason when a descriptor holds something else, or something of another version.
        """
        region = Region.attach(fd, writable=writable)
        try:
            _check(lib.zt_tables_check(region.pointer, region.size), fd)
            keys = None if keys_fd is None else Region.attach(keys_fd, writable=False)
        except RegionError:
            region.close()
            raise
        tables = cls(region, keys)
        peers = tables.pointer.max_peers
        if keys is not None and keys.size != lib.zt_keys_size(peers):
            tables.close()
            raise RegionError(f"keys: {keys.size} bytes do not fit {peers} peers")
        return tables

    @property
    def pointer(self) -> Any:
        """``struct zt_tables *``"""
        return self._t

    @property
    def keys_pointer(self) -> Any:
        """``struct zt_key_entry *``, NULL where keys are not mapped."""
        return self._k

    def set_clock(self, clock_offset: int) -> None:
        """Change node time - CLOCK_MONOTONIC, in ms."""
        lib.zt_tables_set_clock(self._t, clock_offset)

    def set_relay(self, allowed: bool) -> None:
        """May the peer workers forward what is for others, whoever it comes from?"""
        lib.zt_tables_set_relay(self._t, allowed)

    def set_tunnel(self, used: bool) -> None:
        """Does control itself reach peers that have no entry?"""
        lib.zt_tables_set_tunnel(self._t, used)

    def now(self) -> int:
        """Node time in ms, as the workers see it."""
        return int(lib.zt_now(self._t))

    def close(self) -> None:
        """Unmap."""
        self._t = self._k = ffi.NULL
        self.region.close()
        if self.keys is not None:
            self.keys.close()

    # ---- networks ----------------------------------------------------------------------------------------------

    def install_network(
        self,
        nwid: int,
        mac: int,
        mtu: int,
        *,
        accept_all: bool,
        bridge: bool,
        multicast: bool = False,
        replicator: bool = False,
        bridged: bool = False,
        policy: bytes | None = None,
    ) -> int | None:
        """Insert or change a network. Returns its index, None when the table is full.

        `policy`: its rules and our credentials (`ztpipe.rules.flat`); None: with rules, all frames take the slow path.
        `multicast`: it has any, else all that are received take the slow path; `replicator`: we are one of its.
        `bridged`: there are active bridges besides us.
        """
        flags = (lib.ZT_NETWORK_ACCEPT_ALL if accept_all else 0) | (lib.ZT_NETWORK_BRIDGE if bridge else 0)
        flags |= (lib.ZT_NETWORK_MULTICAST if multicast else 0) | (lib.ZT_NETWORK_REPLICATOR if replicator else 0)
        flags |= lib.ZT_NETWORK_BRIDGED if bridged else 0
        index = self._put("networks", lib.zt_network_put(self._t, nwid, mac, mtu, flags))
        if index is None:
            return None
        fresh = nwid not in self._networks
        self._networks[nwid] = index
        if not self._policies.put((nwid,), policy, lambda ref: lib.zt_network_set_policy(self._t, index, ref)):
            self.refused["policies"] += 1
        if fresh:
            for key in [key for key in self._members if key[0] == nwid]:
                self._write_member(key)
        return index

    def remove_network(self, nwid: int) -> None:
        """Remove a network and all its memberships."""
        self.bridged.remove_network(nwid)
        lib.zt_network_remove(self._t, nwid)
        self._networks.pop(nwid, None)
        self._policies.forget((nwid,))
        self.groups.network_removed(nwid)
        for key in [key for key in self._members if key[0] == nwid]:
            self._forget_member(key)

    def network_index(self, nwid: int) -> int | None:
        """Index of an installed network: what `zt_tap_add` and ring records name it by."""
        return self._networks.get(nwid)

    def install_group(self, nwid: int, mac: int, adi: int, recipients: Sequence[int], **how: Any) -> bool:
        """Who gets frames for a group (`Groups.install`). False when there is no room."""
        network = self._networks.get(nwid)
        installed = network is not None and self.groups.install(network, (nwid, mac, adi), recipients, **how)
        self.refused["groups"] += 0 if installed else 1
        return installed

    def install_bridged(self, nwid: int, mac: int, address: int, **times: int) -> bool:
        """Behind which bridge a MAC is (`Bridged.install`). False when there is no room."""
        network = self._networks.get(nwid)
        installed = network is not None and self.bridged.install(network, (nwid, mac), address, **times)
        self.refused["bridged"] += 0 if installed else 1
        return installed

    # ---- peers -------------------------------------------------------------------------------------------------

    def install_peer(
        self,
        address: int,
        salsa_key: bytes,
        k0: bytes,
        k1: bytes,
        suite: int,
        binding: int,
        remote: Endpoint,
        mtu: int,
        direct: bool,
    ) -> int | None:
        """Insert or change a peer: its session, and where frames for it are sent now. Index, or None when full."""
        if not len(salsa_key) == len(k0) == len(k1) == 32:
            raise ValueError("keys have 32 bytes")
        flags = lib.ZT_PEER_DIRECT if direct else 0
        put = lib.zt_peer_put(self._t, address, flags, suite, binding, _endpoint(remote), mtu)
        index = self._put("peers", put)
        if index is None:
            return None
        lib.zt_key_put(self._t, self._k, index, salsa_key, k0, k1)
        fresh = address not in self._peers
        self._peers[address] = index
        self._address_at[index] = address
        if direct:
            self._remotes[address] = _Path(address, binding, remote)
        else:
            self._remotes.pop(address, None)
        if fresh:
            for path in tuple(self._paths_of.get(address, ())):
                self._write_path(path)
            for key in tuple(self._members_of.get(address, ())):
                self._write_member(key)
        return index

    def remove_peer(self, address: int) -> None:
        """Remove a peer, its key and its paths; frames from and to it go through the slow path."""
        lib.zt_peer_remove(self._t, self._k, address)
        self._address_at.pop(self._peers.pop(address, -1), None)
        self._remotes.pop(address, None)
        for path in tuple(self._paths_of.get(address, ())):
            self._forget_path(path)
        for key in self._members_of.get(address, ()):
            self._member_index.pop(key, None)
            self._seen.pop(key, None)

    def peer_index(self, address: int) -> int | None:
        """Index of an installed peer."""
        return self._peers.get(address)

    # ---- paths -------------------------------------------------------------------------------------------------

    def install_path(self, address: int, binding: int, remote: Endpoint) -> bool:
        """A learned direct path: frames that arrive over it need no punt. False when the table is full."""
        _endpoint(remote)
        path = _Path(address, binding, remote)
        if path not in self._paths and len(self._paths) >= self._t.max_paths:
            self.refused["paths"] += 1
            return False
        self._paths.setdefault(path, -1)
        self._paths_of[address].add(path)
        return self._write_path(path)

    def remove_path(self, address: int, binding: int, remote: Endpoint) -> None:
        """Remove one path of a peer."""
        path = _Path(address, binding, remote)
        if address in self._peers:
            lib.zt_path_remove(self._t, self._peers[address], binding, _endpoint(remote))
        self._forget_path(path)

    def _write_path(self, path: _Path) -> bool:
        peer = self._peers.get(path.address)
        if peer is None:
            return True
        index = self._put("paths", lib.zt_path_put(self._t, peer, path.binding, _endpoint(path.remote)))
        if index is None:
            self._forget_path(path)
            return False
        self._paths[path] = index
        self._path_at[index] = path
        return True

    def _forget_path(self, path: _Path) -> None:
        self._path_at.pop(self._paths.pop(path, -1), None)
        self._seen.pop(path, None)
        _discard(self._paths_of, path.address, path)

    # ---- members -----------------------------------------------------------------------------------------------

    def install_member(self, nwid: int, address: int, receive: bool, send_until: int) -> bool:
        """Insert or change a membership. False when the table is full.

        `receive`: its frames pass the gate; `send_until`: frames to it need no credential push before this node time.
        """
        key = (nwid, address)
        if key not in self._members and len(self._members) >= self._t.max_members:
            self.refused["members"] += 1
            return False
        credentials = self._members[key].credentials if key in self._members else b""
        self._members[key] = _Member(receive, send_until, credentials)
        self._members_of[address].add(key)
        return self._write_member(key)

    def install_credentials(self, nwid: int, address: int, credentials: bytes | None) -> bool:
        """What rules need to know of a member (`ztpipe.rules.flat`); None: its frames take the slow path.

        A member that is not there yet is inserted, without a right to anything. False when a table is full.
        """
        key = (nwid, address)
        if key not in self._members and not self.install_member(nwid, address, False, 0):
            return False
        self._members[key] = self._members[key]._replace(credentials=credentials)
        return self._write_member(key)

    def remove_member(self, nwid: int, address: int) -> None:
        """Remove a membership."""
        if nwid in self._networks and address in self._peers:
            lib.zt_member_remove(self._t, self._networks[nwid], self._peers[address])
        self._forget_member((nwid, address))

    def _write_member(self, key: tuple[int, int]) -> bool:
        network, peer = self._networks.get(key[0]), self._peers.get(key[1])
        if network is None or peer is None:
            return True
        member = self._members[key]
        if key not in self._member_index and member.credentials != b"":
            # Nothing is let in before its credentials are there: rules would refuse it.
            index = self._put("members", lib.zt_member_put(self._t, network, peer, 0, 0))
            if index is not None:
                self._refer(key, index, member)
        flags = lib.ZT_MEMBER_RECEIVE if member.receive else 0
        index = self._put("members", lib.zt_member_put(self._t, network, peer, flags, member.send_until))
        if index is None:
            self._forget_member(key)
            return False
        self._member_index[key] = index
        self._refer(key, index, member)
        return True

    def _refer(self, key: tuple[int, int], index: int, member: _Member) -> None:
        """Let the entry refer to the member's credentials. What does not fit is left to the slow path."""
        if not self._policies.put(key, member.credentials, lambda ref: lib.zt_member_set_policy(self._t, index, ref)):
            self.refused["policies"] += 1

    def _forget_member(self, key: tuple[int, int]) -> None:
        self._members.pop(key, None)
        self._member_index.pop(key, None)
        self._seen.pop(key, None)
        self._policies.forget(key)
        _discard(self._members_of, key[1], key)

    # ---- activity ----------------------------------------------------------------------------------------------

    def activity(self) -> Iterator[tuple[int, int, Endpoint, int, int]]:
        """(address, binding, remote, last receive, last send) of every path whose stamps moved since the last call.

        Node times in ms, 0 = never. `remote` is the very object that was installed. The last send counts for the path
        frames to that peer take now.
        """
        view = ffi.new("struct zt_path_view *")
        for path, index in self._candidates():
            if index < 0 or not lib.zt_path_read(self._t, index, view):
                continue
            sent = 0
            if self._remotes.get(path.address) == path:
                sent = int(lib.zt_peer_last_send(self._t, self._peers[path.address]))
            if self._moved(path, (int(view.last_receive), sent)):
                yield path.address, path.binding, path.remote, int(view.last_receive), sent

    def _candidates(self) -> list[tuple[_Path, int]]:
        """Paths whose stamps may have moved, with their index: all of a few, what the kernel finds of many."""
        if len(self._paths) < _MANY_PATHS:
            return list(self._paths.items())
        since, self._looked = self._looked - _OVERLAP, self.now()
        found = ffi.new("uint32_t[]", max(self._t.max_paths, self._t.max_peers))
        received = lib.zt_paths_moved(self._t, max(since, 1), found, len(found))
        moved = {self._path_at.get(index) for index in found[0:received]}
        sent = lib.zt_peers_moved(self._t, max(since, 1), found, len(found))
        moved |= {self._remotes.get(self._address_at.get(index, 0)) for index in found[0:sent]}
        return [(path, self._paths[path]) for path in moved if path is not None and path in self._paths]

    def frame_activity(self) -> Iterator[tuple[int, int, int]]:
        """(address, nwid, node time in ms of its last accepted frame) of every member that has moved since."""
        view = ffi.new("struct zt_member_view *")
        for key, index in list(self._member_index.items()):
            if lib.zt_member_read(self._t, index, view) and self._moved(key, (int(view.last_frame), 0)):
                yield key[1], key[0], int(view.last_frame)

    def _moved(self, key: object, stamps: tuple[int, int]) -> bool:
        if stamps == self._seen.get(key, (0, 0)):
            return False
        self._seen[key] = stamps
        return True

    def _put(self, table: str, index: int) -> int | None:
        if index >= 0:
            return index
        self.refused[table] += 1
        return None


def _discard(index: defaultdict[int, set[_K]], address: int, item: _K) -> None:
    items = index.get(address)
    if items is not None:
        items.discard(item)
        if not items:
            del index[address]


def _endpoint(remote: Endpoint) -> Any:
    """``struct zt_endpoint *`` of (ip, port)."""
    ip, port = remote
    if len(ip) not in (4, 16):
        raise ValueError(f"an IP address has 4 or 16 bytes, not {len(ip)}")
    return ffi.new(
        "struct zt_endpoint *", {"ip": ip.ljust(16, b"\0"), "port": port, "family": 4 if len(ip) == 4 else 6}
    )


def _check(code: int, fd: int) -> None:
    if code < 0:
        raise RegionError(f"tables in descriptor {fd}: {_REASONS.get(-code, os.strerror(-code))}")
