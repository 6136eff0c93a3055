/* table_switch.c: writing what frames are switched by: groups, MACs behind bridges, and policies (table.h). */
#include "table_impl.h"

/* ---- groups -------------------------------------------------------------------------------------------------------------- */

int64_t zt_group_put(struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi, int64_t renew_at, int64_t until,
                     const struct zt_policy_ref *list) {
    struct zt_group_entry e = {.network = network, .mac = mac, .adi = adi, .renew_at = renew_at, .until = until, .list = *list,
                               .flags = ZT_ENTRY_USED};
    const struct zt_network_entry *n = zt_network_at(t, network);
    if (n == NULL || (n->flags & ZT_ENTRY_USED) == 0) {
        return -ENOENT;
    }
    uint32_t index = zt_group_find(t, network, mac, adi);
    if (index == ZT_NONE && (index = free_entry(groups_of(t), zt_group_hash(network, mac, adi))) == ZT_NONE) {
        return -ENOSPC;
    }
    seq_store(zt_group_at(t, index), &e, sizeof e);
    bump(t);
    return index;
}

int zt_group_remove(struct zt_tables *t, uint32_t network, uint64_t mac, uint32_t adi) {
    struct zt_group_entry empty = {.flags = ZT_ENTRY_TOMB};
    uint32_t index = zt_group_find(t, network, mac, adi);
    if (index == ZT_NONE) {
        return -ENOENT;
    }
    bury(groups_of(t), index, &empty);
    bump(t);
    return 0;
}

/* ---- MACs behind bridges --------------------------------------------------------------------------------------------------- */

int64_t zt_bridged_put(struct zt_tables *t, uint32_t network, uint64_t mac, uint64_t address, int64_t renew_at, int64_t until) {
    struct zt_bridged_entry e = {.network = network, .mac = mac, .address = address, .renew_at = renew_at, .until = until,
                                 .flags = ZT_ENTRY_USED};
    const struct zt_network_entry *n = zt_network_at(t, network);
    struct zt_bridged_view v;
    if (n == NULL || (n->flags & ZT_ENTRY_USED) == 0) {
        return -ENOENT;
    }
    uint32_t index = zt_bridged_find(t, network, mac);
    bool known = index != ZT_NONE && zt_bridged_read(t, index, &v) && v.address == address;
    if (index == ZT_NONE && (index = free_entry(bridged_of(t), zt_bridged_hash(network, mac))) == ZT_NONE) {
        return -ENOSPC;
    }
    seq_store(zt_bridged_at(t, index), &e, sizeof e);
    if (!known) {
        bump(t); /* new times alone are no reason for workers to look everything up again: bridged.h */
    }
    return index;
}

int zt_bridged_remove(struct zt_tables *t, uint32_t network, uint64_t mac) {
    struct zt_bridged_entry empty = {.flags = ZT_ENTRY_TOMB};
    uint32_t index = zt_bridged_find(t, network, mac);
    if (index == ZT_NONE) {
        return -ENOENT;
    }
    bury(bridged_of(t), index, &empty);
    bump(t);
    return 0;
}

/* ---- policies ----------------------------------------------------------------------------------------------------------- */

int zt_policy_put(struct zt_tables *t, uint32_t at, const void *policy, uint32_t size) {
    if (at % sizeof(zt_word) != 0 || at > t->policies_size || size > t->policies_size - at) {
        return -EINVAL;
    }
    zt_word *to = (zt_word *)(void *)((uint8_t *)t + t->policies_at + at);
    const uint8_t *from = policy;
    __atomic_thread_fence(__ATOMIC_RELEASE); /* the old reference is gone before these words change; pairs with guard.c */
    for (uint32_t done = 0; done < size; done += sizeof(zt_word)) {
        zt_word word = 0;
        memcpy(&word, from + done, size - done < sizeof word ? size - done : sizeof word);
        __atomic_store_n(&to[done / sizeof word], word, __ATOMIC_RELAXED);
    }
    return 0;
}

int zt_network_set_policy(struct zt_tables *t, uint32_t network, const struct zt_policy_ref *policy) {
    struct zt_network_entry *at = zt_network_at(t, network), e;
    if (at == NULL || (at->flags & ZT_ENTRY_USED) == 0) {
        return -ENOENT;
    }
    memcpy(&e, at, sizeof e);
    e.policy = *policy;
    seq_store(at, &e, sizeof e);
    bump(t);
    return 0;
}

int zt_member_set_policy(struct zt_tables *t, uint32_t member, const struct zt_policy_ref *policy) {
    struct zt_member_entry *at = zt_member_at(t, member), e;
    if (at == NULL || (at->flags & ZT_ENTRY_USED) == 0) {
        return -ENOENT;
    }
    memcpy(&e, at, sizeof e);
    e.policy = *policy;
    seq_store(at, &e, offsetof(struct zt_member_entry, last_frame));
    bump(t);
    return 0;
}
