/* tap.c: TAP queues <-> rings of the crypto workers (stages.h).
 *
 * Pull reads each frame or super-frame straight into the slot of the ring that the frame before it took: with one crypto worker, or one
 * flow, that is always the right one. Frames that C may not decide about (multicast, bridging, copies that rules want, unknown
 * destinations, credentials due) are completed in software and punted.
 */
#include "flow.h"
#include "guard.h"
#include "segment.h"
#include "slots.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define TAP_QUEUES 256u
#define TAP_FRAME (0xffffu + ZT_ETHER_LEN + 4u) /* the longest super-frame, with a VLAN tag */
#define TAP_ROOM (ZT_REC_ALIGN + ((ZT_VNET_HDR + TAP_FRAME + ZT_REC_ALIGN - 1) & ~(ZT_REC_ALIGN - 1)))
#define TAP_BULK (48u * 1024u) /* a slot this full is handed over at once, so that the crypto worker starts early */
#define TAP_UDP_BULK (192u * 1024u) /* UDP written at once that a reader with a usual buffer can take */
#define TAP_BURST 32           /* frames from one queue before the next has its turn */
#define TAP_ROUTES 64u         /* power of two */
#define TAP_PUNT_SEGMENTS 128u

struct tap_queue {
    int fd;
    uint32_t network;
    bool known; /* view is valid */
    struct zt_network_view view;
};

/* Destination MAC -> peer, as of `epoch`. */
struct tap_route {
    bool used;
    uint32_t network;
    uint64_t mac;
    uint32_t peer;
    int64_t send_until;
    struct zt_pair pair; /* for rules */
};

struct zt_tap {
    struct zt_context *c;
    struct zt_writer out[ZT_MAX_RINGS];
    struct zt_reader in[ZT_MAX_RINGS];
    uint32_t outs, ins;
    uint32_t guess;     /* ring that the last frame took */
    uint32_t pull_turn; /* queue to read next */
    uint32_t push_turn; /* ring to read next */
    uint32_t udp_written; /* bytes since the CPU was given away */
    uint32_t queues;
    uint32_t epoch;
    struct zt_guard *guard;
    struct tap_queue queue[TAP_QUEUES];
    struct tap_route route[TAP_ROUTES];
    uint8_t scratch[ZT_VNET_HDR + TAP_FRAME];
};

struct zt_tap *zt_tap_new(struct zt_context *c, struct zt_ring_set *to_crypto, struct zt_ring_set *from_crypto) {
    struct zt_tap *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->c = c;
    t->guard = zt_guard_new(c->tables);
    if (t->guard == NULL) {
        free(t);
        return NULL;
    }
    for (; t->outs < to_crypto->count; t->outs++) {
        t->out[t->outs].ring = &to_crypto->ring[t->outs];
    }
    for (; t->ins < from_crypto->count; t->ins++) {
        t->in[t->ins].ring = &from_crypto->ring[t->ins];
    }
    return t;
}

void zt_tap_free(struct zt_tap *t) {
    if (t != NULL) {
        zt_guard_free(t->guard);
        free(t);
    }
}

int zt_tap_add(struct zt_tap *t, int fd, uint32_t network) {
    if (fd < 0 || zt_network_at(t->c->tables, network) == NULL) {
        return -EINVAL;
    }
    if (t->queues == TAP_QUEUES) {
        return -ENOSPC;
    }
    t->queue[t->queues++] = (struct tap_queue){.fd = fd, .network = network};
    return 0;
}

/* Every queue of the network goes; the descriptors are the caller's to close. */
int zt_tap_remove(struct zt_tap *t, uint32_t network) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->queues; i++) {
        if (t->queue[i].network != network) {
            t->queue[kept++] = t->queue[i];
        }
    }
    int removed = kept != t->queues;
    t->queues = kept;
    return removed ? 0 : -ENOENT;
}

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

static const struct tap_route *find_route(struct zt_tap *t, const struct tap_queue *q, uint64_t mac) {
    struct tap_route *r = &t->route[zt_mix64(mac + q->network) & (TAP_ROUTES - 1)];
    if (r->used && r->mac == mac && r->network == q->network) {
        return r;
    }
    *r = (struct tap_route){.used = true, .network = q->network, .mac = mac, .peer = ZT_NONE};
    uint32_t peer = zt_peer_find(t->c->tables, zt_address_of_mac(mac, q->view.nwid));
    uint32_t member = peer == ZT_NONE ? ZT_NONE : zt_member_find(t->c->tables, q->network, peer);
    struct zt_member_view v;
    if (member != ZT_NONE && zt_member_read(t->c->tables, member, &v)) {
        r->peer = peer;
        r->send_until = v.send_until;
        r->pair = (struct zt_pair){.network = q->network,
                                   .member = member,
                                   .own = q->view.policy,
                                   .remote = v.policy,
                                   .address = zt_address_of_mac(mac, q->view.nwid)};
    }
    return r;
}

/* Where a frame goes as far as its addresses tell, or NULL: not ours to say (vl2 §5.2). */
static const struct tap_route *destination(struct zt_tap *t, const struct tap_queue *q, const uint8_t *frame, int64_t now) {
    uint64_t to = zt_get48(frame);
    if (frame[0] != q->view.mac >> 40 || to == q->view.mac || zt_get48(frame + 6) != q->view.mac) {
        return NULL;
    }
    const struct tap_route *r = find_route(t, q, to);
    return r->peer != ZT_NONE && r->send_until > now ? r : NULL;
}

/* What the network's rules say (vl2 §4.6). */
static enum zt_decision ask_rules(struct zt_tap *t, const struct tap_queue *q, const struct tap_route *r, const struct zt_vnet *vnet,
                                  const uint8_t *frame, size_t len) {
    if (r == NULL) {
        return ZT_FILTER_PUNT;
    }
    return (q->view.flags & ZT_NETWORK_ACCEPT_ALL) != 0 ? ZT_FILTER_PASS : zt_guard_outbound(t->guard, &r->pair, vnet, frame, len);
}

/* Complete what the kernel left to us, and hand every resulting frame to the slow path. */
static void punt_frame(struct zt_tap *t, const struct tap_queue *q, const struct zt_vnet *vnet, const uint8_t *frame, size_t len) {
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
        zt_super_emit(&s, i, t->scratch + ZT_MACS_LEN);
        if (zt_punt_add(t->c, &head, t->scratch, ZT_MACS_LEN + zt_super_size(&s, i))) {
            zt_count(t->c, ZT_C_tap_punted, 1);
        }
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
    const struct tap_route *route = destination(t, q, frame, now);
    enum zt_decision decision = ask_rules(t, q, route, &vnet, frame, len);
    if (decision == ZT_FILTER_PUNT) {
        punt_frame(t, q, &vnet, frame, len);
        return 1;
    }
    if (decision == ZT_FILTER_DROP) {
        zt_count(t->c, ZT_C_drop_outbound_filter, 1);
        return 1;
    }
    rec->len = (uint32_t)all;
    rec->peer = route->peer;
    rec->network = (uint16_t)q->network;
    rec->flow = zt_flow_hash(frame + ZT_MACS_LEN, len - ZT_MACS_LEN, zt_get48(frame) ^ q->view.nwid);
    dispatch(t, rec);
    return 1;
}

int zt_tap_pull(struct zt_tap *t, int budget) {
    int handled = 0, burst = 0;
    int64_t now = zt_now(t->c->tables);
    if (t->c->held) {
        return 0;
    }
    refresh(t);
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

/* ---- push ------------------------------------------------------------------------------------------------------------------- */

static bool write_all(struct zt_tap *t, int fd, const uint8_t *data, size_t len) {
    uint32_t skip = (t->c->offload & ZT_OFFLOAD_TAP_VNET) != 0 ? 0 : ZT_VNET_HDR;
    ssize_t put = write(fd, data + skip, len - skip);
    if (put != (ssize_t)(len - skip)) {
        return false;
    }
    zt_count(t->c, ZT_C_tap_write_frames, 1);
    zt_count(t->c, ZT_C_tap_write_bytes, len - ZT_VNET_HDR);
    return true;
}

/* The kernel did not take the super-frame, or the TAP has no vnet header: write what it stands for. */
static void write_segments(struct zt_tap *t, int fd, const struct zt_vnet *vnet, const uint8_t *frame, size_t len) {
    struct zt_super s;
    if (!zt_super_init(&s, vnet, frame, len)) {
        zt_count(t->c, ZT_C_drop_tap_bad_vnet, 1);
        return;
    }
    uint8_t *out = t->scratch + ZT_VNET_HDR;
    memset(t->scratch, 0, ZT_VNET_HDR);
    memcpy(out, frame, ZT_MACS_LEN);
    for (uint32_t i = 0; i < s.segments; i++) {
        zt_super_emit(&s, i, out + ZT_MACS_LEN);
        if (!write_all(t, fd, t->scratch, ZT_VNET_HDR + ZT_MACS_LEN + zt_super_size(&s, i))) {
            zt_count(t->c, ZT_C_drop_tap_write, 1);
        }
    }
}

static void push_record(struct zt_tap *t, struct zt_rec *rec) {
    const struct tap_queue *q = NULL;
    for (uint32_t i = 0; i < t->queues && q == NULL; i++) {
        q = t->queue[i].network == rec->network ? &t->queue[i] : NULL;
    }
    if (q == NULL) {
        zt_count(t->c, ZT_C_drop_tap_no_network, 1);
        return;
    }
    struct zt_vnet vnet;
    const uint8_t *data = zt_rec_data(rec);
    if (rec->len < ZT_VNET_HDR + ZT_ETHER_LEN) {
        zt_count(t->c, ZT_C_drop_tap_short, 1);
        return;
    }
    memcpy(&vnet, data, sizeof vnet);
    bool work = vnet.gso_type != ZT_VNET_GSO_NONE || (vnet.flags & ZT_VNET_NEEDS_CSUM) != 0;
    bool can = !work || (t->c->offload & ZT_OFFLOAD_TAP_VNET) != 0;
    if (can && write_all(t, q->fd, data, rec->len)) {
        return;
    }
    if (work && (!can || errno == EINVAL)) {
        write_segments(t, q->fd, &vnet, data + ZT_VNET_HDR, rec->len - ZT_VNET_HDR);
    } else {
        zt_count(t->c, ZT_C_drop_tap_write, 1);
    }
}

/* UDP does not slow down when its reader falls behind, it overflows the reader's buffer. So give the CPU away now and then. */
static void let_readers_run(struct zt_tap *t, struct zt_rec *rec) {
    if (rec->len < ZT_VNET_HDR || zt_rec_data(rec)[offsetof(struct zt_vnet, gso_type)] != ZT_VNET_GSO_UDP_L4) {
        return;
    }
    t->udp_written += rec->len;
    if (t->udp_written >= TAP_UDP_BULK) {
        t->udp_written = 0;
        sched_yield();
    }
}

int zt_tap_push(struct zt_tap *t, int budget) {
    int handled = 0;
    for (uint32_t i = 0; i < t->ins; i++) {
        struct zt_reader *r = &t->in[t->push_turn++ % t->ins];
        for (struct zt_rec *rec; handled < budget && (rec = zt_reader_record(r)) != NULL; zt_reader_next(r)) {
            if ((rec->flags & ZT_REC_FILLER) == 0) {
                push_record(t, rec);
                let_readers_run(t, rec);
                handled++;
            }
        }
    }
    return handled;
}
