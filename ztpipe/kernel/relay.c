/* relay.c: see relay.h. */
#include "relay.h"
#include "net.h"
#include "slots.h"
#include "table.h"

#include <stdlib.h>

#define MAX_HOPS 3u
#define TARGETS 64u              /* power of two */
#define PAIR_SETS 2048u          /* power of two */
#define PAIR_WAYS 4u
#define NOTICE_INTERVAL 30500    /* ms per pair: a little more than the slow path's own gate (vl1-behaviour §2.6, gate 11) */
#define NOTICES_PER_SECOND 256u  /* beyond it, pairs are forwarded without notice until there is time for them */
#define STAGE_BYTES (64u * 1024u)
#define IN_PLACE 8192u           /* a run this long is sent from where it lies, at once */
#define BATCH_BYTES 65507u       /* the longest that UDP_SEGMENT takes */
#define BATCH_DATAGRAMS 64u

/* A destination and what the tables say about it, as of the relay's epoch. */
struct target {
    bool used;
    bool direct; /* binding and remote are valid */
    uint16_t binding;
    uint64_t address;
    struct zt_endpoint remote;
};

/* Two nodes that talk through us, and when the slow path was told. */
struct pair {
    uint64_t low, high;
    int64_t told; /* 0: unused */
};

enum fate {
    KEEP,
    FORWARD,
    NOTICE,
    DROP,
};

struct verdict {
    enum fate fate;
    enum zt_counter reason;      /* DROP */
    const struct target *target; /* FORWARD; good until the next verdict */
};

/* Datagrams in the stage that may leave as one message. */
struct batch {
    uint32_t len; /* 0: none */
    uint32_t seg;
    uint32_t at;
    struct target to;
};

struct zt_relay {
    struct zt_context *c;
    struct zt_outbox *box;
    struct zt_sockets *sockets;
    uint32_t epoch;
    uint32_t notices; /* in the second that began at `window` */
    int64_t window;
    struct target target[TARGETS];
    struct pair pair[PAIR_SETS][PAIR_WAYS];
    struct batch batch;
    uint32_t staged;
    uint8_t stage[STAGE_BYTES];
};

struct zt_relay *zt_relay_new(struct zt_context *c, struct zt_outbox *box, struct zt_sockets *sockets) {
    struct zt_relay *r = calloc(1, sizeof *r);
    if (r != NULL) {
        r->c = c;
        r->box = box;
        r->sockets = sockets;
    }
    return r;
}

void zt_relay_free(struct zt_relay *r) { free(r); }

bool zt_relay_begin(struct zt_relay *r) {
    if (!zt_tables_relay(r->c->tables)) {
        return false;
    }
    uint32_t epoch = zt_tables_epoch(r->c->tables);
    if (epoch != r->epoch) {
        r->epoch = epoch;
        memset(r->target, 0, sizeof r->target);
    }
    r->box->now = zt_now(r->c->tables);
    return true;
}

/* ---- what to do with it ------------------------------------------------------------------------------------------------------ */

static const struct target *find_target(struct zt_relay *r, uint64_t address) {
    struct target *t = &r->target[zt_mix64(address) & (TARGETS - 1)];
    if (!t->used || t->address != address) {
        struct zt_peer_view view;
        uint32_t index = zt_peer_find(r->c->tables, address);
        *t = (struct target){.used = true, .address = address};
        if (index != ZT_NONE && zt_peer_read(r->c->tables, index, &view) && view.address == address &&
            (view.flags & ZT_PEER_DIRECT) != 0) {
            t->direct = true;
            t->binding = view.binding;
            t->remote = view.remote;
        }
    }
    return t;
}

static struct pair *find_pair(struct zt_relay *r, uint64_t one, uint64_t other) {
    uint64_t low = one < other ? one : other, high = one < other ? other : one;
    struct pair *set = r->pair[zt_mix64(low ^ zt_mix64(high)) & (PAIR_SETS - 1)], *oldest = set;
    for (struct pair *p = set; p < set + PAIR_WAYS; p++) {
        if (p->low == low && p->high == high) {
            return p;
        }
        oldest = p->told < oldest->told ? p : oldest;
    }
    *oldest = (struct pair){.low = low, .high = high};
    return oldest;
}

/* Is the slow path to hear of a packet between these two? Only known sources count: forged ones would fill the table. */
static bool notice_due(struct zt_relay *r, uint64_t source, uint64_t destination) {
    int64_t now = r->box->now;
    if (zt_peer_find(r->c->tables, source) == ZT_NONE) {
        return false;
    }
    const struct pair *p = find_pair(r, source, destination);
    if (p->told != 0 && now - p->told < NOTICE_INTERVAL) {
        return false;
    }
    if (now - r->window >= 1000) {
        r->window = now;
        r->notices = 0;
    }
    return r->notices < NOTICES_PER_SECOND && r->c->punts->used <= ZT_PUNT_BYTES / 2;
}

/* Changes nothing that counts: a datagram may be judged twice. */
static struct verdict judge(struct zt_relay *r, const uint8_t *d, uint32_t n) {
    uint64_t source = 0, destination;
    if (n <= ZT_FRAGMENT_HEADER || (destination = zt_get40(d + ZT_P_DESTINATION)) == r->c->tables->self) {
        return (struct verdict){.fate = KEEP};
    }
    bool fragment = d[ZT_P_SOURCE] == ZT_FRAGMENT_INDICATOR;
    if (!fragment) {
        if (n < ZT_PACKET_HEADER) {
            return (struct verdict){.fate = KEEP};
        }
        source = zt_get40(d + ZT_P_SOURCE);
        if (source == r->c->tables->self || source == destination) {
            return (struct verdict){
                .fate = DROP, .reason = source == destination ? ZT_C_drop_source_is_destination : ZT_C_drop_own_source};
        }
    }
    if ((d[fragment ? ZT_FRAGMENT_HOPS : ZT_P_FLAGS] & ZT_HOPS) >= MAX_HOPS) {
        return (struct verdict){.fate = DROP, .reason = ZT_C_drop_relay_too_many_hops};
    }
    const struct target *t = find_target(r, destination);
    if (!t->direct) {
        return (struct verdict){.fate = KEEP};
    }
    return (struct verdict){.fate = !fragment && notice_due(r, source, destination) ? NOTICE : FORWARD, .target = t};
}

/* ---- doing it ---------------------------------------------------------------------------------------------------------------- */

static void pass_on(struct zt_relay *r, const struct target *to, uint8_t *data, uint32_t len, uint32_t seg) {
    struct zt_socket *s = zt_sockets_find(r->sockets, to->binding);
    if (s == NULL) {
        zt_count(r->c, ZT_C_drop_no_binding, (len + seg - 1) / seg);
        return;
    }
    zt_outbox_run(r->box, s, &to->remote, data, len, seg);
}

static void close_batch(struct zt_relay *r) {
    if (r->batch.len != 0) {
        pass_on(r, &r->batch.to, r->stage + r->batch.at, r->batch.len, r->batch.seg);
        r->batch.len = 0;
    }
}

void zt_relay_flush(struct zt_relay *r) {
    close_batch(r);
    zt_outbox_send(r->box);
    r->staged = 0;
}

/* May these datagrams follow in the same message? All but the last of a message have one size. */
static bool continues(const struct batch *b, const struct target *to, uint32_t len, uint32_t seg) {
    return b->len != 0 && b->to.address == to->address && b->len % b->seg == 0 && (seg == b->seg || (len == seg && seg < b->seg)) &&
           b->len + len <= BATCH_BYTES && b->len / b->seg + (len + seg - 1) / seg <= BATCH_DATAGRAMS;
}

static void forward(struct zt_relay *r, const struct target *to, uint8_t *data, uint32_t len, uint32_t seg) {
    zt_count(r->c, ZT_C_relay_datagrams, (len + seg - 1) / seg);
    zt_count(r->c, ZT_C_relay_bytes, len);
    if (len >= IN_PLACE) {
        close_batch(r);
        pass_on(r, to, data, len, seg);
        zt_relay_flush(r);
        return;
    }
    if (r->staged + len > STAGE_BYTES) {
        zt_relay_flush(r);
    }
    memcpy(r->stage + r->staged, data, len);
    if (continues(&r->batch, to, len, seg)) {
        r->batch.len += len;
    } else {
        close_batch(r);
        r->batch = (struct batch){.len = len, .seg = seg, .at = r->staged, .to = *to};
    }
    r->staged += len;
}

static void add_hop(uint8_t *d) { d[d[ZT_P_SOURCE] == ZT_FRAGMENT_INDICATOR ? ZT_FRAGMENT_HOPS : ZT_P_FLAGS]++; }

static void notice(struct zt_relay *r, const struct zt_rec *rec, const uint8_t *d, uint32_t n) {
    struct zt_punt head = {.kind = ZT_PUNT_DATAGRAM, .binding = rec->binding, .remote = rec->remote};
    find_pair(r, zt_get40(d + ZT_P_SOURCE), zt_get40(d + ZT_P_DESTINATION))->told = r->box->now;
    r->notices++;
    if (zt_punt_add(r->c, &head, d, n)) {
        zt_count(r->c, ZT_C_udp_punted, 1);
    }
}

uint32_t zt_relay_take(struct zt_relay *r, const struct zt_rec *rec, uint8_t *data, uint32_t len, bool *keep) {
    uint32_t seg = rec->nseg > 1 && rec->seg != 0 && rec->seg < len ? rec->seg : len, n = seg;
    struct verdict v = judge(r, data, seg);
    *keep = v.fate == KEEP;
    if (v.fate == DROP) {
        zt_count(r->c, v.reason, 1);
    } else if (v.fate == NOTICE) {
        notice(r, rec, data, n);
    }
    if (v.fate == DROP || v.fate == NOTICE) {
        return n;
    }
    struct target to = v.fate == FORWARD ? *v.target : (struct target){.used = false};
    for (uint32_t size; n < len; n += size) {
        size = len - n < seg ? len - n : seg;
        struct verdict next = judge(r, data + n, size);
        if (next.fate != v.fate || (v.fate == FORWARD && next.target->address != to.address)) {
            break;
        }
    }
    if (v.fate == FORWARD) {
        for (uint32_t at = 0; at < n; at += seg) {
            add_hop(data + at);
        }
        forward(r, &to, data, n, seg);
    }
    return n;
}
