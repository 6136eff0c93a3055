"""The shared tables against a twin made of dicts, on tables small enough to be full and to collide all the time."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ztpipe.kernel._kernel import ffi, lib
from ztpipe.shm.tables import Sizes, Tables, _endpoint

_SIZES = Sizes(networks=2, peers=4, paths=8, members=8)
_addresses = st.integers(1, 7)
_nwids = st.integers(100, 103)
_bindings = st.integers(0, 1)
_remotes = st.sampled_from(
    [(b"\x0a\0\0\x01", 9993), (b"\x0a\0\0\x01", 9994), (b"\x0a\0\0\x01" + bytes(12), 9993), (bytes(15) + b"\x01", 1)]
)


def _key(n: int) -> bytes:
    return bytes([n]) * 32


@dataclass
class _Peer:
    """What a reader should see of a peer."""

    key: int
    suite: int
    binding: int
    remote: tuple[bytes, int]
    direct: bool
    paths: set[tuple[int, tuple[bytes, int]]] = field(default_factory=set)


class TablesTwin(RuleBasedStateMachine):
    """Any sequence of installs and removals leaves the C tables showing exactly what the dicts hold."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = Tables.create(0x1122334455, _SIZES)
        self.reader = Tables.attach(
            os.dup(self.tables.region.fd), os.dup(self.tables.keys.fd) if self.tables.keys else None, writable=False
        )
        self.networks: dict[int, tuple[int, int, bool, bool]] = {}
        self.peers: dict[int, _Peer] = {}
        self.early: dict[int, set[tuple[int, tuple[bytes, int]]]] = {}  # paths of peers without an entry
        self.members: dict[tuple[int, int], tuple[bool, int]] = {}
        self.indices: dict[tuple[str, object], int] = {}

    def teardown(self) -> None:
        self.reader.close()
        self.tables.close()

    @rule(
        nwid=_nwids,
        mac=st.integers(0, 2**48 - 1),
        mtu=st.integers(1280, 10000),
        accept=st.booleans(),
        bridge=st.booleans(),
    )
    def install_network(self, nwid: int, mac: int, mtu: int, accept: bool, bridge: bool) -> None:
        index = self.tables.install_network(nwid, mac, mtu, accept_all=accept, bridge=bridge)
        full = nwid not in self.networks and len(self.networks) == _SIZES.networks
        assert (index is None) == full
        if not full:
            self.networks[nwid] = (mac, mtu, accept, bridge)

    @rule(nwid=_nwids)
    def remove_network(self, nwid: int) -> None:
        self.tables.remove_network(nwid)
        self.networks.pop(nwid, None)
        self.members = {key: value for key, value in self.members.items() if key[0] != nwid}

    @rule(
        address=_addresses, key=st.integers(0, 255), suite=st.sampled_from([1, 3]), binding=_bindings, remote=_remotes,
        direct=st.booleans(),
    )  # fmt: skip
    def install_peer(
        self, address: int, key: int, suite: int, binding: int, remote: tuple[bytes, int], direct: bool
    ) -> None:
        index = self.tables.install_peer(
            address, _key(key), _key(key ^ 1), _key(key ^ 2), suite, binding, remote, 1432, direct
        )
        full = address not in self.peers and len(self.peers) == _SIZES.peers
        assert (index is None) == full
        if not full:
            old = self.peers.get(address)
            paths = old.paths if old else self.early.pop(address, set())
            self.peers[address] = _Peer(key, suite, binding, remote, direct, paths)

    @rule(address=_addresses)
    def remove_peer(self, address: int) -> None:
        self.tables.remove_peer(address)
        self.peers.pop(address, None)
        self.early.pop(address, None)

    def _paths(self) -> int:
        return sum(len(p.paths) for p in self.peers.values()) + sum(map(len, self.early.values()))

    @rule(address=_addresses, binding=_bindings, remote=_remotes)
    def install_path(self, address: int, binding: int, remote: tuple[bytes, int]) -> None:
        peer = self.peers.get(address)
        paths = peer.paths if peer else self.early.get(address, set())
        full = (binding, remote) not in paths and self._paths() == _SIZES.paths
        assert self.tables.install_path(address, binding, remote) == (not full)
        if not full:
            (peer.paths if peer else self.early.setdefault(address, set())).add((binding, remote))

    @rule(address=_addresses, binding=_bindings, remote=_remotes)
    def remove_path(self, address: int, binding: int, remote: tuple[bytes, int]) -> None:
        self.tables.remove_path(address, binding, remote)
        for paths in (self.peers[address].paths if address in self.peers else set(), self.early.get(address, set())):
            paths.discard((binding, remote))

    @rule(nwid=_nwids, address=_addresses, receive=st.booleans(), until=st.integers(-(2**62), 2**62))
    def install_member(self, nwid: int, address: int, receive: bool, until: int) -> None:
        full = (nwid, address) not in self.members and len(self.members) == _SIZES.members
        assert self.tables.install_member(nwid, address, receive, until) == (not full)
        if not full:
            self.members[nwid, address] = (receive, until)

    @rule(nwid=_nwids, address=_addresses)
    def remove_member(self, nwid: int, address: int) -> None:
        self.tables.remove_member(nwid, address)
        self.members.pop((nwid, address), None)

    @invariant()
    def the_reader_sees_the_twin(self) -> None:
        t = self.reader.pointer
        for nwid in range(100, 104):
            self._check_network(t, nwid)
        for address in range(1, 8):
            self._check_peer(t, address)
        self._check_counts(t)

    def _stable(self, what: str, key: object, index: int) -> None:
        assert self.indices.setdefault((what, key), index) == index, f"the index of {what} {key} moved"

    def _check_network(self, t: object, nwid: int) -> None:
        index = lib.zt_network_find(t, nwid)
        assert (index != lib.ZT_NONE) == (nwid in self.networks)
        if index == lib.ZT_NONE:
            self.indices.pop(("network", nwid), None)
            return
        self._stable("network", nwid, index)
        assert self.tables.network_index(nwid) == index
        view = ffi.new("struct zt_network_view *")
        assert lib.zt_network_read(t, index, view)
        accept, bridge = bool(view.flags & lib.ZT_NETWORK_ACCEPT_ALL), bool(view.flags & lib.ZT_NETWORK_BRIDGE)
        assert (view.mac, view.mtu, accept, bridge) == self.networks[nwid]

    def _check_peer(self, t: object, address: int) -> None:
        index = lib.zt_peer_find(t, address)
        peer = self.peers.get(address)
        assert (index != lib.ZT_NONE) == (peer is not None)
        if peer is None:
            self.indices.pop(("peer", address), None)
            return
        self._stable("peer", address, index)
        view, key = ffi.new("struct zt_peer_view *"), ffi.new("struct zt_key_view *")
        assert lib.zt_peer_read(t, index, view)
        assert (view.address, view.suite, view.binding, view.mtu) == (address, peer.suite, peer.binding, 1432)
        assert bool(view.flags & lib.ZT_PEER_DIRECT) == peer.direct
        ip = bytes(view.remote.ip)[: 4 if view.remote.family == 4 else 16]
        assert (ip, view.remote.port) == peer.remote
        assert lib.zt_key_read(self.reader.keys_pointer, index, key)
        assert key.generation == view.key_generation != 0
        assert [bytes(key.salsa), bytes(key.k0), bytes(key.k1)] == [
            _key(peer.key),
            _key(peer.key ^ 1),
            _key(peer.key ^ 2),
        ]
        for binding, remote in peer.paths:
            assert lib.zt_path_find(t, index, binding, _endpoint(remote)) != lib.ZT_NONE
        for nwid in self.networks:
            self._check_member(t, nwid, address, index)

    def _check_member(self, t: object, nwid: int, address: int, peer: int) -> None:
        index = lib.zt_member_find(t, lib.zt_network_find(t, nwid), peer)
        assert (index != lib.ZT_NONE) == ((nwid, address) in self.members)
        if index != lib.ZT_NONE:
            view = ffi.new("struct zt_member_view *")
            assert lib.zt_member_read(t, index, view)
            assert (bool(view.flags & lib.ZT_MEMBER_RECEIVE), view.send_until) == self.members[nwid, address]

    def _check_counts(self, t: object) -> None:
        """Nothing else is in the tables: removal reaches paths and members."""
        here = [key for key in self.members if key[0] in self.networks and key[1] in self.peers]
        assert _count(lib.zt_member_next, t) == len(here)
        assert _count(lib.zt_path_next, t) == sum(len(peer.paths) for peer in self.peers.values())
        assert _count(lib.zt_peer_next, t) == len(self.peers)
        assert _count(lib.zt_network_next, t) == len(self.networks)


def _count(following, t: object) -> int:
    count, index = 0, following(t, 0)
    while index != lib.ZT_NONE:
        count, index = count + 1, following(t, index + 1)
    return count


TestTablesTwin = TablesTwin.TestCase
TestTablesTwin.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


# ---- activity --------------------------------------------------------------------------------------------------------


class _Remote(tuple[bytes, int]):
    """An (ip, port) that can be recognised."""


def _with_peer() -> tuple[Tables, _Remote, int]:
    tables = Tables.create(1)
    remote = _Remote((b"\x01\x02\x03\x04", 9993))
    index = tables.install_peer(7, _key(1), _key(2), _key(3), 3, 5, remote, 1432, True)
    assert index is not None
    tables.install_path(7, 5, remote)
    return tables, remote, index


def test_activity_reports_each_movement_once() -> None:
    tables, remote, index = _with_peer()
    assert list(tables.activity()) == []
    lib.zt_stamp_path(tables.pointer, lib.zt_path_find(tables.pointer, index, 5, _endpoint(remote)), 1000)
    lib.zt_stamp_peer(tables.pointer, index, 1001)
    [(address, binding, seen, received, sent)] = tables.activity()
    assert (address, binding, received, sent) == (7, 5, 1000, 1001)
    assert seen is remote
    assert list(tables.activity()) == []
    lib.zt_stamp_peer(tables.pointer, index, 1002)
    assert [entry[3:] for entry in tables.activity()] == [(1000, 1002)]


def test_sends_through_a_relay_are_not_activity_of_the_path() -> None:
    tables, remote, index = _with_peer()
    tables.install_peer(7, _key(1), _key(2), _key(3), 3, 5, remote, 1432, False)
    lib.zt_stamp_peer(tables.pointer, index, 1001)
    assert list(tables.activity()) == []


def test_stamps_survive_an_update_but_not_a_removal() -> None:
    tables, remote, index = _with_peer()
    lib.zt_stamp_peer(tables.pointer, index, 1001)
    tables.install_peer(7, _key(1), _key(2), _key(3), 1, 5, remote, 1432, True)
    assert [entry[4] for entry in tables.activity()] == [1001]
    tables.remove_peer(7)
    tables.install_peer(7, _key(1), _key(2), _key(3), 1, 5, remote, 1432, True)
    tables.install_path(7, 5, remote)
    assert list(tables.activity()) == []


def test_frame_activity() -> None:
    tables, _, index = _with_peer()
    network = tables.install_network(0xABCD, 1, 2800, accept_all=True, bridge=False)
    tables.install_member(0xABCD, 7, True, 0)
    member = lib.zt_member_find(tables.pointer, network, index)
    lib.zt_stamp_member(tables.pointer, member, 77)
    assert list(tables.frame_activity()) == [(7, 0xABCD, 77)]
    assert list(tables.frame_activity()) == []


# ---- keys ------------------------------------------------------------------------------------------------------------


def _generation(tables: Tables, index: int) -> int:
    view = ffi.new("struct zt_peer_view *")
    assert lib.zt_peer_read(tables.pointer, index, view)
    return int(view.key_generation)


def test_a_key_gets_a_new_generation_when_it_changes_and_only_then() -> None:
    tables, remote, index = _with_peer()
    first = _generation(tables, index)
    tables.install_peer(7, _key(1), _key(2), _key(3), 3, 0, remote, 1000, False)
    assert _generation(tables, index) == first
    tables.install_peer(7, _key(1), _key(2), _key(4), 3, 0, remote, 1000, False)
    assert _generation(tables, index) != first


def test_a_reused_index_never_shows_an_old_generation() -> None:
    """A worker keeps expanded keys by (index, generation)."""
    tables = Tables.create(1, Sizes(networks=2, peers=2, paths=2, members=2))
    seen: set[int] = set()
    for address in range(1, 40):
        index = tables.install_peer(address, _key(1), _key(1), _key(1), 3, 0, (b"\0\0\0\0", 1), 1432, True)
        assert index is not None
        assert _generation(tables, index) not in seen
        seen.add(_generation(tables, index))
        tables.remove_peer(address)


def test_a_removed_key_is_wiped() -> None:
    tables, _, _ = _with_peer()
    assert tables.keys is not None
    assert _key(2) in bytes(ffi.buffer(tables.keys.pointer))
    tables.remove_peer(7)
    assert bytes(ffi.buffer(tables.keys.pointer)).count(_key(2)) == 0


# ---- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [4, 5, 2**31, 2**32 - 2, 2**32 - 1])
def test_indices_out_of_bounds_are_absent(index: int) -> None:
    tables = Tables.create(1, Sizes(networks=4, peers=4, paths=4, members=4))
    for name in ("network", "peer", "path", "member"):
        view = ffi.new(f"struct zt_{name}_view *")
        assert not getattr(lib, f"zt_{name}_read")(tables.pointer, index, view)
    for stamp in (lib.zt_stamp_peer, lib.zt_stamp_path, lib.zt_stamp_member):
        stamp(tables.pointer, index, 1)  # must not write anywhere


def test_an_entry_whose_writer_died_is_absent_not_a_hang() -> None:
    tables, _, index = _with_peer()
    at = ffi.cast("uint8_t *", tables.pointer)
    memory = ffi.buffer(at, tables.region.size)
    where = bytes(memory).find((7).to_bytes(8, "little")) - 8  # seq, flags, address
    seq = ffi.cast("uint32_t *", at + where)
    seq[0] += 1  # odd: in the middle of a write
    assert not lib.zt_peer_read(tables.pointer, index, ffi.new("struct zt_peer_view *"))
    assert lib.zt_peer_find(tables.pointer, 7) == lib.ZT_NONE
    seq[0] += 1
    assert lib.zt_peer_find(tables.pointer, 7) == index


def test_full_tables_refuse_and_count() -> None:
    tables = Tables.create(1, Sizes(networks=2, peers=2, paths=2, members=2))
    for address in (1, 2, 3):
        tables.install_peer(address, _key(1), _key(1), _key(1), 3, 0, (b"\0\0\0\0", 1), 1432, True)
    assert tables.refused["peers"] == 1
    assert tables.peer_index(3) is None
    tables.remove_peer(1)
    assert tables.install_peer(3, _key(1), _key(1), _key(1), 3, 0, (b"\0\0\0\0", 1), 1432, True) is not None


def test_the_clock_can_be_set() -> None:
    tables = Tables.create(1, clock_offset=10**12)
    before = tables.now()
    tables.set_clock(2 * 10**12)
    assert tables.now() - before >= 10**12


def test_bad_arguments_are_errors_of_the_caller() -> None:
    tables = Tables.create(1)
    with pytest.raises(ValueError, match="keys have 32 bytes"):
        tables.install_peer(1, b"short", _key(1), _key(1), 3, 0, (b"\0\0\0\0", 1), 1432, True)
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        tables.install_path(1, 0, (b"\0\0\0", 1))


def test_of_many_paths_only_those_that_moved_are_looked_at() -> None:
    """Beyond 256 paths the kernel finds them; the same are reported as of a few."""
    tables = Tables.create(1, Sizes(networks=2, peers=1024, paths=1024, members=2), 1_000_000)
    for number in range(1, 401):
        remote = (bytes((10, 0, number >> 8, number & 255)), 9993)
        tables.install_peer(number, bytes(32), bytes(32), bytes(32), 3, 0, remote, 1432, True)
        tables.install_path(number, 0, remote)
    assert list(tables.activity()) == []
    now = tables.now()
    path = lib.zt_path_find(tables.pointer, tables.peer_index(7), 0, _endpoint((bytes((10, 0, 0, 7)), 9993)))
    lib.zt_stamp_path(tables.pointer, path, now)
    lib.zt_stamp_peer(tables.pointer, tables.peer_index(300), now + 1)
    moved = {(address, received, sent) for address, _, _, received, sent in tables.activity()}
    assert moved == {(7, now, 0), (300, 0, now + 1)}
    assert list(tables.activity()) == []
    tables.remove_peer(7)
    lib.zt_stamp_peer(tables.pointer, tables.peer_index(300), now + 5)
    assert [(address, sent) for address, _, _, _, sent in tables.activity()] == [(300, now + 5)]
    tables.close()
