/* open_multicast.c: a MULTICAST_FRAME that another member sent (vl2 §6.4), open_impl.h. Its twin is InboundFrames.on_multicast_frame in
 * ztpipe/node/frames_in.py: what is let in here is let in there.
 *
 * A frame is written to the TAP here if it is an ordinary one; everything that wants more is punted as it came: certificates, sources behind
 * bridges that are news, copies that rules want, and all that is malformed. One that we are to replicate goes out again to the others of its
 * group (fanout.h), straight into the sealer, if that has an entry; what finds no room there is dropped. That a frame asks who else is in the group
 * is passed on as a notice of its own, now and then: senders ask with every frame, and hear no more from the second answer than from the
 * first.
 */
#include "open_impl.h"

#include "lz4.h"

#define GATHER_INTERVAL 1000 /* ms, per sender and group */
#define GATHERS_PER_S 200u
#define REPLICATIONS_PER_S 300u /* by the slow path, of groups without an entry */
#define LONGEST_PAYLOAD 10000u /* of a frame (vl2 §6.4, step 5) */
#define GROUP_LEN 10u          /* MAC and ADI */

struct multicast {
    uint64_t nwid;
    uint64_t source;
    uint64_t mac;
    uint32_t adi;
    uint32_t limit;
    uint8_t flags;
    const uint8_t *body; /* EtherType and payload */
    size_t n;
};

/* Everything behind the verb. False: too short, or with a certificate. */
static bool parse(struct multicast *m, const struct zt_sender *s, const uint8_t *p, size_t n) {
    size_t fixed = 9 + GROUP_LEN + 2;
    if (n < fixed) {
        return false;
    }
    *m = (struct multicast){.nwid = zt_get64(p), .flags = p[8]};
    m->source = zt_mac_of(s->address, m->nwid);
    size_t at = 9;
    fixed += ((m->flags & ZT_MULTICAST_GATHER) != 0 ? 4 : 0) + ((m->flags & ZT_MULTICAST_SOURCE) != 0 ? 6 : 0);
    if ((m->flags & ZT_MULTICAST_COM) != 0 || n < fixed) {
        return false;
    }
    if ((m->flags & ZT_MULTICAST_GATHER) != 0) {
        m->limit = zt_get32(p + at);
        at += 4;
    }
    if ((m->flags & ZT_MULTICAST_SOURCE) != 0) {
        m->source = zt_get48(p + at);
        at += 6;
    }
    m->mac = zt_get48(p + at);
    m->adi = zt_get32(p + at + 6);
    m->body = p + at + GROUP_LEN;
    m->n = n - at - GROUP_LEN;
    return true;
}

/* Is it one of those that need nothing but the rules' consent? */
static bool is_plain(struct zt_opener *o, struct zt_sender *s, const struct multicast *m) {
    if (!zt_sender_accepted(o, s, m->nwid) || (s->network.flags & ZT_NETWORK_MULTICAST) == 0) {
        return false;
    }
    bool source = m->source == s->mac ? m->source != s->network.mac : (m->source >> 40 & 1) == 0 && zt_open_bridged(o, s, m->source);
    return source && (m->mac >> 40 & 1) != 0 && m->n > 2 && m->n - 2 <= LONGEST_PAYLOAD;
}

/* ---- replication (vl2 §6.4 step 7) ------------------------------------------------------------------------------------------------ */

static bool to_replicate(const struct zt_sender *s, const struct multicast *m) {
    return (m->flags & ZT_MULTICAST_REPLICATE) != 0 && (s->network.flags & ZT_NETWORK_REPLICATOR) != 0;
}

/* To whom. PUNT: the slow path has to say. The frame is in o->frame afterwards. */
static enum zt_decision choose_recipients(struct zt_opener *o, const struct zt_sender *s, const struct multicast *m, const uint8_t macs[12],
                                          struct zt_copies *copies) {
    static const struct zt_vnet plain;
    uint8_t *frame = o->frame + ZT_VNET_HDR;
    if (m->adi != 0 || zt_asks_address(m->body, m->n)) {
        return ZT_FILTER_PUNT;
    }
    memcpy(frame, macs, ZT_MACS_LEN);
    memcpy(frame + ZT_MACS_LEN, m->body, m->n);
    return zt_fanout_decide(o->fanout, o->guard, s->network_index, &s->network, &plain, frame, ZT_MACS_LEN + m->n, s->address, o->now,
                            copies);
}

static void replicate(struct zt_opener *o, const struct zt_sender *s, const struct multicast *m, const struct zt_copies *copies) {
    const uint8_t *frame = o->frame + ZT_VNET_HDR;
    struct zt_rec rec = {.network = (uint16_t)s->network_index, .recipients = (uint16_t)copies->count, .multicast = copies->multicast,
                         .flow = zt_flow_hash(m->body, m->n, m->mac ^ m->nwid)};
    if (copies->renew) {
        struct zt_punt head = {.kind = ZT_PUNT_GROUP, .nwid = m->nwid, .address = s->address};
        (void)zt_punt_add(o->c, &head, frame, ZT_MACS_LEN + m->n);
    }
    zt_count(o->c, ZT_C_drop_recipient_filter, copies->refused);
    zt_count(o->c, ZT_C_open_copies, copies->count);
    zt_count(o->c, ZT_C_open_replicated, 1);
    zt_seal_copies(o->sealer, &rec, frame, ZT_MACS_LEN + m->n, copies->to, o->now);
    o->replicated = true;
}

/* ---- questions -------------------------------------------------------------------------------------------------------------------- */

/* May this question be passed on now? */
static bool gather_due(struct zt_opener *o, const struct zt_sender *s, const struct multicast *m) {
    uint64_t key = zt_mix64(m->mac ^ zt_mix64((uint64_t)m->adi << 32 ^ zt_mix64(m->nwid ^ zt_mix64(s->address))));
    uint32_t at = (uint32_t)(key ^ o->strangers.seed) & (ZT_GATHER_SLOTS - 1);
    bool lately = o->gathers.slot[at].key == key && o->gathers.slot[at].at != 0 && o->now - o->gathers.slot[at].at < GATHER_INTERVAL;
    if (lately || !zt_bucket_take(&o->gathers.budget, o->now, GATHERS_PER_S, 2)) {
        return false;
    }
    o->gathers.slot[at].key = key;
    o->gathers.slot[at].at = o->now;
    return true;
}

static void pass_gather_on(struct zt_opener *o, const struct zt_sender *s, const struct zt_arrival *a, const struct multicast *m,
                           const uint8_t *sealed, size_t n) {
    if (m->limit == 0 || !gather_due(o, s, m)) {
        return;
    }
    struct zt_punt head = {.kind = ZT_PUNT_GATHER, .binding = a->binding, .remote = *a->remote, .nwid = m->nwid, .address = s->address};
    struct zt_punt_gather g = {.mac = m->mac, .adi = m->adi, .limit = m->limit, .size = (uint32_t)n, .hops = sealed[ZT_P_FLAGS] & ZT_HOPS,
                               .suite = zt_suite(sealed)};
    memcpy(g.packet_id, sealed, sizeof g.packet_id);
    (void)zt_punt_add(o->c, &head, &g, sizeof g);
}

void zt_open_multicast(struct zt_opener *o, struct zt_sender *s, const struct zt_arrival *a, const uint8_t *p, size_t n,
                       const uint8_t *sealed, uint64_t print) {
    const uint8_t *payload = p + ZT_PACKET_HEADER;
    size_t len = n - ZT_PACKET_HEADER;
    struct multicast m;
    if ((p[ZT_P_VERB] & ZT_VERB_COMPRESSED) != 0) {
        len = zt_lz4_expand(payload, len, o->plain, ZT_PACKET_LONGEST - ZT_PACKET_HEADER);
        payload = o->plain;
    }
    if (!parse(&m, s, payload, len) || !is_plain(o, s, &m)) {
        zt_open_punt(o, a, sealed, n);
        return;
    }
    bool fits = m.n - 2 <= s->network.mtu && m.n <= ZT_COALESCE_BODY_MAX;
    uint8_t macs[ZT_MACS_LEN];
    zt_put48(macs, m.mac);
    zt_put48(macs + 6, m.source);
    enum zt_decision decision = fits && zt_sender_has_rules(s) ? zt_guard_inbound(o->guard, &s->pair, macs, m.body, m.n) : ZT_FILTER_PASS;
    struct zt_copies copies = {.count = 0};
    bool repeat = to_replicate(s, &m);
    if (decision == ZT_FILTER_PUNT || (repeat && choose_recipients(o, s, &m, macs, &copies) == ZT_FILTER_PUNT)) {
        if (repeat && !zt_bucket_take(&o->replications, o->now, REPLICATIONS_PER_S, 2)) {
            zt_open_drop(o, ZT_C_drop_group_budget);
            return;
        }
        zt_open_punt(o, a, sealed, n);
        return;
    }
    if (zt_replay_seen(o->c->tables, print, o->now)) {
        zt_open_drop(o, ZT_C_drop_replayed);
        return;
    }
    zt_sender_note_path(o, s, a, p);
    zt_stamp_member(o->c->tables, s->member, o->now);
    pass_gather_on(o, s, a, &m, sealed, n);
    struct zt_share *share = zt_asks_address(m.body, m.n) ? &o->questions : &o->groups;
    if (repeat && zt_share_left(share)) {
        zt_share_spend(share, copies.count);
        replicate(o, s, &m, &copies);
    }
    if (!fits) {
        zt_open_drop(o, ZT_C_drop_tap_oversize);
    } else if (decision != ZT_FILTER_PASS) {
        zt_open_drop(o, ZT_C_drop_inbound_filter);
    } else if (!zt_share_left(share)) {
        zt_open_drop(o, ZT_C_drop_group_share);
    } else {
        zt_share_spend(share, 1);
        zt_count(o->c, ZT_C_open_multicasts, 1);
        zt_open_note_source(o, s, macs);
        zt_open_deliver(o, s, macs, m.body, m.n);
    }
}
