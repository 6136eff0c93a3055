/* open_packet.c: one whole packet (open_impl.h). */
#include "open_impl.h"

/* May the frame of an EXT_FRAME have these MACs, as far as C knows? (vl2 §5.7 step 7) */
static bool macs_fit(struct zt_opener *o, const struct zt_sender *s, const uint8_t *macs) {
    uint64_t to = zt_get48(macs), from = zt_get48(macs + 6);
    if (from != s->mac) {
        return zt_open_bridged(o, s, from);
    }
    return to == s->network.mac || (s->network.flags & ((macs[0] & 1) != 0 ? ZT_NETWORK_MULTICAST : ZT_NETWORK_BRIDGE)) != 0;
}

/* Authentic FRAME or EXT_FRAME, decrypted in place. `sealed`: a copy as it came, if it may have to be punted. What is punted is the slow
 * path's to know again; all else is remembered here, by `print`, as seen. */
static void accept_frame(struct zt_opener *o, struct zt_sender *s, const struct zt_arrival *a, const uint8_t *p, size_t n, const uint8_t *sealed,
                         uint64_t print) {
    uint8_t macs[ZT_MACS_LEN];
    bool ext = p[ZT_P_VERB] == ZT_VERB_EXT_FRAME;
    uint32_t at = ext ? ZT_EXT_BODY : ZT_FRAME_BODY;
    bool whole = n > at + 2, fits = whole && n - at - 2 <= s->network.mtu && n - at <= ZT_COALESCE_BODY_MAX;
    if (whole && ext && !macs_fit(o, s, p + ZT_EXT_MACS)) {
        zt_open_punt(o, a, sealed, n);
        return;
    }
    zt_put48(macs, s->network.mac);
    zt_put48(macs + 6, s->mac);
    if (whole && ext) {
        memcpy(macs, p + ZT_EXT_MACS, sizeof macs);
    }
    enum zt_decision decision = fits && zt_sender_has_rules(s) ? zt_guard_inbound(o->guard, &s->pair, macs, p + at, n - at) : ZT_FILTER_PASS;
    if (decision == ZT_FILTER_PUNT && sealed != NULL) {
        zt_open_punt(o, a, sealed, n);
        return;
    }
    if (zt_replay_seen(o->c->tables, print, o->now)) {
        zt_open_drop(o, ZT_C_drop_replayed);
        return;
    }
    zt_sender_note_path(o, s, a, p);
    if (!fits) {
        zt_open_drop(o, whole ? ZT_C_drop_tap_oversize : ZT_C_drop_bad_frame);
        return;
    }
    zt_stamp_member(o->c->tables, s->member, o->now);
    zt_share_unicast(&o->groups, 1);
    zt_share_unicast(&o->questions, 1);
    if (decision != ZT_FILTER_PASS) {
        zt_open_drop(o, ZT_C_drop_inbound_filter);
        return;
    }
    if (ext) {
        zt_count(o->c, ZT_C_open_bridged, 1);
        zt_open_note_source(o, s, macs);
    }
    zt_open_deliver(o, s, macs, p + at, n - at);
}

/* By the first plaintext bytes: a frame that C may pass on if it turns out to be authentic? */
static bool is_ours(struct zt_opener *o, struct zt_sender *s, const uint8_t *peek, size_t n) {
    uint8_t verb = peek[0];
    if (verb == (ZT_VERB_MULTICAST_FRAME | ZT_VERB_COMPRESSED)) {
        return true; /* whose it is shows later */
    }
    if (n < ZT_FRAME_BODY || (verb != ZT_VERB_FRAME && verb != ZT_VERB_EXT_FRAME && verb != ZT_VERB_MULTICAST_FRAME) ||
        !zt_sender_accepted(o, s, zt_get64(peek + 1))) {
        return false;
    }
    /* EXT_FRAME: no certificate, no OK wanted, no copy made by a rule */
    return verb != ZT_VERB_EXT_FRAME || (n > ZT_EXT_FLAGS && peek[ZT_EXT_FLAGS - ZT_P_VERB] == 0);
}

/* Of an unknown sender, or a clear HELLO that the known one did not seal: for the slow path to judge, if there is time. */
static void punt_unknown(struct zt_opener *o, const struct zt_arrival *a, const uint8_t *p, size_t n) {
    enum zt_counter reason = zt_strangers_unknown(&o->strangers, p, a->remote, o->now, zt_tables_relay(o->c->tables));
    if (reason != ZT_COUNTERS) {
        zt_open_drop(o, reason);
        return;
    }
    struct zt_punt head = zt_open_punt_head(a);
    zt_count(o->c, ZT_C_open_punted, zt_punt_add_patient(o->c, &head, p, n));
}

void zt_open_punt_foreign(struct zt_opener *o, const struct zt_arrival *a, const uint8_t *p, size_t n) {
    enum zt_counter reason = zt_strangers_foreign(&o->strangers, o->now);
    if (reason != ZT_COUNTERS) {
        zt_open_drop(o, reason);
        return;
    }
    zt_open_punt(o, a, p, n);
}

/* Of a known sender, and nothing for C: punted as it came, if the sender sealed it. */
static void punt_authentic(struct zt_opener *o, const struct zt_sender *s, const struct zt_arrival *a, uint8_t *p, size_t n) {
    uint8_t suite = zt_suite(p);
    if (suite != ZT_SUITE_NONE && suite != ZT_SUITE_SALSA && suite != ZT_SUITE_SIV) {
        zt_open_punt_foreign(o, a, p, n); /* trusted paths are configured in the slow path */
        return;
    }
    memcpy(o->copy, p, n);
    if (zt_session_open(s->session, suite, p, n)) {
        zt_open_punt(o, a, o->copy, n);
    } else if (suite == ZT_SUITE_NONE && (o->copy[ZT_P_VERB] & ZT_VERB_MASK) == ZT_VERB_HELLO) {
        punt_unknown(o, a, o->copy, n); /* somebody else with the same address? */
    } else {
        zt_open_drop(o, ZT_C_drop_bad_mac);
    }
}

void zt_open_packet(struct zt_opener *o, const struct zt_arrival *a, uint8_t *p, size_t n) {
    if (n > ZT_PACKET_LONGEST) {
        zt_open_drop(o, ZT_C_drop_oversize_packet);
        return;
    }
    struct zt_sender *s = zt_sender_find(o, zt_get40(p + ZT_P_SOURCE));
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
    bool keep = peek[0] != ZT_VERB_FRAME || (zt_sender_has_rules(s) && zt_guard_may_punt(o->guard, &s->pair));
    if (keep) {
        memcpy(o->copy, p, n);
    }
    if (!zt_session_open(s->session, suite, p, n)) {
        zt_open_drop(o, ZT_C_drop_bad_mac);
        return;
    }
    if ((p[ZT_P_VERB] & ZT_VERB_MASK) == ZT_VERB_MULTICAST_FRAME) {
        zt_open_multicast(o, s, a, p, n, o->copy, print);
    } else {
        accept_frame(o, s, a, p, n, keep ? o->copy : NULL, print);
    }
}
