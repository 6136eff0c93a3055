/* table.c: layout of the shared tables, and writing networks, peers, paths and members. The rest is in table_switch.c. */
#include "table_impl.h"

#include <sys/random.h>

_Static_assert(sizeof(struct zt_network_entry) % sizeof(zt_word) == 0, "copied by words");
_Static_assert(sizeof(struct zt_peer_entry) == ZT_CACHE_LINE, "one line per peer");
_Static_assert(sizeof(struct zt_path_entry) == ZT_CACHE_LINE, "one line per path");
_Static_assert(sizeof(struct zt_member_entry) == ZT_CACHE_LINE, "one line per member");
_Static_assert(sizeof(struct zt_group_entry) == ZT_CACHE_LINE, "one line per group");
_Static_assert(sizeof(struct zt_bridged_entry) == ZT_CACHE_LINE, "one line per bridged MAC");
_Static_assert(sizeof(struct zt_replay_set) == ZT_CACHE_LINE, "one line per set");
_Static_assert(sizeof(struct zt_key_entry) == 2 * ZT_CACHE_LINE, "two lines per key");

/* Ring records carry the network index in 16 bits. */
#define ZT_MAX_NETWORKS 65536u
#define ZT_MAX_ENTRIES (1u << 22)

/* ---- layout ------------------------------------------------------------------------------------------------------------ */

struct layout {
    size_t networks, peers, paths, members, policies, replay, groups, bridged, size;
};

static bool valid_max(uint32_t max, uint32_t limit) { return max != 0 && (max & (max - 1)) == 0 && max <= limit; }

static bool layout_of(uint32_t networks, uint32_t peers, uint32_t paths, uint32_t members, uint32_t replay_sets, struct layout *l) {
    if (!valid_max(networks, ZT_MAX_NETWORKS) || !valid_max(peers, ZT_MAX_ENTRIES) || !valid_max(paths, ZT_MAX_ENTRIES) ||
        !valid_max(members, ZT_MAX_ENTRIES) || (replay_sets != 0 && !valid_max(replay_sets, ZT_MAX_ENTRIES))) {
        return false;
    }
    l->networks = (sizeof(struct zt_tables) + ZT_CACHE_LINE - 1) / ZT_CACHE_LINE * ZT_CACHE_LINE;
    l->peers = l->networks + (size_t)networks * sizeof(struct zt_network_entry);
    l->paths = l->peers + (size_t)peers * sizeof(struct zt_peer_entry);
    l->members = l->paths + (size_t)paths * sizeof(struct zt_path_entry);
    l->policies = l->members + (size_t)members * sizeof(struct zt_member_entry);
    l->replay = (l->policies + ZT_POLICIES_SIZE + ZT_CACHE_LINE - 1) / ZT_CACHE_LINE * ZT_CACHE_LINE;
    l->groups = l->replay + (size_t)replay_sets * sizeof(struct zt_replay_set);
    l->bridged = l->groups + ZT_GROUPS * sizeof(struct zt_group_entry);
    l->size = l->bridged + ZT_BRIDGED * sizeof(struct zt_bridged_entry);
    return true;
}

size_t zt_tables_size(uint32_t max_networks, uint32_t max_peers, uint32_t max_paths, uint32_t max_members, uint32_t replay_sets) {
    struct layout l;
    return layout_of(max_networks, max_peers, max_paths, max_members, replay_sets, &l) ? l.size : 0;
}

size_t zt_keys_size(uint32_t max_peers) {
    return valid_max(max_peers, ZT_MAX_ENTRIES) ? (size_t)max_peers * sizeof(struct zt_key_entry) : 0;
}

int zt_tables_init(void *at, size_t size, uint32_t max_networks, uint32_t max_peers, uint32_t max_paths, uint32_t max_members,
                   uint32_t replay_sets, uint64_t self, int64_t clock_offset) {
    struct zt_tables *t = at;
    struct layout l;
    if (!layout_of(max_networks, max_peers, max_paths, max_members, replay_sets, &l) || size < l.size) {
        return -EINVAL;
    }
    t->max_networks = max_networks;
    t->max_peers = max_peers;
    t->max_paths = max_paths;
    t->max_members = max_members;
    t->self = self;
    t->clock_offset = clock_offset;
    t->networks_at = (uint32_t)l.networks;
    t->peers_at = (uint32_t)l.peers;
    t->paths_at = (uint32_t)l.paths;
    t->members_at = (uint32_t)l.members;
    t->policies_at = (uint32_t)l.policies;
    t->policies_size = ZT_POLICIES_SIZE;
    t->replay_at = (uint32_t)l.replay;
    t->replay_sets = replay_sets;
    t->groups_at = (uint32_t)l.groups;
    t->max_groups = ZT_GROUPS;
    t->bridged_at = (uint32_t)l.bridged;
    t->max_bridged = ZT_BRIDGED;
    if (getrandom(&t->replay_seed, sizeof t->replay_seed, 0) != (ssize_t)sizeof t->replay_seed) {
        return -EIO;
    }
    t->abi = ZT_ABI_VERSION;
    t->magic = ZT_TABLES_MAGIC;
    return 0;
}

int zt_tables_check(const void *at, size_t size) {
    const struct zt_tables *t = at;
    struct layout l;
    if (size < sizeof *t || t->magic != ZT_TABLES_MAGIC) {
        return -EPROTO;
    }
    if (t->abi != ZT_ABI_VERSION) {
        return -EPROTONOSUPPORT;
    }
    if (!layout_of(t->max_networks, t->max_peers, t->max_paths, t->max_members, t->replay_sets, &l) || size < l.size ||
        t->networks_at != l.networks || t->peers_at != l.peers || t->paths_at != l.paths || t->members_at != l.members ||
        t->policies_at != l.policies || t->policies_size != ZT_POLICIES_SIZE || t->replay_at != l.replay ||
        t->groups_at != l.groups || t->max_groups != ZT_GROUPS ||
        t->bridged_at != l.bridged || t->max_bridged != ZT_BRIDGED) {
        return -EINVAL;
    }
    return 0;
}

void zt_tables_set_clock(struct zt_tables *t, int64_t clock_offset) {
    __atomic_store_n(&t->clock_offset, clock_offset, __ATOMIC_RELAXED);
}

void zt_tables_set_tunnel(struct zt_tables *t, bool tunnel) { atomic_store_explicit(&t->tunnel, tunnel, memory_order_relaxed); }

void zt_tables_set_relay(struct zt_tables *t, bool relay) { atomic_store_explicit(&t->relay, relay, memory_order_relaxed); }

/* ---- iteration ------------------------------------------------------------------------------------------------------------ */

uint32_t zt_network_next(const struct zt_tables *t, uint32_t from) { return next_used(networks_of(t), from); }
uint32_t zt_peer_next(const struct zt_tables *t, uint32_t from) { return next_used(peers_of(t), from); }
uint32_t zt_path_next(const struct zt_tables *t, uint32_t from) { return next_used(paths_of(t), from); }
uint32_t zt_member_next(const struct zt_tables *t, uint32_t from) { return next_used(members_of(t), from); }

/* ---- networks ----------------------------------------------------------------------------------------------------------- */

int64_t zt_network_put(struct zt_tables *t, uint64_t nwid, uint64_t mac, uint32_t mtu, uint32_t flags) {
    struct zt_network_entry e = {.nwid = nwid, .mac = mac, .mtu = mtu, .flags = (flags & ~ZT_ENTRY_TOMB) | ZT_ENTRY_USED};
    uint32_t index = zt_network_find(t, nwid);
    if (index != ZT_NONE) {
        e.policy = zt_network_at(t, index)->policy;
    } else if ((index = free_entry(networks_of(t), (uint32_t)zt_mix64(nwid))) == ZT_NONE) {
        return -ENOSPC;
    }
    seq_store(zt_network_at(t, index), &e, sizeof e);
    bump(t);
    return index;
}

static void remove_members(struct zt_tables *t, uint32_t network, uint32_t peer) {
    struct zt_member_entry empty = {.flags = ZT_ENTRY_TOMB};
    for (uint32_t i = zt_member_next(t, 0); i != ZT_NONE; i = zt_member_next(t, i + 1)) {
        const struct zt_member_entry *e = zt_member_at(t, i);
        if (e->network == network || e->peer == peer) {
            bury(members_of(t), i, &empty);
        }
    }
}

static void remove_groups(struct zt_tables *t, uint32_t network) {
    struct zt_group_entry empty = {.flags = ZT_ENTRY_TOMB};
    struct array a = groups_of(t);
    for (uint32_t i = next_used(a, 0); i != ZT_NONE; i = next_used(a, i + 1)) {
        if (zt_group_at(t, i)->network == network) {
            bury(a, i, &empty);
        }
    }
}

int zt_network_remove(struct zt_tables *t, uint64_t nwid) {
    struct zt_network_entry empty = {.flags = ZT_ENTRY_TOMB};
    uint32_t index = zt_network_find(t, nwid);
    if (index == ZT_NONE) {
        return -ENOENT;
    }
    bury(networks_of(t), index, &empty);
    remove_members(t, index, ZT_NONE);
    remove_groups(t, index);
    bump(t);
    return 0;
}

/* ---- peers and keys ------------------------------------------------------------------------------------------------------ */

int64_t zt_peer_put(struct zt_tables *t, uint64_t address, uint32_t flags, uint8_t suite, uint16_t binding,
                    const struct zt_endpoint *remote, uint16_t mtu) {
    struct zt_peer_entry e = {.address = address,
                              .flags = (flags & ~ZT_ENTRY_TOMB) | ZT_ENTRY_USED,
                              .remote = *remote,
                              .binding = binding,
                              .mtu = mtu,
                              .suite = suite};
    uint32_t index = zt_peer_find(t, address);
    bool fresh = index == ZT_NONE;
    if (fresh && (index = free_entry(peers_of(t), (uint32_t)zt_mix64(address))) == ZT_NONE) {
        return -ENOSPC;
    }
    struct zt_peer_entry *at = zt_peer_at(t, index);
    if (fresh) {
        atomic_store_explicit(&at->last_send, 0, memory_order_relaxed);
    } else {
        e.key_generation = at->key_generation;
    }
    seq_store(at, &e, offsetof(struct zt_peer_entry, last_send)); /* the stamp belongs to the crypto workers */
    bump(t);
    return index;
}

/* Never repeats within a process, so that a worker's private copy of an expanded key cannot survive the reuse of an index. */
static uint32_t next_generation(void) {
    static uint32_t generation;
    return ++generation != 0 ? generation : ++generation;
}

int zt_key_put(struct zt_tables *t, struct zt_key_entry *keys, uint32_t peer, const uint8_t salsa[32], const uint8_t k0[32],
               const uint8_t k1[32]) {
    struct zt_peer_entry *at = zt_peer_at(t, peer);
    if (at == NULL || (at->flags & ZT_ENTRY_USED) == 0) {
        return -ENOENT;
    }
    struct zt_key_entry e = {.generation = keys[peer].generation};
    memcpy(e.salsa, salsa, sizeof e.salsa);
    memcpy(e.k0, k0, sizeof e.k0);
    memcpy(e.k1, k1, sizeof e.k1);
    bool same = at->key_generation != 0 && at->key_generation == e.generation && memcmp(e.salsa, keys[peer].salsa, sizeof e.salsa) == 0 &&
                memcmp(e.k0, keys[peer].k0, sizeof e.k0) == 0 && memcmp(e.k1, keys[peer].k1, sizeof e.k1) == 0;
    if (same) {
        return 0;
    }
    e.generation = next_generation();
    seq_store(&keys[peer], &e, sizeof e); /* `generation` sits where other entries have their flags */
    struct zt_peer_entry p;
    memcpy(&p, at, sizeof p);
    p.key_generation = e.generation;
    seq_store(at, &p, offsetof(struct zt_peer_entry, last_send));
    bump(t);
    return 0;
}

static void remove_paths(struct zt_tables *t, uint32_t peer) {
    struct zt_path_entry empty = {.flags = ZT_ENTRY_TOMB};
    for (uint32_t i = zt_path_next(t, 0); i != ZT_NONE; i = zt_path_next(t, i + 1)) {
        if (zt_path_at(t, i)->peer == peer) {
            bury(paths_of(t), i, &empty);
        }
    }
}

int zt_peer_remove(struct zt_tables *t, struct zt_key_entry *keys, uint64_t address) {
    struct zt_peer_entry empty = {.flags = ZT_ENTRY_TOMB};
    uint32_t index = zt_peer_find(t, address);
    if (index == ZT_NONE) {
        return -ENOENT;
    }
    bury(peers_of(t), index, &empty);
    if (keys != NULL) {
        struct zt_key_entry wiped = {.generation = 0};
        seq_store(&keys[index], &wiped, sizeof wiped);
    }
    remove_paths(t, index);
    remove_members(t, ZT_NONE, index);
    bump(t);
    return 0;
}

/* ---- paths ---------------------------------------------------------------------------------------------------------------- */

int64_t zt_path_put(struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote) {
    struct zt_path_entry e = {.peer = peer, .binding = binding, .remote = *remote, .flags = ZT_ENTRY_USED};
    const struct zt_peer_entry *p = zt_peer_at(t, peer);
    if (p == NULL || (p->flags & ZT_ENTRY_USED) == 0) {
        return -ENOENT;
    }
    uint32_t index = zt_path_find(t, peer, binding, remote);
    if (index != ZT_NONE) {
        return index;
    }
    if ((index = free_entry(paths_of(t), zt_path_hash(peer, binding, remote))) == ZT_NONE) {
        return -ENOSPC;
    }
    struct zt_path_entry *at = zt_path_at(t, index);
    atomic_store_explicit(&at->last_receive, 0, memory_order_relaxed);
    seq_store(at, &e, offsetof(struct zt_path_entry, last_receive));
    bump(t);
    return index;
}

int zt_path_remove(struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote) {
    struct zt_path_entry empty = {.flags = ZT_ENTRY_TOMB};
    uint32_t index = zt_path_find(t, peer, binding, remote);
    if (index == ZT_NONE) {
        return -ENOENT;
    }
    bury(paths_of(t), index, &empty);
    bump(t);
    return 0;
}

/* ---- members ------------------------------------------------------------------------------------------------------------- */

int64_t zt_member_put(struct zt_tables *t, uint32_t network, uint32_t peer, uint32_t flags, int64_t send_until) {
    struct zt_member_entry e = {
        .network = network, .peer = peer, .send_until = send_until, .flags = (flags & ~ZT_ENTRY_TOMB) | ZT_ENTRY_USED};
    const struct zt_peer_entry *p = zt_peer_at(t, peer);
    const struct zt_network_entry *n = zt_network_at(t, network);
    if (p == NULL || n == NULL || (p->flags & ZT_ENTRY_USED) == 0 || (n->flags & ZT_ENTRY_USED) == 0) {
        return -ENOENT;
    }
    uint32_t index = zt_member_find(t, network, peer);
    bool fresh = index == ZT_NONE;
    if (fresh && (index = free_entry(members_of(t), zt_member_hash(network, peer))) == ZT_NONE) {
        return -ENOSPC;
    }
    struct zt_member_entry *at = zt_member_at(t, index);
    if (fresh) {
        atomic_store_explicit(&at->last_frame, 0, memory_order_relaxed);
    } else {
        e.policy = at->policy;
    }
    seq_store(at, &e, offsetof(struct zt_member_entry, last_frame));
    bump(t);
    return index;
}

int zt_member_remove(struct zt_tables *t, uint32_t network, uint32_t peer) {
    struct zt_member_entry empty = {.flags = ZT_ENTRY_TOMB};
    uint32_t index = zt_member_find(t, network, peer);
    if (index == ZT_NONE) {
        return -ENOENT;
    }
    bury(members_of(t), index, &empty);
    bump(t);
    return 0;
}

/* ---- activity ------------------------------------------------------------------------------------------------------------- */

uint32_t zt_paths_moved(const struct zt_tables *t, int64_t since, uint32_t *out, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->max_paths && n < max; i++) {
        if (atomic_load_explicit(&zt_path_at(t, i)->last_receive, memory_order_relaxed) >= since) {
            out[n++] = i;
        }
    }
    return n;
}

uint32_t zt_peers_moved(const struct zt_tables *t, int64_t since, uint32_t *out, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->max_peers && n < max; i++) {
        if (atomic_load_explicit(&zt_peer_at(t, i)->last_send, memory_order_relaxed) >= since) {
            out[n++] = i;
        }
    }
    return n;
}
