/* table_impl.h: how the tables are written: what table.c and table_switch.c share. Only control calls any of it; it is the one writer, so nothing
 * here locks against another writer. */
#ifndef ZT_TABLE_IMPL_H
#define ZT_TABLE_IMPL_H

#include "table_write.h"

#include <errno.h>

/* ---- sequence lock, writer's side -------------------------------------------------------------------------------- */

/* Replace the first `size` bytes of an entry by those of `from`; its own sequence counter is kept and goes up by two. */
static inline void seq_store(void *entry, const void *from, size_t size) {
    uint32_t *seq = entry;
    zt_word *to = entry;
    const zt_word *words = from;
    uint32_t before = __atomic_load_n(seq, __ATOMIC_RELAXED) & ~1u;
    uint32_t flags;
    memcpy(&flags, (const uint8_t *)from + sizeof flags, sizeof flags);
    __atomic_store_n(seq, before + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* odd before any word; pairs with the acquire fence in zt_seq_copy */
    __atomic_store_n(seq + 1, flags, __ATOMIC_RELAXED); /* shares its word with the counter */
    for (size_t w = 1; w < size / sizeof *to; w++) {
        __atomic_store_n(&to[w], words[w], __ATOMIC_RELAXED);
    }
    __atomic_store_n(seq, before + 2, __ATOMIC_RELEASE); /* pairs with the acquire in zt_seq_copy */
}

static inline void bump(struct zt_tables *t) { atomic_fetch_add_explicit(&t->epoch, 1, memory_order_release); }

/* ---- probing, common to all tables ---------------------------------------------------------------------------------- */

/* A table as bytes: every entry begins with {seq, flags}. */
struct array {
    uint8_t *at;
    size_t entry;
    uint32_t max;
};

static inline uint32_t *flags_at(struct array a, uint32_t i) { return (uint32_t *)(void *)(a.at + (size_t)i * a.entry) + 1; }

static inline struct array networks_of(const struct zt_tables *t) {
    return (struct array){(uint8_t *)(uintptr_t)t + t->networks_at, sizeof(struct zt_network_entry), t->max_networks};
}

static inline struct array peers_of(const struct zt_tables *t) {
    return (struct array){(uint8_t *)(uintptr_t)t + t->peers_at, sizeof(struct zt_peer_entry), t->max_peers};
}

static inline struct array paths_of(const struct zt_tables *t) {
    return (struct array){(uint8_t *)(uintptr_t)t + t->paths_at, sizeof(struct zt_path_entry), t->max_paths};
}

static inline struct array members_of(const struct zt_tables *t) {
    return (struct array){(uint8_t *)(uintptr_t)t + t->members_at, sizeof(struct zt_member_entry), t->max_members};
}

static inline struct array groups_of(const struct zt_tables *t) {
    return (struct array){(uint8_t *)(uintptr_t)t + t->groups_at, sizeof(struct zt_group_entry), t->max_groups};
}

static inline struct array bridged_of(const struct zt_tables *t) {
    return (struct array){(uint8_t *)(uintptr_t)t + t->bridged_at, sizeof(struct zt_bridged_entry), t->max_bridged};
}

/* The first entry of the probe sequence that is not in use, or ZT_NONE. */
static inline uint32_t free_entry(struct array a, uint32_t hash) {
    uint32_t limit = zt_probe_limit(a.max);
    for (uint32_t i = 0; i < limit; i++) {
        uint32_t index = (hash + i) & (a.max - 1);
        if ((*flags_at(a, index) & ZT_ENTRY_USED) == 0) {
            return index;
        }
    }
    return ZT_NONE;
}

/* Turn the tombstones that end at `index` into free entries when nothing can lie behind them, so that misses stay short. */
static inline void sweep_tombs(struct array a, uint32_t index) {
    if (*flags_at(a, (index + 1) & (a.max - 1)) != 0) {
        return;
    }
    for (uint32_t i = 0; i < a.max && *flags_at(a, index) == ZT_ENTRY_TOMB; i++) {
        __atomic_store_n(flags_at(a, index), 0, __ATOMIC_RELAXED);
        index = (index - 1) & (a.max - 1);
    }
}

/* `empty` is an entry of zeros whose flags are ZT_ENTRY_TOMB. */
static inline void bury(struct array a, uint32_t index, const void *empty) {
    seq_store(a.at + (size_t)index * a.entry, empty, a.entry);
    sweep_tombs(a, index);
}

static inline uint32_t next_used(struct array a, uint32_t from) {
    for (uint32_t i = from; i < a.max; i++) {
        if ((*flags_at(a, i) & ZT_ENTRY_USED) != 0) {
            return i;
        }
    }
    return ZT_NONE;
}

#endif
