/* guard.c: see guard.h. */
#include "guard.h"

#include "segment.h"

#include <stdlib.h>

#define NETWORKS 64u /* powers of two: places for copies, by index */
#define MEMBERS 1024u
#define SCRATCH (0xffffu + ZT_ETHER_LEN + 4u)

/* The last policy copied of the entries that share this place. copy NULL: what `generation` names is of no use. */
struct place {
    uint32_t generation;
    uint32_t room;
    void *copy;
    bool good;
};

struct zt_guard {
    const struct zt_tables *tables;
    struct place network[NETWORKS];
    struct place member[MEMBERS];
    uint8_t scratch[SCRATCH]; /* one segment of a super-frame, from its EtherType on */
};

struct zt_guard *zt_guard_new(const struct zt_tables *t) {
    struct zt_guard *g = calloc(1, sizeof *g);
    if (g != NULL) {
        g->tables = t;
    }
    return g;
}

void zt_guard_free(struct zt_guard *g) {
    for (uint32_t i = 0; g != NULL && i < NETWORKS; i++) {
        free(g->network[i].copy);
    }
    for (uint32_t i = 0; g != NULL && i < MEMBERS; i++) {
        free(g->member[i].copy);
    }
    free(g);
}

/* ---- private copies ---------------------------------------------------------------------------------------------------------- */

static bool make_room(struct place *p, uint32_t size) {
    if (p->room < size) {
        void *bigger = realloc(p->copy, size);
        if (bigger == NULL) {
            return false;
        }
        p->copy = bigger;
        p->room = size;
    }
    return true;
}

static bool copy_bytes(const struct zt_tables *t, const struct zt_policy_ref *ref, struct place *p) {
    return ref->size <= ZT_POLICY_MAX && make_room(p, zt_policy_room(ref)) && zt_policy_copy(t, ref, p->copy);
}

static const struct zt_policy *load(struct place *p, const struct zt_policy_ref *ref, bool copied, uint32_t generation_now) {
    p->generation = 0;
    p->good = false;
    if (generation_now != ref->generation) {
        return NULL; /* changed meanwhile: the caller's view is renewed with its next batch */
    }
    p->generation = ref->generation;
    p->good = copied && zt_policy_check(p->copy, ref->size) == 0;
    return p->good ? p->copy : NULL;
}

static const struct zt_policy *own_policy(struct zt_guard *g, const struct zt_pair *pair) {
    struct place *p = &g->network[pair->network & (NETWORKS - 1)];
    struct zt_network_view now;
    if (p->generation == pair->own.generation) {
        return p->good ? p->copy : NULL;
    }
    bool copied = copy_bytes(g->tables, &pair->own, p);
    return load(p, &pair->own, copied, zt_network_read(g->tables, pair->network, &now) ? now.policy.generation : 0);
}

static const struct zt_policy *remote_policy(struct zt_guard *g, const struct zt_pair *pair) {
    struct place *p = &g->member[pair->member & (MEMBERS - 1)];
    struct zt_member_view now;
    if (p->generation == pair->remote.generation) {
        return p->good ? p->copy : NULL;
    }
    bool copied = copy_bytes(g->tables, &pair->remote, p);
    return load(p, &pair->remote, copied, zt_member_read(g->tables, pair->member, &now) ? now.policy.generation : 0);
}

/* Both sides; false: punt. */
static bool policies(struct zt_guard *g, const struct zt_pair *p, const struct zt_policy **own, const struct zt_policy **remote) {
    *own = zt_pair_known(p) ? own_policy(g, p) : NULL;
    *remote = *own != NULL && p->remote.generation != 0 ? remote_policy(g, p) : NULL;
    return *own != NULL && (p->remote.generation == 0 || *remote != NULL);
}

bool zt_guard_may_punt(struct zt_guard *g, const struct zt_pair *p) {
    const struct zt_policy *own, *remote;
    return !policies(g, p, &own, &remote) || ((own->flags | (remote == NULL ? 0 : remote->flags)) & ZT_POLICY_TARGETS) != 0;
}

/* ---- decisions ----------------------------------------------------------------------------------------------------------------- */

static void put_body(struct zt_situation *s, const uint8_t *body, size_t n) {
    s->ethertype = zt_get16(body);
    s->data = body + 2;
    s->len = (uint32_t)n - 2;
}

/* Decide about segments one by one, only those that may differ: all, or the first, one in the middle and the last. */
static enum zt_decision decide_segments(struct zt_guard *g, struct zt_situation *s, const struct zt_super *super, bool all) {
    enum zt_decision first = ZT_FILTER_PUNT;
    for (uint32_t i = 0; i < super->segments; i++) {
        if (!all && i > 1 && i < super->segments - 1) {
            i = super->segments - 1;
        }
        zt_super_emit(super, i, g->scratch);
        put_body(s, g->scratch, zt_super_size(super, i));
        enum zt_decision decision = zt_filter(s);
        if (i == 0) {
            first = decision;
        } else if (decision != first) {
            return ZT_FILTER_PUNT;
        }
    }
    return first;
}

enum zt_decision zt_guard_outbound(struct zt_guard *g, const struct zt_pair *p, const struct zt_vnet *vnet, const uint8_t *frame, size_t len) {
    struct zt_situation s = {
        .self = g->tables->self, .peer = p->address, .mac_dest = zt_get48(frame), .mac_source = zt_get48(frame + 6),
        .no_copies = p->no_copies};
    struct zt_super super;
    if (!policies(g, p, &s.own, &s.remote)) {
        return ZT_FILTER_PUNT;
    }
    bool body = (s.own->flags & ZT_POLICY_BODY) != 0;
    if (body || (s.own->flags & ZT_POLICY_HEADERS) != 0) {
        if (!zt_super_init(&super, vnet, frame, len)) {
            return ZT_FILTER_PUNT; /* where it is counted */
        }
        if (body || super.segments > 1) {
            return decide_segments(g, &s, &super, body);
        }
    }
    put_body(&s, frame + ZT_MACS_LEN, len - ZT_MACS_LEN);
    return zt_filter(&s);
}

enum zt_decision zt_guard_inbound(struct zt_guard *g, const struct zt_pair *p, const uint8_t macs[12], const uint8_t *body, size_t n) {
    struct zt_situation s = {.inbound = true,
                             .self = g->tables->self,
                             .peer = p->address,
                             .mac_dest = zt_get48(macs),
                             .mac_source = zt_get48(macs + 6)};
    if (!policies(g, p, &s.own, &s.remote)) {
        return ZT_FILTER_PUNT;
    }
    put_body(&s, body, n);
    return zt_filter(&s);
}
