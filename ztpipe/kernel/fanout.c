/* fanout.c: see fanout.h. Its twin is Multicaster in ztpipe/node/multicast.py. */
#include "fanout.h"

#include "crypto.h"

#include <stdlib.h>

#define PLACES 256u /* power of two: groups in use at a time */
#define RENEWALS 1000 /* ms: how often the slow path hears of an entry that is due */
#define LIST_MAX (sizeof(struct zt_group_list) + ZT_GROUP_RECIPIENTS * sizeof(uint64_t))
#define ETHERTYPE_ARP 0x0806u
#define NEIGHBOUR_SOLICITATION 0x87u

struct recipient {
    uint64_t name; /* zt_recipient */
    struct zt_pair pair;
};

/* A group as of `epoch`. Not usable: the slow path is asked. */
struct place {
    uint32_t epoch;
    uint32_t network;
    uint64_t mac;
    bool usable;
    struct zt_group_view entry;
    int64_t renewed;
    uint32_t generation; /* of what `list` was made from; 0: of nothing */
    uint32_t room;       /* of `list`, in recipients */
    struct zt_group_list head;
    struct recipient *list;
};

struct zt_fanout {
    const struct zt_tables *tables;
    struct place place[PLACES];
    uint64_t to[ZT_GROUP_RECIPIENTS];
    uint64_t blob[(LIST_MAX + sizeof(uint64_t) - 1) / sizeof(uint64_t)];
};

struct zt_fanout *zt_fanout_new(const struct zt_tables *t) {
    struct zt_fanout *f = calloc(1, sizeof *f);
    if (f != NULL) {
        f->tables = t;
    }
    return f;
}

void zt_fanout_free(struct zt_fanout *f) {
    for (uint32_t i = 0; f != NULL && i < PLACES; i++) {
        free(f->place[i].list);
    }
    free(f);
}

bool zt_asks_address(const uint8_t *body, size_t n) {
    uint16_t type = zt_get16(body);
    const uint8_t *ip = body + 2;
    return type == ETHERTYPE_ARP || (type == ZT_ETHERTYPE_IPV6 && n >= 2 + ZT_IPV6_LEN + 1 && ip[6] == ZT_PROTO_ICMPV6 &&
                                     ip[ZT_IPV6_LEN] == NEIGHBOUR_SOLICITATION);
}

/* ---- private copies ---------------------------------------------------------------------------------------------------------- */

static bool make_room(struct place *p, uint32_t count) {
    if (p->room < count) {
        struct recipient *bigger = realloc(p->list, count * sizeof *bigger);
        if (bigger == NULL) {
            return false;
        }
        p->list = bigger;
        p->room = count;
    }
    return true;
}

/* The list's addresses, if the entry still refers to it. */
static bool copy_list(struct zt_fanout *f, struct place *p, uint32_t index) {
    const struct zt_policy_ref *ref = &p->entry.list;
    struct zt_group_view now;
    if (p->generation == ref->generation) {
        return true;
    }
    p->generation = 0;
    if (ref->size < sizeof p->head || ref->size > LIST_MAX || !zt_policy_copy(f->tables, ref, f->blob) ||
        !zt_group_read(f->tables, index, &now) || now.list.generation != ref->generation) {
        return false;
    }
    memcpy(&p->head, f->blob, sizeof p->head);
    uint32_t count = p->head.count;
    if (p->head.magic != ZT_GROUP_MAGIC || count > ZT_GROUP_RECIPIENTS || p->head.first > count ||
        ref->size != sizeof p->head + count * sizeof(uint64_t) || !make_room(p, count)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        p->list[i].pair = (struct zt_pair){.address = f->blob[sizeof p->head / sizeof(uint64_t) + i]};
    }
    p->generation = ref->generation;
    return true;
}

/* Find each of them in the tables. One that is not there, or about whom C may not decide, makes the group the slow path's. */
static bool find_recipients(struct zt_fanout *f, struct place *p, const struct zt_network_view *network) {
    bool ruled = (network->flags & ZT_NETWORK_ACCEPT_ALL) == 0;
    for (uint32_t i = 0; i < p->head.count; i++) {
        struct recipient *r = &p->list[i];
        struct zt_member_view v;
        uint32_t peer = zt_peer_find(f->tables, r->pair.address);
        r->name = zt_recipient(r->pair.address, peer);
        if ((p->head.flags & ZT_GROUP_REPLICATED) != 0 && peer != ZT_NONE) {
            continue; /* its credentials do not matter */
        }
        uint32_t member = peer == ZT_NONE ? ZT_NONE : zt_member_find(f->tables, p->network, peer);
        if (member == ZT_NONE || !zt_member_read(f->tables, member, &v)) {
            return false;
        }
        r->pair.network = p->network;
        r->pair.member = member;
        r->pair.own = network->policy;
        r->pair.remote = v.policy;
        r->pair.no_copies = true;
        if (ruled && !zt_pair_known(&r->pair)) {
            return false;
        }
    }
    return true;
}

/* The group, or NULL: there is no entry that C can act by. */
static struct place *find_place(struct zt_fanout *f, uint32_t network, const struct zt_network_view *view, uint64_t mac, int64_t now) {
    uint32_t epoch = zt_tables_epoch(f->tables);
    struct place *p = &f->place[zt_group_hash(network, mac, 0) & (PLACES - 1)];
    if (p->epoch != epoch || p->network != network || p->mac != mac) {
        if (p->network != network || p->mac != mac) {
            p->renewed = 0;
        }
        p->epoch = epoch;
        p->network = network;
        p->mac = mac;
        uint32_t index = zt_group_find(f->tables, network, mac, 0); /* ADI is for ARP, which is not repeated here */
        p->usable = index != ZT_NONE && zt_group_read(f->tables, index, &p->entry) && p->entry.network == network && p->entry.mac == mac &&
                    copy_list(f, p, index) && find_recipients(f, p, view);
    }
    return p->usable && p->entry.until > now ? p : NULL;
}

/* ---- decisions ----------------------------------------------------------------------------------------------------------------- */

/* The n-th recipient of a frame: those that come first, then the others from `start` on, around. */
static const struct recipient *nth(const struct place *p, uint32_t n, uint32_t start) {
    uint32_t others = p->head.count - p->head.first;
    return n < p->head.first ? &p->list[n] : &p->list[p->head.first + (start + n - p->head.first) % others];
}

static uint32_t random_start(const struct place *p) {
    uint32_t others = p->head.count - p->head.first, drawn = 0;
    if (others > 1 && p->head.count > p->head.limit) {
        zt_random_bytes((uint8_t *)&drawn, sizeof drawn);
        drawn %= others;
    }
    return drawn;
}

enum zt_decision zt_fanout_decide(struct zt_fanout *f, struct zt_guard *guard, uint32_t index, const struct zt_network_view *network,
                                  const struct zt_vnet *vnet, const uint8_t *frame, size_t len, uint64_t origin, int64_t now,
                                  struct zt_copies *copies) {
    struct place *p = find_place(f, index, network, zt_get48(frame), now);
    *copies = (struct zt_copies){.to = f->to};
    if (p == NULL) {
        return ZT_FILTER_PUNT;
    }
    bool ruled = (network->flags & ZT_NETWORK_ACCEPT_ALL) == 0;
    if (ruled && origin == 0) { /* to nobody in particular: the only time that copies are made */
        struct zt_pair nobody = {.network = index, .own = network->policy};
        enum zt_decision decision = zt_guard_outbound(guard, &nobody, vnet, frame, len);
        if (decision != ZT_FILTER_PASS) {
            return decision;
        }
    }
    bool replicated = (p->head.flags & ZT_GROUP_REPLICATED) != 0;
    uint32_t start = random_start(p);
    for (uint32_t n = 0, taken = 0; n < p->head.count && taken < p->head.limit; n++) {
        const struct recipient *r = nth(p, n, start);
        if (r->pair.address == origin) {
            continue;
        }
        taken++;
        enum zt_decision decision = ruled && !replicated ? zt_guard_outbound(guard, &r->pair, vnet, frame, len) : ZT_FILTER_PASS;
        if (decision == ZT_FILTER_PUNT) {
            return decision;
        }
        if (decision == ZT_FILTER_PASS) {
            f->to[copies->count++] = r->name;
        } else {
            copies->refused++;
        }
    }
    copies->multicast = replicated ? ZT_MULTICAST_SOURCE | ZT_MULTICAST_REPLICATE
                                   : zt_get48(frame + 6) != network->mac ? ZT_MULTICAST_SOURCE : 0;
    copies->renew = now >= p->entry.renew_at && now - p->renewed >= RENEWALS;
    p->renewed = copies->renew ? now : p->renewed;
    return ZT_FILTER_PASS;
}
