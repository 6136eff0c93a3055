/* table.h: the shared tables (networks, peers, paths, members, groups, MACs behind bridges) and the key region, as everyone reads them.
 * Writing, by control only: table_write.h.
 *
 * Every table is open addressing with linear probing over at most ZT_PROBE_LIMIT entries, so a look-up is bounded whatever the content.
 * An entry is never moved: its index is stable while it lives. Once it is removed the index may come back for another key, so whoever
 * carried an index through a ring compares the view's key with what it expects.
 *
 * Reading: find by key -> index; read by index -> a private, consistent copy (`view`). Both return "absent" for anything doubtful: index out
 * of bounds, entry removed, a writer that stays in the middle of an entry (it died, or lost its core). Absent means punt: never an error.
 *
 * Memory model: entries are copied word by word with relaxed atomics inside a sequence lock, which is data-race free by the rules of C11.
 */
#ifndef ZT_TABLE_H
#define ZT_TABLE_H

#include "abi.h"

#include <string.h>
#include <time.h>

#define ZT_PROBE_LIMIT 64u
#define ZT_ENTRY_TOMB 0x80000000u /* flags of a removed entry that keeps a probe chain together */
#define ZT_SEQ_TRIES 200

/* ---- views: private copies -------------------------------------------------------------------------------------------- */

struct zt_network_view {
    uint64_t nwid;
    uint64_t mac;
    uint32_t mtu;
    uint32_t flags; /* ZT_NETWORK_* */
    struct zt_policy_ref policy;
};

struct zt_peer_view {
    uint64_t address;
    struct zt_endpoint remote;
    uint32_t flags; /* ZT_PEER_* */
    uint32_t key_generation;
    uint16_t binding;
    uint16_t mtu;
    uint8_t suite;
};

struct zt_key_view {
    uint32_t generation;
    uint8_t salsa[32];
    uint8_t k0[32];
    uint8_t k1[32];
};

struct zt_path_view {
    struct zt_endpoint remote;
    uint32_t peer;
    uint16_t binding;
    int64_t last_receive;
};

struct zt_member_view {
    uint32_t network;
    uint32_t peer;
    uint32_t flags; /* ZT_MEMBER_* */
    int64_t send_until;
    int64_t last_frame;
    struct zt_policy_ref policy;
};

struct zt_group_view {
    uint32_t network;
    uint32_t adi;
    uint64_t mac;
    int64_t renew_at;
    int64_t until;
    struct zt_policy_ref list;
};

struct zt_bridged_view {
    uint32_t network;
    uint64_t mac;
    uint64_t address;
    int64_t renew_at;
    int64_t until;
};

/* ---- sequence lock, reader's side ------------------------------------------------------------------------------------- */

typedef uint64_t __attribute__((may_alias)) zt_word;

static inline void zt_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Copy `size` bytes (a multiple of 8) of an entry whose first member is its sequence counter. False: no stable copy within the bound. */
static inline bool zt_seq_copy(const void *entry, void *out, size_t size) {
    const zt_word *from = entry;
    zt_word *to = out;
    const uint32_t *seq = entry;
    for (int i = 0; i < ZT_SEQ_TRIES; i++) {
        uint32_t before = __atomic_load_n(seq, __ATOMIC_ACQUIRE); /* pairs with the release in zt_seq_end (table.c) */
        if ((before & 1) == 0) {
            for (size_t w = 0; w < size / sizeof *to; w++) {
                to[w] = __atomic_load_n(&from[w], __ATOMIC_RELAXED);
            }
            __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the words before the second look; pairs with the fence in zt_seq_begin */
            if (__atomic_load_n(seq, __ATOMIC_RELAXED) == before) {
                return true;
            }
        }
        zt_cpu_relax();
    }
    return false;
}

/* ---- entries by index, bounds-checked -------------------------------------------------------------------------------- */

static inline struct zt_network_entry *zt_network_at(const struct zt_tables *t, uint32_t i) {
    return i < t->max_networks ? (struct zt_network_entry *)(void *)((uint8_t *)(uintptr_t)t + t->networks_at) + i : NULL;
}

static inline struct zt_peer_entry *zt_peer_at(const struct zt_tables *t, uint32_t i) {
    return i < t->max_peers ? (struct zt_peer_entry *)(void *)((uint8_t *)(uintptr_t)t + t->peers_at) + i : NULL;
}

static inline struct zt_path_entry *zt_path_at(const struct zt_tables *t, uint32_t i) {
    return i < t->max_paths ? (struct zt_path_entry *)(void *)((uint8_t *)(uintptr_t)t + t->paths_at) + i : NULL;
}

static inline struct zt_member_entry *zt_member_at(const struct zt_tables *t, uint32_t i) {
    return i < t->max_members ? (struct zt_member_entry *)(void *)((uint8_t *)(uintptr_t)t + t->members_at) + i : NULL;
}

static inline struct zt_group_entry *zt_group_at(const struct zt_tables *t, uint32_t i) {
    return i < t->max_groups ? (struct zt_group_entry *)(void *)((uint8_t *)(uintptr_t)t + t->groups_at) + i : NULL;
}

static inline struct zt_bridged_entry *zt_bridged_at(const struct zt_tables *t, uint32_t i) {
    return i < t->max_bridged ? (struct zt_bridged_entry *)(void *)((uint8_t *)(uintptr_t)t + t->bridged_at) + i : NULL;
}

/* ---- hashes ---------------------------------------------------------------------------------------------------------------- */

static inline uint64_t zt_mix64(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline size_t zt_endpoint_bytes(const struct zt_endpoint *e) { return e->family == 4 ? 4 : 16; }

static inline bool zt_endpoint_equal(const struct zt_endpoint *a, const struct zt_endpoint *b) {
    return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, zt_endpoint_bytes(a)) == 0;
}

static inline uint64_t zt_endpoint_hash(const struct zt_endpoint *e) {
    uint64_t ip[2] = {0, 0};
    memcpy(ip, e->ip, zt_endpoint_bytes(e));
    return zt_mix64(ip[0] ^ zt_mix64(ip[1] ^ ((uint64_t)e->port << 8 | e->family)));
}

static inline uint32_t zt_path_hash(uint32_t peer, uint16_t binding, const struct zt_endpoint *remote) {
    return (uint32_t)zt_mix64(zt_endpoint_hash(remote) + ((uint64_t)peer << 16 | binding));
}

static inline uint32_t zt_member_hash(uint32_t network, uint32_t peer) { return (uint32_t)zt_mix64((uint64_t)network << 32 | peer); }

static inline uint32_t zt_group_hash(uint32_t network, uint64_t mac, uint32_t adi) {
    return (uint32_t)zt_mix64(zt_mix64((uint64_t)network << 32 | adi) ^ mac);
}

static inline uint32_t zt_bridged_hash(uint32_t network, uint64_t mac) { return (uint32_t)zt_mix64((uint64_t)network << 48 ^ mac); }

static inline uint32_t zt_probe_limit(uint32_t max) { return max < ZT_PROBE_LIMIT ? max : ZT_PROBE_LIMIT; }

/* ---- read by index ------------------------------------------------------------------------------------------------------- */

static inline bool zt_network_read(const struct zt_tables *t, uint32_t index, struct zt_network_view *v) {
    const struct zt_network_entry *at = zt_network_at(t, index);
    struct zt_network_entry e;
    if (at == NULL || !zt_seq_copy(at, &e, sizeof e) || (e.flags & ZT_ENTRY_USED) == 0) {
        return false;
    }
    *v = (struct zt_network_view){.nwid = e.nwid, .mac = e.mac, .mtu = e.mtu, .flags = e.flags, .policy = e.policy};
    return true;
}

static inline bool zt_peer_read(const struct zt_tables *t, uint32_t index, struct zt_peer_view *v) {
    const struct zt_peer_entry *at = zt_peer_at(t, index);
    struct zt_peer_entry e;
    if (at == NULL || !zt_seq_copy(at, &e, sizeof e) || (e.flags & ZT_ENTRY_USED) == 0) {
        return false;
    }
    *v = (struct zt_peer_view){.address = e.address,
                               .remote = e.remote,
                               .flags = e.flags,
                               .key_generation = e.key_generation,
                               .binding = e.binding,
                               .mtu = e.mtu,
                               .suite = e.suite};
    return true;
}

/* `index` must be a peer index that zt_peer_read accepted: the key region has max_peers entries and no header of its own. */
static inline bool zt_key_read(const struct zt_key_entry *keys, uint32_t index, struct zt_key_view *v) {
    struct zt_key_entry e;
    if (keys == NULL || !zt_seq_copy(&keys[index], &e, sizeof e) || e.generation == 0) {
        return false;
    }
    v->generation = e.generation;
    memcpy(v->salsa, e.salsa, sizeof v->salsa);
    memcpy(v->k0, e.k0, sizeof v->k0);
    memcpy(v->k1, e.k1, sizeof v->k1);
    return true;
}

static inline bool zt_path_read(const struct zt_tables *t, uint32_t index, struct zt_path_view *v) {
    const struct zt_path_entry *at = zt_path_at(t, index);
    struct zt_path_entry e;
    if (at == NULL || !zt_seq_copy(at, &e, sizeof e) || (e.flags & ZT_ENTRY_USED) == 0) {
        return false;
    }
    *v = (struct zt_path_view){.remote = e.remote, .peer = e.peer, .binding = e.binding, .last_receive = e.last_receive};
    return true;
}

static inline bool zt_member_read(const struct zt_tables *t, uint32_t index, struct zt_member_view *v) {
    const struct zt_member_entry *at = zt_member_at(t, index);
    struct zt_member_entry e;
    if (at == NULL || !zt_seq_copy(at, &e, sizeof e) || (e.flags & ZT_ENTRY_USED) == 0) {
        return false;
    }
    *v = (struct zt_member_view){.network = e.network,
                                 .peer = e.peer,
                                 .flags = e.flags,
                                 .send_until = e.send_until,
                                 .last_frame = e.last_frame,
                                 .policy = e.policy};
    return true;
}

static inline bool zt_group_read(const struct zt_tables *t, uint32_t index, struct zt_group_view *v) {
    const struct zt_group_entry *at = zt_group_at(t, index);
    struct zt_group_entry e;
    if (at == NULL || !zt_seq_copy(at, &e, sizeof e) || (e.flags & ZT_ENTRY_USED) == 0) {
        return false;
    }
    *v = (struct zt_group_view){
        .network = e.network, .adi = e.adi, .mac = e.mac, .renew_at = e.renew_at, .until = e.until, .list = e.list};
    return true;
}

static inline bool zt_bridged_read(const struct zt_tables *t, uint32_t index, struct zt_bridged_view *v) {
    const struct zt_bridged_entry *at = zt_bridged_at(t, index);
    struct zt_bridged_entry e;
    if (at == NULL || !zt_seq_copy(at, &e, sizeof e) || (e.flags & ZT_ENTRY_USED) == 0) {
        return false;
    }
    *v = (struct zt_bridged_view){
        .network = e.network, .mac = e.mac, .address = e.address, .renew_at = e.renew_at, .until = e.until};
    return true;
}

/* ---- find by key: index or ZT_NONE ------------------------------------------------------------------------------------ */

/* Never used, in use, or a tombstone? A hint: only the copy made by the read functions is consistent. */
static inline uint32_t zt_entry_flags(const uint32_t *flags) { return __atomic_load_n(flags, __ATOMIC_RELAXED); }

static inline uint32_t zt_network_find(const struct zt_tables *t, uint64_t nwid) {
    uint32_t mask = t->max_networks - 1, limit = zt_probe_limit(t->max_networks), hash = (uint32_t)zt_mix64(nwid);
    for (uint32_t i = 0; i < limit; i++) {
        uint32_t index = (hash + i) & mask;
        struct zt_network_view v;
        const struct zt_network_entry *e = zt_network_at(t, index);
        if (e == NULL || zt_entry_flags(&e->flags) == 0) {
            return ZT_NONE;
        }
        if (__atomic_load_n(&e->nwid, __ATOMIC_RELAXED) == nwid && zt_network_read(t, index, &v) && v.nwid == nwid) {
            return index;
        }
    }
    return ZT_NONE;
}

static inline uint32_t zt_peer_find(const struct zt_tables *t, uint64_t address) {
    uint32_t mask = t->max_peers - 1, limit = zt_probe_limit(t->max_peers), hash = (uint32_t)zt_mix64(address);
    for (uint32_t i = 0; i < limit; i++) {
        uint32_t index = (hash + i) & mask;
        struct zt_peer_view v;
        const struct zt_peer_entry *e = zt_peer_at(t, index);
        if (e == NULL || zt_entry_flags(&e->flags) == 0) {
            return ZT_NONE;
        }
        if (__atomic_load_n(&e->address, __ATOMIC_RELAXED) == address && zt_peer_read(t, index, &v) && v.address == address) {
            return index;
        }
    }
    return ZT_NONE;
}

static inline uint32_t zt_path_find(const struct zt_tables *t, uint32_t peer, uint16_t binding, const struct zt_endpoint *remote) {
    uint32_t mask = t->max_paths - 1, limit = zt_probe_limit(t->max_paths), hash = zt_path_hash(peer, binding, remote);
    for (uint32_t i = 0; i < limit; i++) {
        uint32_t index = (hash + i) & mask;
        struct zt_path_view v;
        const struct zt_path_entry *e = zt_path_at(t, index);
        if (e == NULL || zt_entry_flags(&e->flags) == 0) {
            return ZT_NONE;
        }
        if (__atomic_load_n(&e->peer, __ATOMIC_RELAXED) == peer && zt_path_read(t, index, &v) && v.peer == peer &&
            v.binding == binding && zt_endpoint_equal(&v.remote, remote)) {
            return index;
        }
    }
    return ZT_NONE;
}

static inline uint32_t zt_member_find(const struct zt_tables *t, uint32_t network, uint32_t peer) {
    uint32_t mask = t->max_members - 1, limit = zt_probe_limit(t->max_members), hash = zt_member_hash(network, peer);
    for (uint32_t i = 0; i < limit; i++) {
        uint32_t index = (hash + i) & mask;
        struct zt_member_view v;
        const struct zt_member_entry *e = zt_member_at(t, index);
        if (e == NULL || zt_entry_flags(&e->flags) == 0) {
            return ZT_NONE;
        }
        if (__atomic_load_n(&e->peer, __ATOMIC_RELAXED) == peer && zt_member_read(t, index, &v) && v.network == network &&
            v.peer == peer) {
            return index;
        }
    }
    return ZT_NONE;
}

static inline uint32_t zt_group_find(const struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi) {
    uint32_t mask = t->max_groups - 1, limit = zt_probe_limit(t->max_groups), hash = zt_group_hash(network, mac, adi);
    for (uint32_t i = 0; i < limit; i++) {
        uint32_t index = (hash + i) & mask;
        struct zt_group_view v;
        const struct zt_group_entry *e = zt_group_at(t, index);
        if (e == NULL || zt_entry_flags(&e->flags) == 0) {
            return ZT_NONE;
        }
        if (__atomic_load_n(&e->mac, __ATOMIC_RELAXED) == mac && zt_group_read(t, index, &v) && v.network == network && v.mac == mac &&
            v.adi == adi) {
            return index;
        }
    }
    return ZT_NONE;
}

static inline uint32_t zt_bridged_find(const struct zt_tables *t, uint32_t network, uint64_t mac) {
    uint32_t mask = t->max_bridged - 1, limit = zt_probe_limit(t->max_bridged), hash = zt_bridged_hash(network, mac);
    for (uint32_t i = 0; i < limit; i++) {
        uint32_t index = (hash + i) & mask;
        struct zt_bridged_view v;
        const struct zt_bridged_entry *e = zt_bridged_at(t, index);
        if (e == NULL || zt_entry_flags(&e->flags) == 0) {
            return ZT_NONE;
        }
        if (__atomic_load_n(&e->mac, __ATOMIC_RELAXED) == mac && zt_bridged_read(t, index, &v) && v.network == network && v.mac == mac) {
            return index;
        }
    }
    return ZT_NONE;
}

/* Do we forward for everybody? */
static inline bool zt_tables_relay(const struct zt_tables *t) { return atomic_load_explicit(&t->relay, memory_order_relaxed) != 0; }

/* Does control reach peers that are in no table? */
static inline bool zt_tables_tunnel(const struct zt_tables *t) { return atomic_load_explicit(&t->tunnel, memory_order_relaxed) != 0; }

/* ---- time and activity ---------------------------------------------------------------------------------------------------- */

/* Node time in ms: CLOCK_MONOTONIC plus the offset that control chose. Call once per batch. */
static inline int64_t zt_now(const struct zt_tables *t) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 + __atomic_load_n(&t->clock_offset, __ATOMIC_RELAXED);
}

/* Changes whenever any entry has changed. */
static inline uint32_t zt_tables_epoch(const struct zt_tables *t) { return atomic_load_explicit(&t->epoch, memory_order_acquire); }

static inline void zt_stamp_peer(const struct zt_tables *t, uint32_t peer, int64_t now) {
    struct zt_peer_entry *e = zt_peer_at(t, peer);
    if (e != NULL) {
        atomic_store_explicit(&e->last_send, now, memory_order_relaxed);
    }
}

static inline int64_t zt_peer_last_send(const struct zt_tables *t, uint32_t peer) {
    const struct zt_peer_entry *e = zt_peer_at(t, peer);
    return e == NULL ? 0 : atomic_load_explicit(&e->last_send, memory_order_relaxed);
}

static inline void zt_stamp_path(const struct zt_tables *t, uint32_t path, int64_t now) {
    struct zt_path_entry *e = zt_path_at(t, path);
    if (e != NULL) {
        atomic_store_explicit(&e->last_receive, now, memory_order_relaxed);
    }
}

static inline void zt_stamp_member(const struct zt_tables *t, uint32_t member, int64_t now) {
    struct zt_member_entry *e = zt_member_at(t, member);
    if (e != NULL) {
        atomic_store_explicit(&e->last_frame, now, memory_order_relaxed);
    }
}

#endif
