/* open.c: datagrams from the peer ring -> frames in the tap ring (stages.h).
 *
 * Only one thing is decided here: is this a FRAME or EXT_FRAME, authentic, from a member that passed the gate, let in by the rules?
 * Everything else is punted as it came, still sealed: other verbs, compressed payloads, unknown sources, packets for others. What it is
 * gets looked up by decrypting the first block only (peek). Nothing is punted that a known sender did not seal; what unknown ones send is
 * bounded (strangers.h).
 *
 * A packet in pieces that lie back to back in one record is joined and opened where it lies: the slot is ours until it is released.
 */
#include "coalesce.h"
#include "flow.h"
#include "guard.h"
#include "reassemble.h"
#include "replay.h"
#include "session.h"
#include "strangers.h"

#include <stdlib.h>

#define SOURCES 64u /* power of two */
#define LOOK_AHEAD 6u /* datagrams */
#define UNKNOWN_PATH_INTERVAL 1000 /* ms, per peer */

/* A sender and what the tables say about it, as of the opener's epoch. */
struct source {
    bool used;
    bool network_known; /* nwid, network, ... are valid; network ZT_NONE: not one for C */
    bool path_known;    /* binding, remote, path are valid; path ZT_NONE: not in the table */
    uint16_t binding;
    uint64_t address;
    uint64_t mac;
    uint64_t nwid;
    uint32_t peer; /* ZT_NONE: no session */
    uint32_t member;
    uint32_t network_index;
    uint32_t path;
    struct zt_endpoint remote;
    struct zt_network_view network;
    struct zt_pair pair; /* for rules, if the network has any */
    const struct zt_session *session;
};

/* Where a packet came from. */
struct arrival {
    const struct zt_endpoint *remote;
    uint16_t binding;
    uint16_t kind; /* how it is punted: ZT_PUNT_DATAGRAM or, if it came in pieces, ZT_PUNT_PACKET */
};

struct zt_opener {
    struct zt_context *c;
    struct zt_sessions *sessions;
    struct zt_reassembler *reassembler;
    struct zt_guard *guard;
    struct zt_reader in[ZT_MAX_RINGS];
    struct zt_coalescer out[ZT_MAX_RINGS];
    uint32_t ins, outs;
    uint32_t turn;
    uint32_t epoch;
    int64_t now;
    int64_t *unknown_at; /* per peer: when an unknown path was reported last */
    struct source source[SOURCES];
    struct zt_strangers strangers;
    uint8_t copy[ZT_PACKET_LONGEST]; /* a sealed packet that may have to be punted after all */
};

struct zt_opener *zt_opener_new(struct zt_context *c, struct zt_sessions *sessions, struct zt_ring_set *in, struct zt_ring_set *out) {
    struct zt_opener *o = calloc(1, sizeof *o);
    if (o == NULL) {
        return NULL;
    }
    o->c = c;
    o->sessions = sessions;
    o->reassembler = zt_reassembler_new(c);
    o->guard = zt_guard_new(c->tables);
    zt_strangers_init(&o->strangers);
    o->unknown_at = calloc(c->tables->max_peers, sizeof *o->unknown_at);
    for (; o->ins < in->count; o->ins++) {
        o->in[o->ins].ring = &in->ring[o->ins];
    }
    for (; o->outs < out->count; o->outs++) {
        zt_coalescer_init(&o->out[o->outs], c, &out->ring[o->outs]);
    }
    if (o->reassembler == NULL || o->guard == NULL || o->unknown_at == NULL) {
        zt_opener_free(o);
        return NULL;
    }
    return o;
}

void zt_opener_free(struct zt_opener *o) {
    if (o != NULL) {
        zt_reassembler_free(o->reassembler);
        zt_guard_free(o->guard);
        free(o->unknown_at);
        free(o);
    }
}

static void drop(struct zt_opener *o, enum zt_counter reason) { zt_count(o->c, reason, 1); }

static void punt(struct zt_opener *o, const struct arrival *a, const uint8_t *data, size_t n) {
    struct zt_punt head = {.kind = a->kind, .binding = a->binding, .remote = *a->remote};
    if (zt_punt_add(o->c, &head, data, n)) {
        zt_count(o->c, ZT_C_open_punted, 1);
    }
}

/* ---- what the tables say --------------------------------------------------------------------------------------------------- */

static void refresh(struct zt_opener *o) {
    uint32_t epoch = zt_tables_epoch(o->c->tables);
    if (epoch != o->epoch) {
        o->epoch = epoch;
        memset(o->source, 0, sizeof o->source);
    }
}

/* The sender; its peer is ZT_NONE if we have no session with it. */
static struct source *find_source(struct zt_opener *o, uint64_t address) {
    struct source *s = &o->source[zt_mix64(address) & (SOURCES - 1)];
    if (s->used && s->address == address) {
        return s;
    }
    *s = (struct source){.used = true, .address = address, .peer = zt_peer_find(o->c->tables, address)};
    struct zt_peer_view view;
    if (s->peer != ZT_NONE && zt_peer_read(o->c->tables, s->peer, &view) && view.address == address) {
        s->session = zt_session_get(o->sessions, s->peer, &view);
    }
    if (s->session == NULL) {
        s->peer = ZT_NONE;
    }
    return s;
}

static bool has_rules(const struct source *s) { return (s->network.flags & ZT_NETWORK_ACCEPT_ALL) == 0; }

/* May C pass this sender's frames of this network on, if its rules let them? (vl2 §5.6: joined, gate) */
static bool accepts(struct zt_opener *o, struct source *s, uint64_t nwid) {
    if (!s->network_known || s->nwid != nwid) {
        struct zt_member_view v;
        s->network_known = true;
        s->nwid = nwid;
        s->mac = zt_mac_of(s->address, nwid);
        s->network_index = zt_network_find(o->c->tables, nwid);
        if (s->network_index != ZT_NONE &&
            !(zt_network_read(o->c->tables, s->network_index, &s->network) && s->network.nwid == nwid)) {
            s->network_index = ZT_NONE;
        }
        s->member = s->network_index == ZT_NONE ? ZT_NONE : zt_member_find(o->c->tables, s->network_index, s->peer);
        if (s->member != ZT_NONE && !(zt_member_read(o->c->tables, s->member, &v) && (v.flags & ZT_MEMBER_RECEIVE) != 0)) {
            s->member = ZT_NONE;
        }
        if (s->member != ZT_NONE && has_rules(s)) {
            s->pair = (struct zt_pair){.network = s->network_index,
                                       .member = s->member,
                                       .own = s->network.policy,
                                       .remote = v.policy,
                                       .address = s->address};
            s->member = zt_pair_known(&s->pair) ? s->member : ZT_NONE;
        }
    }
    return s->member != ZT_NONE;
}

/* Note where an authenticated packet came from. Behind a relay it says nothing about the path. */
static void note_path(struct zt_opener *o, struct source *s, const struct arrival *a, const uint8_t *packet) {
    if ((packet[ZT_P_FLAGS] & ZT_HOPS) != 0) {
        return;
    }
    if (!s->path_known || s->binding != a->binding || !zt_endpoint_equal(&s->remote, a->remote)) {
        s->path_known = true;
        s->binding = a->binding;
        s->remote = *a->remote;
        s->path = zt_path_find(o->c->tables, s->peer, a->binding, a->remote);
    }
    if (s->path != ZT_NONE) {
        zt_stamp_path(o->c->tables, s->path, o->now);
    } else if (o->unknown_at[s->peer] == 0 || o->now - o->unknown_at[s->peer] >= UNKNOWN_PATH_INTERVAL) {
        struct zt_punt head = {.kind = ZT_PUNT_UNKNOWN_PATH, .binding = a->binding, .remote = *a->remote, .address = s->address};
        o->unknown_at[s->peer] = o->now;
        (void)zt_punt_add(o->c, &head, NULL, 0);
    }
}

/* ---- one packet ------------------------------------------------------------------------------------------------------------- */

static void deliver(struct zt_opener *o, const struct source *s, const uint8_t macs[12], const uint8_t *body, size_t n) {
    uint32_t flow = o->outs == 1 ? 0 : zt_flow_hash(body, n, s->mac ^ s->nwid);
    zt_coalescer_add(&o->out[flow % o->outs], s->network_index, flow, macs, body, n);
}

/* Authentic FRAME or EXT_FRAME, decrypted in place. `sealed`: a copy as it came, if it may have to be punted. What is punted is the slow
 * path's to know again; all else is remembered here, by `print`, as seen. */
static void accept_frame(struct zt_opener *o, struct source *s, const struct arrival *a, const uint8_t *p, size_t n, const uint8_t *sealed,
                         uint64_t print) {
    uint8_t macs[ZT_MACS_LEN];
    bool ext = p[ZT_P_VERB] == ZT_VERB_EXT_FRAME;
    uint32_t at = ext ? ZT_EXT_BODY : ZT_FRAME_BODY;
    bool whole = n > at + 2, fits = whole && n - at - 2 <= s->network.mtu && n - at <= ZT_COALESCE_BODY_MAX;
    if (whole && ext && zt_get48(p + ZT_EXT_MACS + 6) != s->mac) {
        punt(o, a, sealed, n); /* a bridge forwards: not ours to judge */
        return;
    }
    zt_put48(macs, s->network.mac);
    zt_put48(macs + 6, s->mac);
    enum zt_decision decision = fits && has_rules(s) ? zt_guard_inbound(o->guard, &s->pair, macs, p + at, n - at) : ZT_FILTER_PASS;
    if (decision == ZT_FILTER_PUNT && sealed != NULL) {
        punt(o, a, sealed, n);
        return;
    }
    if (zt_replay_seen(o->c->tables, print, o->now)) {
        drop(o, ZT_C_drop_replayed);
        return;
    }
    note_path(o, s, a, p);
    if (!fits) {
        drop(o, whole ? ZT_C_drop_tap_oversize : ZT_C_drop_bad_frame);
        return;
    }
    zt_stamp_member(o->c->tables, s->member, o->now);
    if (decision != ZT_FILTER_PASS) {
        drop(o, ZT_C_drop_inbound_filter);
        return;
    }
    zt_count(o->c, ZT_C_open_packets, 1);
    deliver(o, s, macs, p + at, n - at);
}

/* By the first plaintext bytes: a frame that C may pass on if it turns out to be authentic? */
static bool is_ours(struct zt_opener *o, struct source *s, const uint8_t *peek, size_t n) {
    uint8_t verb = peek[0];
    if (n < ZT_FRAME_BODY || (verb != ZT_VERB_FRAME && verb != ZT_VERB_EXT_FRAME) || !accepts(o, s, zt_get64(peek + 1))) {
        return false;
    }
    /* EXT_FRAME: no certificate, no OK wanted, no copy made by a rule, and addressed to ourselves */
    return verb == ZT_VERB_FRAME ||
           (n > ZT_EXT_MACS + 6 && peek[ZT_EXT_FLAGS - ZT_P_VERB] == 0 && zt_get48(peek + ZT_EXT_MACS - ZT_P_VERB) == s->network.mac);
}

/* Of an unknown sender, or a clear HELLO that the known one did not seal: for the slow path to judge, if there is time. */
static void punt_unknown(struct zt_opener *o, const struct arrival *a, const uint8_t *p, size_t n) {
    enum zt_counter reason = zt_strangers_unknown(&o->strangers, p, a->remote, o->now, zt_tables_relay(o->c->tables));
    if (reason != ZT_COUNTERS) {
        drop(o, reason);
        return;
    }
    punt(o, a, p, n);
}

static void punt_foreign(struct zt_opener *o, const struct arrival *a, const uint8_t *p, size_t n) {
    enum zt_counter reason = zt_strangers_foreign(&o->strangers, o->now);
    if (reason != ZT_COUNTERS) {
        drop(o, reason);
        return;
    }
    punt(o, a, p, n);
}

/* Of a known sender, and nothing for C: punted as it came, if the sender sealed it. */
static void punt_authentic(struct zt_opener *o, const struct source *s, const struct arrival *a, uint8_t *p, size_t n) {
    uint8_t suite = zt_suite(p);
    if (suite != ZT_SUITE_NONE && suite != ZT_SUITE_SALSA && suite != ZT_SUITE_SIV) {
        punt_foreign(o, a, p, n); /* trusted paths are configured in the slow path */
        return;
    }
    memcpy(o->copy, p, n);
    if (zt_session_open(s->session, suite, p, n)) {
        punt(o, a, o->copy, n);
    } else if (suite == ZT_SUITE_NONE && (o->copy[ZT_P_VERB] & ZT_VERB_MASK) == ZT_VERB_HELLO) {
        punt_unknown(o, a, o->copy, n); /* somebody else with the same address? */
    } else {
        drop(o, ZT_C_drop_bad_mac);
    }
}

/* A whole packet for us, sealed, n >= 28; may be changed in place. */
static void open_packet(struct zt_opener *o, const struct arrival *a, uint8_t *p, size_t n) {
    if (n > ZT_PACKET_LONGEST) {
        drop(o, ZT_C_drop_oversize_packet);
        return;
    }
    struct source *s = find_source(o, zt_get40(p + ZT_P_SOURCE));
    uint8_t suite = zt_suite(p), peek[16];
    if (s->peer == ZT_NONE) {
        punt_unknown(o, a, p, n);
        return;
    }
    if (suite != ZT_SUITE_SALSA && suite != ZT_SUITE_SIV) {
        punt_authentic(o, s, a, p, n);
        return;
    }
    uint64_t print = zt_replay_hash(o->c->tables, p, 0);
    zt_replay_prefetch(o->c->tables, print);
    zt_session_peek(s->session, suite, p, n, peek);
    if (!is_ours(o, s, peek, n)) {
        punt_authentic(o, s, a, p, n);
        return;
    }
    bool keep = peek[0] == ZT_VERB_EXT_FRAME || (has_rules(s) && zt_guard_may_punt(o->guard, &s->pair));
    if (keep) {
        memcpy(o->copy, p, n);
    }
    if (!zt_session_open(s->session, suite, p, n)) {
        drop(o, ZT_C_drop_bad_mac);
        return;
    }
    accept_frame(o, s, a, p, n, keep ? o->copy : NULL, print);
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

static void add_piece(struct zt_opener *o, struct arrival *a, const uint8_t *d, uint32_t n) {
    uint8_t *packet;
    size_t whole = zt_reassembler_add(o->reassembler, o->now, a->remote, a->binding, d, n, &packet);
    if (whole >= ZT_PACKET_HEADER) {
        a->kind = ZT_PUNT_PACKET;
        open_packet(o, a, packet, whole);
    }
}

/* Datagram `i` of the run, and with it those that belong to the same packet. Returns how many (vl1-wire §4.5). */
static uint32_t open_datagram(struct zt_opener *o, const struct zt_rec *rec, const struct run *r, uint32_t i) {
    struct arrival a = {.remote = &rec->remote, .binding = rec->binding, .kind = ZT_PUNT_DATAGRAM};
    uint32_t n, length;
    uint8_t *d = run_at(r, i, &n);
    bool fragment = n > ZT_FRAGMENT_HEADER && d[13] == ZT_FRAGMENT_INDICATOR;
    if (n <= ZT_FRAGMENT_HEADER || (!fragment && n < ZT_PACKET_HEADER)) {
        drop(o, ZT_C_drop_short_datagram);
    } else if (zt_get40(d + ZT_P_DESTINATION) != o->c->tables->self) {
        punt_foreign(o, &a, d, n);
    } else if (fragment) {
        add_piece(o, &a, d, n);
    } else if ((d[ZT_P_FLAGS] & ZT_FLAG_FRAGMENTED) == 0) {
        open_packet(o, &a, d, n);
    } else {
        uint32_t pieces = join_pieces(r, i, &length);
        if (pieces != 0) {
            a.kind = ZT_PUNT_PACKET;
            zt_count(o->c, ZT_C_open_joined, pieces - 1);
            open_packet(o, &a, d, length);
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
        if (!all_have_room(o)) {
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
    refresh(o);
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
    return handled;
}
