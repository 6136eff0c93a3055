/* seal.c: frames from the tap ring -> sealed datagrams in the peer ring (stages.h).
 *
 * Every segment of a super-frame is built where its datagrams will lie: checksummed while it is copied, encrypted in place, then cut. The
 * cut is chosen so that datagrams of consecutive packets have one size, because the peer stage can send such a run with a single
 * UDP_SEGMENT call; a receiver concatenates fragments whatever their size (vl1-wire §6.3).
 */
#include "segment.h"
#include "session.h"
#include "slots.h"

#include <stdlib.h>

#define BATCH_SEGMENTS 64u /* UDP_SEGMENT's limit in older kernels */
#define BATCH_BYTES 65000u
#define BULK 1000u /* a packet this long is probably followed by more: its batch gets room to grow to full length */
#define MTU_LEAST 128u

struct batch {
    struct zt_writer w;
    struct zt_rec *rec; /* open for more datagrams, or NULL */
};

#define ROUTES 256u /* power of two */

/* Where frames for a peer in a network go; looked up once and kept while the tables do not change. */
struct route {
    bool valid;
    bool used;
    uint32_t epoch;
    uint32_t peer_index;
    uint32_t network_index;
    struct zt_peer_view peer;
    struct zt_network_view network;
    const struct zt_session *session;
};

struct zt_sealer {
    struct zt_context *c;
    struct zt_sessions *sessions;
    struct zt_reader in[ZT_MAX_RINGS];
    struct batch out[ZT_MAX_RINGS];
    uint32_t ins, outs;
    uint32_t turn;
    struct route route[ROUTES];
};

/* What is being sealed. */
struct job {
    const struct route *route;
    struct batch *batch;
    const struct zt_super *super;
    const uint8_t *frame;
    const struct zt_rec *rec;
    uint32_t head; /* bytes in front of the body (EtherType and payload) */
};

struct zt_sealer *zt_sealer_new(struct zt_context *c, struct zt_sessions *sessions, struct zt_ring_set *in, struct zt_ring_set *out) {
    struct zt_sealer *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->c = c;
    s->sessions = sessions;
    for (; s->ins < in->count; s->ins++) {
        s->in[s->ins].ring = &in->ring[s->ins];
    }
    for (; s->outs < out->count; s->outs++) {
        s->out[s->outs].w.ring = &out->ring[s->outs];
    }
    return s;
}

void zt_sealer_free(struct zt_sealer *s) { free(s); }

/* ---- where to -------------------------------------------------------------------------------------------------------------- */

/* NULL: the peer or the network is gone. */
static const struct route *load_route(struct zt_sealer *s, uint32_t network, uint32_t peer) {
    struct route *r = &s->route[(peer ^ network << 4) & (ROUTES - 1)];
    uint32_t epoch = zt_tables_epoch(s->c->tables);
    if (r->used && r->epoch == epoch && r->peer_index == peer && r->network_index == network) {
        return r->valid ? r : NULL;
    }
    *r = (struct route){.used = true, .epoch = epoch, .peer_index = peer, .network_index = network};
    if (!zt_peer_read(s->c->tables, peer, &r->peer) || !zt_network_read(s->c->tables, network, &r->network)) {
        return NULL;
    }
    r->session = zt_session_get(s->sessions, peer, &r->peer);
    r->peer.mtu = r->peer.mtu < MTU_LEAST ? MTU_LEAST : r->peer.mtu;
    r->valid = r->session != NULL && (r->peer.suite == ZT_SUITE_SALSA || r->peer.suite == ZT_SUITE_SIV);
    return r->valid ? r : NULL;
}

/* Indices may have been given to others while the frame was in the ring: the frame itself says whom it is for. */
static bool route_fits(const struct route *r, const struct zt_rec *rec, const uint8_t *frame) {
    return (rec->flags & ZT_REC_BRIDGED) != 0 ? zt_get40(rec->via) == r->peer.address
                                              : zt_get48(frame) == zt_mac_of(r->peer.address, r->network.nwid);
}

/* ---- how to cut ------------------------------------------------------------------------------------------------------------ */

struct cut {
    uint32_t size;   /* of the head and of every fragment but the last */
    uint32_t pieces;
};

/* Datagrams that a packet of n bytes needs if none is longer than `size`. */
static uint32_t pieces_of(uint32_t n, uint32_t size) {
    uint32_t body = size - ZT_FRAGMENT_HEADER;
    return n <= size ? 1 : 1 + (n - size + body - 1) / body;
}

static bool same_target(const struct zt_rec *rec, const struct route *r) {
    return rec->binding == r->peer.binding && rec->peer == r->peer_index && zt_endpoint_equal(&rec->remote, &r->peer.remote);
}

/* The fewest pieces that the path's MTU allows; of the size of the open batch if that fits, else of equal sizes. */
static struct cut choose_cut(const struct batch *b, const struct route *r, uint32_t n) {
    uint32_t pieces = pieces_of(n, r->peer.mtu);
    if (b->rec != NULL && same_target(b->rec, r) && b->rec->seg <= r->peer.mtu && b->rec->seg >= MTU_LEAST &&
        pieces_of(n, b->rec->seg) == pieces) {
        return (struct cut){.size = b->rec->seg, .pieces = pieces};
    }
    return (struct cut){.size = (n + ZT_FRAGMENT_HEADER * (pieces - 1) + pieces - 1) / pieces, .pieces = pieces};
}

/* ---- batches of equal datagrams ---------------------------------------------------------------------------------------- */

static void batch_close(struct batch *b) {
    if (b->rec != NULL) {
        zt_writer_end(&b->w, b->rec);
        b->rec = NULL;
    }
}

static bool batch_takes(const struct batch *b, const struct route *r, const struct cut *cut, uint32_t total) {
    const struct zt_rec *rec = b->rec;
    return rec != NULL && same_target(rec, r) && (cut->pieces == 1 ? total <= rec->seg : cut->size == rec->seg) &&
           rec->nseg + cut->pieces <= BATCH_SEGMENTS && rec->len + total <= BATCH_BYTES &&
           zt_writer_left(&b->w) >= ZT_REC_ALIGN + zt_rec_align(rec->len + total);
}

/* A place for `total` bytes of datagrams cut by `cut`, or NULL when the ring is full. */
static uint8_t *batch_place(struct zt_sealer *s, struct batch *b, const struct route *r, const struct cut *cut, uint32_t total) {
    if (!batch_takes(b, r, cut, total)) {
        batch_close(b);
        uint32_t room = total >= BULK && total < BATCH_BYTES ? BATCH_BYTES : total;
        if (!zt_writer_room(s->c, &b->w, ZT_REC_ALIGN + zt_rec_align(room))) {
            return NULL;
        }
        b->rec = zt_writer_begin(&b->w);
        b->rec->peer = r->peer_index;
        b->rec->network = (uint16_t)r->network_index;
        b->rec->binding = r->peer.binding;
        b->rec->remote = r->peer.remote;
        b->rec->seg = (uint16_t)cut->size;
    }
    return zt_rec_data(b->rec) + b->rec->len;
}

static void batch_commit(struct batch *b, const struct cut *cut, uint32_t total) {
    uint32_t last = total - cut->size * (cut->pieces - 1);
    b->rec->len += total;
    b->rec->nseg = (uint16_t)(b->rec->nseg + cut->pieces);
    if (last < b->rec->seg) {
        batch_close(b); /* only the last datagram of a batch may be shorter */
    }
}

/* ---- packets ---------------------------------------------------------------------------------------------------------------- */

static uint32_t head_of(const struct zt_rec *rec) {
    if (rec->recipients == 0) {
        return (rec->flags & ZT_REC_BRIDGED) != 0 ? ZT_EXT_BODY : ZT_FRAME_BODY;
    }
    return ZT_MULTICAST_BODY + ((rec->multicast & ZT_MULTICAST_SOURCE) != 0 ? 6 : 0);
}

static uint8_t verb_of(const struct zt_rec *rec) {
    return rec->recipients != 0 ? ZT_VERB_MULTICAST_FRAME : (rec->flags & ZT_REC_BRIDGED) != 0 ? ZT_VERB_EXT_FRAME : ZT_VERB_FRAME;
}

/* All that comes before the body, which is already in place (vl1-wire §4, §9.7, §9.8, §9.15). */
static void write_header(const struct zt_sealer *s, const struct job *j, bool fragmented, uint8_t *p) {
    const struct route *r = j->route;
    zt_random_bytes(p + ZT_P_ID, 8);
    zt_put40(p + ZT_P_DESTINATION, r->peer.address);
    zt_put40(p + ZT_P_SOURCE, s->c->tables->self);
    p[ZT_P_FLAGS] = (r->peer.suite == ZT_SUITE_SIV ? ZT_FLAGS_SIV : ZT_FLAGS_SALSA) | (fragmented ? ZT_FLAG_FRAGMENTED : 0);
    p[ZT_P_VERB] = verb_of(j->rec);
    zt_put64(p + ZT_FRAME_NWID, r->network.nwid);
    if (p[ZT_P_VERB] == ZT_VERB_EXT_FRAME) {
        p[ZT_EXT_FLAGS] = 0;
        memcpy(p + ZT_EXT_MACS, j->frame, ZT_MACS_LEN);
    } else if (j->rec->recipients != 0) {
        uint8_t *at = p + ZT_MULTICAST_FLAGS;
        *at++ = j->rec->multicast;
        if ((j->rec->multicast & ZT_MULTICAST_SOURCE) != 0) {
            memcpy(at, j->frame + 6, 6);
            at += 6;
        }
        memcpy(at, j->frame, 6);
        zt_put32(at + 6, j->rec->adi);
    }
}

/* Spread a sealed packet of n bytes at p into its datagrams, back to front (vl1-wire §6.1). */
static void fragment(uint8_t *p, uint32_t n, const struct cut *cut) {
    for (uint32_t k = cut->pieces - 1; k > 0; k--) {
        uint32_t from = cut->size + (k - 1) * (cut->size - ZT_FRAGMENT_HEADER);
        uint32_t end = k == cut->pieces - 1 ? n : from + cut->size - ZT_FRAGMENT_HEADER;
        uint8_t *to = p + (size_t)k * cut->size;
        memmove(to + ZT_FRAGMENT_HEADER, p + from, end - from);
    }
    for (uint32_t k = 1; k < cut->pieces; k++) {
        uint8_t *to = p + (size_t)k * cut->size;
        memcpy(to, p, ZT_P_SOURCE); /* packet id and destination */
        to[13] = ZT_FRAGMENT_INDICATOR;
        to[14] = (uint8_t)(cut->pieces << 4 | k);
        to[15] = 0;
    }
}

/* Seal segment `i`. False: no room in the ring. */
static bool seal_segment(struct zt_sealer *s, const struct job *j, uint32_t i) {
    const struct route *r = j->route;
    uint32_t n = j->head + zt_super_size(j->super, i);
    struct cut cut = choose_cut(j->batch, r, n);
    if (n > ZT_PACKET_LONGEST || cut.pieces > ZT_FRAGMENTS_MAX) {
        zt_count(s->c, ZT_C_drop_oversize_packet, 1);
        return true;
    }
    uint32_t total = n + ZT_FRAGMENT_HEADER * (cut.pieces - 1);
    uint8_t *p = batch_place(s, j->batch, r, &cut, total);
    if (p == NULL) {
        return false;
    }
    zt_super_emit(j->super, i, p + j->head);
    write_header(s, j, cut.pieces > 1, p);
    zt_session_seal(r->session, p, n);
    if (cut.pieces > 1) {
        fragment(p, n, &cut);
    }
    batch_commit(j->batch, &cut, total);
    zt_count(s->c, ZT_C_seal_packets, 1);
    return true;
}

/* To one peer, all segments from reader->part on. False: no room, part says where to go on. */
static bool seal_frame(struct zt_sealer *s, struct zt_reader *reader, struct job *j, int64_t now) {
    const struct zt_rec *rec = j->rec;
    j->route = load_route(s, rec->network, rec->peer);
    if (j->route == NULL || !route_fits(j->route, rec, j->frame)) {
        zt_count(s->c, ZT_C_drop_no_session, 1);
        return true;
    }
    for (; reader->part < j->super->segments; reader->part++) {
        if (!seal_segment(s, j, reader->part)) {
            return false;
        }
    }
    zt_stamp_peer(s->c->tables, rec->peer, now);
    return true;
}

/* One segment of a group's frame to one recipient (zt_recipient). False: no room. */
static bool seal_copy(struct zt_sealer *s, struct job *j, uint64_t recipient, uint32_t segment, int64_t now) {
    uint32_t peer = recipient & 0xffffffu;
    j->route = load_route(s, j->rec->network, peer);
    if (j->route == NULL || j->route->peer.address != recipient >> 24) {
        zt_count(s->c, ZT_C_drop_no_session, 1);
        return true;
    }
    if (!seal_segment(s, j, segment)) {
        return false;
    }
    zt_stamp_peer(s->c->tables, peer, now);
    return true;
}

/* To every recipient all segments; reader->part counts both. False: no room. */
static bool seal_group(struct zt_sealer *s, struct zt_reader *reader, struct job *j, const uint8_t *recipients, int64_t now) {
    uint32_t segments = j->super->segments;
    for (; reader->part < j->rec->recipients * segments; reader->part++) {
        uint64_t recipient;
        memcpy(&recipient, recipients + reader->part / segments * sizeof recipient, sizeof recipient);
        if (!seal_copy(s, j, recipient, reader->part % segments, now)) {
            return false;
        }
    }
    return true;
}

/* All that is to be made of a record, from reader->part on. False: no room, part says where to go on. */
static bool seal_record(struct zt_sealer *s, struct zt_reader *reader, struct zt_rec *rec, int64_t now) {
    const uint8_t *data = zt_rec_data(rec);
    uint32_t list = rec->recipients * (uint32_t)sizeof(uint64_t);
    if (reader->part == 0) {
        zt_count(s->c, ZT_C_seal_frames, 1);
    }
    struct zt_vnet vnet;
    struct zt_super super;
    memcpy(&vnet, data, sizeof vnet);
    if (rec->len < ZT_VNET_HDR + ZT_ETHER_LEN + list ||
        !zt_super_init(&super, &vnet, data + ZT_VNET_HDR, rec->len - list - ZT_VNET_HDR)) {
        zt_count(s->c, ZT_C_drop_tap_bad_vnet, 1);
        return true;
    }
    /* a flow keeps to one peer worker, so it stays in order */
    struct job j = {.batch = &s->out[rec->flow % s->outs], .super = &super, .frame = data + ZT_VNET_HDR, .rec = rec, .head = head_of(rec)};
    return list == 0 ? seal_frame(s, reader, &j, now) : seal_group(s, reader, &j, data + rec->len - list, now);
}

int zt_seal(struct zt_crypto *crypto, int budget) {
    struct zt_sealer *s = crypto->sealer;
    int handled = 0;
    bool room = s->outs != 0;
    int64_t now = zt_now(s->c->tables);
    for (uint32_t i = 0; i < s->ins && room; i++) {
        struct zt_reader *reader = &s->in[s->turn++ % s->ins];
        for (struct zt_rec *rec; room && handled < budget && (rec = zt_reader_record(reader)) != NULL;) {
            room = seal_record(s, reader, rec, now);
            if (room) {
                zt_reader_next(reader);
                handled++;
            }
        }
    }
    zt_sealer_flush(s);
    return handled;
}

/* ---- for the opener: session.h ------------------------------------------------------------------------------------------------- */

void zt_seal_copies(struct zt_sealer *s, const struct zt_rec *rec, const uint8_t *frame, size_t len, const uint64_t *to, int64_t now) {
    static const struct zt_vnet plain;
    struct zt_super super;
    if (s->outs == 0 || !zt_super_init(&super, &plain, frame, len)) {
        return;
    }
    struct job j = {.batch = &s->out[rec->flow % s->outs], .super = &super, .frame = frame, .rec = rec, .head = head_of(rec)};
    for (uint32_t i = 0; i < rec->recipients; i++) {
        if (!seal_copy(s, &j, to[i], 0, now)) {
            zt_count(s->c, ZT_C_drop_no_room, rec->recipients - i);
            return;
        }
    }
}

bool zt_sealer_crowded(const struct zt_sealer *s) {
    for (uint32_t i = 0; i < s->outs; i++) {
        const struct zt_ring *r = s->out[i].w.ring->ring;
        if (atomic_load_explicit(&r->head, memory_order_relaxed) - atomic_load_explicit(&r->tail, memory_order_relaxed) >= r->slots / 2) {
            return true;
        }
    }
    return false;
}

void zt_sealer_flush(struct zt_sealer *s) {
    for (uint32_t i = 0; i < s->outs; i++) {
        batch_close(&s->out[i]);
        zt_writer_flush(&s->out[i].w);
    }
}
