/* reassemble.c: see reassemble.h. */
#include "reassemble.h"

#include "crypto.h"
#include "table.h"

#include <stdlib.h>

#define SETS 512u /* power of two */
#define WAYS 8u

struct piece {
    uint16_t at; /* in the entry's bytes; pieces are stored in order of arrival */
    uint16_t len;
};

struct entry {
    uint64_t id;
    int64_t born;
    struct zt_endpoint remote;
    uint16_t binding;
    uint16_t used; /* bytes */
    uint8_t total; /* 0: not known yet */
    uint8_t have;  /* bit per piece, bit 0 the head; 0: free */
    struct piece piece[ZT_FRAGMENTS_MAX];
};

struct bytes {
    uint8_t data[ZT_PACKET_LONGEST];
};

struct zt_reassembler {
    struct zt_context *c;
    uint32_t waiting; /* entries in use */
    int64_t next_look; /* when zt_reassembler_expire looks again */
    uint64_t seed; /* nobody outside can choose the set that a packet falls into */
    struct entry entry[SETS * WAYS];
    struct bytes bytes[SETS * WAYS];
    struct bytes packet;
};

struct zt_reassembler *zt_reassembler_new(struct zt_context *c) {
    struct zt_reassembler *r = calloc(1, sizeof *r);
    if (r != NULL) {
        r->c = c;
        zt_random_bytes((uint8_t *)&r->seed, sizeof r->seed);
    }
    return r;
}

void zt_reassembler_free(struct zt_reassembler *r) { free(r); }

static void release(struct zt_reassembler *r, struct entry *e) {
    e->have = 0;
    r->waiting--;
}

static void give_up(struct zt_reassembler *r, struct entry *e) {
    zt_count(r->c, ZT_C_drop_fragment_expired, (uint64_t)__builtin_popcount(e->have));
    release(r, e);
}

static bool expired(const struct entry *e, int64_t now) { return now - e->born > ZT_REASSEMBLE_TIMEOUT; }

/* The packet's entry, or a fresh one in place of a free one, an expired one, or the oldest. */
static struct entry *find(struct zt_reassembler *r, int64_t now, uint64_t id, const struct zt_endpoint *remote, uint16_t binding) {
    struct entry *set = &r->entry[(zt_mix64(id ^ r->seed ^ zt_endpoint_hash(remote)) & (SETS - 1)) * WAYS], *worst = set;
    for (uint32_t i = 0; i < WAYS; i++) {
        struct entry *e = &set[i];
        if (e->have != 0 && expired(e, now)) {
            give_up(r, e);
        }
        if (e->have != 0 && e->id == id && e->binding == binding && zt_endpoint_equal(&e->remote, remote)) {
            return e;
        }
        if (worst->have != 0 && (e->have == 0 || e->born < worst->born)) {
            worst = e;
        }
    }
    if (worst->have != 0) {
        give_up(r, worst);
    }
    *worst = (struct entry){.id = id, .born = now, .remote = *remote, .binding = binding};
    return worst;
}

static size_t assemble(struct zt_reassembler *r, struct entry *e) {
    const struct bytes *b = &r->bytes[e - r->entry];
    size_t n = 0;
    for (uint32_t i = 0; i < e->total; i++) {
        memcpy(r->packet.data + n, b->data + e->piece[i].at, e->piece[i].len);
        n += e->piece[i].len;
    }
    zt_count(r->c, ZT_C_open_joined, e->total - 1u);
    release(r, e);
    return n;
}

size_t zt_reassembler_add(struct zt_reassembler *r, int64_t now, const struct zt_endpoint *remote, uint16_t binding, const uint8_t *datagram,
                          size_t n, uint8_t **packet) {
    bool fragment = datagram[13] == ZT_FRAGMENT_INDICATOR;
    uint32_t number = fragment ? datagram[14] & 15u : 0, total = fragment ? datagram[14] >> 4 : 0;
    if (fragment && (total < 2 || total > ZT_FRAGMENTS_MAX || number == 0 || number >= total)) {
        zt_count(r->c, ZT_C_drop_bad_fragment, 1);
        return 0;
    }
    const uint8_t *data = datagram + (fragment ? ZT_FRAGMENT_HEADER : 0);
    n -= fragment ? ZT_FRAGMENT_HEADER : 0;
    struct entry *e = find(r, now, zt_get64(datagram), remote, binding);
    if ((e->have >> number & 1) != 0) {
        zt_count(r->c, ZT_C_drop_fragment_duplicate, 1);
        return 0;
    }
    if (fragment && e->total != 0 && e->total != total) {
        zt_count(r->c, ZT_C_drop_bad_fragment, 1);
        return 0;
    }
    if (e->used + n > ZT_PACKET_LONGEST) {
        zt_count(r->c, ZT_C_drop_oversize_packet, 1 + (uint64_t)__builtin_popcount(e->have));
        if (e->have != 0) {
            release(r, e);
        }
        return 0;
    }
    e->total = fragment ? (uint8_t)total : e->total;
    r->waiting += e->have == 0;
    e->piece[number] = (struct piece){.at = e->used, .len = (uint16_t)n};
    e->have |= (uint8_t)(1u << number);
    memcpy(r->bytes[e - r->entry].data + e->used, data, n);
    e->used = (uint16_t)(e->used + n);
    if (e->total == 0 || e->have != (1u << e->total) - 1) {
        return 0;
    }
    *packet = r->packet.data;
    return assemble(r, e);
}

void zt_reassembler_expire(struct zt_reassembler *r, int64_t now) {
    if (r->waiting == 0 || now < r->next_look) {
        return;
    }
    r->next_look = now + ZT_REASSEMBLE_TIMEOUT;
    for (struct entry *e = r->entry; e < r->entry + SETS * WAYS; e++) {
        if (e->have != 0 && expired(e, now)) {
            give_up(r, e);
        }
    }
}
