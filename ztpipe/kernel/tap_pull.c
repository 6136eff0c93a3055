/* tap_pull.c: frames and super-frames from the TAP -> rings of the crypto workers (stages.h).
 *
 * Each is read straight into the slot of the ring that the frame before it took: with one crypto worker, or one flow, that is always the
 * right one. Frames that C may not decide about (copies that rules want, groups and destinations that have no entry, credentials
 * due) are completed in software and punted. What may be a flood has a budget there.
 */
#include "tap_impl.h"

#include "flow.h"

#define TAP_LONGEST (ZT_VNET_HDR + TAP_FRAME + ZT_GROUP_RECIPIENTS * (uint32_t)sizeof(uint64_t))
#define TAP_ROOM (ZT_REC_ALIGN + ((TAP_LONGEST + ZT_REC_ALIGN - 1) & ~(ZT_REC_ALIGN - 1)))
#define TAP_BULK (48u * 1024u) /* a slot this full is handed over at once, so that the crypto worker starts early */
#define TAP_BURST 32           /* frames from one queue before the next has its turn */
#define TAP_PUNT_SEGMENTS 128u
#define TAP_AGAIN 1000 /* ms until a MAC behind a bridge is looked up again */
#define TAP_GROUP_PUNTS_PER_S 300u   /* frames for groups */
#define TAP_ADDRESS_PUNTS_PER_S 200u /* ARP requests and neighbour solicitations */
#define TAP_UNKNOWN_PUNTS_PER_S 100u /* frames for members that nothing is known of */
#define TAP_FLOODED_PUNTS_PER_S 300u /* frames for MACs that may be behind any bridge */
#define TAP_PUNTS_BURST_S 1u

/* ---- pull: decide ---------------------------------------------------------------------------------------------------------- */

/* What was looked up stays valid until a table changes. */
static void refresh(struct zt_tap *t) {
    uint32_t epoch = zt_tables_epoch(t->c->tables);
    if (epoch == t->epoch) {
        return;
    }
    t->epoch = epoch;
    memset(t->route, 0, sizeof t->route);
    for (uint32_t i = 0; i < t->queues; i++) {
        t->queue[i].known = false;
    }
}

static bool queue_network(struct zt_tap *t, struct tap_queue *q) {
    if (!q->known) {
        q->known = zt_network_read(t->c->tables, q->network, &q->view);
    }
    return q->known;
}

/* The way to `address`, if it is a member of whom C may know all that is needed. */
static void fill_route(const struct zt_tap *t, const struct tap_queue *q, struct tap_route *r, uint64_t address) {
    uint32_t peer = zt_peer_find(t->c->tables, address);
    r->stranger = peer == ZT_NONE;
    uint32_t member = peer == ZT_NONE ? ZT_NONE : zt_member_find(t->c->tables, q->network, peer);
    struct zt_member_view v;
    if (member != ZT_NONE && zt_member_read(t->c->tables, member, &v)) {
        r->peer = peer;
        r->send_until = v.send_until;
        r->pair = (struct zt_pair){
            .network = q->network, .member = member, .own = q->view.policy, .remote = v.policy, .address = address};
    }
}

/* A MAC that nobody known on the network has: behind a bridge? */
static void fill_bridged(struct zt_tap *t, const struct tap_queue *q, struct tap_route *r, int64_t now) {
    uint64_t bridge = zt_bridged_address(&t->bridged, t->c->tables, q->network, r->mac, now);
    if (bridge != 0 && bridge != t->c->tables->self) {
        fill_route(t, q, r, bridge);
        r->bridged = true;
        r->stranger = false;
        r->pair.no_copies = true;        /* rules have had their chance by then */
        r->send_until = now + TAP_AGAIN; /* nothing is pushed before such frames, and no epoch tells that the MAC has moved away */
    }
}

static const struct tap_route *find_route(struct zt_tap *t, const struct tap_queue *q, uint64_t mac, int64_t now) {
    struct tap_route *r = &t->route[zt_mix64(mac + q->network) & (TAP_ROUTES - 1)];
    if (r->used && r->mac == mac && r->network == q->network && (!r->bridged || r->send_until > now)) {
        return r;
    }
    *r = (struct tap_route){.used = true, .network = q->network, .mac = mac, .peer = ZT_NONE, .stranger = true};
    if (mac >> 40 == q->view.mac >> 40) {
        fill_route(t, q, r, zt_address_of_mac(mac, q->view.nwid));
    }
    if (r->stranger && (q->view.flags & ZT_NETWORK_BRIDGED) != 0) {
        fill_bridged(t, q, r, now);
    }
    return r;
}

/* Where a frame goes as far as its addresses tell, or NULL: not ours to say (vl2 §5.2, §5.4). */
static const struct tap_route *destination(struct zt_tap *t, const struct tap_queue *q, const uint8_t *frame, int64_t now) {
    uint64_t to = zt_get48(frame);
    bool ours = zt_get48(frame + 6) == q->view.mac, bridging = (q->view.flags & ZT_NETWORK_BRIDGE) != 0 && (frame[6] & 1) == 0;
    if (to == q->view.mac || (!ours && !bridging)) {
        return NULL;
    }
    const struct tap_route *r = find_route(t, q, to, now);
    return r->peer != ZT_NONE && r->send_until > now ? r : NULL;
}

/* What the network's rules say (vl2 §4.6). What is to go behind a bridge they may copy before it is known behind which one. */
static enum zt_decision ask_rules(struct zt_tap *t, const struct tap_queue *q, const struct tap_route *r, const struct zt_vnet *vnet,
                                  const uint8_t *frame, size_t len) {
    if (r == NULL) {
        return ZT_FILTER_PUNT;
    }
    if ((q->view.flags & ZT_NETWORK_ACCEPT_ALL) != 0) {
        return ZT_FILTER_PASS;
    }
    if (r->bridged) {
        struct zt_pair nobody = {.network = q->network, .own = q->view.policy};
        enum zt_decision decision = zt_guard_outbound(t->guard, &nobody, vnet, frame, len);
        if (decision != ZT_FILTER_PASS) {
            return decision;
        }
    }
    return zt_guard_outbound(t->guard, &r->pair, vnet, frame, len);
}

/* What a kind of punts may cost the slow path. bucket NULL: anything. */
struct budget {
    struct zt_bucket *bucket;
    uint32_t per_s;
    enum zt_counter reason; /* of the drop when it is spent */
};

/* The slow path takes its time for each of these, whatever it can do for it: most of them come from somebody who tries every address. */
static struct budget budget_of(struct zt_tap *t, const struct tap_queue *q, const uint8_t *frame, size_t len, int64_t now) {
    const struct budget unknown = {&t->unknown_punts, TAP_UNKNOWN_PUNTS_PER_S, ZT_C_drop_unknown_budget};
    uint64_t to = zt_get48(frame);
    if ((frame[0] & 1) != 0) {
        return zt_asks_address(frame + ZT_MACS_LEN, len - ZT_MACS_LEN) ? (struct budget){&t->address_punts, TAP_ADDRESS_PUNTS_PER_S, ZT_C_drop_address_budget}
                                           : (struct budget){&t->group_punts, TAP_GROUP_PUNTS_PER_S, ZT_C_drop_group_budget};
    }
    if (zt_get48(frame + 6) != q->view.mac && (q->view.flags & ZT_NETWORK_BRIDGE) == 0) {
        return unknown;
    }
    if (frame[0] != q->view.mac >> 40) {
        if ((q->view.flags & ZT_NETWORK_BRIDGED) == 0) {
            return unknown;
        }
        return find_route(t, q, to, now)->stranger ? (struct budget){&t->flooded_punts, TAP_FLOODED_PUNTS_PER_S, ZT_C_drop_unknown_budget}
                                                   : (struct budget){.bucket = NULL};
    }
    /* over a tunnel, members are reached that are in no table */
    bool stranger = to != q->view.mac && !zt_tables_tunnel(t->c->tables) && find_route(t, q, to, now)->stranger;
    return stranger ? unknown : (struct budget){.bucket = NULL};
}

/* Complete what the kernel left to us, and hand every resulting frame to the slow path, as far as there is time for it. */
static void punt_frame(struct zt_tap *t, const struct tap_queue *q, const struct zt_vnet *vnet, const uint8_t *frame, size_t len,
                       int64_t now) {
    struct budget budget = budget_of(t, q, frame, len, now);
    struct zt_super s;
    if (!zt_super_init(&s, vnet, frame, len)) {
        zt_count(t->c, ZT_C_drop_tap_bad_vnet, 1);
        return;
    }
    struct zt_punt head = {.kind = ZT_PUNT_FRAME, .nwid = q->view.nwid};
    memcpy(t->scratch, frame, ZT_MACS_LEN);
    for (uint32_t i = 0; i < s.segments; i++) {
        if (i == TAP_PUNT_SEGMENTS) {
            zt_count(t->c, ZT_C_drop_punt_overflow, s.segments - i);
            return;
        }
        if (budget.bucket != NULL && !zt_bucket_take(budget.bucket, now, budget.per_s, TAP_PUNTS_BURST_S)) {
            zt_count(t->c, budget.reason, s.segments - i);
            return;
        }
        zt_super_emit(&s, i, t->scratch + ZT_MACS_LEN);
        if (zt_punt_add(t->c, &head, t->scratch, ZT_MACS_LEN + zt_super_size(&s, i))) {
            zt_count(t->c, ZT_C_tap_punted, 1);
        }
    }
}

/* Let the slow path know that a group's entry is in use, with a frame for whoever C does not reach. */
static void tell_in_use(struct zt_tap *t, const struct tap_queue *q, const struct zt_vnet *vnet, const uint8_t *frame, size_t len) {
    struct zt_super s;
    struct zt_punt head = {.kind = ZT_PUNT_GROUP, .nwid = q->view.nwid};
    if (zt_super_init(&s, vnet, frame, len)) {
        memcpy(t->scratch, frame, ZT_MACS_LEN);
        zt_super_emit(&s, 0, t->scratch + ZT_MACS_LEN);
        (void)zt_punt_add(t->c, &head, t->scratch, ZT_MACS_LEN + zt_super_size(&s, 0));
    }
}

/* ---- pull: read ------------------------------------------------------------------------------------------------------------ */

/* Every ring must have room, because the ring is known only after the read. */
static bool all_have_room(struct zt_tap *t) {
    for (uint32_t i = 0; i < t->outs; i++) {
        if (!zt_writer_room(t->c, &t->out[i], TAP_ROOM)) {
            return false;
        }
    }
    return t->outs != 0;
}

/* Give the record that was read into the guessed ring's slot to the ring of its flow. */
static void dispatch(struct zt_tap *t, const struct zt_rec *read) {
    uint32_t ring = read->flow % t->outs;
    struct zt_writer *w = &t->out[ring];
    if (ring != t->guess) {
        memcpy(zt_writer_at(w), read, ZT_REC_ALIGN + read->len);
        t->guess = ring;
    }
    zt_writer_end(w, zt_writer_at(w));
    if (w->used >= TAP_BULK) {
        zt_writer_flush(w);
    }
}

/* A frame for a group: one record with all of its recipients. */
static enum zt_decision take_group(struct zt_tap *t, const struct tap_queue *q, struct zt_rec *rec, const struct zt_vnet *vnet,
                                   const uint8_t *frame, size_t len, int64_t now) {
    struct zt_copies copies;
    bool bridged = zt_get48(frame + 6) != q->view.mac;
    if (zt_asks_address(frame + ZT_MACS_LEN, len - ZT_MACS_LEN) || (bridged && ((q->view.flags & ZT_NETWORK_BRIDGE) == 0 || (frame[6] & 1) != 0))) {
        return ZT_FILTER_PUNT;
    }
    enum zt_decision decision = zt_fanout_decide(t->fanout, t->guard, q->network, &q->view, vnet, frame, len, 0, now, &copies);
    if (decision != ZT_FILTER_PASS) {
        return decision;
    }
    if (!zt_share_left(&t->share)) {
        zt_count(t->c, ZT_C_drop_group_share, 1);
        return ZT_FILTER_PASS;
    }
    zt_share_spend(&t->share, copies.count);
    if (copies.renew) {
        tell_in_use(t, q, vnet, frame, len);
    }
    zt_count(t->c, ZT_C_drop_recipient_filter, copies.refused);
    zt_count(t->c, ZT_C_tap_copies, copies.count);
    zt_count(t->c, copies.count != 0 ? ZT_C_tap_multicasts : ZT_C_drop_no_recipients, 1);
    rec->recipients = (uint16_t)copies.count;
    rec->multicast = copies.multicast;
    memcpy(zt_rec_data(rec) + ZT_VNET_HDR + len, copies.to, copies.count * sizeof *copies.to);
    return decision;
}

/* One frame from the queue: 1 read, 0 nothing there, -1 no room. */
static int pull_frame(struct zt_tap *t, struct tap_queue *q, int64_t now) {
    if (!all_have_room(t)) {
        return -1;
    }
    struct zt_rec *rec = zt_writer_begin(&t->out[t->guess]);
    uint8_t *data = zt_rec_data(rec), *frame = data + ZT_VNET_HDR;
    uint32_t skip = (t->c->offload & ZT_OFFLOAD_TAP_VNET) != 0 ? 0 : ZT_VNET_HDR;
    memset(data, 0, ZT_VNET_HDR);
    ssize_t got = read(q->fd, data + skip, ZT_VNET_HDR + TAP_FRAME - skip);
    if (got <= 0) {
        return 0; /* EAGAIN; or the device is down or gone, which control will notice */
    }
    size_t all = (size_t)got + skip;
    size_t len = all > ZT_VNET_HDR ? all - ZT_VNET_HDR : 0;
    zt_count(t->c, ZT_C_tap_read_frames, 1);
    zt_count(t->c, ZT_C_tap_read_bytes, len);
    if (len < ZT_ETHER_LEN) {
        zt_count(t->c, ZT_C_drop_tap_short, 1);
        return 1;
    }
    if (!queue_network(t, q)) {
        zt_count(t->c, ZT_C_drop_tap_no_network, 1);
        return 1;
    }
    struct zt_vnet vnet;
    memcpy(&vnet, data, sizeof vnet);
    bool group = (frame[0] & 1) != 0;
    const struct tap_route *route = group ? NULL : destination(t, q, frame, now);
    enum zt_decision decision = group ? take_group(t, q, rec, &vnet, frame, len, now) : ask_rules(t, q, route, &vnet, frame, len);
    if (decision == ZT_FILTER_PUNT) {
        punt_frame(t, q, &vnet, frame, len, now);
        return 1;
    }
    if (decision == ZT_FILTER_DROP) {
        zt_count(t->c, ZT_C_drop_outbound_filter, 1);
        return 1;
    }
    if (group && rec->recipients == 0) {
        return 1;
    }
    rec->len = (uint32_t)(all + rec->recipients * sizeof(uint64_t));
    rec->peer = group ? ZT_NONE : route->peer;
    if (!group && (route->bridged || zt_get48(frame + 6) != q->view.mac)) {
        rec->flags = ZT_REC_BRIDGED;
        zt_put40(rec->via, route->pair.address);
        zt_count(t->c, ZT_C_tap_bridged, 1);
    }
    rec->network = (uint16_t)q->network;
    rec->flow = zt_flow_hash(frame + ZT_MACS_LEN, len - ZT_MACS_LEN, zt_get48(frame) ^ q->view.nwid);
    dispatch(t, rec);
    zt_share_unicast(&t->share, group ? 0 : 1);
    return 1;
}

int zt_tap_pull(struct zt_tap *t, int budget) {
    int handled = 0, burst = 0;
    int64_t now = zt_now(t->c->tables);
    if (t->c->held) {
        return 0;
    }
    refresh(t);
    zt_share_turn(&t->share, now);
    for (uint32_t idle = 0; idle < t->queues && handled < budget;) {
        t->pull_turn %= t->queues;
        int r = pull_frame(t, &t->queue[t->pull_turn], now);
        if (r < 0) {
            break;
        }
        handled += r;
        idle = r != 0 ? 0 : idle + 1;
        if (r == 0 || ++burst == TAP_BURST) {
            t->pull_turn++;
            burst = 0;
        }
    }
    for (uint32_t i = 0; i < t->outs; i++) {
        zt_writer_flush(&t->out[i]);
    }
    return handled;
}

