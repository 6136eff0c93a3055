/* policy.c: policies as memory: checked once, then searched (filter.h, policy_impl.h); copied out of shared memory (guard.h). */
#include "policy_impl.h"

#include "guard.h"

#include <errno.h>

int zt_policy_check(const void *at, size_t size) {
    const struct zt_policy *p = at;
    if (size < sizeof *p || size > ZT_POLICY_MAX || p->magic != ZT_POLICY_MAGIC || p->size > size || p->rules > ZT_POLICY_MAX) {
        return -EPROTO;
    }
    size_t needed = sizeof *p + (size_t)p->rules * sizeof(struct zt_rule) + p->things * sizeof(struct zt_thing) +
                    p->lists * sizeof(struct zt_rule_list) + p->tags * sizeof(struct zt_tag);
    if (needed != p->size) {
        return -EPROTO;
    }
    for (uint32_t i = 0; i < p->lists; i++) {
        const struct zt_rule_list *l = &zt_policy_lists(p)[i];
        if (l->first > p->rules || l->count > p->rules - l->first) {
            return -EPROTO;
        }
    }
    for (uint32_t i = 0; i < p->things; i++) {
        if (zt_policy_things(p)[i].length > sizeof zt_policy_things(p)[i].value) {
            return -EPROTO;
        }
    }
    return 0;
}

bool zt_policy_tag(const struct zt_policy *p, uint32_t id, uint32_t *value) {
    uint32_t low = 0, high = p == NULL ? 0 : p->tags;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct zt_tag *t = &zt_policy_tags(p)[middle];
        if (t->id == id) {
            *value = t->value;
            return true;
        }
        if (t->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

bool zt_policy_owns(const struct zt_policy *p, uint8_t type, const uint8_t *value) {
    for (uint32_t i = 0; p != NULL && i < p->things; i++) {
        const struct zt_thing *t = &zt_policy_things(p)[i];
        if (t->type == type && memcmp(t->value, value, t->length) == 0) {
            return true;
        }
    }
    return false;
}

bool zt_policy_copy(const struct zt_tables *t, const struct zt_policy_ref *ref, void *out) {
    uint32_t size = zt_policy_room(ref);
    if (ref->size > ZT_POLICY_MAX || ref->at % sizeof(zt_word) != 0 || ref->at > t->policies_size || size > t->policies_size - ref->at) {
        return false;
    }
    const zt_word *from = (const zt_word *)(const void *)((const uint8_t *)t + t->policies_at + ref->at);
    zt_word *to = out;
    for (uint32_t w = 0; w < size / sizeof *to; w++) {
        to[w] = __atomic_load_n(&from[w], __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* pairs with the release fence of zt_policy_put */
    return true;
}
