/* open.c: datagrams from the peer ring -> frames in the tap ring (stages.h).
 *
 * Only one thing is decided here: is this a FRAME or EXT_FRAME, authentic, from a member that passed the gate, let in by the rules?
 * Everything else is punted as it came, still sealed: other verbs, compressed payloads, unknown sources, packets for others. What it is
 * gets looked up by decrypting the first block only (peek). Nothing is punted that a known sender did not seal; what unknown ones send is
 * bounded (strangers.h).
 *
 * A packet in pieces that lie back to back in one record is joined and opened where it lies: the slot is ours until it is released.
 */
#include "open_impl.h"

#include <stdlib.h>

#define LOOK_AHEAD 6u /* datagrams */

struct zt_opener *zt_opener_new(struct zt_context *c, struct zt_sessions *sessions, struct zt_ring_set *in, struct zt_ring_set *out,
                                struct zt_sealer *sealer) {
    struct zt_opener *o = calloc(1, sizeof *o);
    if (o == NULL) {
        return NULL;
    }
    o->c = c;
    o->sessions = sessions;
    o->groups.price = o->questions.price = ZT_SHARE_PACKETS;
    o->reassembler = zt_reassembler_new(c);
    o->guard = zt_guard_new(c->tables);
    o->fanout = zt_fanout_new(c->tables);
    o->sealer = sealer;
    zt_strangers_init(&o->strangers);
    o->unknown_at = calloc(c->tables->max_peers, sizeof *o->unknown_at);
    for (; o->ins < in->count; o->ins++) {
        o->in[o->ins].ring = &in->ring[o->ins];
    }
    for (; o->outs < out->count; o->outs++) {
        zt_coalescer_init(&o->out[o->outs], c, &out->ring[o->outs]);
    }
    if (o->reassembler == NULL || o->guard == NULL || o->fanout == NULL || o->unknown_at == NULL) {
        zt_opener_free(o);
        return NULL;
    }
    return o;
}

void zt_opener_free(struct zt_opener *o) {
    if (o != NULL) {
        zt_reassembler_free(o->reassembler);
        zt_guard_free(o->guard);
        zt_fanout_free(o->fanout);
        free(o->unknown_at);
        free(o);
    }
}

/* ---- datagrams -------------------------------------------------------------------------------------------------------------- */

/* A record's datagrams: all of `seg` bytes but the last. */
struct run {
    uint8_t *data;
    uint32_t len;
    uint32_t seg;
    uint32_t count;
};

static uint8_t *run_at(const struct run *r, uint32_t i, uint32_t *n) {
    uint32_t at = i * r->seg;
    *n = r->len - at < r->seg ? r->len - at : r->seg;
    return r->data + at;
}

/* If all fragments of the head at `i` follow it in order, join them to it and return how many pieces there are; else 0. */
static uint32_t join_pieces(const struct run *r, uint32_t i, uint32_t *length) {
    uint32_t n, k;
    uint8_t *head = run_at(r, i, &n), *end = head + n, *next;
    if (i + 1 >= r->count) {
        return 0;
    }
    next = run_at(r, i + 1, &n);
    uint32_t total = n > ZT_FRAGMENT_HEADER ? next[14] >> 4 : 0;
    if (total < 2 || total > ZT_FRAGMENTS_MAX || i + total > r->count) {
        return 0;
    }
    for (k = 1; k < total; k++) {
        next = run_at(r, i + k, &n);
        if (n <= ZT_FRAGMENT_HEADER || next[13] != ZT_FRAGMENT_INDICATOR || next[14] != (total << 4 | k) ||
            memcmp(next, head, ZT_P_SOURCE) != 0) {
            return 0;
        }
    }
    for (k = 1; k < total; k++) {
        next = run_at(r, i + k, &n);
        memmove(end, next + ZT_FRAGMENT_HEADER, n - ZT_FRAGMENT_HEADER);
        end += n - ZT_FRAGMENT_HEADER;
    }
    *length = (uint32_t)(end - head);
    return total;
}

static void add_piece(struct zt_opener *o, struct zt_arrival *a, const uint8_t *d, uint32_t n) {
    uint8_t *packet;
    size_t whole = zt_reassembler_add(o->reassembler, o->now, a->remote, a->binding, d, n, &packet);
    if (whole >= ZT_PACKET_HEADER) {
        a->kind = ZT_PUNT_PACKET;
        zt_open_packet(o, a, packet, whole);
    }
}

/* Datagram `i` of the run, and with it those that belong to the same packet. Returns how many (vl1-wire §4.5). */
static uint32_t open_datagram(struct zt_opener *o, const struct zt_rec *rec, const struct run *r, uint32_t i) {
    struct zt_arrival a = {.remote = &rec->remote, .binding = rec->binding, .kind = ZT_PUNT_DATAGRAM};
    uint32_t n, length;
    uint8_t *d = run_at(r, i, &n);
    bool fragment = n > ZT_FRAGMENT_HEADER && d[13] == ZT_FRAGMENT_INDICATOR;
    if (n == ZT_BEACON_LENGTH) {
        zt_open_punt_foreign(o, &a, d, n);
    } else if (n <= ZT_FRAGMENT_HEADER || (!fragment && n < ZT_PACKET_HEADER)) {
        zt_open_drop(o, ZT_C_drop_short_datagram);
    } else if (zt_get40(d + ZT_P_DESTINATION) != o->c->tables->self) {
        zt_open_punt_foreign(o, &a, d, n);
    } else if (fragment) {
        add_piece(o, &a, d, n);
    } else if ((d[ZT_P_FLAGS] & ZT_FLAG_FRAGMENTED) == 0) {
        zt_open_packet(o, &a, d, n);
    } else {
        uint32_t pieces = join_pieces(r, i, &length);
        if (pieces != 0) {
            a.kind = ZT_PUNT_PACKET;
            zt_count(o->c, ZT_C_open_joined, pieces - 1);
            zt_open_packet(o, &a, d, length);
            return pieces;
        }
        add_piece(o, &a, d, n);
    }
    return 1;
}

static bool all_have_room(struct zt_opener *o) {
    for (uint32_t i = 0; i < o->outs; i++) {
        if (!zt_coalescer_room(&o->out[i])) {
            return false;
        }
    }
    return o->outs != 0;
}

/* Fetch what the replay guard will look at when it comes to these packets: memory answers while those before them are decrypted. */
static void look_ahead(struct zt_opener *o, const struct run *r, uint32_t from, uint32_t to) {
    for (uint32_t i = from, n; i < to && i < r->count; i++) {
        const uint8_t *d = run_at(r, i, &n);
        if (n >= ZT_PACKET_HEADER && d[ZT_P_SOURCE] != ZT_FRAGMENT_INDICATOR) {
            zt_replay_prefetch(o->c->tables, zt_replay_hash(o->c->tables, d, 0));
        }
    }
}

static struct run run_of(struct zt_rec *rec) {
    struct run r = {.data = zt_rec_data(rec), .len = rec->len, .seg = rec->nseg > 1 && rec->seg != 0 ? rec->seg : rec->len};
    r.count = r.len == 0 ? 0 : (r.len + r.seg - 1) / r.seg;
    return r;
}

/* The record's datagrams from reader->part on. False: no room, part says where to go on. */
static bool open_record(struct zt_opener *o, struct zt_reader *reader, struct zt_rec *rec) {
    struct run r = run_of(rec);
    if (r.count > 1) {
        look_ahead(o, &r, reader->part, reader->part + LOOK_AHEAD);
    }
    while (reader->part < r.count) {
        if (!all_have_room(o) || (o->replicated && zt_sealer_crowded(o->sealer))) {
            return false;
        }
        uint32_t taken = open_datagram(o, rec, &r, reader->part);
        zt_count(o->c, ZT_C_open_datagrams, taken);
        look_ahead(o, &r, reader->part + LOOK_AHEAD, reader->part + LOOK_AHEAD + taken);
        reader->part += taken;
    }
    return true;
}

int zt_open(struct zt_crypto *crypto, int budget) {
    struct zt_opener *o = crypto->opener;
    int handled = 0;
    bool room = true;
    o->now = zt_now(o->c->tables);
    o->replicated = false;
    zt_senders_refresh(o);
    zt_share_turn(&o->groups, o->now);
    zt_share_turn(&o->questions, o->now);
    zt_reassembler_expire(o->reassembler, o->now);
    for (uint32_t i = 0; i < o->ins && room; i++) {
        struct zt_reader *reader = &o->in[o->turn++ % o->ins];
        for (struct zt_rec *rec; room && handled < budget && (rec = zt_reader_record(reader)) != NULL;) {
            room = open_record(o, reader, rec);
            if (room) {
                zt_reader_next(reader);
                handled++;
            }
        }
    }
    for (uint32_t i = 0; i < o->outs; i++) {
        zt_coalescer_flush(&o->out[i]);
    }
    if (o->replicated) {
        zt_sealer_flush(o->sealer);
    }
    return handled;
}
